"""Averaged weights for evaluation, by `torch.optim.swa_utils`.

Exponential moving average, or the plain mean of Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better
Generalization", arXiv 1803.05407. Buffers (the statistics of BatchNorm) are averaged alike, so that no pass over the data
is needed to make them anew; buffers that are no floating-point numbers (counts, masks) are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from etude.engine.state import State, load_model_state, model_state
from etude.errors import SpecError
from etude.spec.recipe import Recipe


class Averaging:
    """The averaged model, from ``first_step`` on."""

    def __init__(self, averaged: AveragedModel, first_step: int) -> None:
        self._averaged, self.first_step = averaged, first_step

    @classmethod
    def of(cls, recipe: Recipe, model: nn.Module, steps_per_epoch: int) -> Averaging | None:
        """Return what the recipe asks for, None where it asks for nothing.

        Raises `SpecError` for a model that cannot be copied.
        """
        if recipe.average == "none":
            return None
        how = get_ema_multi_avg_fn(recipe.average_decay) if recipe.average == "ema" else get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        try:
            averaged = AveragedModel(model, multi_avg_fn=_of_numbers(how), use_buffers=True)
        except Exception as error:  # noqa: BLE001 - whatever copy.deepcopy meets
            reason = " ".join(str(error).split())
            raise SpecError(
                f"study.recipe.average: the model cannot be copied for its averaged weights ({reason}); leave average out"
            ) from None
        return cls(averaged, round(recipe.average_start * steps_per_epoch))

    @property
    def model(self) -> nn.Module:
        """The averaged model."""
        model: nn.Module = self._averaged.module
        return model

    @property
    def begun(self) -> bool:
        """Whether something has been averaged."""
        return bool(self._averaged.n_averaged)

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after ``step``."""
        if step > self.first_step:
            self._averaged.update_parameters(model)

    def state(self) -> State:
        """Return all that `restore` needs."""
        return {"n": int(self._averaged.n_averaged), "model": model_state(self.model)}

    def restore(self, restored: State) -> None:
        """Put back what `state` returned."""
        self._averaged.n_averaged.fill_(restored["n"])
        load_model_state(self.model, restored["model"])


def _of_numbers(how: Callable[..., Any]) -> Callable[..., None]:
    """Average floating-point and complex tensors as ``how`` does, and copy the others: a mask has no mean."""

    def average(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        if averaged[0].is_floating_point() or averaged[0].is_complex():
            how(averaged, current, count)
        else:
            torch._foreach_copy_(averaged, current)

    return average

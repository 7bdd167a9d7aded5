"""Makes the optimizer that a recipe names."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

import torch
from torch import nn

from etude.errors import SpecError, nearest
from etude.spec.recipe import OPTIMIZERS, Recipe


def make_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Return the optimizer at rate ``lr``. Raises `SpecError` for an option or a value that it does not take."""
    name = OPTIMIZERS[recipe.optimizer]
    cls = getattr(torch.optim, name)
    known = set(inspect.signature(cls).parameters) - {"params", "lr"}
    for option in recipe.optimizer_options:
        if option not in known:
            raise SpecError(f"study.recipe.optimizer_options: {name} has no option {option!r}{nearest(option, known)}")
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if recipe.optimizer_options.get("fused") and any(parameter.device.type == "cpu" for parameter in parameters):
        # Wrong updates, silently, when a gradient's strides differ from its parameter's (channels_last).
        raise SpecError("study.recipe.optimizer_options: fused=True is not sound on the CPU; leave it out")
    try:
        return cls(parameters, lr=lr, **recipe.optimizer_options)  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        raise SpecError(f"study.recipe: {name} refuses its options: {error}") from None

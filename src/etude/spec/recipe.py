"""How a model is trained: optimizer, schedule and batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from etude.errors import SpecError, nearest
from etude.spec.value import number, value

# Classes of torch.optim that step without a closure and take any dense parameter, by the name that is typed.
OPTIMIZERS = {
    name.lower(): name
    for name in (
        "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
    )
}  # fmt: skip
SCHEDULES = ("constant", "linear", "cosine")


def _optimizer(got: object) -> str:
    if not isinstance(got, str) or got.lower() not in OPTIMIZERS:
        raise SpecError(f"study.recipe.optimizer: no optimizer is named {got!r}{nearest(str(got), OPTIMIZERS)}")
    return got.lower()


def _schedule(got: object) -> str:
    if not isinstance(got, str) or got.lower() not in SCHEDULES:
        raise SpecError(f"study.recipe.schedule: no schedule is named {got!r}{nearest(str(got), SCHEDULES)}")
    return got.lower()


def _options(got: object) -> object:
    if isinstance(got, Mapping) and "lr" in got:
        raise SpecError("study.recipe.optimizer_options: 'lr' is what the study varies; put rates into study.lrs")
    if isinstance(got, Mapping):
        for name, option in got.items():
            if isinstance(option, float) and not math.isfinite(option):
                raise SpecError(f"study.recipe.optimizer_options.{name}: expected a finite number, got {option}")
    return got


@value("study.recipe")
class Recipe:
    """How to train.

    ``optimizer`` is a class of `torch.optim` by name, any case. ``schedule`` multiplies the study's rate, which is the
    peak: ``constant``; ``linear`` and ``cosine`` fall to zero at the horizon. ``batch_size`` is in examples.
    """

    optimizer: Annotated[str, BeforeValidator(_optimizer)] = "adam"
    optimizer_options: Annotated[dict[str, Any], BeforeValidator(_options)] = Field(default_factory=dict)
    schedule: Annotated[str, BeforeValidator(_schedule)] = "constant"
    batch_size: Annotated[int, BeforeValidator(lambda got: int(number("study.recipe.batch_size", got, whole=True)))] = (
        64
    )

    @property
    def depends_on_horizon(self) -> bool:
        """Whether the rate at a step depends on how many epochs there will be."""
        return self.schedule != "constant"


def schedule_factor(schedule: str, step: int, horizon_step: int) -> float:
    """Return what the peak rate is multiplied by in optimizer step ``step`` (from 1) of ``horizon_step``.

    ``linear`` and ``cosine`` start at 1 and would reach 0 in the step after the last (Loshchilov and Hutter 2017,
    arXiv 1608.03983, eq. 5, without restarts).
    """
    done = min(1.0, (step - 1) / horizon_step)
    if schedule == "linear":
        return 1.0 - done
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0

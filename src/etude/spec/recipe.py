"""How a model is trained: optimizer, schedule and batch size."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from etude.errors import SpecError, nearest
from etude.spec import function
from etude.spec import schedule as schedules
from etude.spec.value import number, value

# Classes of torch.optim that step without a closure and take any dense parameter, by the name that is typed.
OPTIMIZERS = {
    name.lower(): name
    for name in (
        "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD",
    )
}  # fmt: skip


def _optimizer(got: object) -> str:
    if not isinstance(got, str) or got.lower() not in OPTIMIZERS:
        raise SpecError(f"study.recipe.optimizer: no optimizer is named {got!r}{nearest(str(got), OPTIMIZERS)}")
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

    ``optimizer`` is a class of `torch.optim` by name, any case. ``batch_size`` is in examples.

    ``schedule`` multiplies the study's rate, which is the peak, by optimizer step: ``constant``, ``linear``, ``cosine``,
    ``one-cycle``, ``step``, ``exponential``, ``wsd``, with ``schedule_options`` (see `etude.spec.schedule.SCHEDULES`), or
    a function from the step, counted from 0 where the warmup ends, to a factor. ``warmup`` rises linearly to the peak
    before it: a number of epochs, ``"500 steps"``, or ``"5%"`` of the horizon.
    """

    optimizer: Annotated[str, BeforeValidator(_optimizer)] = "adam"
    optimizer_options: Annotated[dict[str, Any], BeforeValidator(_options)] = Field(default_factory=dict)
    schedule: Annotated[str | Callable[[int], float], BeforeValidator(schedules.parse_schedule)] = "constant"
    schedule_options: dict[str, Any] = Field(default_factory=dict)
    warmup: Annotated[float | str, BeforeValidator(schedules.parse_warmup)] = 0.0
    batch_size: Annotated[int, BeforeValidator(lambda got: int(number("study.recipe.batch_size", got, whole=True)))] = (
        64
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule_options", schedules.parse_options(self.schedule, self.schedule_options))
        if self.warmup and self.schedule == "one-cycle":
            raise SpecError(
                f"study.recipe.warmup: one-cycle rises by itself, for {self.schedule_options['rise']:.0%} of the horizon: "
                "leave the warmup out, or change schedule_options.rise"
            )

    @property
    def depends_on_horizon(self) -> bool:
        """Whether the rate at a step depends on how many epochs there will be."""
        return schedules.depends_on_horizon(self.schedule, self.warmup)

    @property
    def horizon_reason(self) -> str:
        """What depends on the horizon, in words: ``cosine schedule``, ``warmup of 5%``, or both."""
        reasons = [f"{self.schedule} schedule"] if schedules.depends_on_horizon(self.schedule, 0.0) else []
        reasons += [f"warmup of {self.warmup}"] if schedules.depends_on_horizon("constant", self.warmup) else []
        return " with a ".join(reasons)

    def factor(self, step: int, *, steps_per_epoch: int, horizon_step: int | None) -> float:
        """Return what the peak rate is multiplied by in optimizer step ``step``, from 1.

        ``horizon_step`` is the last step; it may be None where the recipe does not depend on it. Raises `SpecError` when a
        schedule of the caller's own raises or returns no finite number of 0 or more.
        """
        return schedules.factor(self.schedule, self.schedule_options, self.warmup, step, steps_per_epoch, horizon_step)

    def check(self, *, steps_per_epoch: int, horizon_step: int) -> None:
        """Raise `SpecError` for a schedule that the horizon has no room for, or a function that cannot be one."""
        schedules.check(self.schedule, self.schedule_options, self.warmup, steps_per_epoch, horizon_step)

    def samples(self, steps_per_epoch: int, horizon_step: int) -> dict[str, Any]:
        """Return what the store needs to draw a schedule of the caller's own: its factors at up to 500 of its steps.

        Nothing for one of etude's own, which is known by its name.
        """
        if isinstance(self.schedule, str):
            return {}
        warm = schedules.warmup_steps(self.warmup, steps_per_epoch, horizon_step)
        return {"schedule_samples": function.samples(self.schedule, horizon_step - 1 - warm)}

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON-able values, for the store; a schedule of the caller's own appears by its name."""
        made = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**made, "schedule": schedules.words(self.schedule)}


def complete(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored recipe with the usual values of the fields that there were not when it was stored.

    Of another kind of run, which has no recipe (no schedule), nothing is made up.
    """
    if "schedule" not in stored:
        return dict(stored)
    usual = Recipe().to_dict()
    if stored["schedule"] in schedules.SCHEDULES and "schedule_options" not in stored:
        usual["schedule_options"] = schedules.parse_options(stored["schedule"], {})
    return {**usual, **stored}

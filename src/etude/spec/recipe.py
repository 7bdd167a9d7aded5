"""How a model is trained: optimizer, schedule, batches, clipping, precision and averaging."""

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

# Classes of torch.optim, by the name that is typed; a test holds them against the package.
OPTIMIZERS = {
    name.lower(): name
    for name in (
        "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "LBFGS", "Muon", "NAdam", "RAdam", "RMSprop",
        "Rprop", "SGD", "SparseAdam",
    )
}  # fmt: skip
# Optimizers without a rate to choose, or without a schedule, from other packages: (package, class).
ELSEWHERE = {
    "prodigy": ("prodigyopt", "Prodigy"),
    "adamwschedulefree": ("schedulefree", "AdamWScheduleFree"),
    "radamschedulefree": ("schedulefree", "RAdamScheduleFree"),
    "sgdschedulefree": ("schedulefree", "SGDScheduleFree"),
}
PRECISIONS = {"float32": "float32", "fp32": "float32", "bf16": "bf16", "bfloat16": "bf16"}
AVERAGES = ("none", "ema", "swa")


def _optimizer(got: object) -> object:
    if callable(got) and not isinstance(got, type):
        return got
    if isinstance(got, type):  # torch.optim.AdamW itself, handed over
        got = got.__name__
    known = {**OPTIMIZERS, **ELSEWHERE}
    if not isinstance(got, str) or _plain(got) not in known:
        near = nearest(str(got), known)
        raise SpecError(f"study.recipe.optimizer: no optimizer is named {got!r}{near}; or give a function (params, lr)")
    return _plain(got)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _known(field: str, got: object, known: Mapping[str, str]) -> str:
    if not isinstance(got, str) or got.lower() not in known:
        raise SpecError(f"study.recipe.{field}: expected one of {', '.join(known)}, got {got!r}")
    return known[got.lower()]


def _whole(field: str) -> Callable[[object], int]:
    return lambda got: int(number(f"study.recipe.{field}", got, whole=True))


def _not_negative(field: str) -> Callable[[object], float]:
    def check(got: object) -> float:
        zero = got in (0, "0") and not isinstance(got, bool)
        return 0.0 if zero else number(f"study.recipe.{field}", got)

    return check


def _decay(got: object) -> float:
    decay = number("study.recipe.average_decay", got)
    if decay >= 1:
        raise SpecError(f"study.recipe.average_decay: expected a number below 1, got {got}")
    return decay


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

    ``optimizer`` is a class of `torch.optim` by name, any case; ``prodigy``, ``adamwschedulefree``, ``radamschedulefree``
    or ``sgdschedulefree`` of the extra ``optimizers``; or a function ``(params, lr) -> Optimizer``, where the rates of its
    groups follow ``lr``. ``weight_decay`` is its option of that name.

    ``schedule`` multiplies the study's rate, which is the peak, by optimizer step: ``constant``, ``linear``, ``cosine``,
    ``one-cycle``, ``step``, ``exponential``, ``wsd``, with ``schedule_options`` (see `etude.spec.schedule.SCHEDULES`), or
    a function from the step, counted from 0 where the warmup ends, to a factor. ``warmup`` rises linearly to the peak
    before it: a number of epochs, ``"500 steps"``, or ``"5%"`` of the horizon.

    ``batch_size`` is in examples; None where the data come in batches of their own. ``accumulate`` batches make one
    optimizer step, on the mean of their gradients; the last step of an epoch may have fewer. ``clip_norm`` bounds the norm
    of the gradient over all parameters (what is recorded is the norm before). ``precision`` ``bf16`` computes model and
    loss under autocast to bfloat16, the weights stay float32.

    ``average`` evaluates averaged weights: ``ema``, exponentially with ``average_decay`` a step, or ``swa``, the plain mean
    (Izmailov et al. 2018, arXiv 1803.05407); from ``average_start`` epochs on, buffers averaged alike
    (`torch.optim.swa_utils`).
    """

    optimizer: Annotated[Any, BeforeValidator(_optimizer)] = "adam"
    optimizer_options: Annotated[dict[str, Any], BeforeValidator(_options)] = Field(default_factory=dict)
    weight_decay: Annotated[
        float | None, BeforeValidator(lambda got: None if got is None else _not_negative("weight_decay")(got))
    ] = None
    schedule: Annotated[str | Callable[[int], float], BeforeValidator(schedules.parse_schedule)] = "constant"
    schedule_options: dict[str, Any] = Field(default_factory=dict)
    warmup: Annotated[float | str, BeforeValidator(schedules.parse_warmup)] = 0.0
    batch_size: Annotated[
        int | None, BeforeValidator(lambda got: None if got is None else _whole("batch_size")(got))
    ] = 64
    accumulate: Annotated[int, BeforeValidator(_whole("accumulate"))] = 1
    clip_norm: Annotated[
        float | None, BeforeValidator(lambda got: None if got is None else number("study.recipe.clip_norm", got))
    ] = None
    precision: Annotated[str, BeforeValidator(lambda got: _known("precision", got, PRECISIONS))] = "float32"
    average: Annotated[str, BeforeValidator(lambda got: _known("average", got, {name: name for name in AVERAGES}))] = (
        "none"
    )
    average_decay: Annotated[float, BeforeValidator(_decay)] = 0.999
    average_start: Annotated[float, BeforeValidator(_not_negative("average_start"))] = 0.0

    def __post_init__(self) -> None:
        if callable(self.optimizer) and (self.optimizer_options or self.weight_decay is not None):
            raise SpecError(
                "study.recipe.optimizer_options: they belong to optimizers by name; give them to your own function directly"
            )
        if self.weight_decay is not None and "weight_decay" in self.optimizer_options:
            raise SpecError("study.recipe.weight_decay: it is in optimizer_options, too; leave one of them out")
        object.__setattr__(self, "schedule_options", schedules.parse_options(self.schedule, self.schedule_options))
        if self.warmup and self.schedule == "one-cycle":
            raise SpecError(
                f"study.recipe.warmup: one-cycle rises by itself, for {self.schedule_options['rise']:.0%} of the horizon: "
                "leave the warmup out, or change schedule_options.rise"
            )

    @property
    def optimizer_name(self) -> str:
        """The name of the optimizer, or of the function that makes it."""
        if isinstance(self.optimizer, str):
            return self.optimizer
        name = getattr(self.optimizer, "__name__", type(self.optimizer).__name__)
        return "own" if name == "<lambda>" else str(name)

    @property
    def is_named(self) -> bool:
        """Whether optimizer and schedule are known by name, so that the recipe can be made anew from what is stored."""
        return isinstance(self.optimizer, str) and isinstance(self.schedule, str)

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
        """Return the recipe as JSON-able values, for the store; functions of the caller's own appear by their names."""
        made = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**made, "optimizer": self.optimizer_name, "schedule": schedules.words(self.schedule)}


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

"""How a model is trained: optimizer, schedule, batches, clipping, precision and averaging."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from etude.errors import SpecError, nearest
from etude.notation import share_text
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
AVERAGE_DECAY = 0.999


def _optimizer(got: object) -> object:
    known = {**OPTIMIZERS, **ELSEWHERE}
    if isinstance(got, type) and _is_known(got):  # torch.optim.AdamW itself, handed over
        return got.__name__.lower()
    if callable(got):
        return got
    if not isinstance(got, str):
        raise SpecError(
            f"study.recipe.optimizer: expected a name or a function (params, lr), which makes a fresh one for each trial, got "
            f"{type(got).__name__}"
        )
    if _plain(got) not in known:
        near = nearest(got, known)
        raise SpecError(f"study.recipe.optimizer: no optimizer is named {got!r}{near}; or give a function (params, lr)")
    return _plain(got)


def _is_known(cls: type) -> bool:
    """Whether it is the class that its name stands for, not one of the user's own with that name."""
    package = cls.__module__.split(".")
    return (
        package[:2] == ["torch", "optim"] and OPTIMIZERS.get(cls.__name__.lower()) == cls.__name__
    ) or ELSEWHERE.get(cls.__name__.lower()) == (package[0], cls.__name__)


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
        try:
            if isinstance(got, bool) or not isinstance(got, int | float | str) or not 0 <= float(got) < math.inf:
                raise ValueError
        except (ValueError, OverflowError):
            raise SpecError(f"study.recipe.{field}: expected a finite number, zero or more, got {got!r}") from None
        return float(got)

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
    average_decay: Annotated[float, BeforeValidator(_decay)] = AVERAGE_DECAY
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
                f"study.recipe.warmup: one-cycle rises by itself, for {share_text(self.schedule_options['rise'])} of the horizon: "
                "leave the warmup out, or change schedule_options.rise"
            )
        if self.average != "ema" and self.average_decay != AVERAGE_DECAY:
            raise SpecError(
                f"study.recipe.average_decay: it belongs to average = 'ema', and average is {self.average!r}"
            )
        if self.average == "none" and self.average_start:
            raise SpecError("study.recipe.average_start: nothing is averaged; say average = 'ema' or 'swa', too")

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

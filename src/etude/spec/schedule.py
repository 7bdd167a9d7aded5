"""Learning-rate schedules: what the study's rate, the peak, is multiplied by in each optimizer step.

Steps count from 1 to N, the horizon. The first W are warmup: the factor is k/W in step k. Then the schedule has the
steps that are left, N − W of them, and counts its own steps t = step − 1 − W from 0, as torch's SequentialLR does from
its milestone W on. Without torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from etude.errors import SpecError, nearest
from etude.spec import function
from etude.spec.function import Function

Schedule = str | Function
Options = Mapping[str, Any]


class At(NamedTuple):
    """A schedule's own step ``t``, from 0, of the ``span`` steps after the warmup; all steps; steps in an epoch."""

    t: int
    span: int
    horizon: int
    steps_per_epoch: int


def _constant(_at: At, _options: Options) -> float:
    return 1.0


def _linear(at: At, options: Options) -> float:
    """``LinearLR`` from 1; it would reach its end in the step after the last."""
    return float(options["end"] + (1.0 - options["end"]) * (1.0 - min(1.0, at.t / at.span)))


def _cosine(at: At, options: Options) -> float:
    """Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5, without restarts (``CosineAnnealingLR``)."""
    share = 0.5 * (1.0 + math.cos(math.pi * min(1.0, at.t / at.span)))
    return float(options["end"] + (1.0 - options["end"]) * share)


def _one_cycle(at: At, options: Options) -> float:
    """Smith and Topin 2018, arXiv 1708.07120, as ``OneCycleLR`` has it: half a cosine up, half a cosine down."""
    t, last, top = min(at.t, at.span - 1), at.span - 1, options["rise"] * at.span - 1
    if t <= top:
        return _half_cosine(options["start"], 1.0, t / top if top > 0 else 1.0)
    return _half_cosine(1.0, options["end"], (t - top) / (last - top))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1.0)


def _step(at: At, options: Options) -> float:
    """``StepLR``: the factor once more each time that many epochs have gone."""
    times = math.floor(at.t / (options["every"] * at.steps_per_epoch) + 1e-9)  # 3 / (0.1 * 30) is 0.999…
    return float(options["factor"] ** times)


def _exponential(at: At, options: Options) -> float:
    """``ExponentialLR``, a little each step: the factor after one epoch, its square after two."""
    return float(options["factor"] ** (at.t / at.steps_per_epoch))


def _wsd(at: At, options: Options) -> float:
    """Warmup, stable, decay (Hu et al. 2024, arXiv 2404.06395); 1 − √ as Hägele et al. 2024, arXiv 2405.18392, have it."""
    decay = _decay_steps(at.horizon, options)
    share = min(1.0, max(0.0, (at.t - (at.span - decay)) / decay))
    return 1.0 - (math.sqrt(share) if options["shape"] == "sqrt" else share)


def _decay_steps(horizon: int, options: Options) -> int:
    decay: float = options["decay"]
    return max(1, math.floor(decay * horizon + 0.5))


class Option(NamedTuple):
    """What an option may be, in words and as a test; a ``usual`` of None must be said."""

    usual: float | str | None
    words: str
    sound: Callable[[Any], bool]


_SHARE = "a number from 0 to 1"
_ABOVE_0 = "a number above 0 and at most 1"


def _end(usual: float) -> Option:
    return Option(usual, _SHARE, lambda x: 0 <= x <= 1)


def _above_0(usual: float | None) -> Option:
    return Option(usual, _ABOVE_0, lambda x: 0 < x <= 1)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A schedule by name: its factor, its options, and whether it depends on the horizon."""

    factor: Callable[[At, Options], float]
    options: Mapping[str, Option]
    horizon: bool


SCHEDULES: dict[str, Kind] = {
    "constant": Kind(factor=_constant, options={}, horizon=False),
    "linear": Kind(factor=_linear, options={"end": _end(0.0)}, horizon=True),
    "cosine": Kind(factor=_cosine, options={"end": _end(0.0)}, horizon=True),
    "one-cycle": Kind(
        factor=_one_cycle,
        options={
            "rise": Option(0.3, "a number between 0 and 1", lambda x: 0 < x < 1),
            "start": _above_0(1 / 25),
            "end": _end(1e-4 / 25),
        },
        horizon=True,
    ),
    "step": Kind(
        factor=_step,
        options={"every": Option(None, "a positive number of epochs", lambda x: x > 0), "factor": _above_0(0.1)},
        horizon=False,
    ),
    "exponential": Kind(factor=_exponential, options={"factor": _above_0(None)}, horizon=False),
    "wsd": Kind(
        factor=_wsd,
        options={
            "decay": _above_0(0.2),
            "shape": Option("sqrt", "'linear' or 'sqrt'", ("linear", "sqrt").__contains__),
        },
        horizon=True,
    ),
}


def parse_schedule(got: object) -> Schedule:
    """Return a schedule's name as etude writes it, or the function. Raises `SpecError` for what is neither."""
    if isinstance(got, str):
        name = got.strip().lower().replace("_", "-")
        if name in SCHEDULES:
            return name
        if function.is_stored_name(got):
            raise SpecError(
                f"study.recipe.schedule: {got} is a function of your own, stored by its name alone; run your script again, "
                "it goes on where it stopped"
            )
    elif callable(got) and not isinstance(got, type):
        return got
    elif isinstance(got, type) or "lr_scheduler" in type(got).__module__:
        name = got.__name__ if isinstance(got, type) else type(got).__name__
        raise SpecError(
            f"study.recipe.schedule: expected a schedule's name or a function from step to factor, got {name}; "
            f"known: {', '.join(SCHEDULES)}"
        )
    raise SpecError(f"study.recipe.schedule: no schedule is named {got!r}{nearest(str(got), SCHEDULES)}")


def parse_options(schedule: Schedule, got: Mapping[str, Any]) -> dict[str, Any]:
    """Return all of the schedule's options, the usual ones where ``got`` is silent.

    Raises `SpecError` for an option that the schedule does not have, that must be said and is not, or that cannot be.
    """
    known = SCHEDULES[schedule].options if isinstance(schedule, str) else {}
    for name in got:
        if name not in known:
            known_names = nearest(str(name), known) if known else ": it takes none"
            raise SpecError(f"study.recipe.schedule_options: {words(schedule)} has no option {name!r}{known_names}")
    options: dict[str, Any] = {}
    for name, option in known.items():
        value = got.get(name, option.usual)
        if value is None:
            raise SpecError(
                f"study.recipe.schedule_options: {words(schedule)} needs {name!r}: expected {option.words}, got nothing"
            )
        if not isinstance(option.usual, str):
            value = _number(value)
        if value is None or not option.sound(value):
            raise SpecError(f"study.recipe.schedule_options.{name}: expected {option.words}, got {got.get(name)!r}")
        options[name] = value
    return options


def parse_warmup(got: object) -> float | str:
    """Return ``0.5`` (epochs), ``"500 steps"`` or ``"5%"`` as etude writes them. Raises `SpecError` for anything else."""
    number, unit = got, "epochs"
    if isinstance(got, str):
        number, unit = got.strip().lower(), "epochs"
        for ending, of in (
            ("%", "%"),
            ("steps", "steps"),
            ("step", "steps"),
            ("epochs", "epochs"),
            ("epoch", "epochs"),
        ):
            if number.endswith(ending):
                number, unit = number.removesuffix(ending), of
                break
    number = _number(number)
    if number is not None and number >= 0:
        if number == 0:
            return 0.0
        if unit == "epochs":
            return number
        if unit == "steps" and number == int(number):
            return f"{int(number)} steps"
        if unit == "%" and number < 100:
            return f"{number:.12g}%"
    raise SpecError(
        f"study.recipe.warmup: expected a number of epochs, '500 steps', or '5%' of the horizon (below 100%), got {got!r}"
    )


def warmup_steps(warmup: float | str, steps_per_epoch: int, horizon_step: int | None) -> int:
    """Return W, the warmup in steps; ``horizon_step`` is None where it does not matter."""
    if not isinstance(warmup, str):
        return math.floor(warmup * steps_per_epoch + 0.5)
    if warmup.endswith("%"):
        if horizon_step is None:
            raise SpecError(f"study.recipe.warmup: {warmup} depends on the horizon: expected a horizon_step, got None")
        return math.floor(float(warmup[:-1]) / 100 * horizon_step + 0.5)
    return int(warmup.removesuffix(" steps"))


def depends_on_horizon(schedule: Schedule, warmup: float | str) -> bool:
    """Whether the factor at a step depends on how many steps there will be."""
    return (isinstance(schedule, str) and SCHEDULES[schedule].horizon) or str(warmup).endswith("%")


def factor(
    schedule: Schedule, options: Options, warmup: float | str, step: int, steps_per_epoch: int, horizon_step: int | None
) -> float:
    """Return what the peak is multiplied by in optimizer step ``step``, from 1; see `Recipe.factor`."""
    warm = warmup_steps(warmup, steps_per_epoch, horizon_step) if warmup else 0
    if step <= warm:
        return step / warm
    t = step - 1 - warm
    if not isinstance(schedule, str):
        return function.factor(schedule, t)
    kind = SCHEDULES[schedule]
    if horizon_step is None:
        if kind.horizon:
            raise SpecError(
                f"study.recipe.schedule: {schedule} depends on the horizon: expected a horizon_step, got None"
            )
        horizon_step = 0
    return kind.factor(At(t, max(1, horizon_step - warm), horizon_step, steps_per_epoch), options)


def check(schedule: Schedule, options: Options, warmup: float | str, steps_per_epoch: int, horizon_step: int) -> None:
    """Raise `SpecError` for a warmup or a decay that the horizon has no room for, or a function that is none of the step."""
    warm = warmup_steps(warmup, steps_per_epoch, horizon_step)
    if warm >= horizon_step:
        said = warmup if isinstance(warmup, str) else f"{warmup:g} epochs"
        raise SpecError(
            f"study.recipe.warmup: expected less than the study's {horizon_step:,} steps, got {warm:,} ({said}); "
            "train longer, or give a share of the horizon, such as '5%'"
        )
    if schedule == "wsd" and warm + _decay_steps(horizon_step, options) > horizon_step:
        raise SpecError(
            f"study.recipe.schedule_options.decay: expected room after {warm:,} steps of warmup, got "
            f"{_decay_steps(horizon_step, options):,} of {horizon_step:,} steps ({options['decay']:g} of the horizon)"
        )
    if not isinstance(schedule, str):
        function.check(schedule, horizon_step - 1 - warm)


def words(schedule: Schedule) -> str:
    """Return the schedule's name; that of a function ends with parentheses."""
    return schedule if isinstance(schedule, str) else function.name_of(schedule)


def _number(got: object) -> float | None:
    if isinstance(got, bool) or not isinstance(got, int | float | str):
        return None
    try:
        number = float(got)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None

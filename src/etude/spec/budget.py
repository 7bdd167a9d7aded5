"""What a search may spend: wall time, whole trials' worth of steps, or a share of what a full grid costs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from etude.errors import SpecError

GRID_RATES, GRID_SEEDS = 13, 3  # the full grid that costs are told against
GRID_TRIALS = GRID_RATES * GRID_SEEDS
GRID = f"a grid of {GRID_RATES} rates × {GRID_SEEDS} seeds"
LONGEST_S = 10_000 * 3600.0  # more is a slip of the keyboard
MOST_TRIALS = 1_000_000
FEWEST_TRIALS = 2  # one trial compares nothing
UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_PART = r"(\d+(?:\.\d+)?)\s*(h|min|m|s)"

Kind = Literal["wall", "trials", "cost"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """``amount`` is in seconds (``wall``), in trials to the horizon (``trials``), or a share of a full grid (``cost``)."""

    kind: Kind
    amount: float

    @property
    def trials(self) -> float | None:
        """How many trials to the horizon it buys; None where that depends on how long one takes."""
        return None if self.kind == "wall" else self.amount * (GRID_TRIALS if self.kind == "cost" else 1)

    def of_trials(self, trials: float, trial_s: float) -> Budget:
        """Return the budget of the same kind that buys so many trials of ``trial_s`` seconds, in two digits, rounded up."""
        amount = {"wall": trials * trial_s, "trials": trials, "cost": trials / GRID_TRIALS}[self.kind]
        step = 10.0 ** (math.floor(math.log10(amount)) - 1)
        return Budget(kind=self.kind, amount=float(f"{math.ceil(round(amount / step, 6)) * step:.2g}"))

    def to_dict(self) -> dict[str, Any]:
        """Return it for the store."""
        return {"kind": self.kind, "amount": self.amount}

    def __str__(self) -> str:
        """Write it as it is typed, with its option."""
        if self.kind != "wall":
            return f"--{self.kind} {self.amount:g}"
        hours, rest = divmod(self.amount, 3600)
        minutes, seconds = divmod(rest, 60)
        parts = ((hours, "h"), (minutes, "m"), (seconds, "s"))
        return "--budget " + ("".join(f"{value:g}{unit}" for value, unit in parts if value) or "0s")


DEFAULT = Budget(kind="cost", amount=0.25)


def parse_budget(
    budget: object = None, trials: object = None, cost: object = None, usual: Budget = DEFAULT
) -> Budget:  # fmt: skip
    """Read what was given: ``20m``, ``1h30m`` or seconds for wall time; a number of trials; a share. None at all is ``usual``.

    Raises `SpecError` for two of them, and for what is no positive amount.
    """
    given = {name: what for name, what in (("budget", budget), ("trials", trials), ("cost", cost)) if what is not None}
    if len(given) > 1:
        raise SpecError(f"{' and '.join(given)}: expected one of budget, trials and cost, got {len(given)}")
    if isinstance(budget, Budget):
        return budget
    if budget is not None:
        return Budget(kind="wall", amount=_seconds(budget))
    if trials is not None:
        return Budget(kind="trials", amount=_amount("trials", trials, MOST_TRIALS))
    if cost is not None:
        return Budget(kind="cost", amount=_amount("cost", cost, MOST_TRIALS / GRID_TRIALS))
    return usual


def _seconds(got: object) -> float:
    expected = "budget: expected a time such as 20m, 1h30m or 90s"
    text = got.strip().lower() if isinstance(got, str) else got
    if isinstance(text, str):
        if not re.fullmatch(rf"(?:{_PART}\s*)+", text):
            number = re.fullmatch(r"\d+(?:\.\d+)?", text)
            raise SpecError(f"{expected}, got {got!r}{f'; say {text}s or {text}m' if number else ''}")
        parts = re.findall(_PART, text)
        if len({UNITS[unit] for _, unit in parts}) < len(parts):
            raise SpecError(f"{expected}, got {got!r}, which has a unit twice")
        seconds = sum(float(value) * UNITS[unit] for value, unit in parts)
    elif isinstance(text, int | float) and not isinstance(text, bool):
        seconds = float(text)
    else:
        raise SpecError(f"{expected}, got {got!r}")
    if not 0 < seconds <= LONGEST_S:
        raise SpecError(f"{expected}, longer than nothing and up to {LONGEST_S / 3600:,.0f}h, got {got!r}")
    return seconds


def _amount(name: str, got: object, most: float) -> float:
    expected = {
        "trials": "how many trials to the horizon it may cost, such as 12",
        "cost": f"a share of {GRID}, such as 0.25",
    }[name]
    try:
        if isinstance(got, bool) or not isinstance(got, int | float | str):
            raise ValueError
        amount = float(got)
    except ValueError:
        amount = math.nan
    if not 0 < amount <= most:
        raise SpecError(f"{name}: expected {expected}, got {got!r}")
    return amount

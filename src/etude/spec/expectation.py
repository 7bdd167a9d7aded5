"""What somebody expects of a rate before it is trained: verdicts, and ranges of metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from etude.errors import SpecError, nearest
from etude.notation import format_rate
from etude.spec.value import number

VERDICTS = ("too low", "good", "too high", "unstable", "diverged", "undetermined")


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Any of ``verdicts`` (none: no opinion), and a closed range for each of ``metrics``."""

    verdicts: tuple[str, ...] = ()
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the form that a study file has and that `parse_expectations` reads."""
        return {"verdict": list(self.verdicts), **{name: list(ends) for name, ends in self.metrics.items()}}


def parse_expectations(got: object) -> dict[float, Expectation]:
    """Read ``{"1e-2": ["unstable", "diverged"], "1e-3": {"verdict": ["good"], "val_accuracy": [0.97, 0.98]}}``.

    Raises `SpecError` for a word that is no verdict and for a range that is not two rising numbers.
    """
    if not isinstance(got, Mapping):
        raise SpecError(f"study.expect: expected a table of rates, got {got!r}")
    made: dict[float, Expectation] = {}
    for lr, what in got.items():
        rate = number("study.expect: a learning rate", lr)
        if rate in made:
            raise SpecError(f"study.expect: {format_rate(rate)} stands there twice; say all of a rate in one place")
        made[rate] = _one(lr, what)
    return made


def _one(lr: object, got: object) -> Expectation:
    where = f"study.expect[{format_rate(lr) if isinstance(lr, float) else lr}]"
    if isinstance(got, Expectation):
        return got
    table: Mapping[str, Any] = got if isinstance(got, Mapping) else {"verdict": got}
    words = table.get("verdict", [])
    words = [words] if isinstance(words, str) else words
    if not isinstance(words, Iterable):
        raise SpecError(f"{where}: expected verdicts, got {words!r}")
    verdicts = tuple(words)
    for word in verdicts:
        if word not in VERDICTS:
            raise SpecError(f"{where}: no verdict is named {word!r}{nearest(str(word), VERDICTS)}")
    metrics = {}
    for name, ends in table.items():
        if name == "verdict":
            continue
        try:
            low, high = (float(end) for end in ends)
        except (TypeError, ValueError):
            raise SpecError(f"{where}.{name}: expected a range [low, high], got {ends!r}") from None
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise SpecError(f"{where}.{name}: expected low ≤ high, both finite, got [{low}, {high}]")
        metrics[name] = (low, high)
    return Expectation(verdicts=verdicts, metrics=metrics)

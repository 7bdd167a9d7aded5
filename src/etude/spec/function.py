"""A schedule of the caller's own: a function of the step, from 0, that returns a factor, as torch's LambdaLR takes it.

It is called before every optimizer step and anywhere in between, so it must depend on the step alone. Runs are read
without its code: the store keeps its name, a digest of its factors, and enough of them to draw.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from typing import Any

from etude.errors import SpecError

Function = Callable[[int], float]

MOST_SAMPLES = 500
# Steps whose factors are digested. They do not depend on the horizon, which extends: each of the first hundred, then
# 60 a decade up to a million; the first and the last step of 200 epochs are added, because there schedules change.
DIGESTED = sorted({*range(100), *(round(10 ** (2 + i / 60)) for i in range(241))})
DIGESTED_EPOCHS = 200


def name_of(function: Function) -> str:
    """Return the function's name as it is stored, ``halved()``: no schedule of etude's own ends with parentheses."""
    return f"{getattr(_inner(function), '__name__', type(function).__name__)}()"


def is_stored_name(name: str) -> bool:
    """Whether a stored schedule was a function."""
    return name.endswith("()")


def factor(function: Function, step: int) -> float:
    """Return the function's factor at ``step``, from 0.

    Raises `SpecError`, naming the function's file and line, when it raises or returns no finite number of 0 or more.
    """
    try:
        got = function(step)
    except Exception as error:
        raise SpecError(f"{_place(function)} raised {type(error).__name__} at step {step}: {error}") from error
    number = _number(got)
    if number is None or not 0 <= number < math.inf:
        raise SpecError(f"{_place(function)}: expected a finite factor of 0 or more at step {step}, got {_short(got)}")
    return number


def check(function: Function, last: int) -> None:
    """Call the function at up to 500 steps from 0 to ``last``, twice. Raises `SpecError` when the answers differ."""
    steps = sample_steps(last)
    first = [factor(function, step) for step in steps]
    again = [factor(function, step) for step in reversed(steps)]
    for step, one, other in zip(steps, first, reversed(again), strict=True):
        if one != other:
            raise SpecError(
                f"{_place(function)}: expected a function of the step alone, got {one:g} and {other:g} at step {step}; "
                "no state and nothing random"
            )


def digest(function: Function, steps_per_epoch: int) -> str:
    """Return a digest of the factors at fixed steps, nine digits of each, so that an edited function is noticed.

    Steps beyond the horizon are among them: what the function does there (raise, become negative) is digested as well.
    """
    epochs = range(1, DIGESTED_EPOCHS + 1)
    steps = {*DIGESTED, *(k * steps_per_epoch for k in epochs), *(k * steps_per_epoch - 1 for k in epochs)}
    words = []
    for step in sorted(steps):
        try:
            got = function(step)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is part of what the function does
            words.append(type(error).__name__)
        else:
            number = _number(got)
            words.append("nothing" if number is None else f"{number:.9g}")
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16]


def samples(function: Function, last: int) -> dict[str, list[float]]:
    """Return the factors at up to 500 steps from 0 to ``last``, for the store; nine digits of each."""
    steps = sample_steps(last)
    return {
        "steps": [float(step) for step in steps],
        "factors": [float(f"{factor(function, step):.9g}") for step in steps],
    }


def sample_steps(last: int, most: int = MOST_SAMPLES) -> list[int]:
    """Return up to ``most`` steps from 0 to ``last``, evenly spread, both ends among them."""
    last = max(0, last)
    if last < most:
        return list(range(last + 1))
    return [round(i * last / (most - 1)) for i in range(most)]


def _number(got: Any) -> float | None:
    """Return the factor as a float; None for what is no number. NumPy's scalars and tensors of no dimension are numbers."""
    if isinstance(got, bool | str | bytes) or getattr(got, "ndim", 0) != 0:
        return None
    try:
        return float(got)
    except Exception:  # noqa: BLE001 - its own __float__ may raise anything
        return None


def _inner(function: Function) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _place(function: Function) -> str:
    inner = _inner(function)
    code = getattr(inner, "__code__", None) or getattr(vars(type(inner)).get("__call__"), "__code__", None)
    where = f" ({code.co_filename}, line {code.co_firstlineno})" if code is not None else ""
    return f"study.recipe.schedule: {name_of(function)}{where}"


def _short(got: object) -> str:
    text = " ".join(repr(got).split())
    return text if len(text) <= 60 else text[:57] + "…"

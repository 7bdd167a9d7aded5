"""Learning rates and seeds as a person writes them: ``1e-4,1e-3``, ``1e-5..1e-1/9`` (log-spaced), ``3``, ``10..14``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from etude.errors import SpecError
from etude.notation import format_rate
from etude.spec.value import number

Rates = tuple[float, ...]
Seeds = tuple[int, ...]
LARGEST_SEED = 2**32 - 1
SMALLEST, LARGEST = 1e-30, 1e30  # what float32 can multiply a gradient by
MOST = 10_000  # more rates or seeds than this is a slip of the keyboard


def parse_rates(got: object, field: str = "study.lrs") -> Rates:
    """Read learning rates from text, a number or a sequence; return them rising, each once.

    Raises `SpecError` for a rate that is not positive and finite, that stands there twice, and for none at all.
    """
    if isinstance(got, str):
        rates: list[float] = []
        for part in got.split(",") if got.strip() else []:
            rates += _range(part.strip(), field) if ".." in part else [number(field, part.strip())]
    elif isinstance(got, Iterable):
        rates = [number(f"{field}[{i}]", rate) for i, rate in enumerate(got)]
    else:
        rates = [number(field, got)]
    if not rates:
        raise SpecError(f"{field}: expected at least one learning rate, got none; write for example 1e-4,1e-3,1e-2")
    if len(rates) > MOST:
        raise SpecError(f"{field}: expected at most {MOST} rates, got {len(rates)}")
    for rate in rates:
        if not SMALLEST <= rate <= LARGEST:
            raise SpecError(f"{field}: expected rates from {SMALLEST:g} to {LARGEST:g}, got {rate:g}")
        if rates.count(rate) > 1:
            raise SpecError(f"{field}: {format_rate(rate)} stands there twice; name each rate once")
    return tuple(sorted(rates))


def parse_range(got: object, field: str = "lrs") -> tuple[float, float]:
    """Read a range to search, ``"LOW..HIGH"`` or two numbers. Raises `SpecError` for one that does not rise, or has a count."""
    if isinstance(got, str) and "/" in got:
        raise SpecError(
            f"{field}: expected LOW..HIGH, a range to search, got {got!r}; leave out /{got.rpartition('/')[2]}"
        )
    ends = [end.strip() for end in got.split("..")] if isinstance(got, str) else got
    if not isinstance(ends, Sequence) or len(ends) != 2:
        raise SpecError(f"{field}: expected LOW..HIGH, a range to search, got {got!r}")
    low, high = (number(field, end) for end in ends)
    if not SMALLEST <= low < high <= LARGEST:
        raise SpecError(f"{field}: expected LOW..HIGH with LOW < HIGH, from {SMALLEST:g} to {LARGEST:g}, got {got!r}")
    return low, high


def _range(text: str, field: str) -> list[float]:
    ends, slash, count_text = text.partition("/")
    low_text, _, high_text = ends.partition("..")
    if not slash:
        raise SpecError(
            f"{field}: {text!r} does not say how many rates; write {text}/9 for nine, evenly spaced on a log scale"
        )
    low, high = number(field, low_text.strip()), number(field, high_text.strip())
    count = int(number(f"{field}: the number of rates in {text!r}", count_text.strip(), whole=True))
    if count > MOST:
        raise SpecError(f"{field}: expected at most {MOST} rates, got {count} in {text!r}")
    if low >= high or count < 2:
        raise SpecError(f"{field}: expected LOW..HIGH/COUNT with LOW < HIGH and COUNT of 2 or more, got {text!r}")
    step = (math.log10(high) - math.log10(low)) / (count - 1)
    between = [10 ** (math.log10(low) + step * i) for i in range(1, count - 1)]
    # Rates that can be read and typed again, as long as rounding moves none by more than a hundredth of the spacing.
    for digits in range(3, 17):
        rounded = [float(f"{rate:.{digits - 1}e}") for rate in between]
        if all(abs(math.log10(a) - math.log10(b)) <= step / 100 for a, b in zip(between, rounded, strict=True)):
            return [low, *rounded, high]
    return [low, *between, high]


def parse_seeds(got: object, field: str = "study.seeds") -> Seeds:
    """Read seeds: ``3`` means 0, 1, 2; ``"10..14"`` both ends included; ``"0,7"`` or a sequence names them."""
    if isinstance(got, str):
        text = got.strip()
        if ".." in text:
            low_text, _, high_text = text.partition("..")
            low, high = _seed(low_text, field), _seed(high_text, field)
            if low > high:
                raise SpecError(f"{field}: expected LOW..HIGH with LOW ≤ HIGH, got {got!r}")
            _few(high - low + 1, field)
            return tuple(range(low, high + 1))
        if "," in text:
            return parse_seeds(text.split(","), field)
        got = text
    if isinstance(got, Iterable) and not isinstance(got, str):
        seeds = [_seed(seed, f"{field}[{i}]") for i, seed in enumerate(got)]
        if not seeds:
            raise SpecError(f"{field}: expected at least one seed, got none")
        for seed in seeds:
            if seeds.count(seed) > 1:
                raise SpecError(f"{field}: {seed} stands there twice; name each seed once")
        return tuple(sorted(seeds))
    count = int(number(field, got, whole=True))
    _few(count, field)
    return tuple(range(count))


def _few(count: int, field: str) -> None:
    if count > MOST:
        raise SpecError(f"{field}: expected at most {MOST} seeds, got {count}")


def _seed(got: object, field: str) -> int:
    try:
        if isinstance(got, bool | float):
            raise ValueError
        seed = int(str(got).strip())
    except ValueError:
        raise SpecError(f"{field}: expected a seed from 0 to {LARGEST_SEED}, got {got!r}") from None
    if not 0 <= seed <= LARGEST_SEED:
        raise SpecError(f"{field}: expected a seed from 0 to {LARGEST_SEED}, got {got!r}")
    return seed

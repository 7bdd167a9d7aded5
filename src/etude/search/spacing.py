"""Rates spread over a range on a log scale, so that any beginning of them covers it."""

from __future__ import annotations

from etude.notation import rounded


def rate(low: float, high: float, share: float) -> float:
    """Return the rate that lies a ``share`` of the way from ``low`` to ``high``, in three digits."""
    return rounded(low * (high / low) ** share)


def corput(n: int) -> float:
    """Return the ``n``-th number of van der Corput's sequence in base 2, from 1: 1/2, 1/4, 3/4, 1/8, 5/8, …"""
    value, part = 0.0, 0.5
    while n:
        value, part, n = value + part * (n % 2), part / 2, n // 2
    return value


def order(count: int) -> list[int]:
    """Return 0 to ``count`` - 1 so that any beginning is spread evenly: the middle, the quarters, …"""
    found: dict[int, None] = {}
    n = 1
    while len(found) < count:
        found[int(corput(n) * count)] = None
        n += 1
    return list(found)

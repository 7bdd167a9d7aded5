"""What trials recorded at each step, as a line a rate of no more places than an eye can tell. Knows no axes.

T steps of a trial, B buckets of steps, S seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from etude.present.lines import Line, shown, smoothed
from etude.result import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

BUCKETS = 120  # more would draw the noise between two steps


def has(result: Result, name: str) -> bool:
    """Whether any trial recorded a finite number of this name at any step."""
    return any(np.isfinite(of[name]).any() for of in result.history.values() if name in of)


def step_lines(result: Result, name: str, *, smooth: float = 0.0, is_log: bool = False) -> tuple[Line, ...]:
    """Return a line a rate of what was recorded by step: medians over buckets of steps, then over seeds, lowest rate first.

    The buckets are of equal width, or with ``is_log`` of equal width on a logarithmic axis.
    """
    of_rate = {lr: shown(result, lr) for lr in sorted({trial.lr for trial in result.judged})}
    last = max((trial.step for trials, _ in of_rate.values() for trial in trials), default=0)
    edges = bucket_edges(last, is_log=is_log)
    lines = []
    for lr, (trials, is_paused) in of_rate.items():
        ended = tuple(sorted(float(t.diverged) for t in trials if t.diverged is not None))
        rows, raws, reached = [], [], 0
        for trial in trials:
            of = result.history.get(trial.id)
            if of is None or name not in of:
                continue
            known = np.isfinite(of[name])
            steps, values = of["step"][known], of[name][known]
            reached = max(reached, int(steps[-1]) if len(steps) else 0)
            rows.append(thin(steps, smoothed(values, smooth), edges))
            raws.append(thin(steps, values, edges) if smooth else rows[-1])
        table, raw = (np.array(of or [np.full(len(edges) - 1, np.nan)], float) for of in (rows, raws))
        y, seen = _median(table), np.isfinite(table).any(0)
        if not seen.any() and not ended:
            continue
        middle = np.minimum((edges[:-1] + 1 + edges[1:]) / 2, reached)
        low, high = np.nan_to_num(table, nan=np.inf).min(0), np.nan_to_num(table, nan=-np.inf).max(0)
        lines.append(
            Line(
                lr=lr, x=middle[seen], y=y[seen], low=low[seen], high=high[seen], ended=ended, n_seeds=len(trials),
                is_paused=is_paused, raw=_median(raw)[seen] if smooth else None, n_drawn=int(np.isfinite(table).any(1).sum()),
            )
        )  # fmt: skip
    return tuple(lines)


def bucket_edges(last: int, *, is_log: bool = False) -> Ints:
    """Return the edges (B + 1,) of at most `BUCKETS` buckets (edge, next edge] of the steps 1 to ``last``."""
    if is_log and last > 1:
        return np.unique(np.concatenate([[0], np.geomspace(1, last, BUCKETS).round()])).astype(np.int64)
    return np.unique(np.linspace(0, max(last, 1), BUCKETS + 1).round()).astype(np.int64)


def thin(steps: Any, values: Any, edges: Ints) -> Floats:
    """Return the median (B,) of the values (T,) in each bucket; NaN where there is none. The steps rise."""
    n_buckets = len(edges) - 1
    bucket = np.searchsorted(edges, steps) - 1
    counts = np.bincount(bucket, minlength=n_buckets)
    first = np.cumsum(counts) - counts
    table = np.full((max(1, int(counts.max())), n_buckets), np.nan)
    table[np.arange(len(bucket)) - first[bucket], bucket] = values
    return _median(table)


def _median(table: Floats) -> Floats:
    """Return the median over rows (B,) of what is not NaN; NaN where nothing is."""
    counts = (~np.isnan(table)).sum(0)
    ordered, columns = np.sort(table, axis=0), np.arange(table.shape[1])  # NaN last
    below, above = ordered[np.maximum(counts - 1, 0) // 2, columns], ordered[counts // 2, columns]
    # Halved before they are added, so that numbers near the end of what floats hold do not overflow.
    return np.where(counts > 0, below / 2 + above / 2, np.nan)

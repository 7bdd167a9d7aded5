"""What each known rule picks from a range test: the loss by step while the rate rises exponentially.

Smith 2017, arXiv 1506.01186, had people look at such a curve; the rules came with the libraries. Each library smooths the
loss in its own way, ends its own test, and leaves out steps at both ends before it picks, so each rule here does all of
that to the raw losses, as the library would have with this curve:

- torch-lr-finder 0.2 (``LRFinder.range_test`` and ``plot``);
- fastai 2 (``fastai/callback/schedule.py``: ``lr_find`` with ``valley``, ``slide``, ``minimum`` and ``steep``);
- Lightning 2 (``lightning/pytorch/tuner/lr_finder.py``: ``_LRCallback`` and ``suggestion``).

``steepest`` is the plain form of the idea, with a smoothing that does not lag behind. What any of them is worth is not
known here. N steps, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etude.analysis.values import Floats

FORGET = 0.98  # of fastai's and Lightning's running mean
SMOOTHED = 0.25  # decades, the standard deviation of the kernel of `smooth`
EXPLODED_FASTAI, EXPLODED_FINDER = 4.0, 5.0  # times the best smoothed loss, where the libraries end their tests
APART, STEP_APART = 15, 0.005  # fastai's slide: points between the two slopes, and the difference that ends its way


@dataclass(frozen=True, kw_only=True)
class Pick:
    """What a rule picks: ``lrs`` (S,) by seed, None where it picks nothing; their median ``lr``, or None with the ``reason``.

    ``spread`` is the distance from ``low`` to ``high`` in decades, None with one pick alone.
    """

    rule: str
    lrs: tuple[float | None, ...]
    lr: float | None
    low: float | None
    high: float | None
    spread: float | None
    reason: str = ""


def picks(lrs: Floats, losses: Sequence[Floats]) -> tuple[Pick, ...]:
    """Return the pick of every rule from the rates (N,) and each seed's losses, (N,) or shorter where its test ended.

    A loss that is not finite may stand last.
    """
    made = []
    whole = [_whole(loss, len(lrs)) for loss in losses]
    for rule, function in RULES.items():
        found = [function(lrs[: len(loss)], loss, len(lrs)) for loss in whole]
        told = sorted(lr for lr in found if lr is not None)
        made.append(
            Pick(
                rule=rule,
                lrs=tuple(found),
                lr=math.exp(float(np.median(np.log(told)))) if told else None,
                low=told[0] if told else None,
                high=told[-1] if told else None,
                spread=math.log10(told[-1] / told[0]) if len(told) > 1 else None,
                reason="" if told else "too few steps before the loss exploded, or too few in all",
            )
        )
    return tuple(made)


def smooth(lrs: Floats, loss: Floats) -> Floats:
    """Return a local linear fit of finite losses over log10 η, Gaussian weights; its ends do not lag as a running mean does.

    Clipped to the range of the losses near by, because a line through an explosion overshoots.
    """
    x = np.log10(lrs)
    if len(x) < 3:
        return loss.astype(float)
    width = max(SMOOTHED, 1.5 * float(x[1] - x[0]))
    distance = x[:, None] - x[None, :]
    weights = np.exp(-0.5 * (distance / width) ** 2)
    weights /= weights.sum(1, keepdims=True)
    # Moments of the weighted points around each place; the fit's value there is mean − slope · offset.
    offset = (weights * -distance).sum(1)
    mean = (weights * loss).sum(1)
    covariance = (weights * -distance * loss).sum(1) - offset * mean
    variance = (weights * distance**2).sum(1) - offset**2
    near = np.abs(distance) <= width
    low = np.where(near, loss, np.inf).min(1)
    high = np.where(near, loss, -np.inf).max(1)
    fitted: Floats = np.clip(mean - covariance / variance * offset, low, high)
    return fitted


def steepest(lrs: Floats, loss: Floats, of: int) -> float | None:
    """Where the smoothed loss falls most steeply over log η, before it is least; without the first tenth of all steps."""
    kept = slice(of // 10, _finite(loss))
    x, y = lrs[kept], loss[kept]
    if len(y) < 3:
        return None
    smoothed = smooth(x, y)
    slope = np.gradient(smoothed, np.log(x))
    return _at(x, int(slope[: int(smoothed.argmin()) + 1].argmin()))


def finder(lrs: Floats, loss: Floats, _of: int) -> float | None:
    """torch-lr-finder: the least difference between neighbours of its smoothed history, 10 steps left out and 5."""
    history: list[float] = []
    best = math.inf
    for value in loss:
        history.append(float(value) if not history else 0.05 * float(value) + 0.95 * history[-1])
        best = min(best, history[-1])
        if history[-1] > EXPLODED_FINDER * best:
            break
    kept = np.array(history)[10:-5]
    if len(history) < 17:  # what its plot asks for
        return None
    return _at(lrs, 10 + int(np.gradient(kept).argmin()))


def lightning(lrs: Floats, loss: Floats, _of: int) -> float | None:
    """Lightning: the least slope over η itself of its running mean, 10 steps left out and 1.

    Its mean is divided as if there had been one step more, so it begins at half the loss.
    """
    means = _running(loss, ahead=1)
    best = math.inf
    for i, mean in enumerate(means):
        if i and mean > EXPLODED_FASTAI * best:
            means = means[: i + 1]
            break
        best = min(best, mean)
    x, y = lrs[10 : len(means) - 1], means[10:-1]
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    return None if len(y) < 2 else _at(x, int(np.gradient(y, x).argmin()))


def valley(lrs: Floats, loss: Floats, of: int) -> float | None:
    """fastai's: in the longest run of falling losses (other points may lie between), a little before its middle."""
    x, y = _fastai(lrs, loss, of)
    if len(y) < 3:
        return None
    start, end = longest_fall(y)
    third = (end - start) / 3
    return _at(x, start + int(third) + int(third / 2))


def longest_fall(y: Floats) -> tuple[int, int]:
    """Return where the longest run of falling values ends, and that many places before; other values may lie between.

    The first of equally long ones; (0, 0) where nothing falls. fastai takes the run's length for its way, so what is
    returned first may be −1.
    """
    length = np.ones(len(y), int)
    for i in range(1, len(y)):
        length[i] = 1 + max(length[:i][y[:i] > y[i]], default=0)
    end = int(length.argmax())
    return (end - int(length[end]), end) if end else (0, 0)


def slide(lrs: Floats, loss: Floats, of: int) -> float | None:
    """fastai's: from the right, the first place whose slope is like that 15 points further."""
    x, y = _fastai(lrs, loss, of)
    n = len(y)
    if n < APART + 1:
        return None
    slope = np.gradient(y)
    left = n - 1 - APART
    found = left
    while left >= 0 and abs(slope[left + APART] - slope[left]) > STEP_APART:
        found = left
        left -= 1
    return _at(x, found)


def minimum(lrs: Floats, loss: Floats, of: int) -> float | None:
    """fastai's: a tenth of the rate at which the smoothed loss is least."""
    x, y = _fastai(lrs, loss, of)
    return None if not len(y) else _at(x, int(y.argmin())) / 10


def steep(lrs: Floats, loss: Floats, of: int) -> float | None:
    """fastai's: where its smoothed loss falls most steeply over log η, from one step to the next."""
    x, y = _fastai(lrs, loss, of)
    return None if len(y) < 2 else _at(x, int((np.diff(y) / np.diff(np.log(x))).argmin()))


Rule = Callable[[Floats, Floats, int], "float | None"]
RULES: Mapping[str, Rule] = {
    "steepest": steepest,
    "torch-lr-finder": finder,
    "Lightning": lightning,
    "fastai valley": valley,
    "fastai slide": slide,
    "fastai minimum/10": minimum,
    "fastai steep": steep,
}


def _at(lrs: Floats, index: int) -> float:
    return float(lrs[index])


def _whole(loss: Floats, of: int) -> Floats:
    """Return the losses with NaN for the steps after one that is not finite: the libraries go on there."""
    ended = len(loss) and not math.isfinite(loss[-1])
    return np.concatenate([loss, np.full(of - len(loss), math.nan)]) if ended else loss


def _finite(loss: Floats) -> int:
    """Return how many losses there are before the first that is not finite."""
    broken = np.flatnonzero(~np.isfinite(loss))
    return int(broken[0]) if len(broken) else len(loss)


def _running(loss: Floats, ahead: int = 0) -> Floats:
    """Return the running mean that forgets, divided by the weight that it has after as many steps, and ``ahead`` more."""
    mean, made = 0.0, np.empty(len(loss))
    for i, value in enumerate(loss):
        mean = FORGET * mean + (1 - FORGET) * float(value)
        made[i] = mean / (1 - FORGET ** (i + 1 + ahead))
    return made


def _fastai(lrs: Floats, loss: Floats, of: int) -> tuple[Floats, Floats]:
    """Return what fastai's rules see: up to 4 times the best, without the first tenth of all steps, the last 5, and NaN."""
    means, best = _running(loss), math.inf
    for i, mean in enumerate(means):
        best = min(best, mean)
        if mean > EXPLODED_FASTAI * best:
            means = means[: i + 1]
            break
    kept = slice(of // 10, max(0, len(means) - 5))
    x, y = lrs[kept], means[kept]
    return x[: _finite(y)], y[: _finite(y)]

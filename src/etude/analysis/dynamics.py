"""What one trial's curve did: smooth, oscillating, spiking, stalled or collapsed.

``gain`` is what the best trial of the study took off the loss, and the unit in which movement is measured. Independent
minibatch noise makes half of all changes of the loss go up, so single steps prove nothing: evaluations are compared with
their standard errors, and the training loss in blocks with the scatter inside them. T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from etude.analysis.values import Curve, Floats

# docs/verdicts.md has the experiment behind each constant.
STALLED_MOVE = 0.02  # of the gain: a trial that never got further from its start has not moved
COLLAPSED_PROGRESS = 0.05  # of the gain: training and validation loss no better than at the start …
COLLAPSED_SCORE = 0.5  # … and the objective has less than this share of the best trial's improvement
FALSE_ALARM = 0.1  # chance that the flat curve of a settled trial shows a setback anywhere
EVALUATION_CORRELATION = (
    0.5  # of two evaluations of one trial: they see the same examples and err on many of them alike
)
SETBACK_SHARE = 0.25  # setbacks of this share of all movement after the first evaluation make a curve restless
BLOCKS, SMALLEST_BLOCK = 20, 8
BLOCK_SIGNIFICANT, BLOCK_RISE = 4.0, 0.05  # standard errors, and of the gain
SPIKE_WINDOW, SPIKE_AFTER = 5, 0.5  # steps averaged; progress after which the starting loss must not come back


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The numbers behind a word. Shares are of the study's gain; ``setback`` is in the metric's unit."""

    progress: float
    train_progress: float
    score_progress: float
    moved: float
    score_moved: float
    setback: float
    setback_share: float
    recoveries: int
    block_rises: int
    spikes: int
    last_change: float
    last_change_error: float


def classify(
    curve: Curve, metric: str, error: Floats, sign: int, gain: float, score_gain: float, *, level: str | None,
    begin: tuple[float, float],
) -> tuple[str | None, dict[str, Any]]:  # fmt: skip
    """Return the word and its evidence, or None and ``{"reason": …}``.

    ``error`` (E,) are the objective's standard errors, NaN where unknown; ``gain`` and ``score_gain`` the largest
    improvements of loss and objective over step 0 in the study. ``level`` names the loss that movement is measured by, and
    ``begin`` has that loss and the objective before training; NaN where nobody recorded them: then a curve that does not move
    may have learned all it could before its first evaluation, so ``stalled``, ``collapsed`` and ``spiking`` are not told.
    """
    if curve.status == "diverged":
        return None, {"reason": f"the loss stopped being finite at {curve.diverged_unit} {curve.diverged_step}"}
    if len(curve.steps) < 2 or level is None:
        return None, {"reason": "fewer than two evaluations"}
    losses = curve.metrics[level]
    blocks, errors = _blocks(curve.loss)
    start, first = begin
    with np.errstate(invalid="ignore", over="ignore"):
        progress = float((start - losses[-1]) / gain)
        away = np.concatenate([np.abs(losses - start), _moves(blocks, errors, start)])
        moved = float(np.nanmax(away) / gain) if np.isfinite(away).any() else np.nan
        score = sign * curve.metrics[metric]
        score_progress = float((score[-1] - sign * first) / score_gain) if score_gain > 0 else 0.0
        away = np.abs(score - sign * first)
        score_moved = float(np.nanmax(away) / score_gain) if score_gain > 0 and np.isfinite(away).any() else np.nan
        train = curve.metrics.get("train_loss", losses)
        train_progress = float((start - train[-1]) / gain)  # a falling training loss tells overfitting from collapse
    after = int(curve.steps[0] == 0)  # what comes first in training is no setback
    setback, share, recoveries = _setbacks(score[after:], error[after:])
    evidence = Evidence(
        progress=progress,
        train_progress=progress if not np.isfinite(train_progress) else train_progress,
        score_progress=score_progress,
        moved=moved,
        score_moved=score_moved,
        setback=setback,
        setback_share=share,
        recoveries=recoveries,
        block_rises=_rises(blocks, errors, gain),
        spikes=_spikes(curve.loss, start, gain),
        last_change=float(score[-1] - score[-2]),
        last_change_error=float(np.hypot(*error[-2:])),
    )
    return _word(evidence), dict(vars(evidence))


def _word(e: Evidence) -> str:
    if e.moved <= STALLED_MOVE:
        return "stalled"
    if (
        max(e.progress, e.train_progress) <= COLLAPSED_PROGRESS
        and e.score_progress <= COLLAPSED_SCORE
        and e.moved - e.progress >= STALLED_MOVE
    ):
        return "collapsed"
    if e.score_moved <= STALLED_MOVE:  # a loss with a weight penalty in it falls while nothing is learned
        return "stalled"
    if e.spikes:
        return "spiking"
    if (e.setback_share >= SETBACK_SHARE and e.recoveries >= 1) or e.block_rises >= 2:
        return "oscillating"
    return "smooth"


def own_error(evens: Sequence[Floats]) -> float:
    """Return the standard error of an evaluation on the even scale, from the curves of one rate alone; NaN if too short.

    For curves that come without errors. Second differences leave out what is smooth; the later two thirds, where a curve
    has settled, count. In the terms of `EVALUATION_CORRELATION`, so that it can stand in for an error over examples.
    """
    bends = [np.diff(y[len(y) // 3 :], 2) for y in evens if len(y) >= 4]
    bend = np.concatenate(bends) if bends else np.empty(0)
    bend = bend[np.isfinite(bend)]
    if len(bend) < 2:
        return float("nan")
    return float(np.sqrt((bend**2).mean() / 6 / (1 - EVALUATION_CORRELATION)))


def _setbacks(score: Floats, error: Floats) -> tuple[float, float, int]:
    """Return the largest significant worsening between evaluations, the share of setbacks in all movement, and recoveries."""
    if len(score) < 2:
        return 0.0, 0.0, 0
    change = np.diff(score)
    # Bonferroni over the changes, one-sided, so that long curves are not restless by their length alone.
    significant = -special.ndtri(FALSE_ALARM / len(change))
    noise = significant * np.sqrt(1 - EVALUATION_CORRELATION) * np.hypot(error[1:], error[:-1])
    # A metric without a standard error has unknown noise: none of its changes is significant.
    drops = np.where(change < -noise, -change, 0.0)
    # A setback that nothing follows may be the start of overfitting; one that is made good again is restlessness.
    recoveries = int(sum(change[i + 1 :].sum() > 0 for i in np.flatnonzero(drops)))
    net = max(0.0, float(score.max() - score[0]))
    total = net + float(drops.sum())
    return float(drops.max()), float(drops.sum() / total) if total > 0 else 0.0, recoveries


def _blocks(loss: Floats) -> tuple[Floats, Floats]:
    """Return means and standard errors of equal blocks of the training loss by step."""
    size = max(SMALLEST_BLOCK, len(loss) // BLOCKS)
    count = len(loss) // size
    if count < 2:
        return np.empty(0), np.empty(0)
    parts = loss[: count * size].reshape(count, size)
    return parts.mean(1), parts.std(1, ddof=1) / np.sqrt(size)


def _moves(blocks: Floats, errors: Floats, start: float) -> Floats:
    """Return how far each block but the first got from the start, and from the first, beyond the noise of their means.

    The start is a loss on held-out data, and the training loss may lie beside it before anything has moved.
    """
    if len(blocks) < 2:
        return np.empty(0)
    noise = BLOCK_SIGNIFICANT * np.hypot(errors[1:], errors[0])
    far = np.minimum(np.abs(blocks[1:] - start), np.abs(blocks[1:] - blocks[0])) - noise
    moves: Floats = np.maximum(far[np.isfinite(far)], 0.0)
    return moves


def _rises(blocks: Floats, errors: Floats, gain: float) -> int:
    if len(blocks) < 3:
        return 0
    rise = np.diff(blocks)
    noise = BLOCK_SIGNIFICANT * np.hypot(errors[1:], errors[:-1])
    return int(((rise > noise) & (rise > BLOCK_RISE * gain)).sum())


def _spikes(loss: Floats, start: float, gain: float) -> int:
    """Count returns to the starting loss, five steps long, after half of the gain had been made."""
    if len(loss) < 4 * SPIKE_WINDOW:
        return 0
    smooth = np.convolve(loss, np.ones(SPIKE_WINDOW) / SPIKE_WINDOW, "valid")
    low = start - smooth >= SPIKE_AFTER * gain
    first = int(np.argmax(low)) if low.any() else len(smooth)
    high = smooth[first:] >= start
    return int((high[1:] & ~high[:-1]).sum())

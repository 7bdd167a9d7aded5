"""Sentences, as an ordered table of (predicate, template) over the evidence of a rate. They say what the numbers bear."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from etude.analysis.scale import Scale


@dataclass(frozen=True, kw_only=True)
class RateEvidence:
    """What is known of a rate when its sentence is written. Counts are of its seeds; ``gap`` and errors in the metric's unit."""

    verdict: str
    grade: str | None
    n_trials: int
    n_scored: int
    n_diverged: int
    n_collapsed: int
    n_stalled: int
    n_failed: int
    n_unfinished: int
    n_restless: int
    diverged_step: int | None
    mean: float
    mean_error: float
    gap: float
    gap_error: float
    p_within: float
    p_worse: float
    setback: float
    last_change: float
    last_change_error: float
    epochs: float
    is_best: bool
    some_learned: bool
    failure: str | None = None

    @property
    def n_lost(self) -> int:
        """How many seeds diverged or collapsed."""
        return self.n_diverged + self.n_collapsed

    @property
    def restless(self) -> bool:
        """Whether at least half of its seeds oscillate or spike."""
        return self.n_restless > 0 and 2 * self.n_restless >= self.n_scored

    @property
    def still_improving(self) -> bool:
        """Whether the last interval improved the objective by more than its noise."""
        return math.isfinite(self.last_change_error) and self.last_change > max(0.0, 2 * self.last_change_error)


Templates = tuple[tuple[Callable[[RateEvidence], bool], str], ...]

TABLE: Templates = (
    (lambda e: e.n_failed > 0 and e.n_scored == 0, "Its code raised{of_failed}: {failure}"),
    (lambda e: e.verdict == "diverged" and e.n_diverged > 0, "The loss stopped being finite at step {diverged_step}{of_diverged}."),
    (lambda e: e.verdict == "diverged" and e.n_collapsed > 0, "Moved, and ended no better than it started{of_collapsed}: {mean} after {epochs}."),
    (lambda e: e.verdict == "diverged" and e.some_learned, "Never left its starting point, above the rates that learn: {mean} after {epochs}."),
    (lambda e: e.verdict == "diverged", "Never left its starting point: {mean} after {epochs}."),
    (lambda e: e.n_scored == 0 and e.n_unfinished > 0, "Still training: no score at the horizon yet."),
    (lambda e: e.verdict == "too low" and e.n_stalled == e.n_scored, "Never left its starting point: {mean} after {epochs}."),
    (lambda e: e.verdict == "too low" and e.still_improving, "Still improving at the end: {mean} after {epochs}, {gap} short of the best."),
    (lambda e: e.verdict == "too low", "{mean} after {epochs}, {gap} short of the best, which a higher rate reached in as many steps."),
    (lambda e: e.verdict == "unstable" and e.n_lost > 0, "Lost {n_lost} of its {n_trials} seeds; {mean} on average after {epochs}."),
    (lambda e: e.verdict == "unstable" and e.setback > 0, "Restless: fell back by {setback} between two evaluations and ended at {mean}, {gap} short of the best."),
    (lambda e: e.verdict == "unstable", "Restless: its training loss rose again and again; it ended at {mean}, {gap} short of the best."),
    (lambda e: e.verdict == "too high", "Settled at {mean} after {epochs}, {gap} short of the best."),
    (lambda e: e.verdict == "good" and e.is_best and e.restless, "The best: {mean} after {epochs}, though its curve is restless."),
    (lambda e: e.verdict == "good" and e.is_best, "The best: {mean} after {epochs}."),
    (lambda e: e.verdict == "good" and e.restless, "As good as the best: {mean} after {epochs}, though its curve is restless."),
    (lambda e: e.verdict == "good", "As good as the best: {mean} after {epochs}."),
    (lambda e: e.verdict == "undetermined" and e.n_lost > 0, "Lost {n_lost} of its {n_trials} seeds; the others reached {mean} on average after {epochs}."),
    (lambda e: e.grade == "worse", "{mean} after {epochs}, {gap} short of the best, between rates that do better; more seeds would tell."),
    (lambda e: e.n_scored > 0, "{mean} after {epochs}: the gap of {gap} to the best cannot be told from noise; more seeds would tell."),
    (lambda e: True, "Nothing to judge it by yet."),
)  # fmt: skip


def sentence(e: RateEvidence, scale: Scale) -> str:
    """Write the sentence of a rate."""
    template = next(template for predicate, template in TABLE if predicate(e))
    error = f" ± {scale.gap_text(e.mean_error).removesuffix(' points')}" if e.mean_error > 0 else ""
    mean = scale.text(e.mean)
    if error and mean.endswith(" %"):
        mean = f"{mean.removesuffix(' %')}{error} %"
    elif error:
        mean += error
    return template.format(
        diverged_step=e.diverged_step,
        of_diverged=_of(e.n_diverged, e.n_trials),
        of_collapsed=_of(e.n_collapsed, e.n_trials),
        of_failed=_of(e.n_failed, e.n_trials),
        failure=e.failure,
        n_lost=e.n_lost,
        n_trials=e.n_trials,
        mean=mean,
        gap=scale.gap_text(e.gap),
        setback=scale.gap_text(e.setback),
        epochs=epochs_text(e.epochs),
    )


def epochs_text(epochs: float) -> str:
    """Write ``5 epochs``, ``1 epoch``, ``0.1 epochs``."""
    return f"{epochs:g} epoch{'' if epochs == 1 else 's'}"


def _of(count: int, total: int) -> str:
    return f" ({count} of {total} seeds)" if total > 1 else ""

"""Sentences, as an ordered table of (predicate, template) over the evidence of a rate. They say what the numbers bear."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from etude.analysis.scale import Scale
from etude.notation import time_text


@dataclass(frozen=True, kw_only=True)
class RateEvidence:
    """What is known of a rate when its sentence is written.

    Counts are of its seeds; ``mean`` is that of the seeds that learned (of all, where none did, as is ``mean_all``); ``gap``, ``regret`` and errors in the metric's unit. ``is_best``: it is recommended;
    ``is_top``: its own mean is the best. ``horizon``, ``best_reached`` (when the best rate was as good) and ``needs_low`` to
    ``needs_high`` (how long this one would take to be as good as the best; NaN where it cannot be told, ``needs_reason``) in
    ``unit``: epoch, step, or nothing where time is not known. Of a rate that a search paused before any of its seeds got to the
    horizon: when it was ``paused_at`` (in ``unit``), its mean there, and how far it was ``behind`` the recommended rate at
    the same time (less than 0: ahead); NaN for others. ``n_paused`` counts paused seeds also of rates that have a score.
    """

    verdict: str
    grade: str | None
    n_trials: int
    n_scored: int
    n_diverged: int
    n_collapsed: int
    n_stalled: int
    n_failed: int
    n_unfinished: int
    n_paused: int
    n_restless: int
    n_outlying: int
    n_agree: int
    diverged_step: float | None
    diverged_unit: str
    mean: float
    mean_all: float
    mean_error: float
    gap: float
    gap_error: float
    p_within: float
    p_worse: float
    regret: float
    p_diverged: float
    p_diverged_low: float
    p_diverged_high: float
    setback: float
    last_change: float
    last_change_error: float
    horizon: float
    unit: str
    is_best: bool
    is_top: bool
    some_learned: bool
    best_reached: float = math.nan
    needs_low: float = math.nan
    needs_high: float = math.nan
    needs_reason: str | None = None
    failure: str | None = None
    paused_at: float = math.nan
    paused_mean: float = math.nan
    behind: float = math.nan
    behind_seen: bool = True

    @property
    def is_paused(self) -> bool:
        """Whether all that is known of how it would end is where it was paused."""
        return math.isfinite(self.paused_at)

    @property
    def n_lost(self) -> int:
        """How many seeds diverged, collapsed, or ended far from the others."""
        return self.n_diverged + self.n_collapsed + self.n_outlying

    @property
    def restless(self) -> bool:
        """Whether at least half of its seeds oscillate or spike."""
        return self.n_restless > 0 and 2 * self.n_restless >= (self.n_scored or self.n_paused)

    @property
    def still_improving(self) -> bool:
        """Whether the last interval improved the objective by more than its noise."""
        return math.isfinite(self.last_change_error) and self.last_change > max(0.0, 2 * self.last_change_error)

    @property
    def fell_back(self) -> bool:
        """Whether a setback of its one seed is a quarter or more of what it is short of the best."""
        return self.n_scored == 1 and self.setback >= 0.25 * self.gap > 0

    @property
    def settled(self) -> bool:
        """Whether the last interval changed the objective by no more than its noise, as far as that is known."""
        return abs(self.last_change) <= 2 * self.last_change_error


ENDED = ("memory: ", "its worker process died")  # how a failure begins that the task's code did not raise
Templates = tuple[tuple[Callable[[RateEvidence], bool], str], ...]

TABLE: Templates = (
    (lambda e: e.n_failed > 0 and e.n_scored == 0 and (e.failure or "").startswith("hung"), "It {failure}{of_failed}."),
    (lambda e: e.n_failed > 0 and e.n_scored == 0 and (e.failure or "").startswith(ENDED), "{ended}{of_failed}."),
    (lambda e: e.n_failed > 0 and e.n_scored == 0, "Its code raised{of_failed}: {failure}"),
    (lambda e: e.verdict == "diverged" and e.n_diverged > 0, "The loss stopped being finite{at_step}{of_diverged}."),
    (lambda e: e.verdict == "diverged" and e.n_collapsed > 0, "Moved, and ended no better than it started{of_collapsed}: {mean_all}{after}."),
    (lambda e: e.verdict == "diverged" and e.n_outlying > 0, "{n_outlying} of its {n_trials} seeds ended far from the others: {mean_all} on average{after}."),
    (lambda e: e.verdict == "diverged" and e.some_learned, "Never left its starting point, above the rates that learn: {mean}{after}."),
    (lambda e: e.verdict == "diverged", "Never left its starting point: {mean}{after}."),
    (lambda e: e.n_scored == 0 and e.n_unfinished > 0, "No score at the horizon: not trained that far."),
    (lambda e: e.is_paused and e.verdict == "too low" and e.behind <= 0, "{pause}, no better in as long than a higher rate that is too low."),
    (lambda e: e.is_paused and e.verdict in ("too high", "unstable") and e.behind <= 0, "{pause}, no better in as long than a lower rate that is too high."),
    (lambda e: e.is_paused and e.verdict == "too low" and e.best_reached > 0, "{pause}, {behind} behind the best rate, {had}: too slow to catch up."),
    (lambda e: e.is_paused and e.verdict == "too low", "{pause}, {behind} behind the best rate: too slow to catch up."),
    (lambda e: e.is_paused and e.verdict == "unstable" and e.n_lost > 0, "Lost {n_lost} of its {n_trials} seeds. {pause}, {behind} behind the best rate, a lower one."),
    (lambda e: e.is_paused and e.verdict == "unstable", "Restless. {pause}, {behind} behind the best rate, a lower one."),
    (lambda e: e.is_paused and e.verdict == "too high", "{pause}, {behind} behind the best rate, a lower one."),
    (lambda e: e.is_paused and math.isnan(e.behind), "{pause}; there is no rate to hold it against."),
    (lambda e: e.is_paused and e.behind < 0 and not e.behind_seen, "{pause}, where the recommended rate was not evaluated: which of the two was ahead is not told."),
    (lambda e: e.is_paused and e.behind < 0, "{pause}, {ahead} ahead of the recommended rate there: whether it would stay ahead is not told."),
    (lambda e: e.is_paused, "{pause}, {behind} behind the best rate there: whether it would catch up is not told."),
    (lambda e: e.verdict == "too low" and e.n_stalled == e.n_scored, "Never left its starting point: {mean}{after}."),
    (lambda e: e.verdict == "too low" and 2 * e.n_stalled > e.n_scored, "Most of its seeds never left their starting point: {mean_all} on average{after}."),
    (lambda e: e.verdict == "too low" and e.still_improving, "Still improving at the end: {mean}{after}, {gap} short of the best{earlier}{longer}."),
    (lambda e: e.verdict == "too low" and e.unit != "", "{mean}{after}, {gap} short of the best{earlier}{longer}."),
    (lambda e: e.verdict == "too low", "{mean}, {gap} short of the best, which is a higher rate."),
    (lambda e: e.verdict == "unstable" and e.n_lost > 0, "Lost {n_lost} of its {n_trials} seeds; the others reached {mean} on average{after}."),
    (lambda e: e.verdict == "unstable" and e.setback > 0, "Restless: fell back by {setback} between two evaluations and ended at {mean}, {gap} short of the best."),
    (lambda e: e.verdict == "unstable", "Restless: its training loss rose again and again; it ended at {mean}, {gap} short of the best."),
    (lambda e: e.verdict == "too high" and e.unit != "" and e.still_improving, "Still improving at the end: {mean}{after}, {gap} short of the best, which is a lower rate."),
    (lambda e: e.verdict == "too high" and e.unit != "" and e.fell_back, "Fell back by {setback} between two evaluations and ended at {mean}{after}, {gap} short of the best."),
    (lambda e: e.verdict == "too high" and e.unit != "" and e.settled, "Settled at {mean}{after}, {gap} short of the best."),
    (lambda e: e.verdict == "too high" and e.unit != "", "Ended at {mean}{after}, {gap} short of the best."),
    (lambda e: e.verdict == "too high", "{mean}, {gap} short of the best, which is a lower rate."),
    (lambda e: e.verdict == "good" and e.is_best and not e.is_top, "The least to lose, by its neighbours too: {mean}{after}{restless}."),
    (lambda e: e.verdict == "good" and e.is_best, "The best: {mean}{after}{restless}."),
    (lambda e: e.verdict == "good", "As good as the best: {mean}{after}{restless}."),
    (lambda e: e.verdict == "undetermined" and e.n_lost > 0, "Lost {n_lost} of its {n_trials} seeds; the others reached {mean} on average{after}."),
    (lambda e: e.verdict == "undetermined" and e.n_stalled > 0, "{n_stalled} of its {n_trials} seeds never left {their} starting point; {mean} on average{after}."),
    (lambda e: e.n_scored > 0 and e.grade is None, "{mean}{after}; there is no rate to hold it against."),
    (lambda e: e.grade == "worse", "{mean}{after}, {gap} short of the best, between rates that do better; more seeds would tell."),
    (lambda e: e.n_scored > 0 and e.gap < 0, "{mean}{after}, {gain} better than the recommended rate, which its neighbours do not bear out; more seeds would tell."),
    (lambda e: e.n_scored > 0, "{mean}{after}: whether it is within the margin of the best is not told ({gap} short of it); more seeds would tell."),
    (lambda e: True, "Nothing to judge it by yet."),
)  # fmt: skip
AT_ONCE = 0.02  # of the horizon: an earlier time is read between two evaluations, and is not told to the step
AGREED = ("too low", "good", "too high", "unstable")


def sentence(e: RateEvidence, scale: Scale) -> str:
    """Write the sentence of a rate, and how many of its seeds bear it out one by one."""
    template = next(template for predicate, template in TABLE if predicate(e))
    text = template.format(
        at_step="" if e.diverged_step is None or not e.unit else f" {_at(e)} {e.diverged_unit} {e.diverged_step:,g}",
        of_diverged=_of(e.n_diverged, e.n_trials),
        of_collapsed=_of(e.n_collapsed, e.n_trials),
        of_failed=_of(e.n_failed, e.n_trials),
        failure=e.failure,
        ended=_upper((e.failure or "").removeprefix(ENDED[0])),
        n_lost=e.n_lost,
        n_outlying=e.n_outlying,
        n_stalled=e.n_stalled,
        their="its" if e.n_stalled == 1 else "their",
        n_trials=e.n_trials if e.is_paused else e.n_trials - e.n_paused,
        mean=scale.pm_text(e.mean, e.mean_error),
        mean_all=scale.text(e.mean_all),
        gap=scale.gap_text(e.gap),
        gain=scale.gap_text(-e.gap),
        setback=scale.gap_text(e.setback),
        after=f" after {time_text(e.horizon, e.unit)}" if e.unit else "",
        pause=f"Paused after {_time(e.paused_at, e.unit, 3)} at {scale.text(e.paused_mean)}" if e.is_paused else "",
        behind=scale.gap_text(e.behind) if e.behind_seen else f"at least {scale.gap_text(e.behind)}",
        ahead=scale.gap_text(-e.behind),
        had=_had(e) if e.is_paused and e.best_reached > 0 else "",
        earlier=_earlier(e),
        longer=_longer(e),
        restless=", though its curve is restless" if e.restless else "",
    )
    judged = e.n_scored + e.n_diverged
    if judged > 1 and e.verdict in AGREED and e.some_learned:
        text += f" {e.n_agree} of {judged} seeds agree."
    return text


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _at(e: RateEvidence) -> str:
    return "at" if e.n_diverged == 1 else "from"


def _earlier(e: RateEvidence) -> str:
    """Say when the best rate was as good, where its evaluations show it."""
    if not (e.unit and math.isfinite(e.best_reached) and 0 < e.best_reached < 0.95 * e.horizon):
        return ", which a higher rate reached in as long" if e.unit else ""
    return f", {_had(e)}"


def _had(e: RateEvidence) -> str:
    if e.best_reached < AT_ONCE * e.horizon:
        return "which had as much almost at once"
    return f"which had as much after {_time(e.best_reached, e.unit)}"


def _time(value: float, unit: str, digits: int = 2) -> str:
    return time_text(float(f"{value:.{digits}g}"), unit)


def _longer(e: RateEvidence) -> str:
    if not (math.isfinite(e.needs_low) and e.unit):
        return ""
    low, high = (f"{float(f'{end:.2g}'):,.10g}" for end in (e.needs_low, e.needs_high))
    if float(f"{e.needs_low:.2g}") <= e.horizon:
        return f"; at this pace it would take up to {high} {e.unit}s"
    return f"; at this pace it would take {low} to {high} {e.unit}s"


def _of(count: int, total: int) -> str:
    return f" ({count} of {total} seeds)" if total > 1 else ""

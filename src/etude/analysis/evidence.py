"""The evidence on each rate: curves read once, trials with their dynamics and scores, rates with grade and verdict.

R rates, S seeds, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from etude.analysis import divergence, dynamics, noise, pause
from etude.analysis.answer import Answer, answer
from etude.analysis.begin import Begins, least, level_name
from etude.analysis.reading import RateEvidence
from etude.analysis.scale import find_scale
from etude.analysis.slowness import slowness
from etude.analysis.values import Curve, Floats, TrialReading

WITHIN, WORSE = 0.8, 0.9  # probabilities that make a grade
WORSE_AT_ONE_SEED = 0.95  # with less, of two equal rates one was called worse too often (docs/validation/coverage.md)
RESTLESS = ("oscillating", "spiking")
MOST_RATES, BINS = 60, 48  # more rates than these are put together in bins of equal width in log η
UNFINISHED = ("pending", "running", "paused")


@dataclass(frozen=True)
class ReadTrial:
    """A curve and what it was read as; ``score`` in the metric's unit, NaN where there is none.

    ``place`` is the step whose evaluation is the score: the horizon's, or the best one before it. ``is_paused``: a search
    left it short of the horizon, so that it has no score and is not waited for.
    """

    curve: Curve
    reading: TrialReading
    place: int
    is_paused: bool = False

    def at(self, name: str) -> tuple[float, float]:
        """Return a metric and its standard error where the score is taken."""
        return self.curve.at(name, self.place)

    @property
    def score(self) -> float:
        """The objective at the horizon, in the metric's unit; NaN where there is none."""
        return self.reading.score

    @property
    def is_lost(self) -> bool:
        """Whether it diverged or collapsed; how one that was paused would have ended is not known."""
        return self.curve.status == "diverged" or (self.reading.dynamics == "collapsed" and not self.is_paused)

    @property
    def learned(self) -> bool:
        """Whether it has a score that a rate could be recommended for."""
        return math.isfinite(self.score) and self.reading.dynamics not in ("stalled", "collapsed")

    @property
    def is_stalled(self) -> bool:
        """Whether it got to the horizon without ever having moved."""
        return math.isfinite(self.score) and self.reading.dynamics == "stalled"

    @property
    def is_judged(self) -> bool:
        """Whether something is known of how it ended."""
        return math.isfinite(self.score) or self.curve.status == "diverged"


def worse_from(*, measured: bool) -> float:
    """Return the chance from which on a rate is called worse; ``measured``: several seeds have told the noise."""
    return WORSE if measured else WORSE_AT_ONE_SEED


class Readings:
    """The curves of a study, read once: scale, dynamics and scores, from which answers and evidence are made."""

    def __init__(
        self, curves: Sequence[Curve], metric: str, direction: str, step: int, horizon: float, unit: str,
        select: str = "last", searched: bool = False,
    ) -> None:  # fmt: skip
        self.searched = searched
        self.curves, self.metric, self.step, self.horizon, self.unit = curves, metric, step, horizon, unit
        sign = 1.0 if direction == "maximize" else -1.0
        # The step whose evaluation is a trial's score: the horizon's, or the best one before it.
        self.places = [step if select == "last" else curve.best_step(metric, step, sign) for curve in curves]
        empty = np.empty(0)
        seen = np.concatenate([c.metrics.get(metric, empty) for c in curves] or [empty])
        self.scale = find_scale(
            direction,
            seen,
            metric,
            final=[c.at(metric, place)[0] for c, place in zip(curves, self.places, strict=True)],
        )
        self.begins = Begins(curves)
        self.gain, self.score_gain = self._gains()
        self.start = next(
            (float(c.metrics[metric][0]) for c in curves
             if len(c.steps) and c.steps[0] == 0 and c.end_step > 0 and metric in c.metrics and np.isfinite(c.metrics[metric][0])),
            math.nan,
        )  # fmt: skip
        errors = self._errors()
        self.trials = [self._read(*one) for one in zip(curves, errors, self.places, strict=True)]
        self.of_rate: dict[float, list[ReadTrial]] = {}
        for curve, reading, place in zip(curves, self.trials, self.places, strict=True):
            left = searched and curve.status in UNFINISHED and not math.isfinite(reading.score)
            self.of_rate.setdefault(curve.lr, []).append(ReadTrial(curve, reading, place, left))
        evens = {
            lr: {t.curve.seed: float(self.scale.even(t.score)) for t in trials if t.learned}
            for lr, trials in self.of_rate.items()
        }
        self.outlying = noise.outlying({lr: s for lr, s in evens.items() if s})
        self.scores = {
            lr: kept
            for lr, by_seed in evens.items()
            if (kept := {seed: y for seed, y in by_seed.items() if (lr, seed) not in self.outlying})
        }

    def _gains(self) -> tuple[float, float]:
        """Return the largest improvements over step 0, of the loss and of the objective, the units of progress.

        Neither is less than a small share of where it started: 1 % of the loss, a tenth of the error, so that a study in
        which nothing has learned does not take noise for progress. Of final values alone: how far apart they are.
        """
        gain, score_gain, start, final = 0.0, 0.0, 1.0, []
        for curve in self.curves:
            score = self.scale.sign * curve.metrics.get(self.metric, np.empty(0))
            if len(score) < 2:
                final += [float(value) for value in score if np.isfinite(value)]
                continue
            name = level_name(curve)
            lowest, highest = math.nan if name is None else least(curve.metrics[name]), -least(-score)
            if math.isfinite(level := self.begins.about(curve, name)):
                start = abs(level) or 1.0
                gain = max(gain, level - lowest if math.isfinite(lowest) else 0.0)
            if math.isfinite(begin := self.begins.about(curve, self.metric)):
                floor = (0.1 if self.scale.kind == "share" else 0.01) * float(self.scale.level(abs(begin)))
                score_gain = max(
                    score_gain, floor, highest - self.scale.sign * begin if math.isfinite(highest) else 0.0
                )
        if score_gain == 0 and final:
            score_gain = max(final) - min(final)
        return max(gain, 0.01 * start), score_gain

    def _errors(self) -> list[Floats]:
        """Return the standard errors of the objective; where a study has none, from the scatter of its best curves."""
        given = [c.errors.get(self.metric, np.full(len(c.steps), np.nan)) for c in self.curves]
        if any(np.isfinite(error).any() for error in given):
            return given
        ends: dict[float, list[tuple[float, Curve]]] = {}
        for curve, place in zip(self.curves, self.places, strict=True):
            if len(curve.steps) >= 4 and curve.status != "diverged":
                value = curve.at(self.metric, place)[0]
                if math.isfinite(value):
                    ends.setdefault(curve.lr, []).append((float(self.scale.even(value)), curve))
        if not ends:
            return given
        best = min(ends.values(), key=lambda of: float(np.mean([y for y, _ in of])))
        evens = [self.scale.even(curve.metrics[self.metric][curve.steps > 0]) for _, curve in best]
        relative = dynamics.own_error(evens)
        if not math.isfinite(relative):
            return given
        return [
            relative * self.scale.level(c.metrics[self.metric]) if self.metric in c.metrics else error
            for c, error in zip(self.curves, given, strict=True)
        ]

    def _is_outlying(self, trial: ReadTrial) -> bool:
        return (trial.curve.lr, trial.curve.seed) in self.outlying

    def _is_gone(self, trial: ReadTrial) -> bool:
        return trial.is_lost or self._is_outlying(trial)

    def _read(self, curve: Curve, error: Floats, place: int) -> TrialReading:
        name = level_name(curve)
        word, found = dynamics.classify(
            curve, self.metric, error, self.scale.sign, self.gain, self.score_gain, level=name,
            begin=(self.begins.before(curve, name), self.begins.before(curve, self.metric)),
        )  # fmt: skip
        reached = len(curve.steps) > 0 and curve.steps[-1] >= self.step and curve.status not in ("diverged", "failed")
        score = curve.at(self.metric, place)[0] if reached else math.nan
        return TrialReading(lr=curve.lr, seed=curve.seed, dynamics=word, score=score, evidence=found)

    def answer(self, paused: Mapping[float, str] | None = None) -> Answer | None:
        """Make the answer of the scores; ``paused`` has the words of rates that were paused and can be told."""
        words = paused or {}
        return self.answer_of(
            self.scores,
            {lr: self.scale_error(lr) for lr in self.scores},
            below=[lr for lr, word in words.items() if word == "too low"],
            above=[lr for lr, word in words.items() if word != "too low"],
        )

    def answer_of(
        self, scores: Mapping[float, Mapping[int, float]], examples: Mapping[float, float], *,
        below: Collection[float] = (), above: Collection[float] = (),
    ) -> Answer | None:  # fmt: skip
        """Make the answer of other scores of the same trials, on their own even scale.

        The best rate is not sought beyond those ``below`` and ``above``.
        """
        barred: set[float] = set()
        lost, stalled = set(above), set(below)
        for lr, trials in self.of_rate.items():
            gone = sum(map(self._is_gone, trials))
            still = sum(t.is_stalled for t in trials)
            judged = sum(t.is_judged or t.is_paused for t in trials)
            if gone or still:
                barred.add(lr)
            if 2 * gone > judged:
                lost.add(lr)
            if 2 * still > judged:
                stalled.add(lr)
        return answer(scores, barred=barred, lost=lost, stalled=stalled, examples=examples)

    @cached_property
    def means(self) -> Mapping[float, float]:
        """The mean score of each rate over the trials that learned, in the metric's unit; NaN where none did."""
        scores = {
            lr: [t.score for t in trials if t.learned and t.curve.seed in self.scores.get(lr, ())]
            for lr, trials in self.of_rate.items()
        }
        return {lr: float(np.mean(of)) if of else math.nan for lr, of in scores.items()}

    def examples(self, lr: float) -> float:
        """Return the standard error over validation examples; all seeds see the same ones, so it does not shrink with seeds."""
        errors = [t.at(self.metric)[1] for t in self.of_rate[lr] if math.isfinite(t.score)]
        return float(np.mean(errors)) if errors else math.nan

    def scale_error(self, lr: float) -> float:
        """Return that error on the even scale."""
        return self.examples(lr) / float(self.scale.level(self.means[lr]))

    def evidence(self, made: Answer | None, best: float | None, delta: float | None) -> dict[float, RateEvidence]:
        """Gather the evidence of every rate, graded and with its verdict."""
        lrs = sorted(self.of_rate)
        judged = np.array([sum(t.is_judged for t in self.of_rate[lr]) for lr in lrs], float)
        lost = np.array([sum(map(self._is_gone, self.of_rate[lr])) for lr in lrs], float)
        chances = np.array(divergence.chance(np.log10(np.array(lrs, float)), lost, judged))
        gaps = None if made is None or best is None else made.gaps(self.scale)
        ends = None if gaps is None else np.quantile(gaps, [0.16, 0.84], axis=0)
        regrets = None if made is None or best is None else made.loss(self.scale).mean(0)
        means = self.means
        candidates = [] if made is None else [made.lrs[i] for i in made.candidates]
        top = max(candidates, key=lambda lr: (self.scale.sign * means[lr], -lr), default=None)
        found = {}
        for i, lr in enumerate(lrs):
            column = made.lrs.index(lr) if made is not None and lr in made.lrs else None
            draws = None if gaps is None or column is None or delta is None else gaps[:, column]
            p_within = math.nan if draws is None or delta is None else float((draws <= delta).mean())
            found[lr] = self._of_rate(
                lr, best, means, p_within, gap_error=0.0 if ends is None or column is None else float(np.ptp(ends[:, column])) / 2,
                regret=math.nan if regrets is None or column is None else float(regrets[column]),
                chances=chances[:, i], is_top=lr == top, made=made, column=column,
            )  # fmt: skip
        return self._with_verdicts(found, best, delta)

    def _of_rate(
        self, lr: float, best: float | None, means: Mapping[float, float], p_within: float, *, gap_error: float,
        regret: float, chances: Floats, is_top: bool, made: Answer | None, column: int | None,
    ) -> RateEvidence:  # fmt: skip
        trials, scale = self.of_rate[lr], self.scale
        scored = [t.score for t in trials if math.isfinite(t.score)]
        mean_all = float(np.mean(scored)) if scored else math.nan
        mean = means[lr] if math.isfinite(means[lr]) else mean_all
        gap = scale.sign * (means[best] - mean) if best is not None and scored else math.nan
        if math.isnan(p_within) and best is not None and scored:
            p_within = 0.0  # it has a score, but none of a trial that learned: worse than what did
        lost = any(self._is_gone(t) or t.is_stalled for t in trials)
        grade = None
        if best is not None and scored:
            worse = gap > 0 and 1 - p_within >= worse_from(measured=made is not None and made.noise.measured)
            within = lr == best or (p_within >= WITHIN and not lost)
            grade = "within" if within else "worse" if worse else "unresolved"
        error = math.nan
        if made is not None and column is not None and made.noise.measured and not lost:
            error = made.noise.sd(column) / math.sqrt(made.noise.count[column]) * float(scale.level(mean))
        error = error if math.isfinite(error) else self.examples(lr)
        told = [t for t in trials if not t.is_paused] if scored else trials  # of how it ended, where that is known
        read = [t.reading.evidence for t in told if t.reading.dynamics is not None]
        diverged = [t.curve.diverged_step for t in trials if t.curve.status == "diverged"]
        return RateEvidence(
            verdict="",
            grade=grade,
            n_trials=len(trials),
            n_scored=len(scored),
            n_diverged=len(diverged),
            n_collapsed=sum(t.reading.dynamics == "collapsed" and not t.is_paused for t in trials),
            n_stalled=sum(t.is_stalled for t in trials),
            n_failed=sum(t.curve.status == "failed" for t in trials),
            n_unfinished=sum(self._unfinished(t.curve) for t in trials),
            n_paused=sum(t.is_paused for t in trials),
            n_restless=sum(t.reading.dynamics in RESTLESS for t in told),
            n_outlying=sum(map(self._is_outlying, trials)),
            n_agree=0,
            diverged_step=min((one for one in diverged if one is not None), default=None),
            diverged_unit=next((t.curve.diverged_unit for t in trials), "step"),
            mean=mean,
            mean_all=mean_all,
            mean_error=error if math.isfinite(error) else 0.0,
            gap=gap,
            gap_error=gap_error,
            p_within=p_within,
            p_worse=1 - p_within,
            regret=regret,
            p_diverged=float(chances[0]),
            p_diverged_low=float(chances[1]),
            p_diverged_high=float(chances[2]),
            setback=max((one["setback"] for one in read), default=0.0),
            last_change=float(np.mean([one["last_change"] for one in read])) if read else 0.0,
            last_change_error=float(np.mean([one["last_change_error"] for one in read])) if read else 0.0,
            horizon=self.horizon,
            unit=self.unit,
            is_best=lr == best,
            is_top=is_top,
            some_learned=best is not None,
            failure=next((t.curve.failure for t in trials if t.curve.failure is not None), None),
        )  # fmt: skip

    def _unfinished(self, curve: Curve) -> bool:
        got_there = len(curve.steps) > 0 and curve.steps[-1] >= self.step
        return not self.searched and curve.status in UNFINISHED and curve.end_step >= self.step and not got_there

    def _with_verdicts(
        self, evidence: Mapping[float, RateEvidence], best: float | None, delta: float | None
    ) -> dict[float, RateEvidence]:
        within = [lr for lr, e in evidence.items() if e.grade == "within"]
        low, high = (min(within), max(within)) if within else (math.inf, math.inf)
        if not within:  # no rate has learned: what never moved is below whatever broke
            broke = [lr for lr, e in evidence.items() if e.n_lost > 0]
            low = high = min(broke, default=math.inf)
        done = {}
        for lr, e in evidence.items():
            word = _verdict(lr, e, low, high)
            changes: dict[str, Any] = {"verdict": word, "n_agree": self._agree(lr, word, best, delta)}
            if word == "too low" and best is not None and self.unit and e.n_stalled < e.n_scored:
                mine, others = ([t.curve for t in self.of_rate[one] if t.learned] for one in (lr, best))
                slow = slowness(mine, others, self.metric, self.scale, self.horizon)
                soonest, latest = slow.needs
                changes |= {
                    "best_reached": slow.reached,
                    "needs_low": soonest,
                    "needs_high": latest,
                    "needs_reason": slow.reason or None,
                }
            done[lr] = replace(e, **changes)
        return self._with_pauses(done, best, delta, low, high) if self.searched else done

    def _with_pauses(
        self, evidence: Mapping[float, RateEvidence], best: float | None, delta: float | None, low: float, high: float
    ) -> dict[float, RateEvidence]:
        """Add what is known of the rates that have no score because all that did not diverge were paused."""
        of_best = [] if best is None else [t.curve for t in self.of_rate[best] if t.learned]
        beside: dict[float, pause.Beside] = {}
        for lr, e in evidence.items():
            left = [t.curve for t in self.of_rate[lr] if t.is_paused]
            found = None
            if left and not e.n_scored and e.verdict != "diverged":
                found = pause.paused(left, of_best, self.metric, self.scale, self.horizon)
            ends = [t.curve for t in self.of_rate[lr] if t.curve.status == "diverged"] if found is None else left
            shown = [t.curve for t in self.of_rate[lr] if t.learned] or ends
            beside[lr] = pause.Beside(
                word=e.verdict,
                curve=pause.furthest(shown, self.metric, self.scale, self.horizon),
                pause=found,
                restless=e.restless or e.n_lost > 0,
            )
        told = {} if best is None or delta is None else pause.words(beside, low, high, delta, self.scale)
        return {
            lr: e
            if (found := beside[lr].pause) is None
            else replace(
                e,
                verdict=told.get(lr, e.verdict),
                paused_at=found.at,
                paused_mean=found.level,
                behind=found.behind,
                behind_seen=found.seen,
                best_reached=found.reached if pause.MOMENT * found.at <= found.reached < found.at else math.nan,
            )
            for lr, e in evidence.items()
        }

    def _agree(self, lr: float, word: str, best: float | None, delta: float | None) -> int:
        """Count the seeds whose own result, beside the best rate's on the same seed where there is one, bears the word out."""
        if best is None or delta is None:
            return 0
        of_best = {t.curve.seed: t.score for t in self.of_rate[best] if math.isfinite(t.score)}
        count = 0
        for trial in self.of_rate[lr]:
            gone = self._is_gone(trial)
            gap = self.scale.sign * (of_best.get(trial.curve.seed, self.means[best]) - trial.score)
            if word == "diverged":
                count += gone
            elif word == "good":
                count += not gone and gap <= delta
            else:
                count += gone or gap > delta
        return count


def binned(curves: Sequence[Curve]) -> tuple[list[Curve], str | None]:
    """Put rates together where there are very many; each bin goes by the rate nearest to its middle."""
    lrs = sorted({curve.lr for curve in curves})
    if len(lrs) <= MOST_RATES:
        return list(curves), None
    x = np.log10(lrs)
    edges = np.linspace(x[0], x[-1], BINS + 1)
    of = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, BINS - 1)
    middle = {int(b): float(np.mean(x[of == b])) for b in np.unique(of)}
    name = {b: lrs[int(np.where(of == b, np.abs(x - m), np.inf).argmin())] for b, m in middle.items()}
    bin_of = {lr: int(b) for lr, b in zip(lrs, of, strict=True)}
    # One seed may stand for several rates of a bin: then they are runs like others, and share nothing.
    made, used = [], set()
    spare = -1
    for curve in curves:
        lr, seed = name[bin_of[curve.lr]], curve.seed
        if (lr, seed) in used:
            seed, spare = spare, spare - 1
        used.add((lr, seed))
        made.append(replace(curve, lr=lr, seed=seed))
    width = (x[-1] - x[0]) / BINS
    return (
        made,
        f"{len(lrs):,} rates in {len(name)} bins of {width:.2g} decades, each named by the rate nearest to its middle",
    )


def _verdict(lr: float, e: RateEvidence, low: float, high: float) -> str:
    judged = e.n_diverged + e.n_scored + e.n_paused
    if not judged:
        return "undetermined"
    if 2 * e.n_lost > judged:
        return "diverged"
    if 2 * e.n_stalled > judged:
        return "diverged" if lr > high else "too low"
    if e.grade == "within":
        return "good"
    if e.grade == "worse" and lr < low:
        return "too low"
    if e.grade == "worse" and lr > high:
        return "unstable" if e.restless or e.n_lost else "too high"
    return "undetermined"

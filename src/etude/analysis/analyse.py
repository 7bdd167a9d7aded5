"""From curves to verdicts: the margin, each trial's dynamics, each rate's grade and verdict, and the recommendation.

First version: every rate is judged from its own mean against the best one; the rate-response curve will take its place
behind the same signatures. R rates, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from etude.analysis import dynamics, noise
from etude.analysis.reading import RateEvidence, epochs_text, sentence
from etude.analysis.scale import Scale, find_scale
from etude.analysis.values import Analysis, Curve, NextRun, RateReading, Recommendation, TrialReading
from etude.notation import format_rate

VERSION = "1"
WITHIN, WORSE = 0.8, 0.9  # probabilities that make a grade
RESTLESS = ("oscillating", "spiking")
COARSE = 0.4  # decades between tried rates from which on a rate in between is worth a run


def analyse(
    curves: Sequence[Curve], *, metric: str, direction: str, margin: float | None, horizon_step: int, horizon: float,
    expected: Mapping[float, Mapping[str, Any]] | None = None,
) -> Analysis:  # fmt: skip
    """Judge a study by ``metric`` at ``horizon_step`` (``horizon`` epochs).

    ``margin`` is δ in the metric's unit, or None to take it from the noise. ``expected[lr]`` has ``verdict`` (a list) and
    ranges of metrics. The order of the curves does not matter.
    """
    curves = sorted(curves, key=lambda curve: (curve.lr, curve.seed))
    sign = 1 if direction == "maximize" else -1
    scale = find_scale(direction, [v for c in curves for v in c.metrics.get(metric, ())])
    gain, score_gain = _gains(curves, metric, scale)
    trials = [_read_trial(curve, metric, sign, gain, score_gain, horizon_step) for curve in curves]
    # A trial that is lost or stalled has no score that a rate could be recommended for.
    learned = [t for t in trials if math.isfinite(t.score) and t.dynamics not in ("stalled", "collapsed")]
    scores: dict[float, dict[int, float]] = {}
    for trial in learned:
        scores.setdefault(trial.lr, {})[trial.seed] = trial.score
    by_rate = {lr: [t for t in trials if t.lr == lr] for lr in sorted({t.lr for t in trials})}
    curve_of = {(curve.lr, curve.seed): curve for curve in curves}
    spread = noise.pooled(scores, scale)
    # Never best: a rate of which a seed was lost, or never moved.
    candidates = {
        lr: s
        for lr, s in scores.items()
        if not any(_is_lost(t, curve_of) or t.dynamics == "stalled" for t in by_rate[lr])
    }
    means = {lr: float(np.mean(list(s.values()))) for lr, s in scores.items()}
    best = max(candidates, key=lambda lr: (sign * means[lr], -lr), default=None)
    if best is None:
        delta, source = (margin, "given") if margin is not None else (None, "no rate has learned anything")
    else:
        best_error = _mean_error([curve_of[best, seed] for seed in scores[best]], metric, horizon_step)
        delta, source = noise.margin(margin, spread, scale, means[best], best_error, score_gain)
    evidence = {
        lr: _rate_evidence(lr, of_rate, curve_of, scores, best, delta, spread, scale, metric, horizon_step, horizon)
        for lr, of_rate in by_rate.items()
    }
    evidence = _with_verdicts(evidence)
    rates = tuple(
        RateReading(
            lr=lr,
            verdict=e.verdict,
            grade=e.grade,
            reason=sentence(e, scale),
            evidence=asdict(e),
            n_trials=e.n_trials,
            expected=_compare(expected[lr], e, by_rate[lr], curve_of, horizon_step)
            if expected and lr in expected
            else None,
        )
        for lr, e in evidence.items()
    )
    return Analysis(
        margin=delta,
        margin_source=source,
        margin_text="" if delta is None else f"± {scale.gap_text(delta)}",
        trials=tuple(trials),
        rates=rates,
        recommendation=_recommend(rates, evidence, best, delta, scale, metric),
    )


def _gains(curves: Sequence[Curve], metric: str, scale: Scale) -> tuple[float, float]:
    """Return the largest improvements over step 0, of the loss and of the objective, the units of progress.

    Neither is less than a small share of where it started: 1 % of the loss, a tenth of the error, so that a study in which
    nothing has learned does not take noise for progress.
    """
    gain, score_gain, start = 0.0, 0.0, 1.0
    for curve in curves:
        level = next((curve.metrics[n] for n in ("val_loss", "train_loss") if n in curve.metrics), None)
        if level is not None and len(level) and np.isfinite(level[0]):
            start = abs(float(level[0])) or 1.0
            gain = max(gain, float(level[0] - np.nanmin(level)))
        score = scale.sign * curve.metrics.get(metric, np.empty(0))
        if len(score) and np.isfinite(score[0]):
            least = (0.1 if scale.kind == "share" else 0.01) * scale.level(abs(float(score[0])))
            score_gain = max(score_gain, least, float(np.nanmax(score) - score[0]))
    return max(gain, 0.01 * start), score_gain


def _read_trial(
    curve: Curve, metric: str, sign: int, gain: float, score_gain: float, horizon_step: int
) -> TrialReading:
    word, evidence = dynamics.classify(curve, metric, sign, gain, score_gain)
    reached = len(curve.steps) > 0 and curve.steps[-1] >= horizon_step and curve.status != "diverged"
    score = curve.at(metric, horizon_step)[0] if reached else math.nan
    return TrialReading(lr=curve.lr, seed=curve.seed, dynamics=word, score=score, evidence=evidence)


def _is_lost(trial: TrialReading, curve_of: Mapping[tuple[float, int], Curve]) -> bool:
    return trial.dynamics == "collapsed" or curve_of[trial.lr, trial.seed].status == "diverged"


def _mean_error(curves: Sequence[Curve], metric: str, step: int) -> float:
    """Return the standard error over validation examples; all seeds see the same ones, so it does not shrink with seeds."""
    errors = [curve.at(metric, step)[1] for curve in curves]
    return float(np.mean(errors)) if errors else math.nan


def _rate_evidence(
    lr: float, trials: Sequence[TrialReading], curve_of: Mapping[tuple[float, int], Curve],
    scores: Mapping[float, Mapping[int, float]], best: float | None, delta: float | None, spread: noise.Noise,
    scale: Scale, metric: str, step: int, horizon: float,
) -> RateEvidence:  # fmt: skip
    curves = [curve_of[lr, trial.seed] for trial in trials]
    scored = {trial.seed: trial.score for trial in trials if math.isfinite(trial.score)}
    mean = float(np.mean(list(scored.values()))) if scored else math.nan
    examples = _mean_error([curve_of[lr, seed] for seed in scored], metric, step)
    error = noise.error_of_mean(spread, scale, mean, len(scored), examples)
    gap = gap_error = p_within = p_worse = math.nan
    grade = None
    if best is not None and delta is not None and scored:
        of_best = scores[best]
        best_mean = float(np.mean(list(of_best.values())))
        best_examples = _mean_error([curve_of[best, seed] for seed in of_best], metric, step)
        gap = scale.sign * (best_mean - mean)
        gap_error = noise.error_of_gap(
            spread, scale, (mean, len(scored), examples), (best_mean, len(of_best), best_examples)
        )
        p_within = noise.probability_below(gap, gap_error, delta, spread.df)
        p_worse = 1 - p_within
        lost = any(_is_lost(trial, curve_of) for trial in trials)
        apart = "worse" if p_worse >= WORSE else "unresolved"
        grade = "within" if lr == best or (p_within >= WITHIN and not lost) else apart
    dynamic = [trial.evidence for trial in trials if trial.dynamics is not None]
    diverged = [curve.diverged_step for curve in curves if curve.status == "diverged"]
    return RateEvidence(
        verdict="",
        grade=grade,
        n_trials=len(trials),
        n_scored=len(scored),
        n_diverged=len(diverged),
        n_collapsed=sum(trial.dynamics == "collapsed" for trial in trials),
        n_stalled=sum(trial.dynamics == "stalled" and math.isfinite(trial.score) for trial in trials),
        n_failed=sum(curve.status == "failed" for curve in curves),
        n_unfinished=sum(curve.status in ("pending", "running", "paused") and curve.end_step >= step
                         and not (len(curve.steps) and curve.steps[-1] >= step) for curve in curves),
        n_restless=sum(trial.dynamics in RESTLESS for trial in trials),
        diverged_step=min((one for one in diverged if one is not None), default=None),
        mean=mean,
        mean_error=error if math.isfinite(error) else 0.0,
        gap=gap,
        gap_error=gap_error,
        p_within=p_within,
        p_worse=p_worse,
        setback=max((one["setback"] for one in dynamic), default=0.0),
        last_change=float(np.mean([one["last_change"] for one in dynamic])) if dynamic else 0.0,
        last_change_error=float(np.mean([one["last_change_error"] for one in dynamic])) if dynamic else 0.0,
        epochs=horizon,
        is_best=lr == best,
        some_learned=best is not None,
        failure=next((curve.failure for curve in curves if curve.failure is not None), None),
    )  # fmt: skip


def _with_verdicts(evidence: Mapping[float, RateEvidence]) -> dict[float, RateEvidence]:
    within = [lr for lr, e in evidence.items() if e.grade == "within"]
    low, high = (min(within), max(within)) if within else (math.inf, math.inf)
    if not within:  # no rate has learned: what never moved is below whatever broke
        broke = [lr for lr, e in evidence.items() if e.n_diverged + e.n_collapsed > 0]
        low = high = min(broke, default=math.inf)
    return {lr: replace(e, verdict=_verdict(lr, e, low, high)) for lr, e in evidence.items()}


def _verdict(lr: float, e: RateEvidence, low: float, high: float) -> str:
    judged = e.n_diverged + e.n_scored
    if not judged:
        return "undetermined"
    if 2 * (e.n_diverged + e.n_collapsed) > judged:
        return "diverged"
    if 2 * e.n_stalled > judged:
        return "diverged" if lr > high else "too low"
    if e.grade == "within":
        return "good"
    if e.grade == "worse" and lr < low:
        return "too low"
    if e.grade == "worse" and lr > high:
        return "unstable" if e.restless or e.n_diverged or e.n_collapsed else "too high"
    return "undetermined"


def _compare(
    expected: Mapping[str, Any], e: RateEvidence, trials: Sequence[TrialReading],
    curve_of: Mapping[tuple[float, int], Curve], step: int,
) -> dict[str, Any]:  # fmt: skip
    """Set what was expected of a rate beside what was observed."""
    parts: list[dict[str, Any]] = []
    words = expected.get("verdict") or []
    if words:
        outcome = "undetermined" if e.verdict == "undetermined" else "agree" if e.verdict in words else "disagree"
        parts.append({"of": "verdict", "expected": list(words), "observed": e.verdict, "outcome": outcome})
    for name, ends in expected.items():
        if name == "verdict":
            continue
        curves = [curve_of[trial.lr, trial.seed] for trial in trials if math.isfinite(trial.score)]
        values = [curve.at(name, step) for curve in curves]
        finite = [value for value, _ in values if math.isfinite(value)]
        if not finite:
            parts.append({"of": name, "expected": list(ends), "observed": None, "outcome": "undetermined"})
            continue
        mean = float(np.mean(finite))
        error = float(np.nan_to_num(np.nanmax([0.0, *(error for _, error in values)])))
        if len(finite) > 1:
            error = max(error, float(np.std(finite, ddof=1)) / math.sqrt(len(finite)))
        low, high = ends
        inside = low + 2 * error <= mean <= high - 2 * error
        outside = mean < low - 2 * error or mean > high + 2 * error
        outcome = "agree" if inside else "disagree" if outside else "undetermined"
        parts.append({"of": name, "expected": [low, high], "observed": mean, "outcome": outcome})
    outcomes = {part["outcome"] for part in parts}
    overall = next((word for word in ("disagree", "undetermined") if word in outcomes), "agree")
    return {"outcome": overall, "parts": parts}


def _recommend(
    rates: Sequence[RateReading], evidence: Mapping[float, RateEvidence], best: float | None, delta: float | None,
    scale: Scale, metric: str,
) -> Recommendation:  # fmt: skip
    tried = [rate.lr for rate in rates]
    unfinished = sum(e.n_unfinished for e in evidence.values())
    if best is None or delta is None:
        return _none(rates, evidence, unfinished)
    e = evidence[best]
    within = tuple(lr for lr in tried if evidence[lr].grade == "within")
    position = tried.index(best)
    edge = None
    if len(tried) > 1:
        edge = "low" if position == 0 else "high" if position == len(tried) - 1 else None
    one_seed = e.n_scored < 2
    name = metric.removeprefix("val_").replace("_", " ")
    reached = f"{scale.text(e.mean)} validation {name}" if metric.startswith("val_") else f"{name} {scale.text(e.mean)}"
    others = [lr for lr in within if lr != best]
    reason = f"{format_rate(best)} reaches {reached} after {epochs_text(e.epochs)}, the best of {len(tried)} rates"
    if others:
        reason += f"; {', '.join(map(format_rate, others))} {'is' if len(others) == 1 else 'are'} within the margin"
    if edge:
        reason += f"; it is the {edge}est rate tried, so the best rate is not bracketed"
    if unfinished:
        reason += f"; {unfinished} trial{'s' * (unfinished != 1)} still to finish"
    provisional_reason = None
    if one_seed:
        provisional_reason = "run-to-run noise not measured: one seed"
    elif unfinished:
        provisional_reason = "training is not finished"
    said = [f"{format_rate(r.lr)} is {r.verdict}" if r.verdict != "diverged" else f"{format_rate(r.lr)} diverged"
            for r in rates if r.lr not in within and r.verdict != "undetermined"]  # fmt: skip
    conclusion = f"Train at {format_rate(best)}: it reaches {reached} in {epochs_text(e.epochs)}"
    if len(tried) == 1:
        conclusion = (
            f"{format_rate(best)} reaches {reached} in {epochs_text(e.epochs)}; one rate alone compares with nothing"
        )
    elif said:
        conclusion += "; " + _listed(said)
    unresolved = [lr for lr in tried if evidence[lr].grade == "unresolved" and not evidence[lr].n_lost]
    return Recommendation(
        lr=best,
        reason=reason + ".",
        conclusion=conclusion + ".",
        bracket=None if edge or len(tried) == 1 else (tried[position - 1], tried[position + 1]),
        within_margin=within,
        edge=edge,
        provisional=provisional_reason is not None,
        provisional_reason=provisional_reason,
        estimate={
            "metric": metric,
            "value": e.mean,
            "standard_error": e.mean_error or None,
            "n_seeds": e.n_scored,
            "note": f"the best of {len(tried)} rates, so likely a little optimistic" if len(tried) > 1 else None,
        },
        next_run=_next(tried, best, edge, one_seed, unresolved, e.n_trials, unfinished),
    )


def _next(
    tried: Sequence[float], best: float, edge: str | None, one_seed: bool, unresolved: Sequence[float], n_trials: int,
    unfinished: int,
) -> NextRun | None:  # fmt: skip
    if unfinished:
        return NextRun(why="finish what was asked for")
    step = float(np.median(np.diff(np.log10(tried)))) if len(tried) > 1 else 1.0
    if len(tried) == 1:
        return NextRun(why="one rate has nothing to be compared with", lrs=(_round(best / 10), _round(best * 10)))
    if edge:
        factor = 10 ** (-step if edge == "low" else step)
        further = tuple(sorted((_round(best * factor), _round(best * factor**2))))
        return NextRun(why="the best rate is at the end of the grid", lrs=further)
    if one_seed:
        return NextRun(why="more seeds measure the run-to-run noise", seeds=3)
    if unresolved:
        return NextRun(
            why=f"more seeds would tell {_listed([format_rate(lr) for lr in unresolved])} from the best",
            seeds=n_trials + 2,
        )
    position = tried.index(best)
    between = [
        _round(math.sqrt(a * b))
        for a, b in ((tried[position - 1], best), (best, tried[position + 1]))
        if math.log10(b / a) >= COARSE
    ]
    if between:
        return NextRun(why="rates between the best and its neighbours have not been tried", lrs=tuple(between))
    return None


def _none(rates: Sequence[RateReading], evidence: Mapping[float, RateEvidence], unfinished: int) -> Recommendation:
    tried = [rate.lr for rate in rates]
    counts = [
        (sum(e.n_diverged + e.n_collapsed for e in evidence.values()), "diverged or collapsed"),
        (sum(e.n_stalled for e in evidence.values()), "never moved"),
        (sum(e.n_failed for e in evidence.values()), "failed"),
        (unfinished, "not finished"),
    ]
    what = ", ".join(f"{count} {words}" for count, words in counts if count) or "nothing was trained"
    reason = f"no rate can be recommended yet: of {sum(e.n_trials for e in evidence.values())} trials {what}."
    lost = any(e.n_diverged + e.n_collapsed for e in evidence.values())
    stalled = any(e.n_stalled for e in evidence.values())
    next_run = None
    if unfinished:
        next_run = NextRun(why="finish what was asked for")
    elif lost and stalled:
        low = max(lr for lr, e in evidence.items() if e.n_stalled)
        high = min(lr for lr, e in evidence.items() if e.n_diverged + e.n_collapsed)
        if low < high:
            points = np.logspace(math.log10(low), math.log10(high), 5)[1:-1]
            next_run = NextRun(why="the rates between what never moved and what broke", lrs=tuple(map(_round, points)))
    elif lost:
        next_run = NextRun(why="lower rates may hold", lrs=(_round(tried[0] / 100), _round(tried[0] / 10)))
    elif stalled:
        next_run = NextRun(why="higher rates may move it", lrs=(_round(tried[-1] * 10), _round(tried[-1] * 100)))
    return Recommendation(lr=None, reason=reason, conclusion=reason[0].upper() + reason[1:], next_run=next_run)


def _round(lr: float) -> float:
    return float(f"{lr:.2e}")


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

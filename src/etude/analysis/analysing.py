"""From curves to verdicts: the margin, each trial's dynamics, each rate's grade and verdict, and the recommendation.

R rates, S seeds, D draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from etude.analysis import noise
from etude.analysis.answer import Answer
from etude.analysis.evidence import Readings, binned
from etude.analysis.expected import compare_expected
from etude.analysis.reading import RateEvidence, sentence
from etude.analysis.recommend import Case, nothing, recommend, seed_plan
from etude.analysis.scale import find_scale
from etude.analysis.sensitivity import sensitivity
from etude.analysis.summary import summary
from etude.analysis.values import (
    Analysis,
    Curve,
    Floats,
    NoiseReading,
    RateReading,
    Recommendation,
    Response,
    SecondOpinion,
)
from etude.notation import rate_text

VERSION = "10"
LARGEST = 1e60  # of a metric: beyond it squares overflow


def analyse(
    curves: Sequence[Curve], *, metric: str, direction: str, margin: float | None, horizon_step: int, horizon: float,
    unit: str = "epoch", expected: Mapping[float, Mapping[str, Any]] | None = None,
    second: tuple[str, str] | None = None, weight_decay: float | None = None, steps_per_epoch: int | None = None,
    select: str = "last", searched: bool = False,
) -> Analysis:  # fmt: skip
    """Judge a study by ``metric`` at ``horizon_step`` (``horizon`` in ``unit``: epoch, step, or "" for final values alone).

    ``margin`` is δ in the metric's unit, or None to take it from the noise. ``expected[lr]`` has ``verdict`` (a list) and
    ranges of metrics. ``second`` is another metric with its direction, asked for its opinion. ``weight_decay`` is that of
    a decoupled optimizer (AdamW), whose timescale is then told. ``select`` says which evaluation is a trial's score: the
    ``last`` one up to the horizon, or the ``best``. ``searched``: a search chose what to train, so that a trial which is short of
    the horizon was paused on purpose: it is evidence, and not waited for. The order of the curves does not matter.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what overflows is read as what is not finite
        return _analyse(
            [_finite(curve) for curve in sorted(curves, key=lambda curve: (curve.lr, curve.seed))], metric, direction, margin,
            horizon_step, horizon, unit, expected, second, weight_decay, steps_per_epoch, select, searched,
        )  # fmt: skip


def _finite(curve: Curve) -> Curve:
    """Return the curve with NaN for what is not finite, and cut where squares would overflow."""
    if all((np.abs(values) < LARGEST).all() for values in (*curve.metrics.values(), curve.loss)):
        return curve
    metrics = {name: _cut(values) for name, values in curve.metrics.items()}
    return replace(curve, metrics=metrics, loss=_cut(curve.loss))


def _cut(values: Floats) -> Floats:
    return np.where(np.isfinite(values), np.clip(values, -LARGEST, LARGEST), np.nan)


def _analyse(
    curves: Sequence[Curve], metric: str, direction: str, margin: float | None, horizon_step: int, horizon: float, unit: str,
    expected: Mapping[float, Mapping[str, Any]] | None, second: tuple[str, str] | None, weight_decay: float | None,
    steps_per_epoch: int | None, select: str, searched: bool,
) -> Analysis:  # fmt: skip
    original = [(curve.lr, curve.seed) for curve in curves]
    curves, bins = binned(curves)
    study = Readings(curves, metric, direction, horizon_step, horizon, unit, select, searched)
    made, pick, delta, source, evidence = _judge(study, margin, {})
    if paused := {lr: e.verdict for lr, e in evidence.items() if e.is_paused and e.verdict != "undetermined"}:
        # What was told of paused rates bounds where the best one may be; it was told without them, so nothing goes in circles.
        made, pick, delta, source, evidence = _judge(study, margin, paused)
    best = None if made is None or pick is None else made.lrs[pick]
    rates = tuple(
        RateReading(
            lr=lr,
            verdict=e.verdict,
            grade=e.grade,
            reason=sentence(e, study.scale),
            evidence=asdict(e),
            n_trials=e.n_trials,
            expected=compare_expected(expected[lr], e, study.of_rate[lr]) if expected and lr in expected else None,
        )
        for lr, e in evidence.items()
    )
    plan = None if made is None or delta is None else seed_plan(made, delta, study.scale)
    response = Response(located=False, reason="not located: no rate has learned anything")
    recommendation: Recommendation = nothing(rates, evidence, study.scale.sign)
    if made is not None:
        response = made.describe(study.scale, delta)
    if made is not None and pick is not None and delta is not None:
        case = Case(
            rates=rates, evidence=evidence, answer=made, pick=pick, response=response, delta=delta, scale=study.scale,
            metric=metric, plan=plan, searched=searched,
        )  # fmt: skip
        recommendation = recommend(case)
    never = {
        lr: 2 * (e.n_lost + e.n_stalled) > e.n_scored + e.n_diverged
        for lr, e in evidence.items()
        if e.n_scored + e.n_diverged
    }
    seen, cost = _noise(made, pick, study), sensitivity(made, best, never, study.start, study.scale)
    other = None if second is None or best is None else _second(study, second, best, evidence)
    notes = (*_gained(study, best, delta), *_notes(study, weight_decay, steps_per_epoch, select))
    return Analysis(
        margin=delta,
        margin_source=source,
        margin_text="" if delta is None else f"± {study.scale.gap_text(delta)}",
        trials=tuple(
            replace(trial, lr=lr, seed=seed) for (lr, seed), trial in zip(original, study.trials, strict=True)
        ),
        rates=rates,
        recommendation=recommendation,
        noise=seen,
        response=response,
        sensitivity=cost,
        seed_plan=plan,
        second_opinion=other,
        binned=bins,
        summary=tuple(summary(study.scale, evidence, recommendation, response, seen, cost, plan, other)),
        notes=notes if bins is None else (f"There are very many rates: {bins}.", *notes),
    )


def _judge(
    study: Readings, margin: float | None, paused: Mapping[float, str]
) -> tuple[Answer | None, int | None, float | None, str, dict[float, RateEvidence]]:
    """Return the answer, its pick, δ with its source, and the evidence on each rate."""
    made = study.answer(paused)
    pick = None if made is None else made.pick()
    best = None if made is None or pick is None else made.lrs[pick]
    delta, source = (margin, "given") if margin is not None else (None, "no rate has learned anything")
    if made is not None and pick is not None and best is not None:
        delta, source = noise.margin(
            margin, made.noise.sd(pick), study.scale, study.means[best], study.examples(best), study.score_gain
        )
    return made, pick, delta, source, study.evidence(made, best, delta)


def _noise(made: Answer | None, pick: int | None, study: Readings) -> NoiseReading:
    name = study.scale.name
    if made is None or pick is None:
        return NoiseReading(sd=None, df=None, correlation=None, scale=name, reason="no rate has learned anything")
    if not made.noise.measured:
        return NoiseReading(sd=None, df=None, correlation=None, scale=name, reason="not measured: one seed a rate")
    sd = made.noise.sd(pick) * float(study.scale.level(study.means[made.lrs[pick]]))
    return NoiseReading(sd=sd, df=made.noise.df, correlation=made.noise.correlation, scale=name, reason="")


def _second(
    study: Readings, second: tuple[str, str], best: float, evidence: Mapping[float, RateEvidence]
) -> SecondOpinion | None:
    """Ask another metric which rate it would choose, of the same trials."""
    metric, direction = second
    values = {
        lr: {t.curve.seed: t.at(metric) for t in study.of_rate[lr] if t.curve.seed in kept}
        for lr, kept in study.scores.items()
    }
    scale = find_scale(direction, [value for of in values.values() for value, _ in of.values()], metric)
    scores = {
        lr: finite
        for lr, of in values.items()
        if (finite := {seed: float(scale.even(value)) for seed, (value, _) in of.items() if math.isfinite(value)})
    }
    examples = {
        lr: float(np.mean([e / float(scale.level(v)) for v, e in of.values()]))
        for lr, of in values.items()
        if lr in scores
    }
    made = study.answer_of(scores, examples)
    pick = None if made is None else made.pick()
    if made is None or pick is None:
        return None
    lr = made.lrs[pick]
    told = made.describe(scale, None)
    other = evidence[lr]
    disagrees = lr != best and other.p_within < 0.5
    name = metric.removeprefix("val_").replace("_", " ")
    if lr == best:
        why = f"{name} would choose {rate_text(lr)} too"
    else:
        factor = max(lr / best, best / lr)
        times = f"{factor:.2g} times {'higher' if lr > best else 'lower'}"
        cost = f"{study.scale.gap_text(other.gap)} short of the best" if other.gap > 0 else "no worse"
        why = f"{name} would choose {rate_text(lr)}, {times}: {study.scale.text(other.mean)} there, {cost}"
        as_good = "as good by the objective" if other.grade == "within" else "whether that is as good is not told"
        why += "" if disagrees else f"; {as_good}"
    return SecondOpinion(
        metric=metric, direction=direction, lr=lr, optimum_interval=told.optimum_interval, disagrees=disagrees, why=why
    )


def _gained(study: Readings, best: float | None, delta: float | None) -> tuple[str, ...]:
    """Say where even the best rate gained no more than counts as equal."""
    if best is None or delta is None or not math.isfinite(study.start):
        return ()
    if study.scale.sign * (study.means[best] - study.start) > delta:
        return ()
    return (
        f"Even the best rate ends within the margin of where training began ({study.scale.text(study.start)}): it may have learned "
        "nothing, and what sets the rates apart may be noise.",
    )


def _notes(study: Readings, weight_decay: float | None, steps_per_epoch: int | None, select: str) -> tuple[str, ...]:
    chosen = (
        "A trial's score is its best evaluation, not its last: the best of many is partly luck, and more so where a curve is "
        "restless.",
    )
    late = "Nothing was recorded before training (epoch 0)" if study.begins.late else ""
    if late and study.begins.unmoved:
        late += (
            f"; {' and '.join(map(rate_text, study.begins.unmoved))} begin alike, so that is taken for where all began."
        )
    elif late:
        late += ", so whether a rate never moved, or ended where it had started, is not told."
    return (
        *(chosen if select == "best" else ()),
        *((late,) if late else ()),
        *_timescale(study.curves, weight_decay, steps_per_epoch),
    )


def _timescale(curves: Sequence[Curve], weight_decay: float | None, steps_per_epoch: int | None) -> tuple[str, ...]:
    """Tell the timescale 1/(ηλ) over which decoupled weight decay forgets (Wang & Aitchison 2024, arXiv 2405.13698)."""
    lrs = sorted({curve.lr for curve in curves})
    if not weight_decay or len(lrs) < 2:
        return ()
    steps = [1 / (lr * weight_decay) for lr in lrs]
    in_epochs = (
        ""
        if not steps_per_epoch
        else f" ({_figure(steps[0] / steps_per_epoch)} to {_figure(steps[-1] / steps_per_epoch)} epochs)"
    )
    return (
        f"Weights decay by η·λ a step, with λ = {weight_decay:g} at every rate: the sweep of η also sweeps the timescale 1/(ηλ), "
        f"from {_figure(steps[0])} steps at {rate_text(lrs[0])} to {_figure(steps[-1])} at {rate_text(lrs[-1])}{in_epochs}; "
        "a weight decay in proportion to 1/η would hold it.",
    )


def _figure(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.10g}"

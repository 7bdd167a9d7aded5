"""Studies made by hand for the tests of the analysis: curves whose finals, scatter and best rate are known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from etude.analysis import Curve, analyse
from etude.analysis import answer as answers

START = 2.3  # the loss before training
EPOCHS, STEPS = 6, 10


def parabola(x, at=-3.0, bend=0.4, bottom=-2.0):
    """The logarithm of the loss over log10 η."""
    return bottom + bend * (np.asarray(x) - at) ** 2


def trial(lr, final, seed=0, *, start=START, metric="val_loss", status="completed", error=math.nan, **changes):
    """A trial that goes from ``start`` to ``final``, most of it early; ``final`` alone where ``start`` is None."""
    time = np.arange(EPOCHS + 1)
    share = (1 - np.exp(-1.5 * time)) / (1 - np.exp(-1.5 * EPOCHS))
    value = np.array([final]) if start is None else start + (final - start) * share
    steps = time[-len(value) :] * STEPS
    fields = {
        "steps": steps, "epochs": steps / STEPS, "metrics": {metric: value.astype(float)},
        "errors": {metric: np.full(len(value), error)}, "loss": np.empty(0), "end_step": EPOCHS * STEPS,
    }  # fmt: skip
    if metric != "val_loss" and start is not None:
        fields["metrics"]["val_loss"] = START - (START - 0.05) * share * (final - start) / max(1e-9, abs(1 - start))
        fields["errors"]["val_loss"] = np.full(len(value), math.nan)
    return Curve(lr=lr, seed=seed, status=status, **{**fields, **changes})


def diverged(lr, seed=0):
    none = {"val_loss": np.array([START])}
    return trial(
        lr, START, seed, status="diverged", diverged_step=3, steps=np.array([0]), epochs=np.array([0.0]),
        metrics=none, errors={"val_loss": np.array([math.nan])},
    )  # fmt: skip


def stalled(lr, seed=0, **fields):
    return trial(lr, START, seed, **fields)


def paused(curve, epochs):
    """The same trial as a search left it after so many epochs."""
    kept = curve.epochs <= epochs
    return dataclasses.replace(
        curve, status="paused", steps=curve.steps[kept], epochs=curve.epochs[kept],
        metrics={name: values[kept] for name, values in curve.metrics.items()},
        errors={name: values[kept] for name, values in curve.errors.items()},
    )  # fmt: skip


def study(function, x, seeds=1, sd=0.0, shared=0.0, rng=0, **fields):
    """Trials at 10**x whose final loss is exp(function(x) + noise), of as many seeds."""
    rng = np.random.default_rng(rng)
    common = shared * rng.standard_normal(seeds)
    y = np.asarray(function(np.asarray(x)))[:, None] + sd * rng.standard_normal((len(x), seeds)) + common
    return [
        trial(float(f"{10.0**a:.6g}"), float(np.exp(y[i, s])), s, **fields)
        for i, a in enumerate(x)
        for s in range(seeds)
    ]


def judge(curves, metric="val_loss", direction="minimize", **fields):
    known = {"margin": None, "horizon_step": EPOCHS * STEPS, "horizon": EPOCHS, **fields}
    return analyse(curves, metric=metric, direction=direction, **known)


def verdicts(analysis):
    return {rate.lr: rate.verdict for rate in analysis.rates}


def sentences(analysis):
    recommended = analysis.recommendation
    said = [rate.reason for rate in analysis.rates] + [recommended.reason, recommended.conclusion]
    said += [analysis.margin_source, analysis.margin_text, analysis.noise.reason, analysis.response.reason]
    said += [analysis.sensitivity.reason, *analysis.summary, *analysis.notes, analysis.binned or ""]
    said += [recommended.next_run.why] if recommended.next_run else []
    said += [analysis.seed_plan.why] if analysis.seed_plan else []
    said += [analysis.second_opinion.why] if analysis.second_opinion else []
    said += [str(recommended.estimate.get("note")), recommended.provisional_reason or ""]
    return said


def scaled(curve, unit, *names):
    """The same trial with the metrics ``names`` (all, where none is named) in another unit."""
    mine = [name for name in curve.metrics if not names or name in names]
    return dataclasses.replace(
        curve,
        metrics={n: v * (unit if n in mine else 1.0) for n, v in curve.metrics.items()},
        errors={n: v * (unit if n in mine else 1.0) for n, v in curve.errors.items()},
        loss=curve.loss * unit if any("loss" in n for n in mine) else curve.loss,
    )


def tables(y_NRS, x):
    """Tables of the analysis, of N studies of R rates and S seeds on the even scale."""
    found = []
    for y_RS in y_NRS:
        scores = {float(10.0**a): dict(enumerate(row)) for a, row in zip(x, y_RS.tolist(), strict=True)}
        found.append(answers.tabulate(scores, barred=(), lost=(), stalled=(), examples={}))
    return found


def conclude_all(made, draws=300):
    """Answers of tables over the same rates, drawn at once."""
    drawn = answers.draw(made, draws)
    return [answers.conclude(table, drawn, n, draws) for n, table in enumerate(made)]

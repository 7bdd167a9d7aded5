"""Results made by hand: what a run directory and its analysis would say, without training and without judging."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from etude.result import Result
from etude.store import Stored, StoredTrial

LOST = ("diverged", "collapsed", "stalled", "failed", "pending")


def plateau(low, high, *, inner=None, outer=None, open=()):
    return {
        "low": low, "high": high, "decades": math.log10(high / low), "inner": inner, "outer": outer or (low, high),
        "open": list(open),
    }  # fmt: skip


def curve(lrs, function, width, **fields):
    """A rate-response curve: ``function`` of log10 η, its band ``width`` (a number, or a function of log10 η)."""
    grid = np.linspace(math.log10(min(lrs)), math.log10(max(lrs)), 61)
    mean = np.array([function(x) for x in grid])
    half = np.array([width(x) if callable(width) else width for x in grid])
    return {
        "located": True, "reason": "", "lrs": [float(x) for x in 10.0**grid], "mean": mean.tolist(),
        "low": (mean - half).tolist(), "high": (mean + half).tolist(), "optimum": None, "optimum_interval": None,
        "open": [], "plateau": None, **fields,
    }  # fmt: skip


def result(
    scores: dict[float, list[float | str]], *, metric: str = "val_accuracy", direction: str = "maximize",
    margin: float | None = 0.001, margin_text: str = "± 0.1 points", response: dict[str, Any] | None = None,
    sensitivity: dict[str, Any] | None = None, epochs: float = 5, name: str = "made", digest: str = "v", best: float | None = None,
    estimate: float | None = None, recipe: dict[str, Any] | None = None, seeds: list[int] | None = None,
) -> Result:  # fmt: skip
    """Make a result of ``scores[lr]``, a score or a word of `LOST` a seed."""
    sign = 1 if direction == "maximize" else -1
    seeds = seeds or list(range(max(map(len, scores.values()))))
    trials, readings, rates = [], [], []
    learned: dict[float, list[float]] = {}
    for lr, row in sorted(scores.items()):
        for seed, score in zip(seeds, row, strict=False):
            word = score if isinstance(score, str) else "completed"
            status = word if word in ("diverged", "failed", "pending") else "completed"
            trials.append(
                StoredTrial(
                    id=len(trials), lr=lr, seed=seed, horizon=None, epochs=epochs, ends=(100,), step=100, wall_s=1.0,
                    checkpoint=None, diverged=7 if word == "diverged" else None,
                    failure="ValueError" if word == "failed" else None, traceback=None, status=status,
                )
            )  # fmt: skip
            finite = score if isinstance(score, float) else 0.1 if word in ("collapsed", "stalled") else None
            dynamics = word if word in ("collapsed", "stalled") else "smooth" if isinstance(score, float) else None
            readings.append({"lr": lr, "seed": seed, "dynamics": dynamics, "score": finite, "evidence": {}})
        learned[lr] = [score for score in row if isinstance(score, float)]
        spread = float(np.std(learned[lr], ddof=1)) if len(learned[lr]) > 1 else 0.0
        error = spread / math.sqrt(len(learned[lr])) if spread else 0.002 if learned[lr] else 0.0
        rates.append({"lr": lr, "verdict": "good", "grade": None, "reason": "", "evidence": {"mean_error": error},
                      "n_trials": len(row), "expected": None})  # fmt: skip
    means = {lr: float(np.mean(row)) for lr, row in learned.items() if len(row) == len(scores[lr])}
    chosen = best if best is not None else max(means, key=lambda lr: sign * means[lr], default=None)
    told = {} if chosen is None else {
        "metric": metric, "value": means[chosen] if estimate is None else estimate,
        "standard_error": next(r["evidence"]["mean_error"] for r in rates if r["lr"] == chosen) or None,
        "n_seeds": len(learned[chosen]), "note": None,
    }  # fmt: skip
    made = Result(
        Path("runs") / name,
        Stored(
            study={
                "name": name, "task": "made", "task_options": {}, "lrs": sorted(scores), "seeds": seeds, "epochs": epochs,
                "recipe": {"optimizer": "adam", "optimizer_options": {}, "schedule": "constant", "batch_size": 64,
                           **(recipe or {})},
                "objective": {"metric": metric, "direction": direction, "margin": None}, "expect": {}, "holdout": 0,
            },
            identity={
                "task": {"name": "made", "built_in": True, "chosen_on_test_set": None}, "steps_per_epoch": 20,
                "data": {"train": {"digest": "t"}, "val": {"digest": digest}},
            },
            created=0.0, revision=1, live=False, environments=(), seeds={}, trials=tuple(trials),
        ),
        {"metric": metric, "direction": direction, "margin": None},
    )  # fmt: skip
    located = response or {"located": False, "reason": "", "lrs": [], "open": [], "plateau": None}
    made.__dict__["analysis"] = {
        "margin": margin, "margin_source": "given", "margin_text": margin_text, "trials": readings, "rates": rates,
        "recommendation": {
            "lr": chosen, "reason": "", "conclusion": "", "optimum_interval": located.get("optimum_interval"),
            "interval_open": located["open"], "bracket": None, "within_margin": [], "edge": None, "provisional": False,
            "provisional_reason": None, "estimate": told, "next_run": None,
        },
        "response": located, "sensitivity": sensitivity,
    }  # fmt: skip
    return made

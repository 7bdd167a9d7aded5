"""Results made by hand: what a run directory and its analysis would say, without training and without judging.

And a run directory in which a search has been, with curves made by a formula.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from etude import store
from etude.engine.history import Evaluation, History
from etude.result import Result
from etude.searched import Search
from etude.spec.budget import Budget
from etude.spec.study import Study
from etude.store import Stored, StoredTrial, Writer

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
    history: dict[int, dict[str, Any]] | None = None,
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
    made.__dict__["history"] = history or {}
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


STEPS_PER_EPOCH, EPOCHS = 32, 5


def accuracy(lr, share, seed=0):
    """A curve with its best rate near 1e-2 at the horizon, and a higher one before; rates of 1 and more diverge."""
    pace = lr / 1e-2
    error = 0.015 + 0.012 * pace + 0.9 / (1 + 25 * pace * share) ** 1.1
    return 1 - min(0.9, error * (1 + 0.02 * math.sin(100 * (seed + 1) * (1 + math.log10(lr)))))


def searched(
    directory: Path, plan: dict[float, list[float]], *, function=accuracy, ended: str | None = "the budget is spent", **study: Any
) -> Result:  # fmt: skip
    """Write a run directory as a search leaves it: ``plan[lr]`` are the shares of the horizon that its seeds 0, 1, … got to.

    A rate of 1 or more diverges at a fiftieth of it. With a schedule that depends on the horizon each is a trial of its own.
    ``ended`` is why it ended, None where it was cut off.
    """
    made = Study.default("digits").replace(epochs=EPOCHS, lrs=sorted(plan), seeds=10, expect={}, **study)
    search = Search(
        searcher="adaptive", low=1e-5, high=10.0, range_source="usual", budget=Budget(kind="trials", amount=6.0), epochs=EPOCHS,
        seeds=made.seeds,
    )  # fmt: skip
    table = made.to_dict() | {"search": search.to_dict()}
    end = EPOCHS * STEPS_PER_EPOCH
    with Writer(directory) as writer:
        identity = {
            "task": {"name": "digits", "built_in": True, "chosen_on_test_set": None}, "steps_per_epoch": STEPS_PER_EPOCH,
            "data": {"train": {"digest": "t"}, "val": {"digest": "v"}},
        }  # fmt: skip
        writer.begin(table, identity, {"torch": "2"}, dict.fromkeys(made.seeds, ("digest", 2.3)))
        for lr, shares in plan.items():
            for seed, share in enumerate(shares):
                epochs, last = share * EPOCHS, round(share * end)
                horizon = made.trial(lr, seed, epochs).horizon
                if horizon is None:
                    writer.request([(lr, seed, None, float(EPOCHS), step) for step in sorted({last, end})])
                else:
                    writer.request([(lr, seed, horizon, epochs, last)])
                trial = store.read(directory).trials
                mine = next(t for t in trial if (t.lr, t.seed, t.horizon) == (lr, seed, horizon))
                lost = round(0.02 * end) if lr >= 1 else None
                steps = [s for s in range(0, last + 1, end // 16) if lost is None or s < lost]
                values = [function(lr, step / end, seed) for step in steps]
                last = last if lost is None else lost
                asked = {
                    "lr": lr,
                    "seed": seed,
                    "horizon": horizon,
                    "epochs": epochs,
                    "why": "",
                    "from_step": 0,
                    "until_step": last,
                }
                writer.decide("a rung", [asked])
                writer.commit(mine, f"{lr}-{seed}-{horizon}", History(
                    first_step=0, last_step=last, loss=np.linspace(2.3, 1.0, last), grad_norm=np.ones(last),
                    update_ratio=np.ones(last), wall_s=1.0, diverged=lost, evaluations=tuple(
                        Evaluation(
                            step=step, epoch=step / STEPS_PER_EPOCH, train_loss=3 * (1 - value) if step else None,
                            metrics={"val_loss": 2.5 * (1 - value), "val_accuracy": value},
                            standard_errors={"val_loss": 0.01, "val_accuracy": 0.003},
                        )
                        for step, value in zip(steps, values, strict=True)
                    ),
                ), b"0")  # fmt: skip
        if ended is not None:
            writer.decide(ended, [])
    return Result.load(directory)


def trained(
    directory: Path, lrs: list[float], seeds: int, steps: int, evaluations: int, *, name: str = "made",
    metric: str = "val_accuracy", until: float = 1.0, failure: str | None = None,
) -> Result:  # fmt: skip
    """Write a run directory as a run leaves it, with losses and curves made by a formula; ``until`` is how far trials got.

    Rates from 1 on diverge at a tenth of the ``steps``. The objective is ``metric``, of accuracy or of a loss. The lowest rate's
    first seed has the ``failure``, if any.
    """
    loss = metric.endswith("loss")
    objective = f"min:{metric}" if loss else f"max:{metric}"
    made = Study.default("digits").replace(epochs=10, lrs=lrs, seeds=seeds, expect={}, objective=objective, name=name)
    rng = np.random.default_rng(0)
    with Writer(directory) as writer:
        identity = {
            "task": {"name": "digits", "built_in": True, "chosen_on_test_set": None}, "steps_per_epoch": steps // 10,
            "data": {"train": {"digest": "t"}, "val": {"digest": "v"}},
        }  # fmt: skip
        environment = {"etude": "0.1.0", "torch": "2", "command": f"/bin/etude run {shlex.quote(name)}", "cores": 2}
        writer.begin(made.to_dict() | {"name": name}, identity, environment, dict.fromkeys(made.seeds, ("digest", 2.3)))
        writer.request([(lr, seed, None, 10.0, steps) for lr in lrs for seed in range(seeds)])
        for trial in store.read(directory).trials:
            lost = steps // 10 if trial.lr >= 1 else None
            last = lost or round(until * steps)
            if not last:
                continue
            pace = trial.lr / 1e-2
            share = np.arange(1, last + 1) / steps
            shape = 0.9 / (1 + 25 * pace * share) ** 1.1 + 0.012 * pace
            falling = 2.3 * (0.02 + shape) * np.exp(0.2 * rng.standard_normal(last))
            marks = [round(k * steps / evaluations) for k in range(evaluations + 1)]
            kept = [step for step in marks if step <= last and (lost is None or step < lost)]
            level = {step: float(shape[step - 1]) if step else 0.9 for step in kept}
            error = {step: abs(0.015 + of + 0.002 * float(rng.standard_normal())) for step, of in level.items()}
            values = {step: 2.5 * e if loss else 1 - min(0.9, e) for step, e in error.items()}
            writer.commit(trial, f"{trial.id}", History(
                first_step=0, last_step=last, loss=falling, grad_norm=np.exp(rng.standard_normal(last)) * (0.1 + falling),
                update_ratio=trial.lr * np.exp(0.3 * rng.standard_normal(last)), wall_s=1.0, diverged=lost, evaluations=tuple(
                    Evaluation(
                        step=step, epoch=10 * step / steps, train_loss=float(falling[step - 1]) if step else None,
                        metrics={metric: value}, standard_errors={metric: 0.003},
                    )
                    for step, value in values.items()
                ),
            ), b"0")  # fmt: skip
        if failure is not None:
            writer.fail(store.read(directory).trials[0], failure, "Traceback")
    return Result.load(directory)

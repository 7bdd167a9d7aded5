"""What is said of rates that a search paused early, against what the whole sweep says of them.

Dense sweeps are cut as a search would cut them: some of the rates, most of them carried to 1/16 or 1/4 of the horizon only, few to
the end, with one seed to three. Two ways: *halving* (the better half of the rates goes on, and the best gets more seeds)
and *at random* (each rate stops anywhere, so that the best rate carried to the end may be far from the best one). The sweeps
are the truths in ``benchmarks/truths`` and, where ``--folder`` (or $ETUDE_SWEEPS) has them, those of DeepOBS (Schneider, Balles,
Hennig, ICLR 2019; see ``sweeps.py``).

What it proves: a word said of a paused rate is the word that the whole sweep, all rates and seeds to the horizon, gets at that rate
(``too high``, ``unstable`` and ``diverged`` count as one: how a rate that is too high breaks is not seen early). What would refute
it: more than 1 % of other words, ``undetermined`` of the whole sweep among them, or ``good`` said of a paused rate.

Run ``python benchmarks/pauses.py --folder PATH``, ten minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fragment
from etude.analysis import Curve, analyse
from sweeps import OBJECTIVES, read_curves

TRUTHS = Path(__file__).parent / "truths"
ABOVE = ("too high", "unstable", "diverged")
RUNGS = (1 / 16, 1 / 4)
REPEATS = 8
FINE = 1000  # parts of an epoch
MOST_STRIDE = 1.0  # decades between two rates of a search
Curves = Mapping[tuple[float, int], Curve]


def cut(curve: Curve, end: float) -> Curve:
    """Return the trial as it was when it was paused at ``end``; one that had diverged by then stays so."""
    kept = curve.epochs <= end * (1 + 1e-6)
    if kept.all() and (curve.status == "diverged" or curve.epochs[-1] >= curve.end_step):
        return curve
    return dataclasses.replace(
        curve,
        status="paused",
        diverged_step=None,
        steps=curve.steps[kept],
        epochs=curve.epochs[kept],
        metrics={name: values[kept] for name, values in curve.metrics.items()},
        errors={name: values[kept] for name, values in curve.errors.items()},
    )


def judge(curves: Sequence[Curve], metric: str, horizon: float, *, searched: bool) -> Any:
    """Let etude judge what there is."""
    return analyse(
        curves, metric=metric, direction=OBJECTIVES[metric], margin=None, horizon_step=curves[0].end_step, horizon=horizon,
        searched=searched,
    )  # fmt: skip


def halving(curves: Curves, lrs: Sequence[float], metric: str, horizon: float, rng: np.random.Generator) -> list[Curve]:
    """Carry the better half of the rates on at each rung, then give the best more seeds."""
    sign = 1.0 if OBJECTIVES[metric] == "maximize" else -1.0
    seeds = rng.permutation(sorted({seed for _, seed in curves}))
    seed = int(next(s for s in seeds if all((lr, s) in curves for lr in lrs)))
    state = {lr: cut(curves[lr, seed], RUNGS[0] * horizon) for lr in lrs}
    for end in (*RUNGS[1:], 1.0):
        alive = [lr for lr, c in state.items() if c.status != "diverged" and len(c.steps)]
        ranked = sorted(alive, key=lambda lr: -sign * float(np.nan_to_num(state[lr].metrics[metric][-1], nan=-sign * 1e300)))
        ranked = [lr for lr in ranked if state[lr].epochs[-1] == max(state[one].epochs[-1] for one in alive)]
        for lr in ranked[: max(2, (len(ranked) + 1) // 2)]:
            state[lr] = cut(curves[lr, seed], end * horizon)
    made = list(state.values())
    best = max(
        (lr for lr, c in state.items() if c.status == "completed"),
        key=lambda lr: sign * float(state[lr].metrics[metric][-1]),
        default=None,
    )
    more = [s for s in seeds if s != seed and (best, s) in curves][: int(rng.integers(0, 3))]
    return made + [curves[best, int(s)] for s in more] if best is not None else made


def at_random(
    curves: Curves, lrs: Sequence[float], metric: str, horizon: float, rng: np.random.Generator
) -> list[Curve]:
    """Stop each rate anywhere, with one seed or more."""
    del metric
    made = []
    for lr in lrs:
        seeds = rng.permutation([seed for of, seed in curves if of == lr])[: int(rng.integers(1, 4))]
        ends = rng.choice([*RUNGS, 1.0], size=len(seeds)) if rng.random() < 0.5 else [rng.choice([*RUNGS, 1.0])] * len(seeds)
        made += [cut(curves[lr, int(seed)], end * horizon) for seed, end in zip(seeds, ends, strict=True)]
    return made


WAYS = {"halving": halving, "at random": at_random}


def play(name: str, metric: str, sweep: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a row a paused rate of each search."""
    # Evaluated several times an epoch, and epochs count as steps here; there is no training loss before the first step.
    fine = sweep.assign(epoch=(FINE * sweep["epoch"]).round())
    fine["train_loss"] = fine["train_loss"].where(fine["epoch"] > 0, fine["val_loss"])
    whole = read_curves(fine)
    horizon = float(whole[0].end_step)
    truth = {rate.lr: rate.verdict for rate in judge(whole, metric, horizon, searched=False).rates}
    curves = {(c.lr, c.seed): c for c in whole}
    lrs = sorted(truth)
    apart = float(np.median(np.diff(np.log10(lrs))))
    rows = []
    for repeat in range(REPEATS):
        rng = np.random.default_rng([repeat, zlib.crc32(f"{name} {metric}".encode())])
        stride = int(rng.integers(1, max(2, int(MOST_STRIDE / apart) + 1)))
        some = lrs[int(rng.integers(0, stride)) :: stride]
        for way, search in WAYS.items():
            made = judge(search(curves, some, metric, horizon, rng), metric, horizon, searched=True)
            rows += [
                {
                    "sweep": name, "objective": metric, "search": way, "repeat": repeat, "lr": rate.lr,
                    "rung": min(RUNGS, key=lambda r: abs(r - rate.evidence["paused_at"] / horizon)),
                    "behind": rate.evidence["behind"], "said": rate.verdict, "whole": truth[rate.lr],
                }
                for rate in made.rates
                if np.isfinite(rate.evidence["paused_at"])
            ]  # fmt: skip
    return rows


def side(word: str) -> str:
    """Put the words of rates above the good ones together."""
    return "above" if word in ABOVE else word


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=os.environ.get("ETUDE_SWEEPS"))
    parser.add_argument("--truths", type=Path, default=TRUTHS)
    options = parser.parse_args()
    paths = sorted(options.truths.glob("*.csv.gz")) + (sorted(options.folder.glob("*.csv.gz")) if options.folder else [])
    rows = []
    for path in paths:
        sweep = pd.read_csv(path)
        for metric in OBJECTIVES:
            if metric in sweep:
                rows += play(path.name.removesuffix(".csv.gz"), metric, sweep)
                print(path.name, metric, len(rows), flush=True)
    pd.DataFrame(rows).to_pickle("/tmp/paused/played.pkl")


if __name__ == "__main__":
    main()

"""What is said of rates that a search paused early, against what the whole sweep says of them.

Dense sweeps are cut as a search would cut them: some of the rates, most of them carried to 1/16 or 1/4 of the horizon only, few to
the end, with one seed to three. Two ways: *halving* (the better half of the rates goes on, and the best gets more seeds)
and *at random* (each rate stops anywhere, so that the best rate carried to the end may be far from the best one). The sweeps
are the truths in ``benchmarks/truths`` and, where ``--folder`` (or $ETUDE_SWEEPS) has them, those of DeepOBS (Schneider, Balles,
Hennig, ICLR 2019; see ``sweeps.py``).

What it proves: a word said of a paused rate is the word that the whole sweep, all rates and seeds to the horizon, gets at that rate
(``too high``, ``unstable`` and ``diverged`` count as one: how a rate that is too high breaks is not seen early). What would refute
it: more than 1 % of other words, ``undetermined`` of the whole sweep among them, or ``good`` said of a paused rate.

The constants of `etude.analysis.pause` were chosen after a look at DeepOBS's sweeps; the truths had no part in it.

Run ``python benchmarks/pauses.py --folder PATH``, some ten minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fragment
from etude.analysis import Curve, analyse, pause
from sweeps import OBJECTIVES, read_curves

TRUTHS = Path(__file__).parent / "truths"
ABOVE = ("too high", "unstable", "diverged")
RUNGS = (1 / 16, 1 / 4)
REPEATS, FEW = 12, 3  # of each search on each sweep; with other constants
FINE = 1000  # parts of an epoch
MOST_STRIDE = 1.0  # decades between two rates of a search
Curves = Mapping[tuple[float, int], Curve]


def cut(curve: Curve, end: float) -> Curve:
    """Return the trial as it was when it was paused at ``end``; one that had diverged by then stays so."""
    last = curve.end_step if curve.diverged_step is None else curve.diverged_step
    if last <= end:
        return curve
    kept = curve.epochs <= end
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
        ranked = sorted(
            alive, key=lambda lr: -sign * float(np.nan_to_num(state[lr].metrics[metric][-1], nan=-sign * 1e300))
        )
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
        ends = (
            rng.choice([*RUNGS, 1.0], size=len(seeds))
            if rng.random() < 0.5
            else [rng.choice([*RUNGS, 1.0])] * len(seeds)
        )
        made += [cut(curves[lr, int(seed)], end * horizon) for seed, end in zip(seeds, ends, strict=True)]
    return made


WAYS = {"halving": halving, "at random": at_random}


class Sweep:
    """A sweep with its curves and the words that it gets as a whole."""

    def __init__(self, name: str, metric: str, table: pd.DataFrame) -> None:
        self.name, self.metric = name, metric
        # Evaluated several times an epoch, and epochs count as steps here; there is no training loss before the first step.
        fine = table.assign(epoch=(FINE * table["epoch"]).round())
        fine["train_loss"] = fine["train_loss"].where(fine["epoch"] > 0, fine["val_loss"])
        whole = read_curves(fine)
        self.horizon = float(whole[0].end_step)
        self.words = {rate.lr: rate.verdict for rate in judge(whole, metric, self.horizon, searched=False).rates}
        self.curves = {(curve.lr, curve.seed): curve for curve in whole}


def play(sweep: Sweep, repeats: int) -> list[dict[str, Any]]:
    """Return a row a paused rate of each search."""
    lrs = sorted(sweep.words)
    apart = float(np.median(np.diff(np.log10(lrs))))
    rows = []
    for repeat in range(repeats):
        rng = np.random.default_rng([repeat, zlib.crc32(f"{sweep.name} {sweep.metric}".encode())])
        stride = int(rng.integers(1, max(2, int(MOST_STRIDE / apart) + 1)))
        some = lrs[int(rng.integers(0, stride)) :: stride]
        for way, search in WAYS.items():
            trials = search(sweep.curves, some, sweep.metric, sweep.horizon, rng)
            made = judge(trials, sweep.metric, sweep.horizon, searched=True)
            rows += [
                {
                    "sweep": sweep.name, "objective": sweep.metric, "search": way, "repeat": repeat, "lr": rate.lr,
                    "rung": min(RUNGS, key=lambda r: abs(r - rate.evidence["paused_at"] / sweep.horizon)),
                    "said": rate.verdict, "whole": sweep.words[rate.lr],
                }
                for rate in made.rates
                if np.isfinite(rate.evidence["paused_at"])
            ]  # fmt: skip
    return rows


def side(word: str) -> str:
    """Put the words of rates above the good ones together."""
    return "above" if word in ABOVE else word


def count(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return how many rates were paused, how many of them got a word, and how many of these another one than the whole sweep."""
    told = [row for row in rows if row["said"] != "undetermined"]
    wrong = [row for row in told if side(row["said"]) != side(row["whole"])]
    share = f" ({100 * len(wrong) / len(told):.1f} %)" if told else ""
    return [len(rows), f"{len(told)} ({100 * len(told) / max(1, len(rows)):.0f} %)", f"{len(wrong)}{share}"]


VARIANTS: tuple[tuple[str, dict[str, float]], ...] = (
    ("as it is", {}),
    ("a rate may become no faster than it was until the pause", {"SPEEDUP": 1.0}),
    ("twice as fast", {"SPEEDUP": 2.0}),
    ("five times", {"SPEEDUP": 5.0}),
    ("behind counts from the first 1 % of the gain on", {"CLEAR": 0.01}),
    ("from 10 % on", {"CLEAR": 0.1}),
    ("above the good rates all of the distance is kept", {"KEPT": 1.0}),
    ("a twentieth of it", {"KEPT": 0.05}),
    ("each rate for itself, no word from the rates that it lies beyond", {"TOLERANCE": -math.inf}),
)


def by_sweep(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how the words are spread over the sweeps, since those of one sweep go wrong together."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["sweep"], row["objective"]), []).append(row)
    own: list[Mapping[str, Any]] = []
    others: list[Mapping[str, Any]] = []
    worst: dict[tuple[str, str], float] = {}
    for key, of in groups.items():
        (own if (TRUTHS / f"{key[0]}.csv.gz").exists() else others).extend(of)
        told = [row for row in of if row["said"] != "undetermined"]
        wrong = sum(side(row["said"]) != side(row["whole"]) for row in told)
        if wrong > 0.01 * len(told):
            worst[key] = wrong / len(told)
    head = ["paused", "got a word", "another one than the whole sweep"]
    parts = [["the truths in this repository", *count(own)], ["DeepOBS", *count(others)]]
    lines = [
        "The constants were chosen after a look at DeepOBS's sweeps, and before one at the truths:",
        "",
        *fragment.table(["sweeps", *head], [part for part in parts if part[1]]),
        "",
    ]
    if worst:
        ranked = sorted(worst, key=lambda key: -worst[key])
        lines += [
            f"These shares are over all sweeps together, and words of one sweep go wrong together: in {len(worst)} of"
            f" {len(groups)} sweeps",
            "and objectives more than 1 % are another one.",
            "",
            *fragment.table(["sweep", "objective", *head], [[*key, *count(groups[key])] for key in ranked]),
            "",
        ]
    return lines


def page(rows: Sequence[Mapping[str, Any]], variants: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Write the fragment."""
    told = [row for row in rows if row["said"] != "undetermined"]
    wrong = [row for row in told if side(row["said"]) != side(row["whole"])]
    sweeps = {(row["sweep"], row["objective"]) for row in rows}
    foreign = {name for name, _ in sweeps if not (TRUTHS / f"{name}.csv.gz").exists()}
    lines = [
        "# Paused rates",
        "",
        "Made by `python benchmarks/pauses.py`, with the sweeps in `benchmarks/truths`"
        + (" and those of DeepOBS (Schneider, Balles," if foreign else "."),
        *(["Hennig, ICLR 2019; DeepOBS_Baselines, MIT)."] if foreign else []),
        f"{REPEATS} searches of each kind on each of {len(sweeps)} sweeps and objectives; a rate that was paused in several",
        "searches counts several times. How they are cut, and what counts as right, is in the script's docstring.",
        "",
        *fragment.claims(
            [
                (
                    len(wrong) <= 0.01 * len(told),
                    "a word said of a paused rate is that of the whole sweep in 99 % or more, all sweeps together",
                ),
                (not any(row["said"] == "good" for row in rows), "no paused rate is called `good`"),
            ]
        ),
        "",
    ]
    groups = [[way, f"1/{1 / rung:.0f}", *count([r for r in rows if (r["search"], r["rung"]) == (way, rung)])]
              for way in WAYS for rung in RUNGS]  # fmt: skip
    head = ["paused", "got a word", "another one than the whole sweep"]
    lines += [*fragment.table(["search", "paused at", *head], [*groups, ["all", "", *count(rows)]]), ""]
    lines += by_sweep(rows)
    lines += ["What paused rates are by the whole sweep, and what was said of them:", ""]
    whole = ("too low", "good", "undetermined", "above")
    words = ("too low", "undetermined", "too high", "unstable", "diverged")
    counts = [
        [kind, *(sum(side(r["whole"]) == kind and r["said"] == word for r in rows) for word in words)] for kind in whole
    ]
    lines += [*fragment.table(["whole sweep", *words], counts), ""]
    lines += [f"With other constants, {FEW} searches of each kind on each sweep:", ""]
    lines += [*fragment.table(["the rule", *head], [[name, *count(of)] for name, of in variants.items()]), ""]
    lines += [
        "The sweeps hardly tell these rules apart: the constants are cautious rather than measured.",
        "",
    ]
    places = len({(r["sweep"], r["objective"], r["lr"]) for r in wrong})
    lines += [
        f"Every word that is another one, at {places} different rates:" if wrong else "No word is another one.",
        "",
    ]
    if wrong:
        lines += fragment.table(
            ["sweep", "objective", "search", "rate", "paused at", "said", "whole sweep"],
            [[r["sweep"], r["objective"], r["search"], f"{r['lr']:.3g}", f"1/{1 / r['rung']:.0f}", r["said"], r["whole"]]
             for r in wrong],
        )  # fmt: skip
    return lines


def main() -> None:
    """Play the searches and write the fragment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=os.environ.get("ETUDE_SWEEPS"), help="or $ETUDE_SWEEPS")
    parser.add_argument("--truths", type=Path, default=TRUTHS)
    parser.add_argument("--pages", type=Path, default=fragment.PAGES)
    options = parser.parse_args()
    folders = [options.truths, *([Path(options.folder)] if options.folder else [])]
    sweeps = [
        Sweep(path.name.removesuffix(".csv.gz"), metric, table)
        for path in (path for folder in folders for path in sorted(folder.glob("*.csv.gz")))
        for table in [pd.read_csv(path)]
        for metric in OBJECTIVES
        if metric in table
    ]
    rows = [row for sweep in sweeps for row in play(sweep, REPEATS)]
    variants = {}
    for name, changes in VARIANTS:
        before = {constant: getattr(pause, constant) for constant in changes}
        for constant, value in changes.items():
            setattr(pause, constant, value)
        variants[name] = [row for sweep in sweeps for row in play(sweep, FEW)]
        for constant, value in before.items():
            setattr(pause, constant, value)
        print(name, *count(variants[name]), flush=True)
    keys = ("sweep", "objective", "search", "rung", "whole", "said")
    found = Counter(tuple(row[key] for key in keys) for row in rows)
    short = [{**dict(zip(keys, of, strict=True)), "rates": n} for of, n in sorted(found.items())]
    fragment.write("pauses", page(rows, variants), short, options.pages)


if __name__ == "__main__":
    main()

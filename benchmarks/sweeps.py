"""Verdicts on real sweeps that nobody here made: the right word wherever the outcome leaves no doubt.

The sweeps are the learning-rate sweeps of DeepOBS (Schneider, Balles, Hennig, ICLR 2019; DeepOBS_Baselines, MIT): four
problems × SGD, momentum, Adam; 36 rates from 1e-5 to 1e2; one seed, ten at the rate that their authors chose. They are
read from ``--folder`` (tidy ``PROBLEM-OPTIMIZER.csv.gz``: lr, seed, epoch, train_loss, val_loss, maybe val_accuracy; nan
where a run was no longer finite) and are not part of this repository; without the folder the script says so and ends.

What it proves: that verdicts agree with the outcome. What would refute it: wrong words for more than 1 % (all are listed, with
their numbers), another word than `undetermined` for any, and above all ``good`` said of a rate that diverged, which must
never happen.

The rule, which sees final values only and was written down before etude's answers were looked at. *Progress* is the
improvement of the objective from epoch 0 to the last, as a share of the best rate's; rates are judged by the mean over
their seeds.

1. ``diverged``: most seeds ended non-finite; or, at a rate above the best, the run ended where it started or worse: by
   val_accuracy, 11 % or less (ten classes); by val_loss, training and validation loss both with 2 % progress or less.
2. ``good``: the rate with the best final objective.
3. ``too low``: a decade or more below the best rate, with 75 % progress or less.
4. ``too high``, ``unstable`` or ``diverged``, any of them: a decade or more above the best, with 75 % progress or less.
5. Everything else is doubtful and is not scored.

The interval is put to the test, too: from every second, third or fifth rate of a sweep (0.4, 0.6, 1 decade apart), it should
hold the rate that is the best of all 36, in 93 to 99 %. One seed says which that is, so it may be another by luck.

Run ``python benchmarks/sweeps.py --folder PATH``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import fragment
from etude.analysis import Analysis, Curve, analyse

CHANCE = 0.11  # ten classes
AT_START = 0.02
MUCH_WORSE = 0.75
APART = (2, 3, 5)  # of every how many rates an interval is made
FAR = 10**0.99  # a decade, on a grid whose rates are rounded
ABOVE = ("too high", "unstable", "diverged")
OBJECTIVES = {"val_accuracy": "maximize", "val_loss": "minimize"}
KINDS = {("good",): "best", ("too low",): "far below", ABOVE: "far above", ("diverged",): "diverged"}


@dataclass(frozen=True)
class Outcome:
    """What became of a rate: shares of its seeds, means over the finite ones, and the words that are right."""

    lr: float
    start: float
    end: float
    progress: float
    nonfinite: float
    words: tuple[str, ...]


def rate_text(lr: float) -> str:
    """Write a rate of the grid, which its authors give with eleven digits."""
    return f"{lr:.3g}"


def finite_rows(trial: pd.DataFrame) -> int:
    """Return how many epochs are finite before the first that is not."""
    finite = np.isfinite(trial[["train_loss", "val_loss"]].to_numpy()).all(axis=1)
    return len(finite) if finite.all() else int(finite.argmin())


def read_curves(sweep: pd.DataFrame) -> list[Curve]:
    """Make curves as an importer would: what ends non-finite has diverged; no standard errors, no loss by step."""
    curves = []
    names = [name for name in ("train_loss", "val_loss", "val_accuracy") if name in sweep]
    end = int(sweep["epoch"].max())
    pairs = sweep[["lr", "seed"]].drop_duplicates().itertuples(index=False)
    for lr, seed in pairs:
        trial = sweep[(sweep["lr"] == lr) & (sweep["seed"] == seed)].sort_values("epoch")
        count = finite_rows(trial)
        kept = trial.iloc[:count]
        diverged = int(trial["epoch"].iloc[count]) if count < len(trial) else None
        curves.append(
            Curve(
                lr=float(lr),
                seed=int(seed),
                status="completed" if diverged is None else "diverged",
                steps=kept["epoch"].to_numpy(int),
                epochs=kept["epoch"].to_numpy(float),
                metrics={name: kept[name].to_numpy(float) for name in names},
                errors={name: np.full(count, np.nan) for name in names},
                loss=np.empty(0),
                end_step=end,
                diverged_step=diverged,
            )
        )
    return curves


def outcomes(sweep: pd.DataFrame, metric: str) -> list[Outcome]:
    """Apply the rule."""
    sign = 1 if OBJECTIVES[metric] == "maximize" else -1
    last = int(sweep["epoch"].max())
    starts = sweep[sweep["epoch"] == 0].groupby("lr").mean(numeric_only=True)
    ends = sweep[sweep["epoch"] == last].copy()
    ends["nonfinite"] = ends[["train_loss", "val_loss"]].isna().any(axis=1)
    nonfinite = ends.groupby("lr")["nonfinite"].mean()
    finite = ends[~ends["nonfinite"]].groupby("lr").mean(numeric_only=True)
    kept = finite[nonfinite[finite.index] <= 0.5]
    best = max((float(lr) for lr in kept.index.to_numpy()), key=lambda lr: float(sign * kept[metric][lr]))

    def progress(lr: float, name: str, way: int) -> float:
        gained = way * (finite[name][best] - starts[name][best])
        return float(way * (finite[name][lr] - starts[name][lr]) / gained)

    made = []
    for lr in [float(lr) for lr in starts.index.to_numpy()]:
        alive = lr in kept.index
        share = progress(lr, metric, sign) if alive else np.nan
        words: tuple[str, ...] = ()
        if not alive:
            words = ("diverged",)
        elif lr == best:
            words = ("good",)
        elif lr > best and (
            finite["val_accuracy"][lr] <= CHANCE
            if metric == "val_accuracy"
            else max(progress(lr, name, -1) for name in ("train_loss", "val_loss")) <= AT_START
        ):
            words = ("diverged",)
        elif share <= MUCH_WORSE and lr * FAR <= best:
            words = ("too low",)
        elif share <= MUCH_WORSE and lr >= best * FAR:
            words = ABOVE
        made.append(
            Outcome(
                lr=lr,
                start=float(starts[metric][lr]),
                end=float(finite[metric][lr]) if alive else np.nan,
                progress=share,
                nonfinite=float(nonfinite[lr]),
                words=words,
            )
        )
    return made


def judge(sweep: pd.DataFrame, metric: str) -> Analysis:
    """Let etude judge the sweep."""
    last = int(sweep["epoch"].max())
    return analyse(
        read_curves(sweep),
        metric=metric,
        direction=OBJECTIVES[metric],
        margin=None,
        horizon_step=last,
        horizon=float(last),
    )


def compare(name: str, sweep: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
    """Return a row a rate."""
    made = judge(sweep, metric)
    said = {rate.lr: rate for rate in made.rates}
    dynamics = {
        lr: "/".join(sorted({t.dynamics or "-" for t in made.trials if t.lr == lr}))
        for lr in {t.lr for t in made.trials}
    }
    rows = []
    for one in outcomes(sweep, metric):
        verdict = said[one.lr].verdict
        rows.append(
            {
                "sweep": name,
                "objective": metric,
                "lr": one.lr,
                "kind": KINDS[one.words] if one.words else "doubtful",
                "verdict": verdict,
                "right": "" if not one.words else "right" if verdict in one.words else "wrong",
                "start": one.start,
                "end": one.end,
                "progress": one.progress,
                "nonfinite": one.nonfinite,
                "dynamics": dynamics[one.lr],
                "grade": said[one.lr].grade or "",
                "recommended": int(one.lr == made.recommendation.lr),
            }
        )
    return rows


def thinned(sweep: pd.DataFrame, metric: str) -> list[tuple[int, bool | None, float]]:
    """Return of every second, third and fifth rate: how many apart, whether the interval holds the best of all, its width."""
    (best,) = (one.lr for one in outcomes(sweep, metric) if one.words == ("good",))
    rates, made = np.sort(sweep["lr"].unique()), []
    for apart in APART:
        for first in range(apart):
            found = judge(sweep[sweep["lr"].isin(rates[first::apart])], metric).response
            low, high = found.optimum_interval or (np.nan, np.nan)
            made.append((apart, fragment.holds(found, best), float(np.log10(high / low))))
    return made


def page(rows: list[dict[str, Any]], intervals: list[tuple[int, bool | None, float]]) -> list[str]:
    """Write the fragment."""
    holding = [holds for _, holds, _ in intervals if holds is not None]
    scored = [row for row in rows if row["right"]]
    wrong = [row for row in scored if row["right"] == "wrong"]
    undetermined = [row for row in wrong if row["verdict"] == "undetermined"]
    praised = [row for row in rows if row["kind"] == "diverged" and row["verdict"] == "good"]
    lines = [
        "# Real sweeps",
        "",
        "Made by `python benchmarks/sweeps.py --folder PATH`, with the data of DeepOBS (Schneider, Balles, Hennig, ICLR 2019;",
        "DeepOBS_Baselines, MIT). The rule that decides what is right is in the script's docstring.",
        "",
        *fragment.claims(
            [
                (not praised, "no rate that diverged is called `good`"),
                (len(wrong) <= 0.01 * len(scored), "99 % or more of the words that can be checked are right"),
                (len(wrong) == len(undetermined), "every word said of them is right, or `undetermined`"),
                (
                    0.93 <= float(np.mean(holding)) <= 0.99,
                    "the 95 % interval from a part of the rates holds the best of all in 93 to 99 % of sweeps",
                ),
            ]
        ),
        "",
        f"- {len(rows)} rates were judged; in {len(rows) - len(scored)} the outcome leaves doubt, and they are not scored.",
        f"- Of the {len(scored)} others {len(scored) - len(wrong)} got the right word"
        f" ({100 * (1 - len(wrong) / len(scored)):.1f} %); {len(wrong)} did not: {len(undetermined)} of these are"
        f" `undetermined`, {len(wrong) - len(undetermined)} another word.",
        f"- `good` said of a rate that diverged: {len(praised)}.",
        f"- The interval holds the best rate of all in {100 * np.mean(holding):.1f} % of {len(holding)} thinned sweeps.",
        "",
    ]
    by_apart = []
    for apart in APART:
        of = [(holds, width) for step, holds, width in intervals if step == apart]
        located = [(holds, width) for holds, width in of if holds is not None]
        by_apart.append([
            f"{0.2 * apart:.1f} decades", len(of), len(located), f"{100 * np.mean([holds for holds, _ in located]):.1f} %",
            f"{np.mean([width for _, width in located]):.2f}",
        ])  # fmt: skip
    head = ["rates apart", "thinned sweeps", "located", "interval holds the best of all", "mean width, decades"]
    lines += [*fragment.table(head, by_apart), ""]
    by_kind = []
    for kind in ("diverged", "best", "far below", "far above"):
        of_kind = [row for row in scored if row["kind"] == kind]
        words = Counter(row["verdict"] for row in of_kind)
        listed = ", ".join(f"{count} {word}" for word, count in words.most_common())
        by_kind.append([kind, len(of_kind), sum(row["right"] == "right" for row in of_kind), listed])
    lines += [*fragment.table(["outcome", "rates", "right", "words"], by_kind), ""]
    by_sweep = []
    for name, metric in dict.fromkeys((row["sweep"], row["objective"]) for row in rows):
        of_sweep = [row for row in rows if (row["sweep"], row["objective"]) == (name, metric)]
        counts = Counter(row["right"] for row in of_sweep)
        lr = next((rate_text(row["lr"]) for row in of_sweep if row["recommended"]), "none")
        best = next((rate_text(row["lr"]) for row in of_sweep if row["kind"] == "best"), "none")
        doubtful = Counter(row["verdict"] for row in of_sweep if not row["right"])
        listed = ", ".join(f"{count} {word}" for word, count in doubtful.most_common())
        by_sweep.append([name, metric, counts["right"], counts["wrong"], counts[""], listed, best, lr])
    head = ["sweep", "objective", "right", "wrong", "doubtful", "said of the doubtful", "best", "recommended"]
    lines += [*fragment.table(head, by_sweep), ""]
    lines += ["Every wrong one:", ""] if wrong else ["No word was wrong."]
    if wrong:
        lines += fragment.table(
            ["sweep", "objective", "rate", "outcome", "said", "start", "end", "progress", "dynamics", "grade"],
            [
                [
                    row["sweep"], row["objective"], rate_text(row["lr"]), row["kind"], row["verdict"],
                    f"{row['start']:.4g}", f"{row['end']:.4g}", f"{100 * row['progress']:.0f} %", row["dynamics"], row["grade"],
                ]
                for row in wrong
            ],
        )  # fmt: skip
    return lines


def main() -> None:
    """Judge all sweeps in the folder and write the fragment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=os.environ.get("ETUDE_SWEEPS"), help="or $ETUDE_SWEEPS")
    parser.add_argument("--pages", type=Path, default=fragment.PAGES)
    options = parser.parse_args()
    paths = sorted(Path(options.folder).glob("*.csv.gz")) if options.folder else []
    if not paths:
        print(
            "sweeps: skipped, no data: give --folder (or $ETUDE_SWEEPS) with PROBLEM-OPTIMIZER.csv.gz", file=sys.stderr
        )
        return
    rows: list[dict[str, Any]] = []
    intervals: list[tuple[int, bool | None, float]] = []
    for path in paths:
        sweep = pd.read_csv(path)
        for metric in OBJECTIVES:
            if metric in sweep:
                rows += compare(path.name.removesuffix(".csv.gz"), sweep, metric)
                intervals += thinned(sweep, metric)
    # The table says what was judged and how, and carries none of the curves.
    short = [
        {key: row[key] for key in ("sweep", "objective", "lr", "kind", "verdict", "right")}
        | {"progress": f"{row['progress']:.2f}"}
        for row in rows
    ]
    fragment.write("sweeps", page(rows, intervals), short, options.pages)


if __name__ == "__main__":
    main()

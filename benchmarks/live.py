"""Live runs for the page on finding a rate: what `find` and range tests suggest on the truths, and what that would cost.

For each truth (`truths.py`), three times each, with other weights and batches: torch-lr-finder and Lightning's ``lr_find``, as
in `peers`; fastai's rules on etude's own range test, since fastai does not install beside this torch; and ``study.find`` with
its usual range and a budget of 15 % of a full grid, with seeds that the truth was not trained with; then the same search goes
on to 25 %.

*Regret* is how much worse the suggested rate ends than the best, read off the dense grid of the truth: means over its seeds,
interpolated over log η between the two rates beside it; a rate beyond the grid or beside one that diverged counts as the
worst. Where one of the two is within a margin and the other is not, that would be a guess: there the suggested rate itself is
trained, as the truth was (``truths/checks``). It is told in margins, the practical difference that etude states of the dense grid.

What it proves: what such a suggestion is worth where the answer is known. What would refute that a search is worth its cost: a
suggestion whose worst regret stays within a margin on most truths.

    python benchmarks/live.py             # minutes; goes on where it stopped, prints the tables
    python benchmarks/live.py digits      # the truths whose names begin so
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import etude
import fragment
from peers import PEERS, suggest
from replay import Sweep
from truths import FOLDER, RECIPES, TRUTHS, Truth, columns

COSTS = {"find, 15 %": 0.15, "find, 25 %": 0.25}  # budgets, of a full grid: the larger goes on from the smaller
LEAST = (0.9, 0.95)  # of the suggestions are to be within a margin
CHECKS = FOLDER / "checks"
FASTAI = ("fastai valley", "fastai slide", "fastai minimum/10", "fastai steep")
TABLE = fragment.ROOT / "docs" / "benchmarks" / "live.csv"
REPETITIONS = 3
SAME = 1e-3  # decades (or shares of a gap) by which two rates are one


@dataclass(frozen=True)
class Run:
    """A suggestion: the rate (NaN where there was none) that ``by`` made on a truth, and what it cost in optimizer steps."""

    truth: str
    by: str
    repetition: int
    lr: float
    steps: float


def read(path: Path = TABLE) -> list[Run]:
    """Return what has been run, nothing where there is no table."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Run(row["truth"], row["by"], int(row["repetition"]), float(row["lr"]), float(row["steps"]))
            for row in csv.DictReader(file)
        ]


def write(runs: Sequence[Run], path: Path = TABLE) -> None:
    """Write the table, sorted, whole or not at all."""
    beside = path.with_suffix(".part")
    fragment.write_csv(beside, [vars(run) for run in sorted(runs, key=lambda run: (run.truth, run.by, run.repetition))])
    beside.replace(path)


def truths(names: Sequence[str] = ()) -> Iterator[tuple[str, Truth, str]]:
    """Yield name, truth and optimizer; those whose names begin with one of ``names``, or all."""
    for truth, optimizer in itertools.product(TRUTHS, RECIPES):
        name = f"{truth.task}-{optimizer}"
        if not names or name.startswith(tuple(names)):
            yield name, truth, optimizer


def run(names: Sequence[str], path: Path = TABLE) -> None:
    """Run what is missing in the table."""
    torch.set_num_threads(1)
    runs = read(path)
    done = {(one.truth, one.by, one.repetition) for one in runs}
    for name, truth, optimizer in truths(names):
        study = truth.study(optimizer)
        task = study.make_task()
        for by, repetition in itertools.product((*PEERS, "fastai", *COSTS), range(REPETITIONS)):
            if {(name, one, repetition) for one in (FASTAI if by == "fastai" else (by,))} <= done:
                continue
            if by == "fastai":
                runs += fastai(name, study, repetition)
            elif by in COSTS:
                runs.append(find(name, study, repetition, by))
            else:
                made = suggest(by, study, task, repetition)
                runs.append(Run(name, by, repetition, made.lr, made.steps))
            write(runs, path)
            print(f"{name}: {by}, repetition {repetition}: {runs[-1].lr:.3g}", file=sys.stderr, flush=True)


def fastai(name: str, study: etude.Study, repetition: int) -> list[Run]:
    """Make a range test and return what fastai's rules pick."""
    with tempfile.TemporaryDirectory() as folder:
        made = study.range_test(Path(folder) / "run", seeds=[repetition])
    picks = {pick.rule: pick.lr for pick in made.picks}
    return [Run(name, by, repetition, picks[by] or math.nan, made.steps) for by in FASTAI]


def find(name: str, study: etude.Study, repetition: int, by: str) -> Run:
    """Search, with seeds of its own; the run directory is kept in the cache, so that it goes on where it stopped."""
    seeds = range(100 + 10 * repetition, 110 + 10 * repetition)
    result = study.find(fragment.cache() / "live" / f"{name}-{repetition}", cost=COSTS[by], seeds=seeds)
    assert result.search is not None
    lr = result.recommendation.lr
    return Run(name, by, repetition, math.nan if lr is None else lr, result.search.steps)


def check(names: Sequence[str]) -> None:
    """Train the suggested rates of which the grid does not tell whether they are within a margin, with the truth's seeds."""
    CHECKS.mkdir(exist_ok=True)
    for name, truth, optimizer in truths(names):
        if not (FOLDER / f"{name}.csv.gz").is_file():
            continue
        while lrs := unclear(name, truth):
            print(f"{name}: checking {', '.join(f'{lr:.3g}' for lr in lrs)}", file=sys.stderr, flush=True)
            table = CHECKS / f"{name}.csv.gz"
            before = [float(lr) for lr in pd.read_csv(table)["lr"].unique()] if table.is_file() else []
            result = truth.study(optimizer).replace(lrs=sorted({*lrs, *before})).run(fragment.cache() / "checks" / name)
            result.evaluations[columns(result)].to_csv(
                table, index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0}
            )


def unclear(name: str, truth: Truth) -> list[float]:
    """Return the suggested rates between one that is within a margin and one that is not."""
    regret = Regrets(known(name, truth))
    rates = {float(f"{one.lr:.4g}") for one in read() if one.truth == name and math.isfinite(one.lr)}
    return sorted(lr for lr in rates if regret.is_unclear(lr))


def known(name: str, truth: Truth) -> Sweep:
    """Return the dense grid of a truth, and the suggested rates that were trained beside it."""
    tables = [pd.read_csv(path) for path in (FOLDER / f"{name}.csv.gz", CHECKS / f"{name}.csv.gz") if path.is_file()]
    with tempfile.TemporaryDirectory() as folder:
        joined = Path(folder) / f"{name}.csv"
        pd.concat(tables).to_csv(joined, index=False)
        return Sweep.read(joined, truth.objective)


class Regrets:
    """What each rate of a truth would cost to have taken, in margins."""

    def __init__(self, sweep: Sweep) -> None:
        lost = ~np.isfinite(sweep.values[:, :, -1]).all(1)
        self.worst = float(sweep.regrets.max() / sweep.margin)
        self.x = np.log10(sweep.lrs)
        self.values = np.where(lost, np.inf, sweep.regrets / sweep.margin)

    def __call__(self, lr: float) -> float:
        """Return the regret of a rate, that of the worst one where it lies outside or beside one that was lost."""
        regret = sum(weight * value for weight, value in self._beside(lr) if weight > SAME)
        return float(regret) if self._beside(lr) and math.isfinite(regret) else self.worst

    def is_unclear(self, lr: float) -> bool:
        """Whether the rate lies between one that is within a margin and one that is not."""
        beside = [value <= 1 for weight, value in self._beside(lr) if weight > SAME]
        return any(beside) and not all(beside)

    def _beside(self, lr: float) -> list[tuple[float, float]]:
        """Return weights and regrets of the two known rates beside one, nothing where it lies outside."""
        x = math.log10(lr) if math.isfinite(lr) else math.nan
        if not self.x[0] - SAME <= x <= self.x[-1] + SAME:
            return []
        right = int(np.clip(np.searchsorted(self.x, x), 1, len(self.x) - 1))
        share = float(np.clip((x - self.x[right - 1]) / (self.x[right] - self.x[right - 1]), 0, 1))
        return [(1 - share, float(self.values[right - 1])), (share, float(self.values[right]))]


def page(path: Path = TABLE) -> list[str]:
    """Return the section of the page: a row a truth, and for each that suggests the regrets, the rates, and the cost."""
    runs = read(path)
    bys = list(dict.fromkeys(one.by for one in sorted(runs, key=lambda one: one.by.casefold())))
    rows, within = [], {by: [0, 0] for by in bys}
    for name, truth, _ in truths():
        table = FOLDER / f"{name}.csv.gz"
        here = [one for one in runs if one.truth == name]
        if not table.is_file() or not here:
            continue
        regret = Regrets(known(name, truth))
        row = [name, f"{regret.worst:.3g}"]
        for by in bys:
            mine = [one for one in here if one.by == by]
            regrets = [regret(one.lr) for one in mine]
            within[by][0] += sum(value <= 1 for value in regrets)
            within[by][1] += len(regrets)
            row += [_cell(regrets, [one.lr for one in mine]) if mine else ""]
        rows.append(row)
    if not rows:
        return []
    share = [f"{100 * good / max(1, n):.0f} % of {n}" for good, n in within.values()]
    told = [(cost, least, *within[by]) for (by, cost), least in zip(COSTS.items(), LEAST, strict=True) if by in within]
    claims = fragment.claims(
        (
            good >= least * n,
            f"live: within δ in at least {least:.0%} of searches at {cost:.0%} of the grid: {good} of {n}",
        )
        for cost, least, good, n in told
    )
    steps = [f"{np.mean([one.steps for one in runs if one.by == by]):.3g}" for by in bys]
    return [
        "## Live", "",
        f"{REPETITIONS} repetitions on each truth: mean regret (worst) in margins; the lowest and the highest rate suggested.", "",
        *claims, "",
        *fragment.table(
            ["truth", "worst rate", *bys], [*rows, ["within δ", "", *share], ["cost, steps", "", *steps]]
        ),
        "",
    ]  # fmt: skip


def _cell(regrets: Sequence[float], lrs: Sequence[float]) -> str:
    told = sorted(lr for lr in lrs if math.isfinite(lr))
    rates = "none" if not told else f"{told[0]:.2g}" if len(told) == 1 else f"{told[0]:.2g} to {told[-1]:.2g}"
    return f"{np.mean(regrets):.3g} ({max(regrets):.3g}); {rates}"


def main() -> None:
    """Run what is missing, and print the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of TASK-OPTIMIZER; all if not said")
    parser.add_argument("--analyse-only", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.analyse_only:
        os.nice(10)
        run(options.names)
        check(options.names)
    print("\n".join(page()))


if __name__ == "__main__":
    main()

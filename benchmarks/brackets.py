"""Does a range test's bracket hold the best rate of the whole training? On every truth of `truths`, as a search makes it.

The test is as cheap as a search has it at a quarter of a full grid's cost (13 rates × 3 seeds): at most 3 % of that budget,
or a quarter of one trial. *Best* is the rate with the best mean at the horizon in the dense grid, *good* are the rates whose mean
is within one standard deviation between seeds of it. Three disjoint sets of seeds, none of them the grid's.

What would refute it: a best rate outside its bracket. A bracket as wide as the range would prove nothing: the last column says
what part of the eight decades from 1e-7 to 10 is left.

    python benchmarks/brackets.py          # minutes: trains nothing but the range tests
"""

from __future__ import annotations

import math

import etude
from etude.analysis.ranging import RangeTest
from etude.engine.session import Setup
from etude.notation import rate_text
from etude.ranging import RANGE, bracket
from truths import FOLDER, RECIPES, TRUTHS

SETS, SEEDS, FIRST = 3, 3, 100
BUDGET = 0.25 * 13 * 3  # trials


def main() -> None:
    """Print the table."""
    print("| task | best (good) | brackets | seeds × steps | holds best, good | decades left |")
    print("|---|---|---|---|---|---|")
    for truth in TRUTHS:
        for optimizer in RECIPES:
            path = FOLDER / f"{truth.task}-{optimizer}.csv.gz"
            if path.is_file():
                row(truth.task, optimizer, truth.study(optimizer), etude.judge(path, truth.objective))


def row(task: str, optimizer: str, study: etude.Study, grid: etude.Result) -> None:
    """Print a truth's row."""
    best, good = answer(grid)
    setup = Setup(task=study.make_task(), recipe=study.recipe)
    budget = BUDGET * setup.steps(study.epochs)
    made = [
        bracket(setup, study, *RANGE, range(first, first + SEEDS), budget)
        for first in range(FIRST, FIRST + SETS * SEEDS, SEEDS)
    ]
    tests = [test for test in made if isinstance(test, RangeTest)]
    found = [(test.bracket.low or RANGE[0], test.bracket.high or RANGE[1]) for test in tests]
    holds = sum(low <= best <= high for low, high in found)
    holds_good = sum(low <= good[0] and good[1] <= high for low, high in found)
    left = sum(math.log10(high / low) for low, high in found) / len(found)
    words = "; ".join(f"{rate_text(low)} to {rate_text(high)}" for low, high in found)
    print(
        f"| {task}, {optimizer} | {rate_text(best)} ({rate_text(good[0])} to {rate_text(good[1])}) | {words} | "
        f"{len(tests[0].seeds)} × {len(tests[0].lrs)} | {holds}/{SETS}, {holds_good}/{SETS} | {left:.1f} |",
        flush=True,
    )


def answer(grid: etude.Result) -> tuple[float, tuple[float, float]]:
    """Return the best rate, and the lowest and highest of those within a standard deviation between seeds."""
    sign = 1.0 if grid.objective["direction"] == "minimize" else -1.0
    scores = grid.trials.dropna(subset="score").groupby("lr")["score"]
    mean, sd = sign * scores.mean(), scores.std()
    mean = mean[scores.count() == scores.count().max()]
    best = float(str(mean.idxmin()))
    good = mean[mean <= mean.min() + sd[best]].index
    return best, (float(good.min()), float(good.max()))


if __name__ == "__main__":
    main()

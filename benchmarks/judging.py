"""How long it takes to judge what others trained: a million rows by the command, and 10,000 trials by the analysis alone.

``python benchmarks/judging.py --out docs/benchmarks/judging.md``, a minute.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import fragment
from etude.analysis import Curve, analyse

TIMES = ("seconds, median of 3", "least", "most")


def million(folder: Path) -> Path:
    """Write a table of a million evaluations: 50 rates, 4 seeds, 5,000 epochs."""
    rng = np.random.default_rng(0)
    lr = np.repeat(np.logspace(-5, 0, 50), 20_000)
    seed = np.tile(np.repeat(np.arange(4), 5000), 50)
    epoch = np.tile(np.arange(5000), 200)
    level = 1 + (np.log10(lr) + 3) ** 2 + 2 * np.exp(-epoch / 900)
    losses = [np.round(level * (1 + 0.01 * rng.standard_normal(len(level))), 5) for _ in range(2)]
    path = folder / "million.csv"
    with path.open("w") as file:
        file.write("lr,seed,epoch,train_loss,val_loss\n")
        np.savetxt(file, np.column_stack([lr, seed, epoch, *losses]), delimiter=",", fmt="%.12g")
    return path


def trials(rates: int, seeds: int) -> list[Curve]:
    """Make trials of ten epochs."""
    rng = np.random.default_rng(0)
    made = []
    time_axis = np.linspace(0, 1, 11) ** 0.5
    for lr in np.logspace(-5, -1, rates):
        for seed in range(seeds):
            end = 0.02 * np.exp(0.8 * abs(np.log10(lr) + 3) ** 1.5 + 0.05 * rng.standard_normal())
            loss = 2.3 * np.exp(np.log(end / 2.3) * time_axis)
            names = ("val_loss", "train_loss")
            made.append(
                Curve(
                    lr=float(lr), seed=seed, status="completed", steps=np.arange(11) * 100, epochs=np.arange(11.0),
                    metrics=dict.fromkeys(names, loss), errors=dict.fromkeys(names, np.full(11, 0.001)), loss=np.empty(0),
                    end_step=1000,
                )
            )  # fmt: skip
    return made


def seconds(work: object, repeats: int = 3) -> list[float]:
    """Return the sorted times that ``work`` takes."""
    assert callable(work)
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return sorted(took)


def times(took: list[float]) -> list[str]:
    """Write sorted times as the cells beneath `TIMES`."""
    return [f"{seconds:.1f}" for seconds in (statistics.median(took), took[0], took[-1])]


def main() -> None:
    """Time both and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "etude", "judge", str(million(Path(folder)))]
        rows.append(
            (
                "`etude judge` of a CSV of 1,000,000 rows",
                seconds(lambda: subprocess.run(command, check=True, capture_output=True)),
            )
        )
    for rates, seeds in ((10_000, 1), (1000, 10)):
        curves = trials(rates, seeds)
        what = f"the analysis of {rates * seeds:,} trials, {rates:,} rates × {seeds}"
        rows.append((what, seconds(lambda of=curves: analyse(
            of, metric="val_loss", direction="minimize", margin=None, horizon_step=1000, horizon=10
        ))))  # fmt: skip
    lines = [
        "# Judging",
        "",
        "Made by `python benchmarks/judging.py`.",
        "",
        *fragment.table(["what", *TIMES], [[what, *times(took)] for what, took in rows]),
    ]
    fragment.publish(lines, options.out)


if __name__ == "__main__":
    main()

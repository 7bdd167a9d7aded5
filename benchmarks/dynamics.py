"""The experiments behind the constants of `etude.analysis.dynamics`: `make validate`, some minutes.

1. How far two evaluations of one trial err alike (EVALUATION_CORRELATION), and two rates at the end (EXAMPLES_CORRELATION).
2. How often the flat curve of a settled trial shows a setback (FALSE_ALARM), by simulation.
3. Which words a dense sweep on digits gets, rate by rate.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import etude
from etude.analysis import dynamics
from etude.engine.session import Session, Setup
from etude.execution.worker import quiet_allocator
from etude.notation import format_rate
from etude.spec.trial import Trial


def correlation(task: str, lrs: list[float], epochs: float, every: float) -> tuple[list[str], list[str]]:
    """Rows of correlations between consecutive evaluations of a rate, and between neighbouring rates at the end."""
    study = etude.Study.default(task)
    setup = Setup(task=study.make_task(), recipe=study.recipe, evaluate_every=every, channels_last=task == "mnist")
    over_time, over_rates = [], []
    last: dict[float, np.ndarray] = {}
    for lr in lrs:
        session = Session.open(setup, Trial(lr=lr, seed=0))
        right: list[np.ndarray] = []  # (evaluations, examples)
        for part in range(1, round(epochs / every) + 1):
            session.run(setup.steps(part * every))
            session.model.eval()
            with torch.no_grad():
                outputs = [session.model(x).argmax(1) == y for (x, y), _ in session.val.in_order(256)]
            right.append(torch.cat(outputs).double().numpy())
        values = [alike(a, b) for a, b in itertools.pairwise(right)]
        over_time.append(
            f"| {task} | {format_rate(lr)} | {len(values)} | {np.mean(values):.2f} | {min(values):.2f} | {max(values):.2f} |"
        )
        last[lr] = right[-1]
        print(over_time[-1], file=sys.stderr)
    for one, other in itertools.pairwise(lrs):
        over_rates.append(
            f"| {task} | {format_rate(one)}, {format_rate(other)} | {alike(last[one], last[other]):.2f} |"
        )
    return over_time, over_rates


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """Return ρ of two evaluations (examples,): the variance of their difference is (1 − ρ) times the sum of theirs."""
    return float(1 - np.var(b - a) / (np.var(a) + np.var(b)))


def false_alarms(repeats: int) -> list[str]:
    """Rows: how often a flat curve shows a setback, for lengths and true correlations."""
    rng = np.random.default_rng(0)
    rows = []
    for count in (5, 10, 20, 50):
        cells = []
        for rho in (0.3, dynamics.EVALUATION_CORRELATION, 0.7):
            alarms = 0
            for _ in range(repeats):
                score = 0.97 + 0.002 * (np.sqrt(rho) * rng.normal() + np.sqrt(1 - rho) * rng.normal(size=count))
                alarms += dynamics._setbacks(score, np.full(count, 0.002))[0] > 0
            cells.append(f"{100 * alarms / repeats:.1f} %")
        rows.append(f"| {count} | {' | '.join(cells)} |")
    return rows


def sweep(seeds: int) -> list[str]:
    """Rows: the words that the trials of a dense sweep on digits get."""
    study = etude.Study.default("digits").replace(lrs="1e-6..10/15", seeds=seeds)
    with tempfile.TemporaryDirectory() as folder:
        result = study.run(Path(folder) / "run")
        verdicts = {rate["lr"]: rate["verdict"] for rate in result.analysis["rates"]}
        words: dict[float, Counter[str]] = {}
        for trial in result.analysis["trials"]:
            words.setdefault(trial["lr"], Counter())[trial["dynamics"] or "diverged"] += 1
        accuracy = {rate["lr"]: rate["evidence"]["mean"] for rate in result.analysis["rates"]}
    listed = {lr: ", ".join(f"{n} {word}" for word, n in counted.most_common()) for lr, counted in words.items()}
    return [f"| {format_rate(lr)} | {100 * accuracy[lr]:.1f} | {listed[lr]} | {verdicts[lr]} |" for lr in words]


def main() -> None:
    """Run the three experiments and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    quiet_allocator()
    torch.set_num_threads(1)
    lines = ["# Dynamics", "", "Made by `make validate`.", "", "## Evaluations of one trial err alike", ""]
    lines += ["| task | rate | pairs | correlation | least | most |", "|---|---|---|---|---|---|"]
    mnist, mnist_rates = correlation("mnist", [1e-4, 1e-3, 2e-3, 1e-2], epochs=1.5, every=0.25)
    digits, digits_rates = correlation("digits", [1e-3, 3e-3, 1e-2, 3e-2, 0.1], epochs=10, every=1)
    lines += [*mnist, *digits, "", "## Two rates on the same examples err alike", ""]
    lines += ["| task | rates | correlation |", "|---|---|---|", *mnist_rates, *digits_rates]
    lines += ["", "## A setback in the flat curve of a settled trial", ""]
    lines += [
        "| evaluations | correlation 0.3 | 0.5 (assumed) | 0.7 |",
        "|---|---|---|---|",
        *false_alarms(options.repeats),
    ]
    lines += ["", f"## Words on digits, Adam, 10 epochs, {options.seeds} seeds", ""]
    lines += ["| rate | accuracy, % | trials | verdict |", "|---|---|---|---|", *sweep(options.seeds)]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

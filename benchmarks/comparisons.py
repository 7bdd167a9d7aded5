"""How often two identical methods are told apart, each judged and compared as `etude compare` does it.

The claim: ``better`` and ``worse``, nominally 2.5 % each, are said in 5 % or less of comparisons of a method with itself,
also where one run tried more rates than the other. Simulated rate-response curves on the logarithm of the error, flat or
curved, with noise of 5 % in a run, half of its variance shared by all rates of a seed and by both methods.
``python benchmarks/comparisons.py``, some minutes.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

import fragment
from etude.analysis import Curve, analyse
from etude.analysis.compare import Run, compare

METRIC = "val_accuracy"
NOISE = 0.05


def run(name: str, lrs: np.ndarray, shared: np.ndarray, curved: bool, rng: np.random.Generator) -> Run:
    """Simulate and judge one run of the method."""
    level = np.log(0.05) + (0.3 * (np.log10(lrs) + 3) ** 2 if curved else 0 * lrs)
    own = NOISE * np.sqrt(0.5) * rng.standard_normal((len(lrs), len(shared)))
    score = 1 - np.exp(level[:, None] + own + shared)
    curves = [
        Curve(
            lr=float(lr), seed=seed, status="completed", steps=np.array([1]), epochs=np.array([1.0]), end_step=1,
            metrics={METRIC: np.array([score[i, seed]])}, errors={METRIC: np.array([np.nan])}, loss=np.empty(0),
        )
        for i, lr in enumerate(lrs) for seed in range(len(shared))
    ]  # fmt: skip
    said = analyse(curves, metric=METRIC, direction="maximize", margin=None, horizon_step=1, horizon=1, unit="")
    answer = said.recommendation
    return Run(
        name=name, scores={float(lr): dict(enumerate(row)) for lr, row in zip(lrs, score.tolist(), strict=True)},
        lr=answer.lr, estimate=answer.estimate.get("value"),
        standard_error=answer.estimate.get("standard_error"), data="v",
    )  # fmt: skip


def main() -> None:
    """Simulate the cells and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--pages", type=Path, default=fragment.PAGES)
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    most = 0.0
    for (few, many), seeds, curved in itertools.product(((7, 7), (1, 7), (5, 13)), (3, 5), (False, True)):
        rng = np.random.default_rng([few, many, seeds, curved])
        words = []
        for _ in range(options.repeats):
            shared = NOISE * np.sqrt(0.5) * rng.standard_normal(seeds)
            one, other = (run(name, rates(n), shared, curved, rng) for name, n in (("a", few), ("b", many)))
            words.append(compare([one, other], direction="maximize", metric=METRIC).pairs[0].outcome)
        share = {word: words.count(word) / len(words) for word in ("better", "worse")}
        most = max(most, *share.values())
        kind = "curved" if curved else "flat"
        rows.append({"rates": f"{few} against {many}", "seeds": seeds, "response": kind, **share})
    lines = [
        "# Comparisons",
        "",
        f"Made by `python benchmarks/comparisons.py`: {options.repeats:,} comparisons a cell.",
        "",
    ]
    lines += fragment.claims([(most <= 0.05, "two identical methods are told apart in 5 % or less on either side")])
    lines += ["", "The second run, which tried as many rates or more, is said to be:", ""]
    cells = [[f"{100 * value:.1f} %" if isinstance(value, float) else value for value in row.values()] for row in rows]
    lines += fragment.table(["rates", "seeds", "response", "better", "worse"], cells)
    fragment.write("comparisons", lines, rows, options.pages)


def rates(count: int) -> np.ndarray:
    """Return rates around the best one, or that one alone."""
    return np.logspace(-4, -2, count) if count > 1 else np.array([1e-3])


if __name__ == "__main__":
    main()

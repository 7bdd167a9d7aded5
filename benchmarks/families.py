"""How narrow an interval could be for someone who knew the shapes of the coverage table, and what that would cost.

The rule here is told everything: the seven families of curves whose optimum is inside the rates tried, how their parameters are
drawn, and the noise. Its posterior of the optimum is that of very many curves drawn from the families, weighted by the
likelihood of the means (importance sampling); its interval the shortest that has 95 % of it. It is asked about curves of
these families, and of the two that it was not told of: `bumpy` and `cusp`. Beside it stand the shares and widths of etude's
intervals, from the coverage table. *Effective* is the effective number of curves behind a posterior (Kong 1992), the
median over studies; below ten the rule is worse than it would be with more curves.

``python benchmarks/families.py``: ten minutes, 2 GB.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import coverage
import fragment
from etude.analysis.answer import PART, PART_AT_ONE_SEED

Floats = NDArray[np.float64]
KNOWN = tuple(kind for kind in coverage.SHAPES if kind not in ("outside", *coverage.ASIDE))
COMMON = 0.02  # standard deviation of what all rates of a seed share, as in the coverage table
DESIGNS = ((1.0, 1, 0.08), (1.0, 3, 0.08), (0.5, 1, 0.08), (0.5, 3, 0.08))  # step, seeds, noise
BINS = np.linspace(-7.01, 1.01, 402)  # of the optimum, log10


def curves(kinds: tuple[str, ...], x: Floats, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return ``count`` curves of each kind at the rates, and their optima, which are inside the rates tried."""
    made, optima = [], []
    for kind in kinds:
        of = 0
        while of < count:
            curve, optimum = coverage.shape(kind, x, rng)
            if coverage.LOW <= optimum <= coverage.HIGH:
                made.append(curve(x))
                optima.append(optimum)
                of += 1
    return np.array(made, np.float32), np.array(optima)


def spread(x: Floats, optimum: Floats, sd: float) -> Floats:
    """Return the standard deviation of a run at each rate, as in the coverage table."""
    return np.asarray(sd * (1 + 2 * np.clip(x - optimum, 0, 1.5)))


def shortest(mass: NDArray[Any], level: float) -> tuple[int, int]:
    """Return the shortest run of bins that has ``level`` of the mass: from the first to before the second."""
    total = np.concatenate([[0.0], mass.cumsum()])
    end: NDArray[np.intp] = np.searchsorted(total, total + level * total[-1] - 1e-12)
    length = np.where(end < len(total), end - np.arange(len(total)), len(total))
    first = int(length.argmin())
    return first, int(end[first])


def asked(step: float, seeds: int, sd: float, known: int, count: int) -> dict[str, tuple[float, float, float]]:
    """Return by kind how often the rule's interval holds the optimum, its mean width in decades, and the effective curves."""
    x = np.linspace(coverage.LOW, coverage.HIGH, round((coverage.HIGH - coverage.LOW) / step) + 1)
    rng = np.random.default_rng(0)
    told, optima = curves(KNOWN, x, known, rng)
    variance = (spread(x, optima[:, None], sd) ** 2 / seeds).astype(np.float32)
    common, inverse = COMMON**2 / seeds, 1 / variance
    shrink = 1 + common * inverse.sum(1)
    scale = np.log(variance).sum(1) + np.log(shrink)
    bins = np.digitize(optima, BINS)
    found = {}
    for kind in (*KNOWN, *coverage.ASIDE):
        rows = []
        for curve, optimum in zip(*curves((kind,), x, count, rng), strict=True):
            noise = spread(x, optimum, sd)[:, None] * rng.standard_normal((len(x), seeds))
            mean = curve + (noise + COMMON * rng.standard_normal(seeds)).mean(1)
            missed = mean.astype(np.float32) - told
            pulled = missed * inverse
            log = -0.5 * ((pulled * missed).sum(1) - common * pulled.sum(1) ** 2 / shrink + scale)
            weight = np.exp(log - log.max())
            first, end = shortest(np.bincount(bins, weight, len(BINS) + 1), 0.95)
            held = first <= np.digitize(optimum, BINS) < end
            rows.append((held, (end - first) * (BINS[1] - BINS[0]), weight.sum() ** 2 / (weight**2).sum()))
        held, width, effective = np.array(rows, float).T
        found[kind] = float(held.mean()), float(width.mean()), float(np.median(effective))
    return found


def main() -> None:
    """Ask about all designs, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=int, default=60_000, help="curves of each family that the rule is told")
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--table", type=Path, default=fragment.PAGES / "coverage.csv", help="etude's own figures")
    options = parser.parse_args()
    with options.table.open(newline="") as file:
        own = {(r["shape"], r["step"], int(r["seeds"]), float(r["noise"])): r for r in csv.DictReader(file)}
    lines = []
    for step, seeds, sd in DESIGNS:
        part = PART_AT_ONE_SEED if seeds == 1 else PART
        for kind, (held, width, effective) in asked(step, seeds, sd, options.known, options.studies).items():
            row = own[kind, f"{step:.3f}", seeds, sd]
            lines.append([
                f"{step:.2f}", str(seeds), kind, f"{100 * held:.0f} / {width:.2f}", f"{effective:.0f}",
                f"{100 * float(row[f'held_{part}']):.0f} / {float(row[f'width_{part}']):.2f}",
            ])  # fmt: skip
    head = ["step", "seeds", "shape", "told: held, % / width", "effective", "etude: held, % / width"]
    print("\n".join(fragment.table(head, lines)))


if __name__ == "__main__":
    main()

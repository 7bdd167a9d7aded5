"""Whether the intervals hold what they claim to hold: simulated rate-response curves whose optimum is known.

What it claims, and what would refute it:

1. the 95 % interval holds the optimum in 93 to 99 % of studies (an end that is open holds all that lies beyond it);
2. the rates that are not called worse hold the best of those tried in 95 % or more, and so do those called within δ hold
   one that truly is within δ;
3. of two rates that are truly equal one is called worse in 5 % or less.

The curves go beyond what the method assumes: two slopes (`u`), a cliff just above the optimum, a flat bottom
(`plateau`), a gentle slope with a steep end (`skew`), two humps of different depth, an optimum `outside` of the rates
tried, and two equal best rates (`equal`). Rates from 1e-5 to 1e-1, a third, half or a whole decade apart; noise on the logarithm of
the loss with a standard deviation of 3 or 8 % left of the optimum and rising to four times that to its right, and
a part that all rates of a seed share. Where one seed does not measure the noise, δ is given: its standard deviation.

A cell (shape, step, seeds, noise) is simulated at once, by the code that judges a study, and stored when it is done: a
run that is cut off goes on. ``python benchmarks/coverage.py --repeats 200`` while developing.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import multiprocessing
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.analysis import answer as answers
from etude.analysis import response
from etude.analysis.evidence import WITHIN, WORSE
from etude.analysis.scale import Scale

Floats = NDArray[np.float64]
SHAPES = ("u", "cliff", "plateau", "skew", "two humps", "outside", "equal")
STEPS, SEEDS, NOISES = (1 / 3, 1 / 2, 1.0), (1, 3, 5, 10), (0.03, 0.08)
LOW, HIGH = -5.0, -1.0
FINE = np.linspace(-7.0, 1.0, 8001)
CHUNK, DRAWS = 50, 400
COLUMNS = (
    "shape", "step", "seeds", "noise", "repeats", "held", "width", "open", "best_not_worse", "within_holds_one",
    "within_holds_best", "n_within", "equal_called_worse", "regret_pick", "regret_best_mean",
)  # fmt: skip


def slopes(x: Floats, at: float, left: float, right: float, width: float) -> Floats:
    """Return a U of two slopes with a rounded bottom."""
    return np.asarray(width * (left * np.logaddexp(0, (at - x) / width) + right * np.logaddexp(0, (x - at) / width)))


def shape(kind: str, x: Floats, rng: np.random.Generator) -> tuple[Callable[[Floats], Floats], float]:
    """Return a curve on the logarithm of the loss, and its optimum (log10)."""
    at = rng.uniform(-4, -2)
    curve: Callable[[Floats], Floats]
    if kind == "equal":
        i = int(rng.integers(len(x) // 4, len(x) - len(x) // 4 - 1))
        at, slope, width = (x[i] + x[i + 1]) / 2, rng.uniform(0.3, 1), rng.uniform(0.15, 0.5)
        curve = lambda z: slopes(z, at, slope, slope, width)  # noqa: E731
    elif kind == "cliff":
        left, width, jump = rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.5), rng.uniform(1, 3)
        edge = at + rng.uniform(0, 0.6)
        curve = lambda z: slopes(z, at, left, 0.6, width) + jump * (z > edge)  # noqa: E731
    elif kind == "plateau":
        height = rng.uniform(0.1, 0.3)
        curve = lambda z: height * (z - at) ** 4 / (1 + 0.3 * np.abs(z - at) ** 3)  # noqa: E731
    elif kind == "skew":
        left, steep = rng.uniform(0.15, 0.3), rng.uniform(3, 6)
        curve = lambda z: -left * (z - at) + left / steep * np.exp(np.minimum(steep * (z - at), 6))  # noqa: E731
    elif kind == "two humps":
        away, deeper, slope = rng.uniform(0.8, 1.5) * rng.choice([-1, 1]), rng.uniform(0.1, 0.3), rng.uniform(0.4, 0.8)
        curve = lambda z: np.minimum(  # noqa: E731
            slopes(z, at, slope, slope, 0.2), slopes(z, at + away, slope, slope, 0.2) + deeper
        )
    else:
        if kind == "outside":
            at = float(rng.choice([LOW - rng.uniform(0.3, 1), HIGH + rng.uniform(0.3, 1)]))
        left, right, width = rng.uniform(0.3, 0.7), rng.uniform(0.5, 2), rng.uniform(0.15, 0.5)
        curve = lambda z: slopes(z, at, left, right, width)  # noqa: E731
    return curve, float(FINE[np.argmin(curve(FINE))])


def chunk(kind: str, x: Floats, seeds: int, sd: float, rng: np.random.Generator, count: int) -> list[list[float]]:
    """Simulate and judge ``count`` studies; a row has the columns from ``held`` on."""
    tables, truths = [], []
    for _ in range(count):
        curve, optimum = shape(kind, x, rng)
        spread = sd * (1 + 2 * np.clip(x - optimum, 0, 1.5))
        noise = spread[:, None] * rng.standard_normal((len(x), seeds)) + 0.02 * rng.standard_normal(seeds)
        y = curve(x)[:, None] + noise
        scores = {10.0**a: dict(enumerate(row)) for a, row in zip(x, y.tolist(), strict=True)}
        table = answers.tabulate(scores, barred=(), lost=(), stalled=(), examples={})
        assert table is not None
        assert not table.why_no_curve
        tables.append(table)
        truths.append((curve(x), float(curve(np.array(optimum))), optimum))
    drawn = response.draw(
        tables[0].x, np.array([t.mean for t in tables]), np.array([t.levels for t in tables]), response.points(x[0], x[-1]),
        low=np.array([t.start for t in tables]), draws=DRAWS,
    )  # fmt: skip
    return [
        judge(answers.conclude(table, drawn, n, DRAWS), *truths[n], sd, kind == "equal")
        for n, table in enumerate(tables)
    ]


def judge(made: answers.Answer, truth: Floats, least: float, optimum: float, sd: float, equal: bool) -> list[float]:
    """Score one answer against the truth."""
    scale = Scale(kind="positive", sign=-1)
    (low, high), open_ends = made.interval()
    held = ("low" in open_ends or low <= optimum) and ("high" in open_ends or optimum <= high)
    pick = made.pick()
    assert pick is not None
    between = made.noise.sd(pick) if made.noise.measured else sd
    delta = between * float(np.exp(made.noise.mean[pick]))
    p_within = (made.gaps(scale) < delta).mean(0)
    within = p_within >= WITHIN
    within[pick] = True
    worse = (1 - p_within >= WORSE) & ~within
    best = int(truth.argmin())
    truly = np.exp(truth) - np.exp(truth[best]) < sd * np.exp(truth[best])
    twins = np.flatnonzero(truth < truth[best] + 1e-9)
    return [
        held, high - low, bool(open_ends), not worse[best], bool((within & truly).any()), within[best], within.sum(),
        bool(worse[twins].any()) if equal else np.nan, truth[pick] - least,
        truth[made.noise.mean.argmin()] - least,
    ]  # fmt: skip


def cell(job: tuple[str, float, int, float, int]) -> list[Any]:
    """Simulate a cell; seeded by the cell, so that the table is the same however it is made."""
    kind, step, seeds, sd, repeats = job
    x = np.linspace(LOW, HIGH, round((HIGH - LOW) / step) + 1)
    rng = np.random.default_rng(zlib.crc32(repr(job[:4]).encode()))
    rows: list[list[float]] = []
    while len(rows) < repeats:
        rows += chunk(kind, x, seeds, sd, rng, min(CHUNK, repeats - len(rows)))
    return [kind, f"{step:.3f}", seeds, sd, repeats, *(f"{value:.4f}" for value in np.mean(np.array(rows, float), 0))]


def page(rows: list[dict[str, str]]) -> str:
    """Write the table by shape, step and seeds, and what holds."""
    values = [{name: row[name] if name == "shape" else float(row[name]) for name in COLUMNS} for row in rows]
    held = np.array([row["held"] for row in values], float)
    inside = [row for row in values if row["shape"] != "outside"]
    per = int(min(float(row["repeats"]) for row in values))
    in_band = np.mean([0.93 <= float(row["held"]) <= 0.99 for row in values])
    lines = [
        f"Made by `python benchmarks/coverage.py`: {len(values)} cells of {per:,} simulated studies; a share of 95 % in a cell "
        f"has a standard error of {100 * (0.95 * 0.05 / per) ** 0.5:.1f} points.",
        "",
        f"- The 95 % interval holds the optimum in {100 * held.mean():.1f} % of all studies; by cell in "
        f"{100 * held.min():.1f} to {100 * held.max():.1f} %. {100 * in_band:.0f} % of the cells lie between 93 and 99 %, "
        f"{sum(held < 0.93)} below and {sum(held > 0.99)} above.",
    ]
    for name, text in (
        ("best_not_worse", "The rates not called worse hold the best of those tried"),
        ("within_holds_one", "The rates called within δ hold one that truly is"),
        ("within_holds_best", "The rates called within δ hold the very best"),
    ):
        share = np.array([row[name] for row in values], float)
        lines.append(
            f"- {text} in {100 * share.mean():.1f} %; by cell in {100 * share.min():.1f} to {100 * share.max():.1f} %."
        )
    twins = np.array([row["equal_called_worse"] for row in values if row["shape"] == "equal"], float)
    lines.append(
        f"- Of two equal best rates one is called worse in {100 * twins.mean():.1f} %; by cell in {100 * twins.min():.1f} to "
        f"{100 * twins.max():.1f} %."
    )
    lost = [np.mean([float(row[name]) for row in inside]) for name in ("regret_pick", "regret_best_mean")]
    lines.append(
        f"- Mean regret (log loss; optimum inside): {1000 * lost[0]:.1f}e-3 for the rate recommended, {1000 * lost[1]:.1f}e-3 for "
        "the best mean."
    )
    lines += ["", "Held, % / width in decades, for noise of 3 % and of 8 %:", ""]
    lines += [
        "| shape | step | " + " | ".join(f"{n} seed{'s' * (n > 1)}" for n in SEEDS) + " |",
        "|---|---|" + "---|" * len(SEEDS),
    ]
    for kind, step in itertools.product(SHAPES, STEPS):
        cells = []
        for seeds in SEEDS:
            two = [
                row
                for row in values
                if (row["shape"], row["step"], row["seeds"]) == (kind, float(f"{step:.3f}"), seeds)
            ]
            cells.append(", ".join(f"{100 * float(row['held']):.1f} / {float(row['width']):.2f}" for row in two))
        lines.append(f"| {kind} | {step:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Simulate the cells that are missing from the table, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pages", type=Path, default=Path("docs/validation"))
    options = parser.parse_args()
    table = options.pages / "coverage.csv"
    options.pages.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, str]] = []
    if table.exists():
        with table.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["repeats"]) >= options.repeats]
    done = {(row["shape"], row["step"], int(row["seeds"]), float(row["noise"])) for row in rows}
    jobs = [
        (kind, step, seeds, sd, options.repeats)
        for kind, step, seeds, sd in itertools.product(SHAPES, STEPS, SEEDS, NOISES)
        if (kind, f"{step:.3f}", seeds, sd) not in done
    ]
    began = time.monotonic()
    order = {kind: i for i, kind in enumerate(SHAPES)}
    with multiprocessing.Pool(options.processes) as pool:
        for i, made in enumerate(pool.imap_unordered(cell, jobs)):
            rows.append({name: str(value) for name, value in zip(COLUMNS, made, strict=True)})
            rows.sort(key=lambda row: (order[row["shape"]], float(row["step"]), int(row["seeds"]), float(row["noise"])))
            with table.open("w", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
            print(f"{i + 1} of {len(jobs)}, {time.monotonic() - began:.0f} s: {made}", file=sys.stderr)
    text = page(rows)
    (options.pages / "coverage.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

"""Whether the intervals hold what they claim to hold: simulated rate-response curves whose optimum is known.

What it claims, and what would refute it:

1. the 95 % interval holds the optimum in 93 to 99 % of studies (an end that is open holds all that lies beyond it);
2. the rates that are not called worse hold the best of those tried in 95 % or more, and so do those called within δ hold
   one that truly is within δ;
3. of two rates that are truly equal one is called worse in 5 % or less.

The curves go beyond what the method assumes: two slopes (`u`), a cliff just above the optimum, a flat bottom
(`plateau`), a gentle slope with a steep end (`skew`), two humps of different depth, an optimum `outside` of the rates
tried, two equal best rates (`equal`), and two straight lines that meet at the optimum (`kink`), which no smooth curve can
follow. Two more are kept aside, and of these there are half as many studies: a bowl with waves (`bumpy`), which decided
against a narrower interval that had been found on the others, and two arms of which each bends its own way from a sharp
optimum (`cusp`), made when curves were given kinks and not looked at before that was settled.
Rates from 1e-5 to 1e-1, a third, half or a whole decade apart; noise on the logarithm of the loss with a standard deviation
of 3 or 8 % left of the optimum and rising to four times that to its right, and a part that all rates of a seed share. Where
one seed does not measure the noise, δ is given: its standard deviation.

A cell (shape, step, seeds, noise) is simulated at once, by the code that judges a study, and stored when it is done: a
run that is cut off goes on. ``python benchmarks/coverage.py --repeats 200`` while developing.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import multiprocessing
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fragment
from etude.analysis import answer as answers
from etude.analysis.answer import PART, PART_AT_ONE_SEED
from etude.analysis.evidence import WITHIN, worse_from
from etude.analysis.scale import Scale

Floats = NDArray[np.float64]
SHAPES = ("u", "cliff", "plateau", "skew", "two humps", "outside", "equal", "kink", "bumpy", "cusp")
ASIDE = ("bumpy", "cusp")
STEPS, SEEDS, NOISES = (1 / 3, 1 / 2, 1.0), (1, 3, 5, 10), (0.03, 0.08)
LOW, HIGH = -5.0, -1.0
FINE = np.linspace(-7.0, 1.0, 8001)
CHUNK, DRAWS = 50, 400
PARTS = (0.85, 0.9, 0.92, 0.95, 0.97)  # of the draws that could make the interval; the last with one seed only
COLUMNS = (
    "shape", "step", "seeds", "noise", "repeats", "best_not_worse", "within_holds_one",
    "within_holds_best", "n_within", "equal_called_worse", "regret_pick", "regret_best_mean",
    *(f"{what}_{part}" for part in PARTS for what in ("held", "width")),
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
    elif kind == "kink":
        left, right = rng.uniform(0.2, 1), rng.uniform(0.3, 3)
        curve = lambda z: left * np.maximum(at - z, 0) + right * np.maximum(z - at, 0)  # noqa: E731
    elif kind == "cusp":
        (left, right), (p, q) = rng.uniform((0.2, 0.3), (1, 3)), rng.uniform(0.7, 1.5, 2)
        curve = lambda z: left * np.maximum(at - z, 0) ** p + right * np.maximum(z - at, 0) ** q  # noqa: E731
    elif kind == "bumpy":
        wave, away, high = rng.uniform(1, 3, 3), rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.02, 0.1, 3)
        curve = lambda z: 0.3 * (z - at) ** 2 + np.sin(np.multiply.outer(z, 2 * np.pi / wave) + away) @ high  # noqa: E731
    else:
        if kind == "outside":
            at = float(rng.choice([LOW - rng.uniform(0.3, 1), HIGH + rng.uniform(0.3, 1)]))
        left, right, width = rng.uniform(0.3, 0.7), rng.uniform(0.5, 2), rng.uniform(0.15, 0.5)
        curve = lambda z: slopes(z, at, left, right, width)  # noqa: E731
    return curve, float(FINE[np.argmin(curve(FINE))])


def chunk(kind: str, x: Floats, seeds: int, sd: float, rng: np.random.Generator, count: int) -> list[list[float]]:
    """Simulate and judge ``count`` studies; a row has the columns from ``best_not_worse`` on."""
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
    drawn = answers.draw(tables, DRAWS)
    return [
        judge(answers.conclude(table, drawn, n, DRAWS), *truths[n], sd, kind == "equal")
        for n, table in enumerate(tables)
    ]


def judge(made: answers.Answer, truth: Floats, least: float, optimum: float, sd: float, equal: bool) -> list[float]:
    """Score one answer against the truth."""
    scale = Scale(kind="positive", sign=-1)
    holds: list[tuple[float, float]] = []
    for part in PARTS:
        (low, high), ends = made.interval(part)
        holds.append((("low" in ends or low <= optimum) and ("high" in ends or optimum <= high), high - low))
    if made.noise.measured:
        holds[-1] = math.nan, math.nan
    pick = made.pick()
    assert pick is not None
    between = made.noise.sd(pick) if made.noise.measured else sd
    delta = between * float(np.exp(made.noise.mean[pick]))
    p_within = (made.gaps(scale) <= delta).mean(0)
    within = p_within >= WITHIN
    within[pick] = True
    behind = made.noise.mean > made.noise.mean[pick]
    worse = behind & (1 - p_within >= worse_from(measured=made.noise.measured)) & ~within
    best = int(truth.argmin())
    truly = np.exp(truth) - np.exp(truth[best]) < sd * np.exp(truth[best])
    twins = np.flatnonzero(truth < truth[best] + 1e-9)
    return [
        not worse[best], bool((within & truly).any()), within[best], within.sum(),
        bool(worse[twins].any()) if equal else np.nan, truth[pick] - least,
        truth[made.noise.mean.argmin()] - least, *itertools.chain(*holds),
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


def page(rows: list[dict[str, str]]) -> list[str]:
    """Write the page: what holds, and the table by shape, step and seeds."""
    values = [{name: row[name] if name == "shape" else float(row[name]) for name in COLUMNS} for row in rows]

    def column(name: str, **only: object) -> Floats:
        return np.array([row[name] for row in values if all(row[key] == want for key, want in only.items())], float)

    def taken(what: str, **only: object) -> Floats:
        """Return what holds of the part that etude takes."""
        one = column("seeds", **only) == 1
        return np.where(one, column(f"{what}_{PART_AT_ONE_SEED}", **only), column(f"{what}_{PART}", **only))

    inside = np.array([row["shape"] != "outside" for row in values])
    aside = np.array([row["shape"] in ASIDE for row in values])
    held, per = taken("held"), int(column("repeats").max())
    twins, best = column("equal_called_worse", shape="equal"), column("best_not_worse")
    low, above, known = held < 0.93, held > 0.99, inside & ~aside
    regret = [1000 * column(name)[inside].mean() for name in ("regret_pick", "regret_best_mean")]
    within = column("within_holds_one")
    very_best = column("within_holds_best")
    lines = [
        "# Coverage",
        "",
        f"Made by `python benchmarks/coverage.py`: {len(values)} cells of {per:,} simulated studies (half as many "
        "of the shapes kept aside). A share of 95 % in a cell has a standard error of "
        f"{100 * (0.95 * 0.05 / per) ** 0.5:.1f} points.",
        "",
        *fragment.claims([
            (0.93 <= held.mean() <= 0.99, f"the 95 % interval holds the optimum in 93 to 99 % of all studies: {_percent(held)}"),
            (
                0.93 <= held[~aside].mean() <= 0.99,
                f"the same without the two shapes kept aside: {_percent(held[~aside])}",
            ),
            (not low[~aside & (column("seeds") > 1)].any(), "with three seeds and more, in 93 % or more of every cell"),
            (not low[~aside & (column("seeds") == 1)].any(), "with one seed, in 93 % or more of every cell"),
            *(
                (bool((taken("held", shape=kind) >= 0.93).all()), f"in 93 % or more of every cell of `{kind}`, kept aside")
                for kind in ASIDE
            ),
            (not above[known].any(), "it is nowhere wider than it need be: 99 % or less in every cell whose optimum is inside"),
            (bool((best >= 0.95).all()), "the rates not called worse hold the best of those tried in 95 % or more of every cell"),
            (within.mean() >= 0.95, "the rates called within δ hold one that is in 95 % or more of all studies"),
            (bool((twins <= 0.05).all()), "of two equal rates one is called worse in 5 % or less of every cell"),
        ]),
        "",
        f"- Without the shapes kept aside it holds the optimum in {_range(held[~aside])}. Of the cells whose optimum is inside "
        f"the rates tried {int((~low & ~above)[known].sum())} of {known.sum()} lie between 93 and 99 %, {int(low[known].sum())} "
        f"below and {int(above[known].sum())} above.",
        *(f"- Kept aside: `{kind}` is held in {_range(taken('held', shape=kind))}." for kind in ASIDE),
        f"- The rates not called worse hold the best of those tried in {_range(best)}; the rates called within δ hold one that "
        f"truly is in {_range(within)}, and the very best in {_range(very_best)}.",
        f"- Of two equal best rates one is called worse in {_range(twins)}.",
        f"- Mean regret (log loss; optimum inside): {regret[0]:.1f}e-3 for the rate recommended, {regret[1]:.1f}e-3 for the "
        "best mean.",
        "",
        "Studies in which the interval holds the optimum, %, and its width in decades, for noise of 3 % and of 8 %:",
        "",
    ]  # fmt: skip
    cells = []
    for kind, step in itertools.product(SHAPES, STEPS):
        of = {"shape": kind, "step": float(f"{step:.3f}")}
        pairs = [zip(taken("held", **of, seeds=n), taken("width", **of, seeds=n), strict=True) for n in SEEDS]
        cells.append(
            [kind, f"{step:.2f}", *(", ".join(f"{100 * h:.1f}\u00a0/\u00a0{w:.2f}" for h, w in pair) for pair in pairs)]
        )
    lines += fragment.table(["shape", "step", *(f"{n} seed{'s' * (n > 1)}" for n in SEEDS)], cells)
    lines += ["", "## The part of the draws that makes the interval", "",
              f"etude takes the central {100 * PART:.3g} %, with one seed {100 * PART_AT_ONE_SEED:.3g} %. Of the cells whose "
              "optimum is inside the rates tried, those kept aside apart:", ""]  # fmt: skip
    parts = []
    for apart, several, part in itertools.product((False, True), (False, True), PARTS):
        if several and part > PART:
            continue
        of = inside & (aside == apart) & ((column("seeds") > 1) == several)
        share, width = column(f"held_{part}")[of], column(f"width_{part}")[of]
        parts.append([
            f"{100 * part:.3g} %", ("kept aside, " if apart else "") + ("3 seeds and more" if several else "1 seed"),
            f"{100 * share.mean():.1f}", f"{100 * share.min():.1f}",
            f"{int((share < 0.93).sum())}, {int((share > 0.99).sum())} of {len(share)}", f"{width.mean():.2f}",
        ])  # fmt: skip
    head = ["part", "cells", "held, %", "least of a cell, %", "cells below 93 %, above 99 %", "width, decades"]
    return [*lines, *fragment.table(head, parts)]


def _percent(shares: Floats) -> str:
    return f"{100 * shares.mean():.1f} %"


def _range(shares: Floats) -> str:
    return f"{100 * shares.mean():.1f} % (by cell {100 * shares.min():.1f} to {100 * shares.max():.1f} %)"


def main() -> None:
    """Simulate the cells that are missing from the table, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="simulate all cells anew, because the method has changed")
    parser.add_argument("--pages", type=Path, default=fragment.PAGES)
    options = parser.parse_args()
    table = options.pages / "coverage.csv"
    options.pages.mkdir(parents=True, exist_ok=True)
    wanted = {kind: options.repeats // (2 if kind in ASIDE else 1) for kind in SHAPES}
    rows: list[dict[str, str]] = []
    if table.exists() and not options.fresh:
        with table.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["repeats"]) >= wanted[row["shape"]]]
    done = {(row["shape"], row["step"], int(row["seeds"]), float(row["noise"])) for row in rows}
    jobs = [
        (kind, step, seeds, sd, wanted[kind])
        for kind, step, seeds, sd in itertools.product(SHAPES, STEPS, SEEDS, NOISES)
        if (kind, f"{step:.3f}", seeds, sd) not in done
    ]
    began = time.monotonic()
    order = {kind: i for i, kind in enumerate(SHAPES)}
    with multiprocessing.Pool(options.processes) as pool:
        for i, made in enumerate(pool.imap_unordered(cell, jobs)):
            rows.append({name: str(value) for name, value in zip(COLUMNS, made, strict=True)})
            rows.sort(key=lambda row: (order[row["shape"]], float(row["step"]), int(row["seeds"]), float(row["noise"])))
            fragment.write_csv(table, rows)
            print(f"{i + 1} of {len(jobs)}, {time.monotonic() - began:.0f} s: {made}", file=sys.stderr)
    fragment.write("coverage", page(rows), [], options.pages)


if __name__ == "__main__":
    main()

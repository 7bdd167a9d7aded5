"""How good is the answer of `etude find`, and what does it cost, beside other ways of finding a rate?

**Replay.** A searcher is a pure function of what is stored, so it can be played against sweeps that were trained before
(`replay.py`). Every searcher is played on every sweep many times; each time with another range of rates (random ends, the best
rate well inside), another part of the sweep's rates (where there are many) and the seeds in another order. After each decision
the pick is noted: *regret* is what the picked rate's mean at the horizon lacks to that of the best rate of the sweep. *Cost* is
counted in full trials, a share of the full grid of 13 rates × 3 seeds. *Within δ*: the regret is below the margin, which is the
one that etude states of the dense sweep (the standard deviation between seeds), or 2 % of what training gained, where there is
one seed. A grid, halving, and `find` with less than five full trials are played anew for each budget, since what they do first
depends on it.

**Live.** torch-lr-finder, Lightning's ``lr_find`` and fastai's rules ran for real (``live.py``), and so did ``study.find``, three
times on each truth; the regret of their suggestion is read off the dense grid.

What it proves: that `find` gets within δ of the best rate at a quarter of the grid's cost, more surely than the others, and that
its interval holds. What would refute it: less than 95 % within δ at 25 % of the grid's cost, less than 90 % at 15 %; a peer
with less regret at the same cost on most sweeps, or a sweep on which `find` is worst; an interval that holds no rate within δ
of the best in more than 10 %.

    python benchmarks/find.py                         # the truths, and the page; about half an hour
    python benchmarks/find.py --replay FOLDER         # every table of a folder (the columns of ``etude judge``), printed
    python benchmarks/find.py --sweeps FOLDER         # the page, with the sweeps of a folder beside the truths
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import etude.search
import fragment
import live
import replay
from asha import Asha
from etude.search import Searcher
from etude.search.adaptive import Adaptive
from etude.search.grid import Full
from etude.search.halving import Halving
from etude.search.optuna import Optuna
from etude.search.random import Random
from replay import Play, Sweep, play, stated
from truths import FOLDER, RECIPES, TRUTHS

GRID = 39  # trials of the full grid that costs are shares of
COSTS = (2, 3, 4, 5, 0.15 * GRID, 7, 8, 0.25 * GRID, 13, 0.5 * GRID)  # full trials at which picks are noted
SHARES = {0.15: 0.15 * GRID, 0.25: 0.25 * GRID}
PAGES = fragment.ROOT / "docs" / "benchmarks"
METRICS = ("val_accuracy", "val_loss")
KEPT = 0.8  # of a sweep's rates that a play sees, where it has `MANY`
MANY = 20
INSIDE = 0.4  # decades from the best rate to the ends of a range, at least
WORST = 20.0  # margins that a regret counts as at most
AWAY = 1.2  # decades by which a range is cut at either end, at most

Make = Callable[[float, float, int], Searcher]
SEARCHERS: dict[str, Make] = {
    "find": lambda low, high, _: Adaptive(low=low, high=high),
    "grid": lambda low, high, _: Full(low=low, high=high),
    "random": lambda low, high, seed: Random(low=low, high=high, seed=seed),
    "halving": lambda low, high, _: Halving(low=low, high=high),
    "tpe-median": lambda low, high, seed: Optuna(low=low, high=high, pruner="median", seed=seed),
    "tpe-hyperband": lambda low, high, seed: Optuna(low=low, high=high, pruner="hyperband", seed=seed),
    "asha": lambda low, high, seed: Asha(low=low, high=high, seed=seed),
}

SLOW = ("tpe-median", "tpe-hyperband")
# Budgets that are played for themselves, because what is done first depends on them; else one long play is noted as it goes.
OWN_BUDGETS = {"grid": COSTS, "halving": COSTS, "find": COSTS[:3]}


@dataclass(frozen=True)
class Played:
    """One play: the regret (in margins) of the pick after each decision and what it had cost; and the interval at the end.

    ``own`` is the regret at the end of budgets that were played for themselves.
    """

    sweep: str
    metric: str
    searcher: str
    repetition: int
    costs: tuple[float, ...]
    regrets: tuple[float, ...]
    own: dict[float, float]
    stated: bool
    holds: bool

    def regret(self, cost: float) -> float:
        """Return the regret of the pick that ``cost`` full trials had bought; infinite before there was one."""
        if cost in self.own:
            return self.own[cost]
        upto = [regret for spent, regret in zip(self.costs, self.regrets, strict=True) if spent <= cost + 1e-6]
        return upto[-1] if upto else math.inf


def parts(sweep: Sweep, seed: int) -> tuple[Sweep, float, float]:
    """Return a random part of a sweep, and the ends of the range that is searched."""
    rng = np.random.default_rng(seed)
    best = int(sweep.regrets.argmin())
    kept = np.arange(len(sweep.lrs))
    if len(kept) >= MANY:
        drawn = rng.random(len(kept)) < KEPT
        drawn[best] = True
        kept = kept[drawn]
    part = sweep.part(kept, rng.permutation(len(sweep.seeds)))
    x, top = np.log10(part.lrs), math.log10(sweep.lrs[best])
    low = x[0] + rng.random() * float(np.clip(top - INSIDE - x[0], 0, AWAY))
    high = x[-1] - rng.random() * float(np.clip(x[-1] - top - INSIDE, 0, AWAY))
    return part, float(10**low), float(10**high)


def run(job: tuple[Sweep, str, int]) -> Played:
    """Play one searcher once."""
    sweep, name, repetition = job
    part, low, high = parts(sweep, repetition)
    mine, own, costs, regrets = name == "find", {}, [], []
    for budget in OWN_BUDGETS.get(name, ()):
        *_, end = (Play(part, {}), *play(part, SEARCHERS[name](low, high, repetition), budget))
        own[budget] = end.regret(by_curve=mine)
    game = Play(part, {})
    if tuple(own) != COSTS:
        for game in play(part, SEARCHERS[name](low, high, repetition), max(SHARES.values()) if mine else max(COSTS)):
            if game.decided or not mine:
                costs.append(game.spent)
                regrets.append(game.regret(by_curve=mine))
    interval = stated(part, game.results) if mine else None
    holds = False
    if interval is not None:
        inside = (part.lrs >= interval[0] * 0.999) & (part.lrs <= interval[1] * 1.001)
        holds = bool((part.regrets[inside] <= part.margin).any())
        if not inside.any():  # the interval lies between two rates of the sweep
            near = {part.nearest(interval[0]), part.nearest(interval[1])}
            holds = bool(min(part.regrets[list(near)]) <= part.margin)
    return Played(
        sweep.name, sweep.metric, name, repetition, tuple(costs), tuple(regrets), own, interval is not None, holds
    )


def read(folder: Path) -> list[Sweep]:
    """Read every table of a folder, once for each objective that it has."""
    found = []
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")]):
        columns = pd.read_csv(path, nrows=0).columns
        found += [Sweep.read(path, metric) for metric in METRICS if metric in columns]
    return found


def of_truths() -> list[Sweep]:
    """Read the truths, each with its task's own objective."""
    return [
        Sweep.read(FOLDER / f"{truth.task}-{optimizer}.csv.gz", truth.objective)
        for truth, optimizer in itertools.product(TRUTHS, RECIPES)
        if (FOLDER / f"{truth.task}-{optimizer}.csv.gz").is_file()
    ]


def play_all(sweeps: Sequence[Sweep], names: Sequence[str], repetitions: int, workers: int) -> list[Played]:
    """Play every searcher on every sweep; Optuna's, which take seconds, a tenth as often. What was played is kept in the cache."""
    found: list[Played] = []
    folder = fragment.cache() / "plays" / source_digest()
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        for sweep, name in itertools.product(sweeps, names):
            times = max(2, repetitions // 10) if name in SLOW else repetitions
            kept = folder / f"{sweep.name}-{sweep.metric}-{len(sweep.lrs)}x{len(sweep.seeds)}-{name}-{times}.pickle"
            if not kept.is_file():
                assert sweep.margin > 0  # computed here, once, and taken along
                played = list(pool.map(run, [(sweep, name, r) for r in range(times)], chunksize=2))
                kept.write_bytes(pickle.dumps(played))
            found += pickle.loads(kept.read_bytes())
    return found


def source_digest() -> str:
    """Return a short digest of what decides how a play goes: searchers, analysis, and the replay."""
    hashed = hashlib.blake2b(fragment.analysis_digest().encode(), digest_size=6)
    for path in (*sorted(Path(etude.search.__file__).parent.glob("*.py")), Path(replay.__file__), Path(__file__)):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def within(plays: Sequence[Played], cost: float) -> float:
    """Return the share of plays whose pick at a cost is within δ."""
    return float(np.mean([one.regret(cost) <= 1 + 1e-9 for one in plays]))


def regret(plays: Sequence[Played], cost: float) -> float:
    """Return the mean regret in margins at a cost; one of more than `WORST` margins, or no pick, counts as so many."""
    return float(np.mean([min(WORST, one.regret(cost)) for one in plays]))


def by_searcher(plays: Sequence[Played], names: Sequence[str]) -> dict[str, list[Played]]:
    """Sort plays by searcher."""
    return {name: [one for one in plays if one.searcher == name] for name in names}


def by_sweep(plays: Sequence[Played]) -> dict[tuple[str, str], list[Played]]:
    """Sort plays by sweep."""
    found: dict[tuple[str, str], list[Played]] = {}
    for one in plays:
        found.setdefault((one.sweep, one.metric), []).append(one)
    return found


def percent(share: float) -> str:
    """Write a share."""
    return f"{100 * share:.1f} %"


def tables(plays: Sequence[Played], names: Sequence[str]) -> list[str]:
    """Write what was played on a group of sweeps."""
    of = by_searcher(plays, names)
    lines = fragment.table(
        ["full trials", *(f"{cost:.3g}" for cost in COSTS)],
        [[name, *(f"{percent(within(of[name], cost))}" for cost in COSTS)] for name in names],
    )
    lines += ["", "Mean regret, in margins:", ""]
    lines += fragment.table(
        ["full trials", *(f"{cost:.3g}" for cost in COSTS)],
        [[name, *(f"{regret(of[name], cost):.2f}" for cost in COSTS)] for name in names],
    )
    lines += ["", f"Sweep by sweep, mean regret in margins at {SHARES[0.25]:.3g} full trials (and within δ):", ""]
    rows = []
    for (sweep, metric), here in by_sweep(plays).items():
        mine = by_searcher(here, names)
        cells = [f"{regret(mine[n], SHARES[0.25]):.2f} ({100 * within(mine[n], SHARES[0.25]):.0f} %)" for n in names]
        rows.append([sweep, metric.removeprefix("val_"), *cells])
    return [*lines, *fragment.table(["sweep", "objective", *names], rows)]


def ranks(plays: Sequence[Played], names: Sequence[str], cost: float) -> tuple[int, int, int]:
    """Return on how many sweeps `find` has the least regret (ties among them), on how many the most, and how many there are."""
    first = last = 0
    groups = by_sweep(plays)
    for here in groups.values():
        of = {name: round(regret(mine, cost), 2) for name, mine in by_searcher(here, names).items()}
        others = [value for name, value in of.items() if name != "find"]
        first += of["find"] <= min(others)
        last += of["find"] > max(others)
    return first, last, len(groups)


def claims(groups: dict[str, list[Played]], names: Sequence[str]) -> list[str]:
    """Say of each claim whether it held."""
    made = []
    for group, plays in groups.items():
        mine = by_searcher(plays, names)["find"]
        for share, cost in SHARES.items():
            least = 0.95 if share == 0.25 else 0.9
            got = within(mine, cost)
            made.append(
                (
                    got >= least,
                    f"{group}: within δ in at least {least:.0%} of plays at {share:.0%} of the grid: {percent(got)}",
                )
            )
            first, last, n = ranks(plays, names, cost)
            made.append((2 * first > n, f"{group}: least regret at {share:.0%} on most sweeps: {first} of {n}"))
            made.append((last == 0, f"{group}: never the worst at {share:.0%}: worst on {last} of {n}"))
        said = [one for one in mine if one.stated]
        held = float(np.mean([one.holds for one in said])) if said else math.nan
        made.append(
            (held >= 0.9, f"{group}: the interval holds a rate within δ in at least 90 %: {percent(held)} of the "
             f"{percent(len(said) / len(mine))} of plays in which one is stated")
        )  # fmt: skip
    return fragment.claims(made)


def draw(groups: dict[str, list[Played]], names: Sequence[str], path: Path) -> None:
    """Draw the share of plays within δ against cost, a panel a group of sweeps."""
    import matplotlib.pyplot as plt

    from etude.present import palette

    figure, axes = plt.subplots(1, len(groups), figsize=(4.6 * len(groups), 3.4), sharey=True, squeeze=False)
    colours = [palette.INK, *(f"C{i}" for i in range(len(names) - 1))]
    for ax, (group, plays) in zip(axes[0], groups.items(), strict=True):
        for name, colour in zip(names, colours, strict=True):
            mine = by_searcher(plays, [name])[name]
            ax.plot(
                COSTS, [100 * within(mine, cost) for cost in COSTS], color=colour, label=name,
                linewidth=2.2 if name == "find" else 1.3, marker="o", markersize=3,
            )  # fmt: skip
        ax.axhline(95, color="0.85", linewidth=1, zorder=0)
        ax.set(xlabel="cost in full trials", xscale="log", title=group)
        ax.set_xticks([2, 3, 4, 6, 8, 10, 13, 20], labels=["2", "3", "4", "6", "8", "10", "13", "20"])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("picks within δ of the best, %")
    axes[0][-1].legend(frameon=False, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def write(lines: Sequence[str], groups: dict[str, list[Played]], names: Sequence[str]) -> None:
    """Write the page, its table and its picture."""
    rows = [
        {
            "group": group, "sweep": sweep, "objective": metric, "searcher": name, "cost": cost, "plays": len(mine),
            "within": within(mine, cost), "regret": regret(mine, cost),
        }
        for group, plays in groups.items()
        for (sweep, metric), here in by_sweep(plays).items()
        for name, mine in by_searcher(here, names).items()
        for cost in COSTS
    ]  # fmt: skip
    draw(groups, names, PAGES.parent / "images" / "find.png")
    head = [
        "# Finding a rate: regret against cost", "",
        "Made by `python benchmarks/find.py --sweeps FOLDER` (`make bench-find`); what is measured, and what would refute it,",
        "is in the script's docstring. The truths were trained by `benchmarks/truths.py`; the other sweeps are those of DeepOBS",
        "(Schneider, Balles, Hennig, ICLR 2019; DeepOBS_Baselines, MIT).", "",
        "![Share of picks within δ against cost](../images/find.png)", "",
    ]  # fmt: skip
    fragment.write("find", [*head, *lines, "", *live.page()], rows, PAGES)


def main() -> None:
    """Play, and print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="play on its tables alone, and print")
    parser.add_argument("--sweeps", type=Path, default=os.environ.get("ETUDE_SWEEPS"), help="or $ETUDE_SWEEPS")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--searchers", default=",".join(SEARCHERS), help="some of: " + ", ".join(SEARCHERS))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    names = [name for name in SEARCHERS if name in options.searchers.split(",")]
    if options.replay is not None:
        sweeps = {str(options.replay): read(options.replay)}
    else:
        sweeps = {"truths": of_truths()}
        if options.sweeps:
            sweeps["DeepOBS"] = read(Path(options.sweeps))
    groups = {group: play_all(of, names, options.repetitions, options.workers) for group, of in sweeps.items()}
    lines = claims(groups, names) if "find" in names and len(names) > 1 else []
    for group, plays in groups.items():
        lines += ["", f"## {group}", "", f"{len(by_sweep(plays))} sweeps. Picks within δ:", "", *tables(plays, names)]
    print("\n".join(lines))
    if options.replay is None:
        write(lines, groups, names)


if __name__ == "__main__":
    main()

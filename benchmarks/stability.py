"""Does another set of seeds give the same answer? Ten disjoint sets of seeds, against two range tests on the same seeds.

Tasks: ``digits`` (a perceptron; Adam; nine rates half a decade apart, 3 seeds a set, 10 epochs) and ``mnist`` (the reference
CNN; Adam; seven rates half a decade apart, 2 seeds a set, one epoch). Peers, with their own default settings, the same
model, optimizer, batch size and data, one run for the first seed of each set: torch-lr-finder (Adam from 1e-7 as its README
has it, ``range_test(loader, end_lr=10, num_iter=100)``, the steepest gradient that ``plot`` suggests) and Lightning's
``Tuner.lr_find`` (1e-8 to 1, 100 steps, ``suggestion()``). A range test costs 100 steps and a study far more: the table says
what the answers are worth, not that they cost the same.

What it proves: that etude's answer does not hang on the seeds. What would refute it: two sets whose picks are more than one
grid step apart while neither names the other's pick as within the margin; a wider spread than a range test's; or more
regret. *Regret* of a rate: its validation error beyond that of the best tried rate, both from the means over the seeds of
the other nine sets, interpolated linearly over log η; a trial that diverged counts as a guess among ten classes. Outside
the tried rates it cannot be computed. The held-out seeds see the same validation examples.

The reference study (1e-4, 1e-3, 1e-2; one seed, five epochs) is checked, too: ``too low``, ``good``, ``unstable``, provisional.

    python benchmarks/stability.py                  # about an hour on one core; goes on where it stopped
    python benchmarks/stability.py --analyse-only   # seconds: judges the stored runs, or else the stored scores, anew
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import etude
import fragment
from etude.analysis import Curve, analyse
from etude.execution.worker import quiet_allocator
from etude.notation import format_rate
from etude.spec.rates import parse_rates, parse_seeds
from peers import PEERS, suggest

SETS = 10
CHANCE = 0.1
NAMES = ("val_loss", "val_accuracy", "train_loss")
REFERENCE = {1e-4: "too low", 1e-3: "good", 1e-2: "unstable"}


@dataclass(frozen=True)
class Plan:
    """What is trained for a task."""

    task: str
    lrs: str
    seeds: int
    epochs: int

    def study(self, k: int) -> etude.Study:
        """Make the study of set ``k``."""
        first = k * self.seeds
        return etude.Study.default(self.task).replace(
            lrs=parse_rates(self.lrs), seeds=parse_seeds(f"{first}..{first + self.seeds - 1}"), epochs=self.epochs
        )

    def folder(self, runs: Path, k: int) -> Path:
        """Return the run directory of set ``k``."""
        return runs / f"{self.task}-{k:02d}"


PLANS = (
    Plan(task="digits", lrs="1e-4..1/9", seeds=3, epochs=10),
    Plan(task="mnist", lrs="1e-4..0.1/7", seeds=2, epochs=1),
)


# --- training -----------------------------------------------------------------------------------------------------------


def train(runs: Path) -> None:
    """Train what is missing: ten studies a task, and the reference study."""
    quiet_allocator()
    for plan in PLANS:
        for k in range(SETS):
            plan.study(k).run(plan.folder(runs, k), executor="inline")
            print(f"{plan.task}: set {k + 1} of {SETS}", file=sys.stderr, flush=True)
    etude.Study.default("mnist").run(runs / "reference", executor="inline")


def range_tests(path: Path) -> None:
    """Run what is missing of the peers' range tests, a line each in ``path``."""
    done = {(row["task"], row["peer"], int(row["seed"])) for row in read_csv(path)}
    rows: list[dict[str, Any]] = list(read_csv(path))
    torch.set_num_threads(1)
    for plan in PLANS:
        study = plan.study(0)
        task = study.make_task()
        for name, k in itertools.product(PEERS, range(SETS)):
            seed = k * plan.seeds
            if (plan.task, name, seed) in done:
                continue
            lr = suggest(name, study, task, seed).lr
            rows.append({"task": plan.task, "peer": name, "set": k, "seed": seed, "lr": lr})
            fragment.write_csv(path, rows)
            print(f"{plan.task}: {name}, seed {seed}: {lr:.3g}", file=sys.stderr, flush=True)


# --- what is stored -----------------------------------------------------------------------------------------------------


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table, none where there is no such file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def scores_of_runs(runs: Path) -> list[dict[str, Any]]:
    """Return a row a finished trial: its first and last evaluation."""
    rows = []
    for plan in PLANS:
        for k in range(SETS):
            if not (plan.folder(runs, k) / "study.sqlite").exists():
                continue
            result = etude.Result.load(plan.folder(runs, k))
            if not result.complete:
                continue
            for trial in result.stored.trials:
                first, last = trial.evaluations[0], trial.evaluations[-1]
                row: dict[str, Any] = {
                    "task": plan.task, "set": k, "lr": trial.lr, "seed": trial.seed, "status": trial.status,
                    "diverged_step": trial.diverged or "", "end_step": trial.end_step, "step": last.step, "epoch": last.epoch,
                }  # fmt: skip
                for name in NAMES:
                    start = first.metrics.get(name, math.nan)
                    end = last.metrics.get(name, math.nan) if name != "train_loss" else last.train_loss
                    row |= {f"{name}_start": start, f"{name}_end": math.nan if end is None else end}
                row["val_accuracy_error"] = last.standard_errors.get("val_accuracy", math.nan)
                rows.append(row)
    return rows


def curves_of(rows: list[dict[str, str]]) -> list[Curve]:
    """Make curves of two evaluations from stored scores."""
    curves = []
    for row in rows:
        metrics = {name: np.array([float(row[f"{name}_start"]), float(row[f"{name}_end"])]) for name in NAMES}
        errors = {name: np.full(2, np.nan) for name in NAMES}
        errors["val_accuracy"][1] = float(row["val_accuracy_error"])
        curves.append(
            Curve(
                lr=float(row["lr"]),
                seed=int(row["seed"]),
                status=row["status"],
                steps=np.array([0, int(row["step"])]),
                epochs=np.array([0.0, float(row["epoch"])]),
                metrics=metrics,
                errors=errors,
                loss=np.empty(0),
                end_step=int(row["end_step"]),
                diverged_step=int(row["diverged_step"]) if row["diverged_step"] else None,
            )
        )
    return curves


def answers(plan: Plan, runs: Path, scores: list[dict[str, str]]) -> tuple[list[dict[str, Any]], str]:
    """Return the current analysis' recommendation for each set, as a mapping, and where it was read from."""
    made, sources = [], Counter[str]()
    for k in range(SETS):
        folder = plan.folder(runs, k)
        rows = [row for row in scores if row["task"] == plan.task and int(row["set"]) == k]
        if (folder / "study.sqlite").exists() and (result := etude.Result.load(folder)).complete:
            answer = dict(result.analyse()["recommendation"])
            sources["runs"] += 1
        elif rows:
            step = max(int(row["end_step"]) for row in rows)
            analysis = analyse(
                curves_of(rows), metric="val_accuracy", direction="maximize", margin=None,
                horizon_step=step, horizon=float(plan.epochs),
            )  # fmt: skip
            answer = dict(vars(analysis.recommendation))
            sources["stored scores"] += 1
        else:
            continue
        made.append({"set": k, **answer})
    return made, " and ".join(f"{count} sets from {source}" for source, count in sources.items())


# --- figures ------------------------------------------------------------------------------------------------------------


class Response:
    """Mean validation errors of the other sets, by rate: what a pick is scored on."""

    def __init__(self, scores: list[dict[str, str]]) -> None:
        self.lrs = sorted({float(row["lr"]) for row in scores})
        self.x: NDArray[np.float64] = np.log10(self.lrs)
        self._errors = [(int(r["set"]), float(r["lr"]), 1 - _accuracy(r)) for r in scores]

    def mean(self, without: int) -> NDArray[np.float64]:
        """Return the mean error of each rate without set ``without``, (rates,)."""
        return np.array([np.mean([e for k, lr, e in self._errors if lr == at and k != without]) for at in self.lrs])

    def error(self, lr: float, without: int) -> float:
        """Return the error at a rate, NaN outside the tried ones."""
        return float(np.interp(np.log10(lr), self.x, self.mean(without), left=np.nan, right=np.nan))

    def regret(self, lr: float, without: int) -> float:
        """Return the error beyond that of the best tried rate."""
        return self.error(lr, without) - float(self.mean(without).min())

    def best(self, without: int) -> float:
        """Return the tried rate of least error."""
        return self.lrs[int(self.mean(without).argmin())]


def _accuracy(row: Mapping[str, str]) -> float:
    value = float(row["val_accuracy_end"])
    return value if row["status"] != "diverged" and math.isfinite(value) else CHANCE


def figures(who: str, picks: Mapping[int, float], response: Response) -> dict[str, Any]:
    """Return spread and regret of picks by set; regrets in percentage points."""
    logs = np.log10([*picks.values()])
    regrets = np.array([100 * response.regret(lr, k) for k, lr in picks.items()])
    inside = regrets[np.isfinite(regrets)]
    return {
        "by": who,
        "picks": len(picks),
        "lowest": 10 ** logs.min(),
        "highest": 10 ** logs.max(),
        "decades": float(np.ptp(logs)),
        "sd_log10": float(logs.std(ddof=1)),
        "regret_mean": float(inside.mean()) if len(inside) else math.nan,
        "regret_se": float(inside.std(ddof=1) / len(inside) ** 0.5) if len(inside) > 1 else math.nan,
        "regret_worst": float(inside.max()) if len(inside) else math.nan,
        "outside": int(len(regrets) - len(inside)),
    }


def section(
    plan: Plan, made: list[dict[str, Any]], source: str, scores: list[dict[str, str]], tests: list[dict[str, str]]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Write a task's part of the fragment and its rows."""
    response = Response([row for row in scores if row["task"] == plan.task])
    step = float(np.diff(response.x).mean())
    answered = [answer for answer in made if answer["lr"] is not None]
    picks = {answer["set"]: float(answer["lr"]) for answer in answered}
    rows = [figures("etude", picks, response)]
    for peer in PEERS:
        found = {int(r["set"]): float(r["lr"]) for r in tests if r["task"] == plan.task and r["peer"] == peer}
        found = {k: lr for k, lr in found.items() if k in picks and math.isfinite(lr)}
        if len(found) > 1:
            rows.append(figures(peer, found, response))
    pairs = list(itertools.combinations(answered, 2))
    same = sum(a["lr"] == b["lr"] for a, b in pairs)
    near = sum(abs(math.log10(a["lr"] / b["lr"])) <= 1.01 * step for a, b in pairs)
    apart = [(a, b) for a, b in pairs if abs(math.log10(a["lr"] / b["lr"])) > 1.01 * step]
    tied = [(a, b) for a, b in apart if _names(a, b["lr"]) or _names(b, a["lr"])]
    bias = np.array([100 * (float(a["estimate"]["value"]) - 1 + response.error(a["lr"], a["set"])) for a in answered])
    best = [response.best(k) for k in range(SETS)]
    intervals = [(a, a["optimum_interval"]) for a in answered if a["optimum_interval"] is not None]
    held = sum(i[0] / 1.01 <= response.best(a["set"]) <= i[1] * 1.01 for a, i in intervals)
    grid = "; ".join(
        f"{format_rate(lr)}: {100 - 100 * e:.2f}" for lr, e in zip(response.lrs, response.mean(-1), strict=True)
    )
    spread = all(rows[0]["sd_log10"] <= row["sd_log10"] for row in rows[1:])
    regret = all(rows[0]["regret_mean"] <= row["regret_mean"] for row in rows[1:])
    outside = {row["by"]: _nearest(response, [row["lowest"], row["highest"]]) for row in rows if row["outside"]}
    counted = Counter(format_rate(float(f"{lr:.3g}")) for lr in picks.values())
    interval_text = (
        f"The optimum's interval holds the best tried rate of the other sets in {held} of {len(intervals)} sets."
        if intervals
        else "No set has an interval for the optimum."
    )
    lines = [
        f"## {plan.task}: {len(response.lrs)} rates, {plan.seeds} seeds a set, {_epochs(plan.epochs)}",
        "",
        *fragment.claims(
            [
                (len(apart) == len(tied), "no two sets contradict each other"),
                (spread, "etude's picks scatter no more than either range test's"),
                (regret, "etude's picks have no more mean regret than either range test's"),
            ]
        ),
        "",
        f"Mean validation accuracy of all sets, %: {grid}. Best tried rate, leaving out one set at a time:",
        f"{', '.join(f'{format_rate(lr)} ({n} times)' for lr, n in Counter(best).most_common())}.",
        "",
        f"- etude picks {', '.join(f'{lr} ({n} of {len(made)} sets)' for lr, n in counted.most_common())}"
        f" ({source}). Of {len(pairs)} pairs of sets {same} agree exactly, {near} within one grid step; of the",
        f"  {len(apart)} others {len(tied)} are named as a tie, **{len(apart) - len(tied)} contradict each other**.",
        f"- {interval_text}",
        f"- Promised minus held-out accuracy: {bias.mean():+.2f} ± {bias.std(ddof=1) / len(bias) ** 0.5:.2f} points"
        f" (± standard error over {len(bias)} sets).",
        "",
        *fragment.table(
            ["suggested by", "lowest", "highest", "spread, decades", "sd of log10", "regret, mean", "worst", "outside"],
            [
                [
                    r["by"], f"{r['lowest']:.2g}", f"{r['highest']:.2g}", f"{r['decades']:.2f}", f"{r['sd_log10']:.2f}",
                    f"{r['regret_mean']:.2f} ± {r['regret_se']:.2f}", f"{r['regret_worst']:.2f}", f"{r['outside']} of {r['picks']}",
                ]
                for r in rows
            ],
        ),
        "",
        "Regrets in points, means ± standard errors over sets, without picks outside the tried rates;",
        "between a good rate and one over the cliff they are only interpolated.",
        *(f"Outside the tried rates, {by} went beyond {text}." for by, text in outside.items()),
        "",
    ]  # fmt: skip
    return lines, [{"task": plan.task, **row} for row in rows]


def _nearest(response: Response, ends: list[float]) -> str:
    """Say how the ends of the grid do that suggestions went beyond."""
    errors = response.mean(-1)
    told = [
        f"{format_rate(response.lrs[i])} (where accuracy is {100 - 100 * errors[i]:.1f} %)"
        for i, beyond in ((0, ends[0] < response.lrs[0]), (-1, ends[1] > response.lrs[-1]))
        if beyond
    ]
    return " and ".join(told)


def _names(answer: Mapping[str, Any], lr: float) -> bool:
    return any(abs(math.log10(tied / lr)) < 0.01 for tied in answer["within_margin"])


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count != 1)}"


def reference(runs: Path) -> list[str]:
    """Write what the analysis says of the reference study."""
    folder = runs / "reference"
    lines = ["## The reference study", ""]
    if not (folder / "study.sqlite").exists() or not (result := etude.Result.load(folder)).complete:
        return [*lines, "Not trained here."]
    made = result.analyse()
    dynamics = {trial["lr"]: trial["dynamics"] for trial in made["trials"]}
    head = ["rate", "expected", "said", "dynamics", "accuracy, %", "reason"]
    rows = [
        [
            format_rate(rate["lr"]), REFERENCE[rate["lr"]], rate["verdict"], dynamics[rate["lr"]],
            f"{100 * rate['evidence']['mean']:.2f}", rate["reason"],
        ]
        for rate in made["rates"]
    ]  # fmt: skip
    wrong = sum(rate["verdict"] != REFERENCE[rate["lr"]] for rate in made["rates"])
    provisional = made["recommendation"]["provisional"]
    said = f"marked provisional ({made['recommendation']['provisional_reason']})"
    return [
        *lines,
        *fragment.claims(
            [(wrong == 0 and provisional, "the reference study gets the expected words, and is provisional")]
        ),
        "",
        "1e-4, 1e-3 and 1e-2 on the reference CNN, one seed, five epochs:"
        f" {wrong} of 3 words wrong; {said if provisional else '**not** marked provisional'}.",
        "",
        *fragment.table(head, rows),
    ]


def main() -> None:
    """Train, test, judge, write the fragment; ``--analyse-only`` judges and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=fragment.cache() / "stability", help="where runs are stored")
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--analyse-only", action="store_true")
    parser.add_argument("--pages", type=Path, default=fragment.PAGES)
    options = parser.parse_args()
    options.pages.mkdir(parents=True, exist_ok=True)
    tests_path, scores_path = options.pages / "stability-range-tests.csv", options.pages / "stability-scores.csv"
    if not options.analyse_only:
        options.runs.mkdir(parents=True, exist_ok=True)
        try:
            range_tests(tests_path)
        except ImportError as error:
            print(f"stability: range tests skipped: {error}; pip install -e '.[peers]'", file=sys.stderr)
        train(options.runs)
    stored = read_csv(scores_path)
    made_now = scores_of_runs(options.runs)
    if len(made_now) > 0 and len(made_now) >= len(stored):
        fragment.write_csv(scores_path, made_now)
    if options.train_only:
        return
    scores, tests = read_csv(scores_path), read_csv(tests_path)
    if not scores:
        print("stability: skipped, neither runs nor scores are stored", file=sys.stderr)
        return
    lines = [
        "# Stability",
        "",
        "Made by `python benchmarks/stability.py`; picks and words made anew by `--analyse-only`.",
        "",
    ]
    rows: list[dict[str, Any]] = []
    for plan in PLANS:
        answer, source = answers(plan, options.runs, scores)
        if len(answer) > 1:
            part, made = section(plan, answer, source, scores, tests)
            lines, rows = lines + part, rows + made
    fragment.write("stability", [*lines, *reference(options.runs)], rows, options.pages)


if __name__ == "__main__":
    main()

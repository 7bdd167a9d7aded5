"""What a run, a comparison and a range test say, on the terminal. Reads results, and knows nothing of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from etude import baselines
from etude.notation import duration, format_rate, rate_text, time_text
from etude.result import Result
from etude.spec.budget import GRID
from etude.store import UNFINISHED, StoredTrial

if TYPE_CHECKING:
    from etude.analysis.compare import RunReading
    from etude.analysis.ranging import RangeTest
    from etude.analysis.scale import Scale
    from etude.comparison import Comparison
    from etude.searched import Searched

VERDICT_STYLES = {
    "good": "bold green", "too low": "blue", "too high": "yellow", "unstable": "yellow", "diverged": "red",
    "undetermined": "dim",
}  # fmt: skip


def print_result(console: Console, result: Result) -> None:
    """Print what a run says: its rates with verdicts, expected beside observed, the recommendation and what would sharpen it."""
    study = result.study

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=not console.is_terminal)

    console.print(
        Text(f"{study['name']}", style="bold") + Text(f": {_what(result)}, decided by {study_objective(result)}"),
        soft_wrap=not console.is_terminal,
    )
    console.print(Padding(_verdicts(result), (1, 0, 1, 0)))
    expected = [rate for rate in result.analysis["rates"] if rate["expected"]]
    if expected:
        console.print(_expectations(expected))
        console.print()
    answer = result.recommendation
    say(answer.conclusion)
    if answer.lr is not None:
        say(f"Margin: {result.analysis['margin_text']} counts as equal ({result.analysis['margin_source']}).")
    for line in result.analysis.get("summary", ()):
        say(line)
    if answer.provisional and answer.provisional_reason:
        say(f"Provisional: {answer.provisional_reason}.")
    if result.chosen_on_test_set:
        say(
            f"Chosen on {result.chosen_on_test_set}: held-out training data would be the cleaner judge "
            "(--holdout 5000 and another --out)."
        )
    for trial in result.judged:
        for test in trial.tests:
            if trial.lr == answer.lr and test.step == trial.step:
                values = ", ".join(f"{name} {value:.4f}" for name, value in test.metrics.items())
                say(f"On the test set, once: rate {rate_text(trial.lr)}, seed {trial.seed}: {values}.")
    failed = [trial for trial in result.stored.trials if trial.status == "failed"]
    for trial in failed[:3]:
        say(f"Failed: rate {rate_text(trial.lr)}, seed {trial.seed}: {result.reason(trial)}")
    if len(failed) > 3:
        say(f"… and {len(failed) - 3} more failed trials (etude show --json has them all).")
    if result.search is not None:
        for line in search_lines(result.search):
            say(line)
    for baseline in baselines.read(result):
        say(baseline.sentence)
    unfinished = [t for t in result.stored.trials if t.status in UNFINISHED and not result.is_paused(t)]
    if unfinished and not (result.searched and result.complete):
        counts = ", ".join(f"{count} {status}" for status, count in sorted(result.counts.items()))
        say(f"Not finished: {counts}.")
        for trial in unfinished[:3] if result.imported is not None else ():
            say(f"  rate {rate_text(trial.lr)}, seed {trial.seed}: {result.reason(trial)}")
        if result.imported is not None and len(unfinished) > 3:
            say(f"  … and {len(unfinished) - 3} more")
    others = len(result.stored.trials) - len(result.judged)
    if others:
        say(f"Also stored: {others} trial{'s' * (others != 1)} of another horizon.")
    for note in result.notes:
        say(note)
    if answer.next_command:
        say(f"Next, {answer.next_reason}:")
        console.print(
            f"  {answer.next_command}", highlight=False, markup=False, soft_wrap=True
        )  # a command is not broken
    elif answer.next_reason:
        say(f"Next, {answer.next_reason}.")


def search_lines(searched: Searched) -> list[str]:
    """Say how a search went: what was decided and why, what it cost, and why it ended."""
    lines = ["How the search went:"]
    for number, decision in enumerate(searched.stored.decisions, 1):
        if not decision.requests:
            continue
        rates = sorted({request["lr"] for request in decision.requests})
        shown = (
            f"{rate_text(rates[0])} to {rate_text(rates[-1])}" if len(rates) > 3 else ", ".join(map(rate_text, rates))
        )
        epochs = sorted({request["epochs"] for request in decision.requests})
        to = f"{epochs[0]:.3g}" if len(epochs) == 1 else f"{epochs[0]:.3g} to {epochs[-1]:.3g}"
        trials = len(decision.requests)
        lines += [
            f"  {number}. {decision.why}: {trials} trial{'s' * (trials != 1)} at {shown}, to {to} epoch{'s' * (epochs != [1])}"
        ]
    lines += [
        f"It cost {searched.trials:.3g} trials' worth of steps, {searched.share:.0%} of {GRID}, in "
        f"{duration(searched.stored.searched_s)}."
    ]
    lines += [f"It ended: {searched.ended}." if searched.ended else "It has not ended."]
    return lines


def _what(result: Result) -> str:
    """Say what was trained: recipe, horizon, how many rates and seeds; of curves from elsewhere what is known of it."""
    study = result.study
    lrs, seeds, n_trials = len(study["lrs"]), len(study["seeds"]), len(result.judged)
    said = []
    if result.is_own_loop:
        said += ["own loop"]
    elif result.imported is None:
        said += recipe_words(study["recipe"])
    if not result.unit:
        said += ["final values"]
    else:
        plural = result.imported is None or result.horizon != 1
        horizon = f"{result.horizon:,.0f}" if result.unit == "step" else f"{result.horizon:g}"
        said += [f"{horizon} {result.unit}{'s' * plural}"]
    rates = f"{lrs} rate{'s' * (lrs != 1)}"
    if result.searched:
        paused = sum(map(result.is_paused, result.judged))
        tried = len({trial.lr for trial in result.judged})
        said += [
            f"{tried} rate{'s' * (tried != 1)}",
            f"{n_trials} trials" + (f" ({paused} paused early)" if paused else ""),
        ]
    elif result.imported is None or n_trials == lrs * seeds:
        said += [f"{rates} × {seeds} seed{'s' * (seeds != 1)}"]
    else:  # not every rate has every seed
        said += [f"{rates}, {n_trials} trials"]
    return ", ".join(said)


def recipe_words(recipe: Mapping[str, Any]) -> list[str]:
    """Say what a recipe does, as far as it is not the usual thing: ``adam``, ``batch 4 × 64``, ``cosine after 5% warmup``."""
    size, parts = recipe["batch_size"], recipe.get("accumulate", 1)
    said = [recipe["optimizer"]]
    if recipe.get("weight_decay") is not None:
        said[0] += f" with weight decay {recipe['weight_decay']:g}"
    said += ["batches as the data make them" if size is None else f"batch {size}"]
    if parts > 1:
        said[-1] = f"{parts} × {said[-1]}"
    if schedule := schedule_words(recipe):
        said += [schedule]
    if recipe.get("clip_norm") is not None:
        said += [f"gradient norm up to {recipe['clip_norm']:g}"]
    if recipe.get("precision", "float32") != "float32":
        said += [recipe["precision"]]
    if recipe.get("average", "none") != "none":
        said += [f"{recipe['average']} of the weights"]
    return said


def schedule_words(recipe: Mapping[str, Any]) -> str:
    """Say ``cosine after a warmup of 5%``; nothing for a constant rate."""
    warmup = recipe.get("warmup") or 0
    after = "" if not warmup else f"warmup of {warmup if isinstance(warmup, str) else time_text(warmup, 'epoch')}"
    if recipe["schedule"] == "constant":
        return after
    return f"{recipe['schedule']} after a {after}" if after else f"{recipe['schedule']} schedule"


def study_objective(result: Result) -> str:
    """Write ``the largest val_accuracy``."""
    return (
        f"the {'largest' if result.objective['direction'] == 'maximize' else 'smallest'} {result.objective['metric']}"
    )


def _verdicts(result: Result) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    table.add_column("rate", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what happened")
    for rate in result.analysis["rates"]:
        chosen = rate["lr"] == result.recommendation.lr
        table.add_row(
            Text(rate_text(rate["lr"]), style="bold" if chosen else ""),
            Text(rate["verdict"], style=VERDICT_STYLES[rate["verdict"]]),
            Text(rate["reason"]),
        )
    return table


def _expectations(rates: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for name in ("rate", "expected", "observed", ""):
        table.add_column(name, justify="right" if name == "rate" else "left")
    for rate in rates:
        for i, part in enumerate(rate["expected"]["parts"]):
            table.add_row(rate_text(rate["lr"]) if i == 0 else "", *_part(part), part["outcome"])
    return table


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print runs beside each other: a row a run, what they differ in, and a sentence for each against the first."""

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=not console.is_terminal)

    metric, way = comparison.objective["metric"], comparison.objective["direction"]
    say(f"{len(comparison.runs)} runs, decided by the {'largest' if way == 'maximize' else 'smallest'} {metric}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    table.add_column("run", overflow="fold")
    words = metric.removeprefix("val_").replace("_", " ")
    rows = [_run_row(run, comparison.scale) for run in comparison.runs]
    names = ("rate", words, "seeds", "optimum, 95 %", "plateau", "sensitivity")
    shown = [i for i in range(len(names)) if any(row[i + 1] for row in rows)]  # what no run has gets no column
    for i in shown:
        table.add_column(names[i], justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row[0], *(row[i + 1] for i in shown))
    console.print(Padding(table, (1, 0, 1, 0)))
    for difference in comparison.differences:
        say(f"They differ in {difference}.", "dim")
    for pair in comparison.pairs:
        say(pair.sentence)
        if pair.sensitivity_sentence:
            say(pair.sensitivity_sentence)


def _run_row(run: RunReading, scale: Scale) -> tuple[str, ...]:
    level = "" if run.estimate is None else scale.text(run.estimate)
    if run.standard_error and level:
        error = scale.gap_text(run.standard_error).removesuffix(" points")
        level = f"{level.removesuffix(' %')} ± {error}{' %' if scale.kind == 'share' else ''}"
    interval = ""
    if run.interval is not None:
        low, high = (format_rate(float(f"{end:.2g}")) for end in run.interval)
        interval = (
            f"{'<' if 'low' in run.interval_open else ''}{low}..{'>' if 'high' in run.interval_open else ''}{high}"
        )
    sensitivity = "" if run.sensitivity is None else scale.gap_text(run.sensitivity[0]).removesuffix(" points")
    plateau = "" if run.plateau_decades is None else f"{run.plateau_decades:.1f} dec"
    rate = "none" if run.lr is None else rate_text(run.lr)
    return run.name, rate, level, str(run.n_seeds), interval, plateau, sensitivity


def print_range_test(console: Console, test: RangeTest) -> None:
    """Print what every rule picks, with its spread over seeds, the bracket, the cost, and what such a test cannot tell."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("rule")
    for heading in ("pick", "decades", "lowest", "highest"):
        table.add_column(heading, justify="right")
    for pick in test.picks:
        if pick.lr is None:
            table.add_row(pick.rule, "–", "", "", "", style="dim")
            continue
        ends = (rate_text(pick.low or pick.lr), rate_text(pick.high or pick.lr))
        table.add_row(pick.rule, rate_text(pick.lr), "–" if pick.spread is None else f"{pick.spread:.2f}", *ends)
    console.print(table)
    seeds, silent = len(test.seeds), [pick for pick in test.picks if pick.lr is None]
    over = f"the median over {seeds} seeds, and how far these lie apart" if seeds > 1 else "of one seed"
    lines = [f"Picks: {over}."]
    lines += [f"No pick from {', '.join(pick.rule for pick in silent)}: {silent[0].reason}."] if silent else []
    found = test.bracket
    if found.low is None or found.high is None:
        lines.append(f"No bracket: {found.reason}.")
    else:
        lines.append(f"Bracket: {rate_text(found.low)} to {rate_text(found.high)}; {found.reason}.")
    lines.append(f"Spent: {test.steps:,} steps, {test.share:.2g} trials to the horizon, {duration(test.wall_s)}.")
    lines.append(test.caution)
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def _part(part: dict[str, Any]) -> tuple[str, str]:
    if part["of"] == "verdict":
        return " or ".join(part["expected"]), part["observed"]
    low, high = part["expected"]
    observed = "nothing" if part["observed"] is None else f"{part['observed']:.4g}"
    return f"{part['of']} {low:g} to {high:g}", observed


def trial_rows(trials: tuple[StoredTrial, ...]) -> str:
    """Count trials by status, for the list of runs."""
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))

"""What a run, a comparison and a range test say, on the terminal. Reads results, and knows nothing of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from etude import baselines
from etude.notation import duration, format_rate, rate_text
from etude.present import words
from etude.result import Result
from etude.store import StoredTrial

if TYPE_CHECKING:
    from etude.analysis.compare import RunReading
    from etude.analysis.ranging import RangeTest
    from etude.analysis.scale import Scale
    from etude.comparison import Comparison

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
        Text(f"{study['name']}", style="bold")
        + Text(f": {words.what(result)}, decided by {words.study_objective(result)}"),
        soft_wrap=not console.is_terminal,
    )
    console.print(Padding(_verdicts(result), (1, 0, 1, 0)))
    expected = [rate for rate in result.analysis["rates"] if rate["expected"]]
    if expected:
        console.print(_expectations(result, expected))
        console.print()
    answer = result.recommendation
    say(answer.conclusion)
    if answer.lr is not None:
        say(f"Margin: {result.analysis['margin_text']} counts as equal ({result.analysis['margin_source']}).")
    for line in result.analysis.get("summary", ()):
        say(line)
    for line in (*words.provisional(result), *words.chosen_on(result), *words.tested(result), *words.failed(result)):
        say(line)
    if result.search is not None:
        for line in words.search_lines(result.search):
            say(line)
    for baseline in baselines.read(result):
        say(baseline.sentence)
    for line in (*words.unfinished(result), *words.other_horizons(result)):
        say(line)
    for note in result.notes:
        say(note)
    if answer.next_command:
        say(f"Next ({answer.next_reason}):")
        console.print(
            f"  {answer.next_command}", highlight=False, markup=False, soft_wrap=True
        )  # a command is not broken
    elif answer.next_reason:
        say(f"Next, {answer.next_reason}.")


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


def _expectations(result: Result, rates: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for name in ("rate", "expected", "observed", ""):
        table.add_column(name, justify="right" if name == "rate" else "left")
    for rate in rates:
        for i, part in enumerate(rate["expected"]["parts"]):
            table.add_row(rate_text(rate["lr"]) if i == 0 else "", *words.expectation(result, part), part["outcome"])
    return table


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print runs beside each other: a row a run, what they differ in, and a sentence for each against the first."""

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=not console.is_terminal)

    metric, way = comparison.objective["metric"], comparison.objective["direction"]
    say(f"{len(comparison.runs)} runs, decided by the {'largest' if way == 'maximize' else 'smallest'} {metric}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    table.add_column("run", overflow="fold")
    name = metric.removeprefix("val_").replace("_", " ")
    rows = [_run_row(run, comparison.scale) for run in comparison.runs]
    names = ("rate", name, "seeds", "optimum, 95 %", "plateau", "sensitivity")
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
    from etude.analysis.summary import NARROW  # and NumPy, without which `etude show` is quick

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
    width = run.plateau_decades
    plateau = "" if width is None else f"{width:.1f} dec" if width >= NARROW else "none"
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


def trial_rows(trials: tuple[StoredTrial, ...]) -> str:
    """Count trials by status, for the list of runs."""
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.status] = counts.get(trial.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))

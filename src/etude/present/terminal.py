"""The terminal: a live table while a study trains, plain lines where the output is no terminal, and what a run says."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from etude import baselines
from etude.notation import duration, format_rate, rate_text, time_text
from etude.result import Result
from etude.spec.budget import GRID, GRID_TRIALS
from etude.store import UNFINISHED, StoredTrial

if TYPE_CHECKING:
    from etude.analysis.compare import RunReading
    from etude.analysis.ranging import RangeTest
    from etude.analysis.scale import Scale
    from etude.comparison import Comparison
    from etude.events import Estimated, Event
    from etude.searched import Search, Searched
    from etude.spec.trial import Trial

SETTLING_S = 5.0  # before that the speed is not known well enough to tell the time left
VERDICT_STYLES = {
    "good": "bold green", "too low": "blue", "too high": "yellow", "unstable": "yellow", "diverged": "red",
    "undetermined": "dim",
}  # fmt: skip


@dataclass
class _Row:
    lr: float
    seed: int
    step: int
    end: int
    until: int  # how far it is carried for now
    status: str
    train_loss: float | None = None
    score: float | None = None
    epoch: float = 0.0
    speed: float = 0.0  # steps a second, training and evaluation together


@dataclass
class Progress:
    """Listens to a run's events. As a context it shows them: a live table on a terminal, else a line an evaluation."""

    console: Console
    quiet: bool = False
    rows: dict[Trial, _Row] = field(default_factory=dict)
    _live: Live | None = None
    _metric: str = ""
    _seeds: int = 1
    _workers: int = 1
    _began: float = 0.0
    _done_before: int = 0
    _wanted: frozenset[Trial] = frozenset()
    _search: Search | None = None
    _full_steps: float = 0.0  # of a trial to the horizon of a search
    _left_steps: float = 0.0  # that its budget buys still, at its last decision, when so many were done:
    _decided_at: int = 0
    _decision: str = ""
    _ends: float = math.inf  # when a limit of time is reached (time.monotonic())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        from etude.events import Advanced, Decided, Estimated, Failed, Started

        if self.quiet:
            return
        if isinstance(event, Estimated):
            self._estimate(event)
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Decided):
            self._decide(event)
        elif isinstance(event, Advanced):
            self._advance(event)
        elif isinstance(event, Failed):
            self.rows[event.trial].status = "failed"
            if self._live is None:
                self.console.print(
                    f"LR={event.trial.lr} | failed: {event.reason}", markup=False, highlight=False, soft_wrap=True
                )
        if self._live is not None:
            self._live.update(self.table())

    def _start(self, event: Any) -> None:
        study, console = event.study, self.console
        self._metric = study.objective.metric
        self._seeds, self._workers = len(study.seeds), event.plan.workers
        self._began = time.monotonic()
        self._hold(event.trials)
        self._done_before = self._decided_at = sum(row.step for row in self.rows.values())
        self._wanted = event.wanted
        if not event.wanted and self._search is None:
            console.print(f"{event.directory} is complete: nothing is left to train.", highlight=False, markup=False)
            return
        going = (
            "going on with" if event.resumed else "training" if self._search is None else "searching for the rate of"
        )
        trials = "" if self._search is not None else f", {len(event.wanted)} trial{'s' * (len(event.wanted) != 1)}"
        console.print(
            f"etude: {going} {study.name}{trials} into {event.directory} ({event.plan}: {event.plan.reason})",
            highlight=False, markup=False, soft_wrap=not console.is_terminal,
        )  # fmt: skip
        for notice in event.notices:
            console.print(notice, style="dim", highlight=False, markup=False, soft_wrap=not console.is_terminal)
        if console.is_terminal:
            self._live = Live(self.table(), console=console, refresh_per_second=4, transient=True)
            self._live.start()

    def _hold(self, trials: Iterable[StoredTrial]) -> None:
        """Have a row for each trial, as it is stored."""
        for t in trials:
            row = self.rows.get(t.trial)
            if row is None:
                row = self.rows[t.trial] = _Row(t.lr, t.seed, t.step, t.end_step, t.end_step, t.status)
                if t.evaluations:
                    self._take(row, t.evaluations[-1])
            row.end = t.end_step

    def _estimate(self, event: Estimated) -> None:
        self._search = event.search
        self._full_steps = event.search.epochs * event.epoch_s / event.step_s
        if event.search.budget.kind == "wall":
            self._ends = time.monotonic() + event.search.budget.amount - event.spent_s
        for line in estimate_lines(event):
            self.console.print(line, highlight=False, markup=False, soft_wrap=not self.console.is_terminal)

    def _decide(self, event: Any) -> None:
        self._hold(event.trials)
        self._wanted = event.wanted
        self._left_steps = event.left_trials * self._full_steps
        self._decided_at = sum(row.step for row in self.rows.values())
        self._decision = f"{event.number}. {event.why}"
        if self._live is None:
            self.console.print(
                f"Decision {event.number}: {event.why}{'' if event.wanted else ' (the search ends)'}",
                highlight=False, markup=False, soft_wrap=True,
            )  # fmt: skip

    def _advance(self, event: Any) -> None:
        row, history = self.rows[event.trial], event.history
        row.step, row.until = event.step, event.end_step
        row.status = "running"
        if history.diverged is not None:
            row.status = "diverged"
        elif row.step >= row.until:
            row.status = "completed" if row.step >= row.end else "paused"
        if history.wall_s > 0:
            row.speed = (history.last_step - history.first_step) / history.wall_s
        for e in history.evaluations:
            self._take(row, e)
            if self._live is None and e.step:
                self.console.print(self._plain(event.trial, e), highlight=False, markup=False, soft_wrap=True)
        if self._live is None and history.diverged is not None:
            self.console.print(
                f"LR={event.trial.lr} | the loss stopped being finite at step {history.diverged}",
                highlight=False, markup=False,
            )  # fmt: skip

    def _plain(self, trial: Trial, e: Any) -> str:
        seed = f" | seed {trial.seed}" if self._seeds > 1 else ""
        name = {"val_accuracy": "Acc", "val_loss": "Val loss"}.get(self._metric, self._metric)
        loss = math.nan if e.train_loss is None else e.train_loss
        score = e.metrics.get(self._metric, math.nan)
        return f"LR={trial.lr}{seed} | Epoch {e.epoch:.4g}: Loss={loss:.4f}, {name}={score:.4f}"

    def _take(self, row: _Row, e: Any) -> None:
        row.train_loss, row.score, row.epoch = e.train_loss, e.metrics.get(self._metric), e.epoch

    def table(self) -> Group:
        """Return the live table; on a small terminal the trials under way come first."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for name, justify in (("rate", "right"), ("seed", "right"), ("", "left"), ("epoch", "right"), ("loss", "right"),
                              (self._metric.removeprefix("val_").replace("_", " "), "right"), ("steps/s", "right"),
                              ("", "left")):  # fmt: skip
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        room = max(3, self.console.size.height - 5)
        rows = list(self.rows.values())
        shown = rows
        if len(rows) > room:
            order = {"running": 0, "failed": 1, "diverged": 2, "paused": 3, "pending": 4, "completed": 5}
            shown = sorted(rows, key=lambda row: order.get(row.status, 6))[: room - 1]
        for row in shown:
            table.add_row(
                rate_text(row.lr), str(row.seed), ProgressBar(total=row.end, completed=row.step, width=24),
                f"{row.epoch:.3g}", _number(row.train_loss), _number(row.score),
                f"{row.speed:.0f}" if row.speed and row.status == "running" else "", Text(row.status, style="dim"),
            )  # fmt: skip
        rest = [Text(f"… and {len(rows) - len(shown)} more", style="dim")] if len(shown) < len(rows) else []
        return Group(table, *rest, Text(self.summary(), style="bold"))

    def summary(self) -> str:
        """Say what is done, what is left, and the time left once the speed is known."""
        rows = self.rows.values()
        ended = [row for row in rows if row.status in ("completed", "diverged", "failed")]
        left: float = sum(
            row.until - row.step for trial, row in self.rows.items() if trial in self._wanted and row not in ended
        )
        done = sum(row.step for row in rows)
        elapsed = time.monotonic() - self._began
        if self._search is not None:
            return self._summary_of_search(done, elapsed)
        text = f"{len(ended)} of {len(self.rows)} trials done, {done:,} steps done, {left:,} left"
        if elapsed > SETTLING_S and done > self._done_before and left:
            text += f", about {duration(left * elapsed / (done - self._done_before))} to go"
        return text

    def _summary_of_search(self, done: int, elapsed: float) -> str:
        left = max(0.0, self._left_steps - (done - self._decided_at))
        text = f"{self._decision}; {done:,} steps done"
        if math.isfinite(self._ends):
            return f"{text}, {duration(max(0.0, self._ends - time.monotonic()))} left"
        if elapsed > SETTLING_S and done > self._done_before:
            text += f", at most {duration(left * elapsed / (done - self._done_before))} to go"
        return text


def estimate_lines(event: Estimated) -> list[str]:
    """Say what a search may take, before it begins."""
    search, budget = event.search, event.search.budget
    seeds = f"seeds {', '.join(map(str, search.seeds))}"
    if len(search.seeds) > 1 and search.seeds == tuple(range(search.seeds[0], search.seeds[-1] + 1)):
        seeds = f"seeds {search.seeds[0]} to {search.seeds[-1]}"
    elif len(search.seeds) == 1:
        seeds = f"seed {search.seeds[0]}"
    source = {"usual": ", as is usual for the optimizer", "range test": ", by a range test"}.get(
        search.range_source, ""
    )
    lines = [
        f"Rates from {format_rate(search.low)} to {format_rate(search.high)}{source}; {seeds}; to {search.epochs:g} epochs.",
        f"A step takes about {_short(event.step_s)}, an epoch {_short(event.epoch_s)}, a trial "
        f"{_short(event.epoch_s * search.epochs)}; its weights {max(1, round(event.disk_bytes / 1e6)):,} MB.",
    ]
    share = f"{event.trials / GRID_TRIALS:.0%} of {GRID}"
    bought = (
        f"about {event.trials:.3g} trials' worth of steps" if budget.kind == "wall" else f"{event.trials:.3g} trials'"
    )
    if budget.kind != "wall":
        bought += f" worth of steps, about {duration(event.seconds)}"
    workers = f" with {event.plan.workers} workers" if event.plan.workers > 1 else ""
    lines += [f"The budget ({budget}) buys {bought}{workers}: {share}."]
    if event.spent_trials:
        lines += [f"Of that {event.spent_trials:.3g} trials' worth are spent, in {duration(event.spent_s)}."]
    return lines


def baselines_line(event: Estimated, trials: float) -> str:
    """Say what the baselines beside a search take, in ``trials`` of its horizon; their steps take longer than its own, a bit."""
    names = " and ".join(method.name for method in baselines.METHODS)
    if not trials:
        return f"Beside it, {names} are trained already."
    seconds = event.seconds / event.trials * trials
    return f"Beside it, not of the budget: {names}, {trials:.3g} trials' worth of steps, about {duration(seconds)}."


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s" if seconds < 10 else duration(seconds)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}" if math.isfinite(value) else "not finite"


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

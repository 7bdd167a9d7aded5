"""What is shown while a study trains: a live table on a terminal, plain lines elsewhere; and what a search may take. Listens to
events, and knows nothing of results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from etude import baselines
from etude.notation import duration, format_rate, rate_text
from etude.spec.budget import GRID, GRID_TRIALS
from etude.store import StoredTrial

if TYPE_CHECKING:
    from etude.events import Estimated, Event
    from etude.searched import Search
    from etude.spec.trial import Trial

SETTLING_S = 5.0  # before that the speed is not known well enough to tell the time left


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

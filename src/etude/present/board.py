"""What is under way while a study trains: a row a trial, and what there is to say of all. Listens to events; knows neither who
draws it (terminal, notebook) nor results.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etude.notation import duration, format_rate, rate_text, score_text, share_text
from etude.spec.budget import GRID, GRID_TRIALS
from etude.store import StoredTrial

if TYPE_CHECKING:
    from etude.events import Advanced, Decided, Estimated, Event, Preparing, Started
    from etude.searched import Search
    from etude.spec.trial import Trial

SETTLING_S = 5.0  # before that the speed is not known well enough to tell the time left
_FIRST = {"running": 0, "failed": 1, "diverged": 2, "paused": 3, "pending": 4, "completed": 5}  # where not all rows fit


@dataclass
class Row:
    """A trial under way: ``step`` of ``end``, its last evaluation, and its speed."""

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
    reason: str = ""  # why it failed

    def cells(self) -> dict[str, str]:
        """Return what is written of it, under the names of `Board.columns`."""
        return {
            "rate": rate_text(self.lr), "seed": str(self.seed), "epoch": f"{self.epoch:.3g}", "loss": _number(self.train_loss),
            "score": _number(self.score), "steps/s": f"{self.speed:.0f}" if self.speed and self.status == "running" else "",
            "status": self.status,
        }  # fmt: skip


@dataclass
class Board:
    """Listens to a run's events, and holds what is under way."""

    rows: dict[Trial, Row] = field(default_factory=dict)
    metric: str = ""
    seeds: int = 1
    search: Search | None = None
    _began: float = 0.0
    _done_before: int = 0
    _wanted: frozenset[Trial] = frozenset()
    _full_steps: float = 0.0  # of a trial to the horizon of a search
    _left_steps: float = 0.0  # that its budget buys still, at its last decision, when so many were done:
    _decided_at: int = 0
    _decision: str = ""
    _ends: float = math.inf  # when a limit of time is reached (time.monotonic())
    _ended: bool = False

    def __call__(self, event: Event) -> None:
        """Take an event."""
        from etude.events import Advanced, Decided, Estimated, Failed, Started

        if isinstance(event, Estimated):
            self._estimate(event)
        elif isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Decided):
            self._decide(event)
        elif isinstance(event, Advanced):
            self._advance(event)
        elif isinstance(event, Failed):
            row = self.rows[event.trial]
            row.status, row.reason = "failed", event.reason

    def end(self) -> None:
        """Nothing is under way any more: what was still running has paused, and no time is left to tell."""
        self._ended = True
        for row in self.rows.values():
            if row.status == "running":
                row.status = "paused"

    def _estimate(self, event: Estimated) -> None:
        self.search = event.search
        self._full_steps = event.search.epochs * event.epoch_s / event.step_s
        if event.search.budget.kind == "wall":
            self._ends = time.monotonic() + event.search.budget.amount - event.spent_s

    def _start(self, event: Started) -> None:
        assert event.study.objective is not None
        self.metric = event.study.objective.metric
        self.seeds = len(event.study.seeds)
        self._began = time.monotonic()
        self._hold(event.trials)
        self._done_before = self._decided_at = self._done
        self._wanted = event.wanted

    def _hold(self, trials: Iterable[StoredTrial]) -> None:
        """Have a row for each trial, as it is stored."""
        for t in trials:
            row = self.rows.get(t.trial)
            if row is None:
                status = "paused" if t.status == "running" else t.status  # it is read as running because this run is
                row = self.rows[t.trial] = Row(t.lr, t.seed, t.step, t.end_step, t.end_step, status)
                if t.evaluations:
                    self._take(row, t.evaluations[-1])
            row.end = t.end_step

    def _decide(self, event: Decided) -> None:
        self._hold(event.trials)
        self._wanted = event.wanted
        self._left_steps = event.left_trials * self._full_steps
        self._decided_at = self._done
        self._decision = f"{event.number}. {event.why}"

    def _advance(self, event: Advanced) -> None:
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

    def _take(self, row: Row, e: Any) -> None:
        row.train_loss, row.score, row.epoch = e.train_loss, e.metrics.get(self.metric), e.epoch

    @property
    def _done(self) -> int:
        return sum(row.step for row in self.rows.values())

    def columns(self) -> dict[str, str]:
        """Return what heads each column of a table, from left to right; under "bar" belongs how far a trial is."""
        return {
            "rate": "rate", "seed": "seed", "bar": "", "epoch": "epoch", "loss": "loss",
            "score": self.metric.removeprefix("val_").replace("_", " "), "steps/s": "steps/s", "status": "",
        }  # fmt: skip

    def shown(self, room: int) -> tuple[list[Row], str]:
        """Return at most ``room`` rows, those under way first where not all fit, and what to say of the others."""
        rows = list(self.rows.values())
        if len(rows) <= room:
            return rows, ""
        return sorted(rows, key=lambda row: _FIRST.get(row.status, 6))[: room - 1], f"… and {len(rows) - room + 1} more"

    def summary(self) -> str:
        """Say what is done, what is left, and the time left once the speed is known."""
        rows = self.rows.values()
        ended = [row for row in rows if row.status in ("completed", "diverged", "failed")]
        left: float = sum(
            row.until - row.step for trial, row in self.rows.items() if trial in self._wanted and row not in ended
        )
        done = self._done
        elapsed = time.monotonic() - self._began
        if self.search is not None:
            return self._summary_of_search(done, elapsed)
        text = f"{len(ended)} of {len(self.rows)} trials done, {done:,} steps done, {left:,} left"
        if elapsed > SETTLING_S and done > self._done_before and left and not self._ended:
            text += f", about {duration(left * elapsed / (done - self._done_before))} to go"
        return text

    def _summary_of_search(self, done: int, elapsed: float) -> str:
        left = max(0.0, self._left_steps - (done - self._decided_at))
        text = f"{self._decision}; {done:,} steps done" if self._decision else f"{done:,} steps done"
        if self._ended:
            return text
        if math.isfinite(self._ends):
            return f"{text}, {duration(max(0.0, self._ends - time.monotonic()))} left"
        if elapsed > SETTLING_S and done > self._done_before:
            text += f", at most {duration(left * elapsed / (done - self._done_before))} to go"
        return text


def preparing_line(event: Preparing) -> str:
    """Say how long the task's code has been at work before training, and where it is."""
    return f"Preparing for {duration(event.seconds)}{f', now in {event.place}' if event.place else ''}."


def start_line(event: Started, *, searching: bool) -> str:
    """Say what begins, into which directory, and how."""
    if not event.wanted and not searching:
        return f"{event.directory} is complete: nothing is left to train."
    going = "going on with" if event.resumed else "searching for the rate of" if searching else "training"
    trials = "" if searching else f", {len(event.wanted)} trial{'s' * (len(event.wanted) != 1)}"
    return f"etude: {going} {event.study.name}{trials} into {event.directory} ({event.plan}: {event.plan.reason})"


def estimate_lines(event: Estimated) -> list[str]:
    """Say what a search may take, before it begins."""
    search, budget = event.search, event.search.budget
    seeds = f"seeds {', '.join(map(str, search.seeds))}"
    if len(search.seeds) > 1 and search.seeds == tuple(range(search.seeds[0], search.seeds[-1] + 1)):
        seeds = f"seeds {search.seeds[0]} to {search.seeds[-1]}"
    elif len(search.seeds) == 1:
        seeds = f"seed {search.seeds[0]}"
    # Of the usual range a range test says where to look first, which is a notice as the test is made.
    source = "" if search.range_source == "given" else ", as is usual for the optimizer"
    lines = [
        f"Rates from {format_rate(search.low)} to {format_rate(search.high)}{source}; {seeds}; to {search.epochs:g} epochs.",
        f"A step takes about {_short(event.step_s)}, an epoch {_short(event.epoch_s)}, a trial "
        f"{_short(event.epoch_s * search.epochs)}; its weights {max(1, round(event.disk_bytes / 1e6)):,} MB.",
    ]
    share = f"{share_text(event.trials / GRID_TRIALS)} of {GRID}"
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


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.2g} s" if seconds < 10 else duration(seconds)


def _number(value: float | None) -> str:
    return "" if value is None else score_text(value) if math.isfinite(value) else "not finite"

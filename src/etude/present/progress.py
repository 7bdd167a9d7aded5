"""What a terminal shows while a study trains: a live table, or plain lines where it is none. Draws a `Board`, and knows nothing of
results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from etude import baselines
from etude.notation import duration, score_text
from etude.present.board import Board, estimate_lines, preparing_line, start_line

if TYPE_CHECKING:
    from etude.events import Advanced, Estimated, Event, Started
    from etude.spec.trial import Trial


@dataclass
class Progress:
    """Listens to a run's events. As a context it shows them: a live table on a terminal, else a line an evaluation."""

    console: Console
    quiet: bool = False
    board: Board = field(default_factory=Board)
    _live: Live | None = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        from etude.events import Advanced, Decided, Estimated, Failed, Preparing, Started

        if self.quiet:
            return
        self.board(event)
        if isinstance(event, Estimated):
            for line in estimate_lines(event):
                self._say(line, soft_wrap=not self.console.is_terminal)
        elif isinstance(event, Preparing):
            self._say(preparing_line(event), style="dim")
        elif isinstance(event, Started):
            self._start(event)
        elif self._live is not None:
            self._live.update(self.table())
        elif isinstance(event, Decided):
            self._say(f"Decision {event.number}: {event.why}{'' if event.wanted else ' (the search ends)'}")
        elif isinstance(event, Advanced):
            self._advance(event)
        elif isinstance(event, Failed):
            self._say(f"LR={event.trial.lr} | failed: {event.reason}")

    def _say(self, line: str, *, soft_wrap: bool = True, style: str = "") -> None:
        self.console.print(line, style=style, markup=False, highlight=False, soft_wrap=soft_wrap)

    def _start(self, event: Started) -> None:
        searching = self.board.search is not None
        soft_wrap = not self.console.is_terminal
        self._say(start_line(event, searching=searching), soft_wrap=soft_wrap)
        if not event.wanted and not searching:
            return
        for notice in event.notices:
            self._say(notice, soft_wrap=soft_wrap, style="dim")
        if self.console.is_terminal:
            self._live = Live(self.table(), console=self.console, refresh_per_second=4, transient=True)
            self._live.start()

    def _advance(self, event: Advanced) -> None:
        for e in event.history.evaluations:
            if e.step:
                self._say(self._plain(event.trial, e))
        if event.history.diverged is not None:
            self._say(f"LR={event.trial.lr} | the loss stopped being finite at step {event.history.diverged}")

    def _plain(self, trial: Trial, e: Any) -> str:
        metric = self.board.metric
        seed = f" | seed {trial.seed}" if self.board.seeds > 1 else ""
        name = {"val_accuracy": "Acc", "val_loss": "Val loss"}.get(metric, metric)
        loss = math.nan if e.train_loss is None else e.train_loss
        score = e.metrics.get(metric, math.nan)
        return f"LR={trial.lr}{seed} | Epoch {e.epoch:.4g}: Loss={score_text(loss)}, {name}={score_text(score)}"

    def table(self) -> Group:
        """Return the live table; on a small terminal the trials under way come first."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for name, heading in self.board.columns().items():
            table.add_column(heading, justify="left" if name in ("bar", "status") else "right")
        rows, rest = self.board.shown(max(3, self.console.size.height - 5))
        for row in rows:
            cells: dict[str, RenderableType] = {
                **row.cells(),
                "bar": ProgressBar(total=row.end, completed=row.step, width=24),
                "status": Text(row.status, style="dim"),
            }
            table.add_row(*(cells[name] for name in self.board.columns()))
        return Group(table, *([Text(rest, style="dim")] if rest else []), Text(self.board.summary(), style="bold"))


def baselines_line(event: Estimated, trials: float) -> str:
    """Say what the baselines beside a search take, in ``trials`` of its horizon; their steps take longer than its own, a bit."""
    names = " and ".join(method.name for method in baselines.METHODS)
    if not trials:
        return f"Beside it, {names} are trained already."
    seconds = event.seconds / event.trials * trials
    return f"Beside it, not of the budget: {names}, {trials:.3g} trials' worth of steps, about {duration(seconds)}."

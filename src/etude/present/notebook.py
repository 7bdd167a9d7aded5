"""A live table in a notebook: HTML that shows itself while a study trains, and is updated in place. Draws a `Board`, as the
terminal does; IPython is used where it is there already, and never imported.
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from etude.present.board import Board, Row, estimate_lines, preparing_line, start_line

if TYPE_CHECKING:
    from etude.events import Event

PAUSE_S = 0.3  # between two updates: more often is not read, and each is a message that the page draws
ROOM = 40  # rows

# No colour but the page's own text colour, so that it reads on light and dark; doubled class, to win over a notebook's own rules.
STYLE = """
.live { font-variant-numeric: tabular-nums; line-height: 1.45; max-width: 100%; overflow-x: auto; }
.live p { margin: 0 0 .35em; }
.live :is(.quiet, th) { opacity: .68; }
.live table { border-collapse: collapse; border: 0; margin: .5em 0; font-size: inherit; table-layout: auto; width: auto; }
.live :is(th, td) { border: 0; padding: .1em 1.4em .1em 0; text-align: right; white-space: nowrap; }
.live th { font-weight: normal; border-bottom: 1px solid; }
.live .word { text-align: left; white-space: normal; }
.live td.word:last-child { min-width: 14em; }
.live .bar { display: block; position: relative; width: min(9em, 14vw); height: .5em; border-radius: .25em; overflow: hidden; }
.live .bar::before { content: ""; position: absolute; inset: 0; background: currentColor; opacity: .16; }
.live .bar i { display: block; height: 100%; background: currentColor; opacity: .62; }
""".replace(".live", ".etude-live.etude-live")


@contextmanager
def listening(on_event: Callable[[Any], None] | None) -> Iterator[Callable[[Any], None]]:
    """Give who listens to a run: ``on_event`` alone if there is one, else a live table in a notebook, and nobody elsewhere."""
    if on_event is not None or not in_kernel():
        yield on_event or (lambda _: None)
        return
    live = Live()
    try:
        yield live
    finally:
        live.end()


def in_kernel() -> bool:
    """Say whether this process is a notebook's kernel."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


@dataclass
class Live:
    """Listens to a run's events and shows them as one output of the cell, drawn at most every `PAUSE_S` seconds."""

    board: Board = field(default_factory=Board)
    head: str = ""
    notes: list[str] = field(default_factory=list)
    _display: Any = None  # IPython's handle of the output
    _drawn_s: float = -math.inf  # when (time.monotonic())

    def __call__(self, event: Event) -> None:
        """Take an event."""
        from etude.events import Estimated, Preparing, Started

        self.board(event)
        if isinstance(event, Estimated):
            self.notes += estimate_lines(event)
        elif isinstance(event, Preparing):
            self.head = preparing_line(event)
        elif isinstance(event, Started):
            self.head = start_line(event, searching=self.board.search is not None)
            self.notes += event.notices
        if time.monotonic() - self._drawn_s >= PAUSE_S:
            self._draw()

    def end(self) -> None:
        """Draw how it ended; a run that was refused before anything was said has shown nothing, and does not now."""
        self.board.end()
        if self._display is not None:
            self._draw()

    def _draw(self) -> None:
        shown = {
            "text/html": self.html(),
            "text/plain": "\n".join(filter(None, [self.head, *self.notes, self.board.summary()])),
        }
        if self._display is None:
            self._display = importlib.import_module("IPython.display").display(shown, raw=True, display_id=True)
        else:
            self._display.update(shown, raw=True)
        self._drawn_s = time.monotonic()

    def html(self) -> str:
        """Return what is shown now; all text is escaped."""
        columns = self.board.columns()
        rows, rest = self.board.shown(ROOM)
        head = "".join(f'<th scope="col"{_kind(name)}>{escape(title)}</th>' for name, title in columns.items())
        body = "\n".join(_line(row, columns) for row in rows)
        return "\n".join([
            f'<style>{STYLE}</style><div class="etude-live">',
            f"<p>{escape(self.head)}</p>" if self.head else "",
            *(f'<p class="quiet">{escape(line)}</p>' for line in self.notes),
            f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>" if rows else "",
            f'<p class="quiet">{escape(rest)}</p>' if rest else "",
            f"<p><b>{escape(self.board.summary())}</b></p>",
            "</div>",
        ])  # fmt: skip


def _line(row: Row, columns: dict[str, str]) -> str:
    share = row.step / row.end if row.end else 1.0
    bar = f'<span class="bar" title="{row.step:,} of {row.end:,} steps"><i style="width: {min(share, 1.0):.1%}"></i></span>'
    cells = {name: escape(text) for name, text in row.cells().items()} | {"bar": bar}
    if row.reason:
        cells["status"] += f": {escape(row.reason)}"
    return f"<tr>{''.join(f'<td{_kind(name)}>{cells[name]}</td>' for name in columns)}</tr>"


def _kind(name: str) -> str:
    return ' class="word"' if name in ("bar", "status") else ""

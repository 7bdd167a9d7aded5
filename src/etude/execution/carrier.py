"""Carries slices of trials out in this process, keeping the last session live. Every executor runs one or more of these."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from etude.engine.history import History
from etude.engine.session import Session, Setup, Uncut
from etude.errors import place_of, words_of
from etude.spec.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Carry ``trial`` on from ``step`` (``checkpoint``; None at step 0) until ``until_step``, or for ``seconds``."""

    trial: Trial
    step: int
    checkpoint: bytes | None
    until_step: int
    ends: frozenset[int]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a slice could not be carried out; failures of one ``kind`` are alike, on whatever batch they came about."""

    reason: str
    traceback: str
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a slice: history and checkpoint, or a failure. ``switch_s`` is the time spent on opening and packing."""

    work: Slice
    history: History | None = None
    checkpoint: bytes | None = None
    failure: Failure | None = None
    switch_s: float = 0.0


class Carrier:
    """Runs slices one after another. ``stop`` is asked after each step."""

    def __init__(self, setup: Setup, stop: Callable[[], bool]) -> None:
        self.setup, self.stop = setup, stop
        self.session: Session | None = None

    def carry(self, work: Slice) -> Outcome:
        """Carry a slice out. Whatever the trial's code raises becomes a failure; only an interrupt passes through."""
        try:
            began = time.perf_counter()
            session = self._session(work)
            opened = time.perf_counter()
            history = session.run(work.until_step, seconds=work.seconds, stop=self.stop)
            ran = time.perf_counter()
            checkpoint = session.checkpoint()
            switch_s = opened - began + time.perf_counter() - ran
            return Outcome(work=work, history=history, checkpoint=checkpoint, switch_s=switch_s)
        except Uncut:  # stopped where the trial cannot be cut: nothing to store
            self.session = None
            return Outcome(work=work)
        except Exception as error:  # noqa: BLE001 - a trial's code may raise anything, and the others go on
            self.session = None
            return Outcome(work=work, failure=failure_of(error, self.setup.task.made_at))

    def _session(self, work: Slice) -> Session:
        session = self.session
        if session is None or session.trial != work.trial or session.step != work.step:
            self.session = None  # free the old one before the new one is made
            self.session = session = Session.open(self.setup, work.trial, work.checkpoint, ends=work.ends)
        session.ends = work.ends  # a trial that was paused goes on with further ones
        return session


def failure_of(error: Exception, made_at: str | None = None) -> Failure:
    """Describe an exception in one line, and keep its traceback.

    The line has the notes that the engine gave it, and the innermost place in the user's code, or where the task was made
    for an error that a library raised at once.
    """
    place = place_of(error)
    where = f" ({place})" if place else f" (the task is made at {made_at})" if made_at else ""
    return Failure(
        reason=words_of(error) + where,
        kind=words_of(error, noted=False) + where,
        traceback="".join(traceback.format_exception(error)),
    )

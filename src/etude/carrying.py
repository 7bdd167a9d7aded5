"""Has trials carried on side by side, slice by slice, and commits what comes back. It does not know who asked for them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from etude.errors import TrainingError
from etude.events import Advanced, Event, Failed
from etude.execution import Executor
from etude.execution.carrier import Failure, Outcome, Slice
from etude.spec.trial import Trial
from etude.store import StoredTrial, Writer
from etude.watching import TICK_S, Watch

# A slice is this long, or longer where switching trials would cost more than a hundredth of it.
SLICE_S, SWITCH_SHARE = 2.0, 0.01


@dataclass
class Live:
    """A wanted trial on its way: how far it is in memory, and the checkpoint while it is not yet on disk."""

    stored: StoredTrial
    step: int
    until_step: int
    checkpoint: bytes | None = None
    ended: bool = False

    @classmethod
    def of(cls, stored: StoredTrial, until_step: int) -> Live:
        """Begin where the store has it."""
        return cls(stored, stored.step, until_step)

    @property
    def trial(self) -> Trial:
        """What it is a trial of."""
        return self.stored.trial

    @property
    def share(self) -> float:
        """How much of its way is done."""
        return self.step / self.until_step


def carry_all(
    writer: Writer, executor: Executor, wanted: list[Live], interrupted: threading.Event,
    on_event: Callable[[Event], None], watch: Watch | None = None, *, sound: bool = False,
) -> bool:  # fmt: skip
    """Carry all wanted trials to where they are to go, the least advanced first, or until interrupted or out of time.

    Returns whether all slices came back; those that did not are lost with their workers. Raises `TrainingError` when the
    first trials all fail alike, unless some training is known to be ``sound``.
    """
    by_trial = {one.trial: one for one in wanted}
    under_way: set[Trial] = set()
    failures: list[Failure] = []
    switch_s = math.inf  # the quickest seen: the first ones also import and warm up

    def give_work() -> None:
        waiting = [one for one in wanted if not one.ended and one.trial not in under_way]
        if watch is not None:
            waiting = [one for one in waiting if watch.may_begin(one.step, one.until_step)]
        waiting.sort(key=lambda one: (one.share, one.trial.seed, one.trial.lr))
        seconds = SLICE_S if math.isinf(switch_s) else max(SLICE_S, switch_s / SWITCH_SHARE)
        for one in waiting[: executor.slots - len(under_way)] if not interrupted.is_set() else ():
            work = _slice(writer, one, seconds if watch is None else min(seconds, max(0.0, watch.left_s)))
            executor.submit(work)
            under_way.add(one.trial)
            if watch is not None:
                watch.given(work)

    while True:
        give_work()
        if not under_way:
            return True
        outcomes = executor.wait(math.inf if watch is None else TICK_S)
        if watch is not None:
            watch.back(outcomes)
            if not watch.look():
                _store_all(writer, by_trial, outcomes, on_event)
                return under_way == {outcome.work.trial for outcome in outcomes}
        for outcome in outcomes:
            under_way.discard(outcome.work.trial)
            _note(by_trial[outcome.work.trial], outcome)
        switch_s = min([switch_s, *(outcome.switch_s for outcome in outcomes if outcome.history is not None)])
        failures += [outcome.failure for outcome in outcomes if outcome.failure is not None]
        sound |= any(by_trial[outcome.work.trial].ended and outcome.failure is None for outcome in outcomes)
        alike = len({failure.kind or failure.reason for failure in failures}) == 1
        if alike and not sound and len(failures) >= min(len(wanted), executor.slots + 1):
            _store_all(writer, by_trial, outcomes, on_event)
            raise TrainingError(
                f"the first {len(failures)} trials all failed alike, so the study stopped: {failures[0].reason}"
            )
        # The workers get new slices before these are committed, so that no core waits for the disk. A slice that starts
        # from an uncommitted checkpoint has it in hand.
        give_work()
        _store_all(writer, by_trial, outcomes, on_event)


def _slice(writer: Writer, one: Live, seconds: float) -> Slice:
    checkpoint = one.checkpoint
    if checkpoint is None and one.step:
        checkpoint = writer.load_checkpoint(one.stored)
    elif checkpoint is None and one.stored.checkpoint is not None:
        checkpoint = writer.load_checkpoint(one.stored)  # stopped within its first step
    return Slice(
        trial=one.trial,
        step=one.step,
        checkpoint=checkpoint,
        until_step=one.until_step,
        ends=frozenset(one.stored.ends),
        seconds=seconds,
    )


def _note(one: Live, outcome: Outcome) -> None:
    if outcome.failure is not None:
        one.ended = True
    elif outcome.history is not None:
        one.step, one.checkpoint = outcome.history.last_step, outcome.checkpoint
        one.ended = outcome.history.diverged is not None or one.step >= one.until_step


def _store_all(
    writer: Writer, by_trial: Mapping[Trial, Live], outcomes: list[Outcome], on_event: Callable[[Event], None]
) -> None:
    for outcome in outcomes:
        one = by_trial[outcome.work.trial]
        if outcome.failure is not None:
            writer.fail(one.stored, outcome.failure.reason, outcome.failure.traceback)
            on_event(Failed(trial=one.trial, reason=outcome.failure.reason))
        elif outcome.history is not None and outcome.checkpoint is not None:
            name = writer.commit(one.stored, one.trial.key, outcome.history, outcome.checkpoint)
            one.stored = dataclasses.replace(one.stored, step=outcome.history.last_step, checkpoint=name)
            one.checkpoint = None  # it is on disk now
            on_event(Advanced(trial=one.trial, step=one.stored.step, end_step=one.until_step, history=outcome.history))


@contextlib.contextmanager
def interruptible(executor: Executor) -> Iterator[threading.Event]:
    """Ctrl-C ends the slices under way after their current step, so that they can be stored; a second one does not wait."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def on_interrupt(*_: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        executor.stop()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)

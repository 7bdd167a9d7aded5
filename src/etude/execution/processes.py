"""Carries slices out in worker processes, each in a single-worker pool, so that a dead worker harms no other.

Tested on Linux, where workers come from a forkserver that has torch imported. Elsewhere they are spawned, and the
allocator is left alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch
import torch.multiprocessing  # registers how tensors in shared memory are handed over

from etude.engine.session import Setup
from etude.errors import SpecError, TrainingError
from etude.execution import T, memory, sharing
from etude.execution.carrier import Failure, Outcome, Slice
from etude.notation import duration
from etude.spec.trial import Trial

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
MOST_DEATHS = 3  # a slice whose worker died so often makes its trial fail


@dataclass
class _Worker:
    pool: ProcessPoolExecutor
    begun: Future[None]
    work: Slice | None = None
    future: Future[Outcome] | None = None
    live: tuple[Trial, int] | None = None  # the session that it holds in memory, and its step
    deaths: int = 0  # in the slice under way
    given_up: Failure | None = None  # why its process was ended, where it was on purpose


class Processes:
    """One worker process a slot, ``threads`` each."""

    def __init__(self, setup: Setup, *, workers: int, threads: int) -> None:
        self.slots = workers
        self.threads = threads
        self._payload = sharing.dump(setup)
        self._stop = torch.zeros(1, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
        self._stop_at = math.inf
        self._context = multiprocessing.get_context(METHOD)
        warm()
        self._workers: list[_Worker] = []
        try:
            for _ in range(workers):
                with _interrupt_held_back():  # a worker that is asked for and not noted could not be ended
                    self._workers.append(self._start())
            self._check_received(self._workers[0])
        except BaseException:
            self.close(kill=True)
            raise

    def aside(self, work: Callable[[Setup], T], seconds: float) -> T:
        """Have ``work`` done by the first worker; one that is late is killed, as with a slice, and replaced."""
        from etude.execution import worker

        one = self._workers[0]
        future = one.pool.submit(worker.aside, work)
        if not wait([future], timeout=None if math.isinf(seconds) else seconds).done:
            _kill(one.pool)
            self._replace(one)
            raise TrainingError(f"it was not done after {duration(seconds)}, and its process was ended")
        try:
            return future.result()
        except BrokenProcessPool:
            self._replace(one)
            raise TrainingError("its worker process died") from None

    def submit(self, work: Slice) -> None:
        """Give the slice to a free worker, to the one that has the trial live if it is free."""
        free = [one for one in self._workers if one.future is None]
        chosen = next((one for one in free if one.live == (work.trial, work.step)), free[0])
        self._give(chosen, work)

    def wait(self, timeout: float = math.inf) -> list[Outcome]:
        """Block until a slice is done. A worker that died is replaced and its slice repeated from its checkpoint."""
        outcomes: list[Outcome] = []
        until = time.monotonic() + timeout
        while not outcomes:
            busy = [one for one in self._workers if one.future is not None]
            now = time.monotonic()
            if not busy or now > until:
                return []
            if now >= self._stop_at:
                self.stop()
            next_s = min(until, self._stop_at if now < self._stop_at else math.inf) - now
            done, _ = wait(
                [one.future for one in busy if one.future is not None],
                timeout=None if math.isinf(next_s) else next_s,
                return_when=FIRST_COMPLETED,
            )
            for one in busy:
                if one.future in done and (outcome := self._collect(one)) is not None:
                    outcomes.append(outcome)
        return outcomes

    def stop(self) -> None:
        """End the slices under way after their current step."""
        self._stop[0] = 1

    def stop_at(self, moment: float) -> None:
        """Do that at a time; `wait` looks at the clock."""
        self._stop_at = moment

    def give_up(self, trial: Trial, failure: Failure) -> None:
        """Kill the worker that has the trial; it is replaced, and `wait` returns the slice with the failure."""
        for one in self._workers:
            if one.work is not None and one.work.trial == trial:
                one.given_up = failure
                _kill(one.pool)

    def held(self) -> dict[Trial, int]:
        """Return the bytes that each worker with a slice holds for itself, once it has started."""
        return {
            one.work.trial: sum(memory.held_bytes(pid) for pid in (one.pool._processes or {}))
            for one in self._workers
            if one.work is not None and one.begun.done()
        }

    def close(self, *, kill: bool = False) -> None:
        """End all workers and wait until they are gone."""
        self.stop()
        for one in self._workers:
            if kill:
                _kill(one.pool)
            one.pool.shutdown(wait=True, cancel_futures=True)
        self._workers = []

    def _give(self, one: _Worker, work: Slice) -> None:
        one.work = work
        sent = dataclasses.replace(work, checkpoint=None) if one.live == (work.trial, work.step) else work
        from etude.execution import worker

        try:
            one.future = one.pool.submit(worker.carry, sent)
        except BrokenProcessPool:  # it died while idle
            self._replace(one)
            one.future = one.pool.submit(worker.carry, work)

    def _collect(self, one: _Worker) -> Outcome | None:
        work, future = one.work, one.future
        assert work is not None
        assert future is not None
        one.work = one.future = None
        try:
            outcome = future.result()
        except BrokenProcessPool:
            return self._after_death(one, work)
        except Exception:
            self._check_received(one)
            raise
        one.deaths, one.given_up = 0, None
        one.live = None
        if outcome.history is not None:
            one.live = (work.trial, outcome.history.last_step)
        return dataclasses.replace(outcome, work=work)

    def _check_received(self, one: _Worker) -> None:
        """Wait until a worker has the task. Raises `SpecError` for one that it cannot take in."""
        try:
            one.begun.result()
        except BrokenProcessPool:
            return  # it is replaced when it is given work
        except Exception as error:
            raise SpecError(
                f"study.task: cannot be received by a worker process ({type(error).__name__}: {error}); "
                "use executor='inline', or define it in a module that can be imported"
            ) from error

    def _after_death(self, one: _Worker, work: Slice) -> Outcome | None:
        deaths, given_up = one.deaths + 1, one.given_up
        self._replace(one)
        one.deaths, one.given_up = deaths, None
        if given_up is not None:
            one.deaths = 0
            return Outcome(work=work, failure=given_up)
        if bool(self._stop[0]):  # nobody waits for the slice any more
            return Outcome(work=work)
        if deaths < MOST_DEATHS:
            self._give(one, work)
            return None
        one.deaths = 0
        reason = (
            f"its worker process died {deaths} times between steps {work.step} and {work.until_step} "
            "(killed from outside, out of memory, or a crash in native code)"
        )
        return Outcome(work=work, failure=Failure(reason=reason, traceback=""))

    def _replace(self, one: _Worker) -> None:
        one.pool.shutdown(wait=True, cancel_futures=True)
        fresh = self._start()
        one.pool, one.begun, one.live = fresh.pool, fresh.begun, None

    def _start(self) -> _Worker:
        from etude.execution import worker  # imports what only a worker needs; the forkserver has it by now

        pool = ProcessPoolExecutor(
            max_workers=1, mp_context=self._context, initializer=worker.prepare, initargs=(self.threads,)
        )
        with _main_left_alone():
            begun = pool.submit(worker.begin, *self._payload, self._stop)
        return _Worker(pool=pool, begun=begun)


@contextlib.contextmanager
def _main_left_alone() -> Iterator[None]:
    """Keep multiprocessing from importing the caller's script in the worker: cloudpickle brings what is needed of it.

    So a script needs no ``if __name__ == "__main__"`` guard, and a notebook has nothing to import.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Have Ctrl-C wait until the end of the block; a second one does not wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = threading.Event()

    def on_interrupt(*_: object) -> None:
        if came.is_set():
            raise KeyboardInterrupt
        came.set()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came.is_set():
        signal.raise_signal(signal.SIGINT)


def warm() -> None:
    """Let the forkserver start importing torch now, while this process prepares the data. It ends with this process.

    It begins with SIGINT held back: a terminal sends Ctrl-C to it, too, and until its imports are done it would write where it
    was. This process gets what came in between when it no longer holds it back.
    """
    if METHOD == "forkserver":
        multiprocessing.set_forkserver_preload(["etude.execution.worker"])
        multiprocessing.resource_tracker.ensure_running()  # it is started first, and lets SIGINT through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()

"""The joint: has what is missing of a study carried out and committed, and tells what happens; then judges it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from etude import commands, store
from etude.carrying import Live, carry_all, interruptible
from etude.engine.session import Session
from etude.errors import Interrupted, SpecError, place_within
from etude.events import Event, Preparing, Started
from etude.execution import Executor, plan
from etude.execution.plan import Plan
from etude.preparation import Carry, Prepared, by_trial, prepare
from etude.result import ANALYSIS_VERSION, Result
from etude.spec.study import Study
from etude.store import Writer

SLOW_S = 10.0  # from which on it is told that preparing takes long, and again after twice as long


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take: trials and steps still to train, seconds on the planned machine, bytes on disk.

    ``disk_bytes`` is the most while it trains, with the weights of all trials; ``kept_bytes`` what stays.
    """

    trials: int
    steps: int
    seconds: float
    disk_bytes: int
    kept_bytes: int
    plan: Plan
    complete_trials: int


def run(
    study: Study, directory: str | Path | None = None, *, executor: str = "auto", workers: int | None = None,
    device: str = "auto", on_event: Callable[[Event], None] = lambda _: None, carry: Carry = "study",
) -> Result:  # fmt: skip
    """Train what is missing of ``study`` in the run directory (``runs/NAME``) and return the result.

    ``carry`` says what: the ``study``; the ``unfinished`` trials that were asked for earlier, whatever the study lists; or
    ``both``.

    With ``executor="auto"`` a task that cannot be taken to other processes is trained in this one, and a notice says so.

    Raises `SpecError` and its kin before anything is stored, `Interrupted` after Ctrl-C with the state kept,
    `TrainingError` when the first trials all fail alike, `DiskError` when the disk refuses a write.
    """
    directory = study.place(directory)
    plan.check(executor, workers)
    with told_what_is_kept(directory), Writer(directory) as writer, contextlib.ExitStack() as open_:
        if executor != "inline" and len(study.trials()) > 1 and plan.cores() > 1:
            plan.warm(device)
        with told_if_slow(on_event):
            prepared = prepare(study, directory, executor, workers, device, carry)
        # Before anything is stored, so that a task which cannot be taken to a worker process leaves nothing behind.
        carrying = open_.enter_context(started(prepared, executor)) if prepared.requests else None
        # All that is asked for is noted, also where nothing is left to train: the horizon follows from it.
        asked = {} if carry == "unfinished" else dict.fromkeys(study.trials(), study.epochs)
        asked |= {request.trial: request.epochs for request in prepared.requests}
        writer.begin(
            prepared.written(),
            prepared.identity,
            prepared.environment(),
            prepared.seeds,
            [(t.lr, t.seed, t.horizon, epochs, prepared.setup.steps(epochs)) for t, epochs in asked.items()],
        )
        try:
            interrupted = _train(writer, prepared, carrying, on_event)
        except KeyboardInterrupt:  # a second one, which does not wait
            interrupted = True
        if interrupted:
            raise Interrupted(stopped(prepared, executor, workers, device))
        open_.close()
        conclude(writer, prepared)
    return Result.load(directory, made_by=study)


def estimate(
    study: Study, directory: str | Path | None = None, *, executor: str = "auto", workers: int | None = None,
    device: str = "auto", carry: Carry = "study",
) -> Estimate:  # fmt: skip
    """Return what `run` would take, from a rehearsal of two steps; nothing is stored."""
    plan.check(executor, workers)
    prepared = prepare(study, study.place(directory), executor, workers, device, carry)
    return Estimate(
        trials=len(prepared.requests),
        steps=prepared.steps,
        seconds=prepared.seconds / max(1, min(prepared.plan.workers, len(prepared.requests), plan.cores())),
        disk_bytes=prepared.weights_bytes + 12 * prepared.steps,
        kept_bytes=prepared.kept_bytes + 12 * prepared.steps,
        plan=prepared.plan,
        complete_trials=len({*study.trials()} - {request.trial for request in prepared.requests}),
    )


@contextlib.contextmanager
def told_if_slow(on_event: Callable[[Event], None]) -> Iterator[None]:
    """Have it told where the task's code is when preparing takes long: it may hang, and nobody ends it but the user."""
    done, thread, within = threading.Event(), threading.get_ident(), prepare.__code__.co_filename

    def tell() -> None:
        wait_s = seconds = SLOW_S
        while not done.wait(wait_s):
            on_event(Preparing(seconds=seconds, place=place_within(sys._current_frames().get(thread), within)))
            wait_s, seconds = seconds, 2 * seconds

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


@contextlib.contextmanager
def told_what_is_kept(directory: Path) -> Iterator[None]:
    """Have Ctrl-C before training has begun, or after it, say what is kept, where the directory has something."""
    try:
        yield
    except KeyboardInterrupt:
        if not store.exists(directory):
            raise
        raise Interrupted(
            f"stopped; what was trained is stored in {directory}. To go on, give the same command again"
        ) from None


@contextlib.contextmanager
def started(prepared: Prepared, asked: str) -> Iterator[Executor]:
    """Start the executor that the plan names, and end it; what it has under way is waited for where all went well.

    Where nobody ``asked`` for processes, a task that cannot be taken to them is trained here, and that is said.
    """
    try:
        executor = plan.make(prepared.plan, prepared.setup)
    except SpecError as error:
        if asked != "auto":
            raise
        inline = plan.choose("inline", None, prepared.plan.device, n_trials=1, seconds=0.0)
        prepared.plan = dataclasses.replace(inline, reason="the task cannot be taken to other processes")
        why = str(error).partition("; use executor='inline'")[0]
        prepared.notices.append(f"{why}; so trials are trained one at a time in this process.")
        executor = plan.make(prepared.plan, prepared.setup)
    sound = False
    try:
        yield executor
        sound = True
    finally:
        executor.close(kill=not sound)


def _train(writer: Writer, prepared: Prepared, executor: Executor | None, on_event: Callable[[Event], None]) -> bool:
    """Carry the wanted trials on; return whether Ctrl-C ended it early."""
    directory = prepared.directory
    stored = store.read(directory)
    known = by_trial(stored)
    wanted = [Live.of(known[request.trial], prepared.setup.steps(request.epochs)) for request in prepared.requests]
    on_event(
        Started(
            directory=directory,
            study=prepared.study,
            plan=prepared.plan,
            trials=stored.trials,
            wanted=frozenset(one.trial for one in wanted),
            resumed=prepared.stored is not None,
            notices=tuple(prepared.notices),
        )
    )
    if executor is None:
        return False
    with interruptible(executor) as interrupted:
        carry_all(writer, executor, wanted, interrupted, on_event)
    if interrupted.is_set():
        writer.save_analysis(ANALYSIS_VERSION, Result.load(directory).analysis)
    return interrupted.is_set()


def conclude(writer: Writer, prepared: Prepared) -> None:
    """Judge what is stored; where all is trained evaluate the test set, and remove the weights that are not kept."""
    result = Result.load(prepared.directory)
    writer.save_analysis(ANALYSIS_VERSION, result.analysis)
    if not result.complete:
        return
    if prepared.setup.task.test is not None and result.recommendation.lr is not None:
        _test(writer, prepared, result)
        writer.save_analysis(ANALYSIS_VERSION, Result.load(prepared.directory).analysis)
    kept = {"all": None, "best": result.recommendation.lr, "none": math.nan}[prepared.study.keep]
    if kept is not None:
        writer.let_go([trial for trial in result.stored.trials if trial.lr != kept])


def stopped(
    prepared: Prepared, executor: str, workers: int | None, device: str, method: str = "run"
) -> str:  # fmt: skip
    """Say what was kept, and the command that goes on; ``method`` is that of a study in Python."""
    study = prepared.study
    by_name = isinstance(study.task, str) and study.recipe.is_named
    if by_name or study.source:
        command = commands.resume(
            prepared.directory, "" if by_name else study.source, executor=executor if executor != "auto" else None,
            workers=workers, device=device if device != "auto" else None,
        )  # fmt: skip
    else:
        command = f"study.{method}({str(prepared.directory)!r})"
    return f"stopped; what was trained is stored in {prepared.directory}. To go on: {command}"


def _test(writer: Writer, prepared: Prepared, result: Result) -> None:
    """Evaluate the recommended rate's trials on the test set: once each, at the horizon, after the choice."""
    setup = prepared.setup
    for stored in result.judged:
        if stored.lr != result.recommendation.lr or stored.step != setup.steps(result.horizon):
            continue  # a rate carried beyond the horizon is tested nowhere: its weights at the horizon are gone
        if any(one.step == stored.step for one in stored.tests):
            continue
        checkpoint = writer.load_checkpoint(stored)
        if checkpoint is None:
            continue  # its weights were not kept
        session = Session.open(setup, stored.trial, checkpoint)
        session.trained()
        writer.save_test(stored, *session.evaluate(setup.task.test.to(session.device), "test_"))

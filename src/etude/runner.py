"""The joint: asks the searcher, has slices carried out, commits them, and tells what happens. Nothing else knows all three."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shlex
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from etude import store
from etude.engine.history import History
from etude.engine.session import Session, Setup
from etude.errors import Interrupted, SpecError, TrainingError
from etude.execution import Executor, plan
from etude.execution.carrier import Failure, Outcome, Slice
from etude.execution.plan import Plan
from etude.preparation import Carry, Prepared, by_trial, prepare
from etude.result import ANALYSIS_VERSION, Result
from etude.spec.study import Study
from etude.spec.trial import Trial
from etude.store import StoredTrial, Writer

# A slice is this long, or longer where switching trials would cost more than a hundredth of it.
SLICE_S, SWITCH_SHARE = 2.0, 0.01


@dataclass(frozen=True, kw_only=True)
class Started:
    """Training begins; of all ``trials``, ``wanted`` are carried on (maybe none). ``notices`` are worth a line each."""

    directory: Path
    study: Study
    plan: Plan
    trials: tuple[StoredTrial, ...]
    wanted: frozenset[Trial]
    resumed: bool
    notices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """A slice of a trial has been committed."""

    trial: Trial
    step: int
    end_step: int
    history: History


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A trial's code raised; the others go on."""

    trial: Trial
    reason: str


Event = Started | Advanced | Failed


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


@dataclass
class _Live:
    """A wanted trial on its way: how far it is in memory, and the checkpoint while it is not yet on disk."""

    trial: Trial
    stored: StoredTrial
    step: int
    until_step: int
    checkpoint: bytes | None = None
    ended: bool = False

    @property
    def share(self) -> float:
        return self.step / self.until_step


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
    directory = _place(study, directory)
    plan.check(executor, workers)
    if executor != "inline" and len(study.trials()) > 1 and plan.cores() > 1:
        plan.warm(device)
    with Writer(directory) as writer, contextlib.ExitStack() as open_:
        prepared = prepare(study, directory, executor, workers, device, carry)
        # Before anything is stored, so that a task which cannot be taken to a worker process leaves nothing behind.
        carrying = open_.enter_context(_executor(prepared, executor)) if prepared.requests else None
        # All that is asked for is noted, also where nothing is left to train: the horizon follows from it.
        asked = {} if carry == "unfinished" else dict.fromkeys(study.trials(), study.epochs)
        asked |= {request.trial: request.epochs for request in prepared.requests}
        writer.begin(
            {**prepared.merged.to_dict(), **prepared.samples()},
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
            raise Interrupted(_stopped(prepared, executor, workers, device))
        open_.close()
        result = Result.load(directory)
        writer.save_analysis(ANALYSIS_VERSION, result.analysis)
        if prepared.setup.task.test is not None and result.recommendation.lr is not None and result.complete:
            _test(writer, prepared.setup, result)
            writer.save_analysis(ANALYSIS_VERSION, Result.load(directory).analysis)
        if result.complete:
            _let_go(writer, study, result)
    return Result.load(directory, made_by=study)


def estimate(
    study: Study, directory: str | Path | None = None, *, executor: str = "auto", workers: int | None = None,
    device: str = "auto", carry: Carry = "study",
) -> Estimate:  # fmt: skip
    """Return what `run` would take, from a rehearsal of two steps; nothing is stored."""
    plan.check(executor, workers)
    prepared = prepare(study, _place(study, directory), executor, workers, device, carry)
    return Estimate(
        trials=len(prepared.requests),
        steps=prepared.steps,
        seconds=prepared.seconds / max(1, min(prepared.plan.workers, len(prepared.requests), plan.cores())),
        disk_bytes=prepared.weights_bytes + 12 * prepared.steps,
        kept_bytes=prepared.kept_bytes + 12 * prepared.steps,
        plan=prepared.plan,
        complete_trials=len({*study.trials()} - {request.trial for request in prepared.requests}),
    )


def _place(study: Study, directory: str | Path | None) -> Path:
    return Path("runs") / study.name if directory is None else Path(directory)


@contextlib.contextmanager
def _executor(prepared: Prepared, asked: str) -> Iterator[Executor]:
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
    wanted = [
        _Live(request.trial, known[request.trial], known[request.trial].step, prepared.setup.steps(request.epochs))
        for request in prepared.requests
    ]
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
    with _interruptible(executor) as interrupted:
        _carry_all(writer, executor, wanted, interrupted, on_event)
    if interrupted.is_set():
        writer.save_analysis(ANALYSIS_VERSION, Result.load(directory).analysis)
    return interrupted.is_set()


def _stopped(prepared: Prepared, executor: str, workers: int | None, device: str) -> str:
    study = prepared.study
    by_name = isinstance(study.task, str) and study.recipe.is_named
    if by_name or study.source:
        words = ["etude", "resume", str(prepared.directory)]
        words += ["--study", study.source] if not by_name else []
        words += ["--executor", executor] if executor != "auto" else []
        words += ["--workers", str(workers)] if workers is not None else []
        words += ["--device", device] if device != "auto" else []
        command = shlex.join(words)
    else:
        command = f"study.run({str(prepared.directory)!r})"
    return f"stopped; what was trained is stored in {prepared.directory}. To go on: {command}"


def _carry_all(
    writer: Writer, executor: Executor, wanted: list[_Live], interrupted: threading.Event,
    on_event: Callable[[Event], None],
) -> None:  # fmt: skip
    by_trial = {one.trial: one for one in wanted}
    under_way: set[Trial] = set()
    failures: list[Failure] = []
    any_sound = False
    switch_s = math.inf  # the quickest seen: the first ones also import and warm up

    def give_work() -> None:
        waiting = [one for one in wanted if not one.ended and one.trial not in under_way]
        waiting.sort(key=lambda one: (one.share, one.trial.seed, one.trial.lr))
        for one in waiting[: executor.slots - len(under_way)] if not interrupted.is_set() else ():
            executor.submit(
                _slice(writer, one, SLICE_S if math.isinf(switch_s) else max(SLICE_S, switch_s / SWITCH_SHARE))
            )
            under_way.add(one.trial)

    while True:
        give_work()
        if not under_way:
            return
        outcomes = executor.wait()
        for outcome in outcomes:
            under_way.discard(outcome.work.trial)
            _note(by_trial[outcome.work.trial], outcome)
        switch_s = min([switch_s, *(outcome.switch_s for outcome in outcomes if outcome.history is not None)])
        failures += [outcome.failure for outcome in outcomes if outcome.failure is not None]
        any_sound |= any(by_trial[outcome.work.trial].ended and outcome.failure is None for outcome in outcomes)
        alike = len({failure.kind or failure.reason for failure in failures}) == 1
        if alike and not any_sound and len(failures) >= min(len(wanted), executor.slots + 1):
            _store_all(writer, by_trial, outcomes, on_event)
            raise TrainingError(
                f"the first {len(failures)} trials all failed alike, so the study stopped: {failures[0].reason}"
            )
        # The workers get new slices before these are committed, so that no core waits for the disk. A slice that starts
        # from an uncommitted checkpoint has it in hand.
        give_work()
        _store_all(writer, by_trial, outcomes, on_event)


def _slice(writer: Writer, one: _Live, seconds: float) -> Slice:
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


def _note(one: _Live, outcome: Outcome) -> None:
    if outcome.failure is not None:
        one.ended = True
    elif outcome.history is not None:
        one.step, one.checkpoint = outcome.history.last_step, outcome.checkpoint
        one.ended = outcome.history.diverged is not None or one.step >= one.until_step


def _store_all(
    writer: Writer, by_trial: Mapping[Trial, _Live], outcomes: list[Outcome], on_event: Callable[[Event], None]
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
def _interruptible(executor: Executor) -> Iterator[threading.Event]:
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


def _test(writer: Writer, setup: Setup, result: Result) -> None:
    """Evaluate the recommended rate's trials on the test set: once each, at the horizon, after the choice."""
    for stored in result.judged:
        if stored.lr != result.recommendation.lr or stored.step != setup.steps(result.horizon):
            continue  # a rate carried beyond the horizon is tested nowhere: its weights at the horizon are gone
        if any(one.step == stored.step for one in stored.tests):
            continue
        trial = Trial(lr=stored.lr, seed=stored.seed, horizon=stored.horizon)
        checkpoint = writer.load_checkpoint(stored)
        if checkpoint is None:
            continue  # its weights were not kept
        session = Session.open(setup, trial, checkpoint)
        session.trained()
        writer.save_test(stored, *session.evaluate(setup.task.test.to(session.device), "test_"))


def _let_go(writer: Writer, study: Study, result: Result) -> None:
    """Remove the weights that the study does not keep."""
    kept = {"all": None, "best": result.recommendation.lr, "none": math.nan}[study.keep]
    if kept is not None:
        writer.let_go([trial for trial in result.stored.trials if trial.lr != kept])

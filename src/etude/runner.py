"""The joint: asks the searcher, has slices carried out, commits them, and tells what happens. Nothing else knows all three."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import platform
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from etude import store
from etude.engine import rehearsal
from etude.engine.history import History
from etude.engine.rehearsal import Rehearsal
from etude.engine.session import Session, Setup
from etude.errors import EtudeError, Interrupted, SpecError, StoreError, TrainingError, nearest
from etude.execution import Executor, plan
from etude.execution.carrier import Failure, Outcome, Slice, failure_of
from etude.execution.plan import Plan
from etude.notation import format_rate
from etude.result import ANALYSIS_VERSION, Result
from etude.search import Request, Standing, grid
from etude.spec import identity
from etude.spec.study import Study
from etude.spec.trial import Trial
from etude.store import Stored, StoredTrial, Writer

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
Carry = Literal["study", "unfinished", "both"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run would take: trials and steps still to train, seconds on the planned machine, bytes on disk."""

    trials: int
    steps: int
    seconds: float
    disk_bytes: int
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


@dataclass
class _Prepared:
    """All that is known of a run before anything is trained or stored."""

    study: Study
    directory: Path
    setup: Setup
    stored: Stored | None
    identity: dict[str, Any]
    seeds: dict[int, tuple[str, float]]
    requests: list[Request]
    rehearsal: Rehearsal | None
    plan: Plan
    notices: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        known = _by_trial(self.stored)
        return sum(
            self.setup.steps(request.epochs) - (known[request.trial].step if request.trial in known else 0)
            for request in self.requests
        )


def run(
    study: Study, directory: str | Path | None = None, *, executor: str = "auto", workers: int | None = None,
    device: str = "auto", on_event: Callable[[Event], None] = lambda _: None, carry: Carry = "study",
) -> Result:  # fmt: skip
    """Train what is missing of ``study`` in the run directory (``runs/NAME``) and return the result.

    ``carry`` says what: the ``study``; the ``unfinished`` trials that were asked for earlier, whatever the study lists; or
    ``both``.

    Raises `SpecError` and its kin before anything is stored, `Interrupted` after Ctrl-C with the state kept,
    `TrainingError` when the first trials all fail alike, `DiskError` when the disk refuses a write.
    """
    directory = _place(study, directory)
    plan.check(executor, workers)
    if executor != "inline" and len(study.trials()) > 1 and plan.cores() > 1:
        plan.warm(device)
    with Writer(directory) as writer:
        prepared = _prepare(study, directory, executor, workers, device, carry)
        merged = study if prepared.stored is None else study.joined(prepared.stored.study)
        # All that is asked for is noted, also where nothing is left to train: the horizon follows from it.
        asked = {} if carry == "unfinished" else dict.fromkeys(study.trials(), study.epochs)
        asked |= {request.trial: request.epochs for request in prepared.requests}
        writer.begin(
            merged.to_dict(),
            prepared.identity,
            _environment(prepared),
            prepared.seeds,
            [(t.lr, t.seed, t.horizon, epochs, prepared.setup.steps(epochs)) for t, epochs in asked.items()],
        )
        try:
            interrupted = _train(writer, prepared, on_event)
        except KeyboardInterrupt:  # a second one, which does not wait
            interrupted = True
        if interrupted:
            raise Interrupted(_stopped(prepared, executor, workers, device))
        result = Result.load(directory)
        writer.save_analysis(ANALYSIS_VERSION, result.analysis)
        if prepared.setup.task.test is not None and result.recommendation.lr is not None and result.complete:
            _test(writer, prepared.setup, result)
            writer.save_analysis(ANALYSIS_VERSION, Result.load(directory).analysis)
    return Result.load(directory)


def estimate(
    study: Study, directory: str | Path | None = None, *, executor: str = "auto", workers: int | None = None,
    device: str = "auto", carry: Carry = "study",
) -> Estimate:  # fmt: skip
    """Return what `run` would take, from a rehearsal of two steps; nothing is stored."""
    plan.check(executor, workers)
    prepared = _prepare(study, _place(study, directory), executor, workers, device, carry)
    checkpoint = prepared.rehearsal.checkpoint_bytes if prepared.rehearsal else 0
    return Estimate(
        trials=len(prepared.requests),
        steps=prepared.steps,
        seconds=_seconds(prepared.setup, prepared.rehearsal, prepared.steps)
        / max(1, min(prepared.plan.workers, len(prepared.requests), plan.cores())),
        disk_bytes=len(prepared.requests) * checkpoint + 12 * prepared.steps,
        plan=prepared.plan,
        complete_trials=len({*study.trials()} - {request.trial for request in prepared.requests}),
    )


def _place(study: Study, directory: str | Path | None) -> Path:
    return Path("runs") / study.name if directory is None else Path(directory)


def _prepare(study: Study, directory: Path, executor: str, workers: int | None, device: str, carry: Carry) -> _Prepared:
    """Find out all that can go wrong before anything is stored."""
    device = plan.choose_device(device)
    task = study.make_task()
    if study.recipe.batch_size > len(task.train):
        raise SpecError(
            f"study.recipe.batch_size: expected at most the {len(task.train):,} training examples, "
            f"got {study.recipe.batch_size:,}"
        )
    recorded = {"train_loss", "val_loss", *(f"val_{name}" for name in task.metrics)}
    assert study.objective is not None
    if study.objective.metric not in recorded:
        metric = study.objective.metric
        raise SpecError(f"study.objective: the task records no metric {metric!r}{nearest(metric, recorded)}")
    for lr, what in study.expect.items():
        for name in what.metrics:
            if name not in recorded:
                where = f"study.expect[{format_rate(lr)}]"
                raise SpecError(f"{where}: the task records no metric {name!r}{nearest(name, recorded)}")
    setup = Setup(task=task, recipe=study.recipe, evaluate_every=study.evaluate_every, device=device)
    stored = store.read_if_any(directory)
    identified = identity.identify(study, task, setup.steps_per_epoch)
    if stored is not None:
        identity.check_same(directory, stored.identity, identified)
    trials = study.trials()
    by_seed = {trial.seed: trial for trial in trials}
    if stored is not None and stored.seeds and not by_seed.keys() & stored.seeds.keys():
        known_seed = min(stored.seeds)  # with new seeds alone an edited model would go unnoticed
        by_seed[known_seed] = dataclasses.replace(trials[0], seed=known_seed)
    try:
        setup = _with_layout(setup, trials[0])
        seeds = {seed: rehearsal.fingerprint(setup, trial) for seed, trial in by_seed.items()}
        if stored is not None:
            identity.check_fingerprints(directory, stored.seeds, seeds)
        requests = _requests(study, _by_trial(stored), setup, carry)
        seen = rehearsal.rehearse(setup, requests[0].trial) if requests else None
    except EtudeError:
        raise
    except Exception as error:
        raise TrainingError(f"the task's code raised before the first step: {failure_of(error).reason}") from error
    prepared = _Prepared(
        study=study, directory=directory, setup=setup, stored=stored, identity=identified, seeds=seeds,
        requests=requests, rehearsal=seen, plan=plan.choose(executor, workers, device, n_trials=0, seconds=0.0),
    )  # fmt: skip
    seconds = _seconds(setup, seen, prepared.steps)
    prepared.plan = plan.choose(executor, workers, device, n_trials=len(requests), seconds=seconds)
    prepared.notices = _notices(prepared)
    return prepared


def _requests(study: Study, known: Mapping[Trial, StoredTrial], setup: Setup, carry: Carry) -> list[Request]:
    """Ask the searcher, and add what was asked for earlier where that is to be carried on."""
    standings = {
        trial: Standing(epochs=one.step / setup.steps_per_epoch, ended=one.status == "diverged")
        for trial, one in known.items()
    }
    requests = [] if carry == "unfinished" else grid.ask(study, standings)
    requests = [r for r in requests if r.trial not in known or known[r.trial].step < setup.steps(r.epochs)]
    if carry == "study":
        return requests
    asked = {request.trial: request.epochs for request in requests}
    for trial, one in known.items():
        if one.status not in ("completed", "diverged"):
            asked[trial] = max(one.epochs, asked.get(trial, 0.0))
    return [Request(trial=trial, epochs=epochs) for trial, epochs in asked.items()]


def _with_layout(setup: Setup, trial: Trial) -> Setup:
    """Take channels_last on the CPU where the model has convolutions and works in that layout."""
    if setup.device != "cpu" or not plan.has_convolutions(Session.open(setup, trial).model):
        return setup
    changed = dataclasses.replace(setup, channels_last=True)
    return changed if rehearsal.works_in_channels_last(changed, trial) else setup


def _seconds(setup: Setup, seen: Rehearsal | None, steps: int) -> float:
    """Seconds for ``steps`` in one process, evaluations among them."""
    if seen is None:
        return 0.0
    evaluations = steps / max(1.0, setup.evaluate_every * setup.steps_per_epoch)
    return steps * seen.step_s + evaluations * seen.evaluation_s


def _by_trial(stored: Stored | None) -> dict[Trial, StoredTrial]:
    trials = stored.trials if stored is not None else ()
    return {Trial(lr=t.lr, seed=t.seed, horizon=t.horizon): t for t in trials}


def _environment(prepared: _Prepared) -> dict[str, Any]:
    import numpy as np
    import torch

    import etude

    return {
        "etude": etude.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "cores": plan.cores(),
        "executor": prepared.plan.executor,
        "workers": prepared.plan.workers,
        "threads": prepared.plan.threads,
        "device": prepared.plan.device,
        "channels_last": prepared.setup.channels_last,
        "command": shlex.join(sys.argv),
    }


def _notices(prepared: _Prepared) -> list[str]:
    notices = []
    if prepared.stored is not None and prepared.stored.environments and prepared.requests:
        before, now = prepared.stored.environments[-1], _environment(prepared)
        changed = [
            f"{name} {before.get(name)} → {now[name]}"
            for name in ("torch", "cpu", "threads", "device", "channels_last")
            if before.get(name) != now[name]
        ]
        if changed:
            notices.append(
                f"The machine differs from the run's ({', '.join(changed)}): "
                "from here on curves are equal within noise, not bit for bit."
            )
    if prepared.study.recipe.depends_on_horizon and prepared.stored is not None:
        others = {t.horizon for t in prepared.stored.trials if t.horizon != prepared.study.epochs}
        if others and prepared.requests:
            notices.append(
                f"The {prepared.study.recipe.schedule} schedule depends on the horizon: {prepared.study.epochs:g} epochs "
                "are other trials, trained from the start."
            )
    if prepared.identity["task"]["chosen_on_test_set"]:
        notices.append(
            f"Rates are chosen on {prepared.identity['task']['chosen_on_test_set']}, as the article does; "
            "--holdout 5000 (with another --out) keeps training images for choosing and the test images for the end."
        )
    return notices


def _train(writer: Writer, prepared: _Prepared, on_event: Callable[[Event], None]) -> bool:
    """Carry the wanted trials on; return whether Ctrl-C ended it early."""
    directory = prepared.directory
    stored = store.read(directory)
    known = _by_trial(stored)
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
    if not wanted:
        return False
    executor = plan.make(prepared.plan, prepared.setup)
    sound = False
    try:
        with _interruptible(executor) as interrupted:
            _carry_all(writer, executor, wanted, interrupted, on_event)
        sound = True
    finally:
        executor.close(kill=not sound)
    if interrupted.is_set():
        writer.save_analysis(ANALYSIS_VERSION, Result.load(directory).analysis)
    return interrupted.is_set()


def _stopped(prepared: _Prepared, executor: str, workers: int | None, device: str) -> str:
    if isinstance(prepared.study.task, str):
        words = ["etude", "resume", str(prepared.directory)]
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
        alike = len({failure.reason for failure in failures}) == 1
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
            raise StoreError(f"{result.directory}: {trial} has no checkpoint to test")
        session = Session.open(setup, trial, checkpoint)
        writer.save_test(stored, *session.evaluate(setup.task.test.to(session.device), "test_"))

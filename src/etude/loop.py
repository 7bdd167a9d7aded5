"""Training loops of one's own, in any framework: gives the missing trials out and stores what they log. Without torch.

    for trial in study.missing("runs/x"):
        model = Model(seed=trial.seed)
        for epoch in range(1, trial.epochs + 1):
            model.train(lr=trial.lr)
            trial.log(epoch=epoch, train_loss=model.loss, val_accuracy=model.accuracy())
            if trial.diverged:
                break

The run directory is an ordinary one. What a loop does not have is left empty: there are no checkpoints, so a trial that was
cut off starts again, and no recipe. Knows the store and the study; knows nothing of how training is done.
"""

from __future__ import annotations

import math
import operator
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from etude import commands, store
from etude.engine.history import Evaluation, History, step_of
from etude.errors import SpecError, nearest
from etude.result import ANALYSIS_VERSION, Result
from etude.spec import identity
from etude.spec.study import Study
from etude.spec.trial import Trial
from etude.spec.value import number
from etude.store import StoredTrial, Writer

WRITE_S = 1.0  # logs that follow each other faster are written together
LEVELS = ("train_loss", "val_loss")  # with the objective, what a trial diverges by
FRAMEWORKS = ("torch", "jax", "tensorflow", "sklearn")  # whose versions are noted where the loop has imported them


class LiveTrial:
    """A trial that the caller's own loop is training: train at ``lr``, draw everything random from ``seed``, and `log`.

    ``epochs`` is the horizon in whole epochs (a begun one counts), ``steps`` the optimizer step that it ends with;
    ``diverged`` turns true when a logged loss or objective is not finite.
    """

    def __init__(self, trial: Trial, stored: StoredTrial, writer: Writer, metric: str, steps_per_epoch: int) -> None:
        self.lr, self.seed = trial.lr, trial.seed
        self.steps, self.steps_per_epoch = stored.end_step, steps_per_epoch
        self.epochs = math.ceil(stored.epochs)
        self.diverged = False
        self._trial, self._stored, self._writer, self._metric = trial, stored, writer, metric
        self._step, self._evaluated = -1, -1  # the last ones logged
        self._completed, self._failed = False, False
        self._over = ""  # why nothing can be logged any more
        self._loss_sum, self._loss_count = 0.0, 0  # since the last evaluation
        self._runs: list[tuple[int, list[float]]] = []  # losses of steps in a row, each with the step before its first
        self._last_loss: float | None = None  # of the horizon's step, until that is evaluated
        self._evaluations: list[Evaluation] = []
        self._written, self._timed = -math.inf, time.perf_counter()

    def __str__(self) -> str:
        return str(self._trial)

    def log(
        self, *, step: int | None = None, epoch: float | None = None, train_loss: Any = None, **metrics: Any
    ) -> None:  # fmt: skip
        """Record what training had come to after optimizer step ``step``, or after ``epoch`` epochs; 0 is before training.

        With a metric (``val_NAME`` or ``train_NAME``, ``val_NAME_se`` for its standard error) it is an evaluation, whose
        ``train_loss``, where not given, is the mean of those logged since the last one. ``train_loss`` alone is the history
        by step, from which oscillation and spikes are read. Values are numbers, or arrays and tensors without axes; NaN
        and infinities are allowed. What is logged after a trial has diverged is dropped. The trial is completed by the
        evaluation at the horizon.

        Raises `SpecError` for a step that does not advance or lies beyond the horizon, for a name or a value that cannot
        be, and at the horizon for an objective that was not logged.
        """
        if self._over:
            raise SpecError(f"{self}: nothing can be logged {self._over}")
        place, said = self._place(step, epoch)
        loss = None if train_loss is None else self._number("train_loss", train_loss)
        values, errors = self._split(metrics)
        if loss is None and not values:
            raise SpecError(f"{self}: log({said}) has nothing to record; give train_loss=…, val_loss=…")
        if self.diverged:
            return
        is_evaluation = bool(values) or self._metric == "train_loss"
        self._check_advances(place, said, is_evaluation)
        known = {**values, **({} if loss is None else {"train_loss": loss})}
        if is_evaluation and place >= self.steps and self._metric not in known:
            raise SpecError(
                f"{self}: the objective {self._metric!r} is not among what was logged at the horizon ({said})"
                f"{nearest(self._metric, known)}"
            )
        self._step = place
        self.diverged = any(not math.isfinite(known.get(name, 0.0)) for name in {*LEVELS, self._metric})
        if is_evaluation:
            self._evaluate(place, loss, values, errors)
        elif loss is not None:
            self._add(place, loss)
        if self.diverged or self._completed or time.monotonic() - self._written >= WRITE_S:
            self._write()

    def fail(self, reason: str | BaseException) -> None:
        """Mark the trial as failed, for a ``reason`` in words or an exception; go on with the next one.

        What it had logged stays; `missing` gives it again the next time.
        """
        if self._completed or self.diverged:
            raise SpecError(f"{self}: it cannot fail any more, it has {'completed' if self._completed else 'diverged'}")
        if self._over:
            raise SpecError(f"{self}: it cannot fail {self._over}")
        lines = None
        if isinstance(reason, BaseException):
            lines = "".join(traceback.format_exception(reason))
            reason = f"{type(reason).__name__}: {reason}"
        self._write()
        self._writer.fail(self._stored, " ".join(str(reason).split()) or "no reason given", lines)
        self._failed, self._over = True, "after trial.fail; `continue` with the next trial"

    def _place(self, step: int | None, epoch: float | None) -> tuple[int, str]:
        """Return the step, and how the caller named it."""
        if step is not None and epoch is None:
            said = f"step={step}"
            try:
                place = operator.index(step)
            except TypeError:
                raise SpecError(f"{self}: expected a whole number of optimizer steps, got {said}") from None
        elif epoch is not None and step is None:
            said, epochs = f"epoch={epoch}", self._number("epoch", epoch)
            if not math.isfinite(epochs):
                raise SpecError(f"{self}: expected a finite number of epochs, got {said}")
            place = math.floor(epochs * self.steps_per_epoch + 0.5)
        else:
            raise SpecError(
                f"{self}: log expects step=… or epoch=…, {'both are' if epoch is not None else 'neither is'} given"
            )
        if place < 0:
            raise SpecError(f"{self}: expected {said.partition('=')[0]} 0 (before training) or more, got {said}")
        if place > self.steps:
            raise SpecError(
                f"{self}: log({said}) lies beyond the study's horizon, {self._horizon()}; ask for more epochs, or say how many "
                "steps an epoch has: study.missing(…, steps_per_epoch=N)"
            )
        return place, said

    def _horizon(self) -> str:
        return f"{self._stored.epochs:g} epochs of {self.steps_per_epoch} step{'s' * (self.steps_per_epoch != 1)}"

    def _check_advances(self, place: int, said: str, is_evaluation: bool) -> None:
        # An evaluation may complete a step whose loss is logged already.
        if place > self._step or (is_evaluation and place == self._step > self._evaluated):
            return
        again = f"step {place} was logged already" if place == self._step else f"step {self._step} was logged before"
        hint = "; steps_per_epoch=N lets an epoch have steps" if self.steps_per_epoch == 1 and "epoch" in said else ""
        raise SpecError(f"{self}: log({said}) does not advance: {again}; log what belongs to a step at once{hint}")

    def _number(self, name: str, got: Any) -> float:
        shape = getattr(got, "shape", ())
        if isinstance(got, bool | str | bytes) or (shape is not None and len(shape)):
            what = f"shape {tuple(shape)}" if len(shape) else repr(got)
            raise SpecError(f"{self}: {name}: expected one number, got {what}")
        try:
            return float(
                got.item() if hasattr(got, "item") else got
            )  # a tensor may want no float() while it has a gradient
        except (TypeError, ValueError, OverflowError):
            raise SpecError(f"{self}: {name}: expected one number, got {type(got).__name__}") from None

    def _split(self, metrics: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
        """Return metrics and standard errors, checked."""
        values, errors = {}, {}
        for name, got in metrics.items():
            split, _, bare = name.partition("_")
            if split not in ("val", "train") or not bare or not name.isidentifier():
                like = name.removeprefix("test_").removeprefix("validation_").removeprefix("valid_")
                better = f"; write val_{like}" if like.isidentifier() else ""
                raise SpecError(f"{self}: expected metrics named val_NAME or train_NAME, got {name!r}{better}")
            if not name.endswith("_se"):
                values[name] = self._number(name, got)
                continue
            of, error = name.removesuffix("_se"), self._number(name, got)
            if of not in metrics:
                raise SpecError(f"{self}: {name} is the standard error of {of}, which is not logged with it")
            if error < 0:
                raise SpecError(f"{self}: {name}: expected a standard error, 0 or more, got {error:g}")
            if math.isfinite(error):
                errors[of] = error
        return values, errors

    def _evaluate(self, place: int, loss: float | None, values: dict[str, float], errors: dict[str, float]) -> None:
        if self._last_loss is not None:
            self._runs_at(place - 1).append(self._last_loss)
            self._last_loss = None
        if loss is None and self._loss_count:
            loss = self._loss_sum / self._loss_count
        self._loss_sum, self._loss_count = 0.0, 0
        self._evaluations.append(
            Evaluation(
                step=place, epoch=place / self.steps_per_epoch, train_loss=loss, metrics=values, standard_errors=errors
            )
        )
        self._evaluated = place
        self._completed = place >= self.steps and not self.diverged

    def _add(self, place: int, loss: float) -> None:
        self._loss_sum += loss
        self._loss_count += 1
        if place >= self.steps and not self.diverged:
            self._last_loss = loss  # stored with the evaluation; a trial that has none there must not look completed
        else:
            self._runs_at(place - 1).append(loss)

    def _runs_at(self, before: int) -> list[float]:
        """Return the losses of the run of steps that goes on after step ``before``."""
        if not self._runs or self._runs[-1][0] + len(self._runs[-1][1]) != before:
            self._runs.append((before, []))
        return self._runs[-1][1]

    def _write(self) -> None:
        """Store what was logged since the last time."""
        self._written = time.monotonic()
        reached = max(
            [e.step for e in self._evaluations] + [first + len(losses) for first, losses in self._runs], default=-1
        )
        if reached < 0:
            return
        before, self._timed = self._timed, time.perf_counter()
        histories = [_history(first, first + len(losses), losses) for first, losses in self._runs]
        diverged = self._step if self.diverged else None
        histories.append(_history(reached, reached, [], tuple(self._evaluations), self._timed - before, diverged))
        self._writer.record(self._stored, histories)
        self._runs, self._evaluations = [], []

    def _check_ended(self) -> None:
        """Raise `SpecError` where the body of the loop ended too early."""
        if self._completed or self.diverged or self._failed:
            return
        if self._step < 0:
            raise SpecError(f"{self}: the loop's body ended without logging anything; call trial.log(epoch=…, …)")
        if self._step >= self.steps:
            raise SpecError(
                f"{self}: the loop's body ended without an evaluation at the horizon; log {self._metric} there, too"
            )
        raise SpecError(
            f"{self}: the loop's body ended at step {self._step} of {self.steps} ({self._horizon()}); log the horizon's "
            "step, too (the first step or epoch is 1), or say trial.fail(REASON)"
        )


def missing(study: Study, directory: str | Path | None, steps_per_epoch: int) -> Iterator[LiveTrial]:
    """See `Study.missing`. What cannot be is raised here, what the run directory says against it in the first step."""
    if study.task is not None:
        raise SpecError(
            "study.missing: it is for a study without a task; this one has one: study.run(DIRECTORY) trains it"
        )
    steps = int(number("study.missing: steps_per_epoch", steps_per_epoch, whole=True))
    return _missing(study, study.place(directory), steps)


def _missing(study: Study, directory: Path, steps_per_epoch: int) -> Iterator[LiveTrial]:
    assert study.objective is not None
    with Writer(directory) as writer:
        stored = store.read_if_any(directory)
        identified = identity.identify_loop(study, steps_per_epoch)
        if stored is not None:
            identity.check_same(directory, stored.identity, identified)
        said = (study if stored is None else study.joined(stored.study)).to_dict()
        trials = study.trials()
        ended = set() if stored is None else {t.trial for t in stored.trials if t.status in ("completed", "diverged")}
        if stored is not None and ended.issuperset(trials) and stored.study == store.plain(said):
            return  # nothing to train, and nothing to write
        end = step_of(study.epochs, steps_per_epoch)
        wanted = [(t.lr, t.seed, t.horizon, study.epochs, end) for t in trials]
        writer.begin(said, identified, _environment(), {}, wanted)
        known = {t.trial: t for t in store.read(directory).trials}
        for trial in trials:
            if trial in ended:
                continue
            writer.restart(known[trial])
            live = LiveTrial(trial, known[trial], writer, study.objective.metric, steps_per_epoch)
            try:
                yield live
            finally:  # also where the body breaks or raises
                live._write()
                live._over = "when its turn is over; the loop has gone on to another trial, or has ended"
            live._check_ended()
        writer.save_analysis(ANALYSIS_VERSION, Result.load(directory).analysis)


def _history(
    first: int, last: int, losses: list[float], evaluations: tuple[Evaluation, ...] = (), wall_s: float = 0.0,
    diverged: int | None = None,
) -> History:  # fmt: skip
    with np.errstate(over="ignore"):  # a double beyond the range of a float is inf, as it should be
        loss = np.array(losses, np.float32)
    unknown = np.full(len(losses), np.nan, np.float32)
    return History(
        first_step=first, last_step=last, loss=loss, grad_norm=unknown, update_ratio=unknown, evaluations=evaluations,
        wall_s=wall_s, diverged=diverged,
    )  # fmt: skip


def _environment() -> dict[str, Any]:
    import etude

    versions = {name: getattr(sys.modules[name], "__version__", None) for name in FRAMEWORKS if name in sys.modules}
    return {
        "etude": etude.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        **versions,
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "command": commands.of_process(),
    }

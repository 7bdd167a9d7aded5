"""The reference loop: a trial that is live in memory.

The law: running 0→c equals running 0→b, storing, opening and running b→c, bit for bit (same machine, versions, threads,
device and layout). It holds because everything with state is in the checkpoint and all randomness is counted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from etude import counted
from etude.engine import state
from etude.engine.evaluate import evaluate, evaluation_batch
from etude.engine.history import Evaluation, History, is_due, step_of
from etude.engine.norms import UpdateMeter
from etude.engine.optimizers import make_optimizer
from etude.engine.randomness import caller_undisturbed, seed_all
from etude.errors import SpecError
from etude.spec.recipe import Recipe
from etude.spec.trial import Trial
from etude.tasks.data import Batch, Resident
from etude.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all trials of a study share, and how the machine is used: ``device`` and ``channels_last``."""

    task: Task
    recipe: Recipe
    evaluate_every: float = 1.0
    device: str = "cpu"
    channels_last: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        train: Resident = self.task.train
        return train.n_batches(self.recipe.batch_size)

    @cached_property
    def data(self) -> tuple[Resident, Resident]:
        """Training and validation data on the device, moved there once."""
        device = torch.device(self.device)
        return self.task.train.to(device), self.task.val.to(device)

    def steps(self, epochs: float) -> int:
        """Return the step that ``epochs`` end with."""
        return step_of(epochs, self.steps_per_epoch)


@dataclass
class _Records:
    loss: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    update_ratio: list[float] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)


class Session:
    """One live trial: model, optimizer, schedule, and its place in the data.

    ``ends`` are steps that get an evaluation beside the regular ones, because somebody asked for that many epochs.
    """

    def __init__(self, setup: Setup, trial: Trial, ends: frozenset[int]) -> None:
        self.setup, self.trial, self.ends = setup, trial, ends
        self.device = torch.device(setup.device)
        self.train, self.val = setup.data
        self.step = 0
        self.diverged: int | None = None
        self._evaluated = -1  # the last step that was evaluated
        self._loss_sum, self._loss_count = 0.0, 0  # since the last regular evaluation
        with caller_undisturbed(self.device):
            seed_all(counted.derive(counted.WEIGHTS, trial.seed), self.device)
            model = setup.task.model()
            if not isinstance(model, nn.Module):
                raise SpecError(f"task.model: expected it to return a torch.nn.Module, got {type(model).__name__}")
            self.model = model.to(self.device)
            if setup.channels_last:
                self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            if not parameters:
                raise SpecError("task.model: it has no parameters to train")
            self.optimizer = make_optimizer(setup.recipe, parameters, trial.lr)
        self.meter = UpdateMeter(parameters)

    @classmethod
    def open(
        cls, setup: Setup, trial: Trial, checkpoint: bytes | None = None, *, ends: frozenset[int] = frozenset()
    ) -> Session:
        """Start the trial, or go on from a checkpoint. Raises `StoreError` for one that cannot be read."""
        session = cls(setup, trial, ends)
        if checkpoint is not None:
            session._restore(state.unpack(checkpoint, session.device))
        return session

    def run(self, until_step: int, *, seconds: float = math.inf, stop: Callable[[], bool] = lambda: False) -> History:
        """Train steps (step, until_step], with the evaluations due in them, and return what was recorded.

        Ends earlier when the loss stops being finite, after the first step past ``seconds``, or when ``stop()``.
        """
        began, first_step = time.perf_counter(), self.step
        records = _Records()
        with caller_undisturbed(self.device):
            if self._evaluated < 0:
                self._evaluate(records)
            self.model.train()
            batches = self._batches()
            while self.step < until_step and self.diverged is None:
                seed_all(counted.derive(counted.STEP, self.trial.seed, self.step + 1), self.device)
                self._train_step(next(batches), records)
                if self.diverged is None and self._is_due():
                    self._evaluate(records)
                    self.model.train()
                if time.perf_counter() - began >= seconds or stop():
                    break
        with np.errstate(over="ignore"):  # a double beyond the range of a float is inf, as it should be
            loss, grad_norm, update_ratio = (
                np.array(of, np.float32) for of in (records.loss, records.grad_norm, records.update_ratio)
            )
        return History(
            first_step=first_step,
            last_step=self.step,
            loss=loss,
            grad_norm=grad_norm,
            update_ratio=update_ratio,
            evaluations=tuple(records.evaluations),
            wall_s=time.perf_counter() - began,
            diverged=self.diverged,
        )

    def checkpoint(self, *, verify: bool = False) -> bytes:
        """Return all that `open` needs to go on from here; ``verify`` raises `SpecError` for what `open` could not read."""
        return state.pack(
            {
                "step": self.step,
                "diverged": self.diverged,
                "evaluated": self._evaluated,
                "loss_sum": self._loss_sum,
                "loss_count": self._loss_count,
                "model": state.model_state(self.model),
                "optimizer": self.optimizer.state_dict(),
            },
            verify=verify,
        )

    def fingerprint(self) -> tuple[str, float]:
        """Return the digest of the weights and the loss of the next batch; for a fresh session that is not run.

        In evaluation mode, so that a dropout mask, which another device draws otherwise, does not enter.
        """
        digest = state.weights_digest(self.model)
        with caller_undisturbed(self.device), torch.no_grad():
            self.model.eval()
            seed_all(counted.derive(counted.STEP, self.trial.seed, self.step + 1), self.device)
            return digest, self._loss(next(self._batches())).item()

    def rehearse(self, steps: int) -> float:
        """Train some steps, unrecorded, and return the seconds of the last; for a session that is thrown away."""
        records, batches = _Records(), self._batches()
        began = time.perf_counter()
        with caller_undisturbed(self.device):
            self.model.train()
            for _ in range(steps):
                seed_all(counted.derive(counted.STEP, self.trial.seed, self.step + 1), self.device)
                began = time.perf_counter()
                self._train_step(next(batches), records)
        return time.perf_counter() - began

    def evaluate(self, data: Resident, prefix: str) -> tuple[dict[str, float], dict[str, float]]:
        """Return metrics and standard errors of the model as it is, on ``data``."""
        return evaluate(
            self.model,
            data,
            self.setup.task.loss,
            self.setup.task.metrics,
            batch_size=evaluation_batch(self.setup.recipe.batch_size),
            shape=self._laid_out,
            prefix=prefix,
        )

    def _restore(self, restored: state.State) -> None:
        self.step, self.diverged = restored["step"], restored["diverged"]
        self._evaluated = restored["evaluated"]
        self._loss_sum, self._loss_count = restored["loss_sum"], restored["loss_count"]
        state.load_model_state(self.model, restored["model"])
        self.optimizer.load_state_dict(restored["optimizer"])

    def _batches(self) -> Iterator[Batch]:
        while True:
            epoch, start = divmod(self.step, self.setup.steps_per_epoch)
            yield from self.train.batches(self.setup.recipe.batch_size, self.trial.seed, epoch, start)

    def _laid_out(self, inputs: Tensor) -> Tensor:
        if self.setup.channels_last and inputs.ndim == 4:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def _loss(self, batch: Batch) -> Tensor:
        inputs, targets = batch
        loss = self.setup.task.loss(self.model(self._laid_out(inputs)), targets)
        if not isinstance(loss, Tensor) or loss.ndim:
            shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise SpecError(f"task.loss: expected a scalar tensor, the mean loss of the batch, got {shape}")
        return loss

    def _train_step(self, batch: Batch, records: _Records) -> None:
        factor = self.setup.recipe.factor(
            self.step + 1,
            steps_per_epoch=self.setup.steps_per_epoch,
            horizon_step=None if self.trial.horizon is None else self.setup.steps(self.trial.horizon),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.trial.lr * factor
        self.optimizer.zero_grad()
        loss = self._loss(batch)
        value = loss.item()
        grad_norm = update_ratio = math.nan
        if math.isfinite(value):
            loss.backward()  # type: ignore[no-untyped-call]
            self.meter.before()
            self.optimizer.step()
            grad_norm, update_ratio = self.meter.after()
        self.step += 1
        if not math.isfinite(value):
            self.diverged = self.step
        self._loss_sum += value
        self._loss_count += 1
        records.loss.append(value)
        records.grad_norm.append(grad_norm)
        records.update_ratio.append(update_ratio)

    def _is_due(self) -> bool:
        return self.step in self.ends or is_due(self.step, self.setup.steps_per_epoch, self.setup.evaluate_every)

    def _evaluate(self, records: _Records) -> None:
        metrics, errors = self.evaluate(self.val, "val_")
        train_loss = self._loss_sum / self._loss_count if self._loss_count else None
        records.evaluations.append(
            Evaluation(
                step=self.step,
                epoch=self.step / self.setup.steps_per_epoch,
                train_loss=train_loss,
                metrics=metrics,
                standard_errors=errors,
            )
        )
        self._evaluated = self.step
        if is_due(self.step, self.setup.steps_per_epoch, self.setup.evaluate_every):
            self._loss_sum, self._loss_count = 0.0, 0
        if self.step and not math.isfinite(metrics["val_loss"]):
            self.diverged = self.step

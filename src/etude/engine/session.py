"""The reference loop: a trial that is live in memory.

The law: running 0→c equals running 0→b, storing, opening and running b→c, bit for bit (same machine, versions, threads,
device and layout). It holds because everything with state is in the checkpoint and all randomness is counted.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from etude import counted
from etude.engine import loss, optimizers, state
from etude.engine.averaging import Averaging
from etude.engine.evaluate import evaluate, evaluation_batch
from etude.engine.history import Evaluation, History, is_due, step_of
from etude.engine.norms import UpdateMeter
from etude.engine.randomness import caller_undisturbed, seed_all
from etude.errors import SpecError
from etude.spec.recipe import Recipe
from etude.spec.trial import Trial
from etude.tasks import tree
from etude.tasks.data import Data
from etude.tasks.task import Task
from etude.tasks.tree import Tree

STREAM_SLICE = (
    30  # a stream is cut within an epoch only after so many slices: going on there reads the epoch's start again
)


class Uncut(Exception):  # noqa: N818 - it is no error
    """A trial was stopped where it cannot be gone on from; what it did since its slice began is lost."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all trials of a study share, and how the machine is used: ``device`` and ``channels_last``.

    ``resume`` says where a trial can be cut: anywhere (``exact``), where an epoch begins, or nowhere. With ``best``
    (metric, direction) the weights of the best evaluation are kept beside the last ones.
    """

    task: Task
    recipe: Recipe
    evaluate_every: float = 1.0
    device: str = "cpu"
    channels_last: bool = False
    resume: Literal["exact", "by epoch", "from the start"] = "exact"
    best: tuple[str, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the data on the device behind: another process moves its own there."""
        return {name: value for name, value in vars(self).items() if name != "data"}

    @property
    def batch_size(self) -> int:
        """Examples in a batch that is made here; 1 where the data make their own."""
        return self.recipe.batch_size or 1

    @cached_property
    def batches_per_epoch(self) -> int:
        """Batches in an epoch."""
        train: Data = self.task.train
        return train.n_batches(self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; the last one of an epoch may have fewer batches to accumulate."""
        return -(-self.batches_per_epoch // self.recipe.accumulate)

    @cached_property
    def data(self) -> tuple[Data, Data]:
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
        # Losses and metrics may have a state; a trial does not share it with others, nor with the caller.
        self.task = setup.task.private(self.device)
        self.step = 0
        self.diverged: int | None = None
        self.best: dict[str, Any] | None = None  # step, value and weights of the best evaluation, where that is kept
        self._evaluated = -1  # the last step that was evaluated
        self._sums: dict[str, float] = {}  # of the loss and what else a step records, since the last regular evaluation
        self._count = 0
        with caller_undisturbed(self.device):
            seed_all(counted.derive(counted.WEIGHTS, trial.seed), self.device)
            model = self.task.model()
            if not isinstance(model, nn.Module):
                raise SpecError(f"task.model: expected it to return a torch.nn.Module, got {type(model).__name__}")
            self.model = model.to(self.device)
            if setup.channels_last:
                self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            parameters = optimizers.parameters_of(self.task, self.model, trial.lr)
            self.optimizer = optimizers.make_optimizer(setup.recipe, parameters, trial.lr)
            self._peaks = optimizers.peaks(self.optimizer)
            self._needs_closure = isinstance(self.optimizer, torch.optim.LBFGS)
            self.averaging = Averaging.of(setup.recipe, self.model, setup.steps_per_epoch)
        self._parameters: list[nn.Parameter] = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._training_weights: list[Tensor] | None = None  # while a schedule-free optimizer has laid out its others
        self.meter = UpdateMeter(self._parameters)

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

        Ends earlier when the loss stops being finite, or after the first step past ``seconds`` or when ``stop()``, at a
        place where the trial can be cut. Raises `Uncut` when it is stopped elsewhere.
        """
        began, first_step = time.perf_counter(), self.step
        records = _Records()
        with caller_undisturbed(self.device):
            if self._evaluated < 0:
                self._evaluate(records)
            self._to_train()
            batches = self._batches()
            while self.step < until_step and self.diverged is None:
                self._train_step(batches, records)
                if self.diverged is None and self._is_due():
                    self._evaluate(records)
                    self._to_train()
                stopped, elapsed = stop(), time.perf_counter() - began
                if (stopped or elapsed >= seconds) and self._may_cut(stopped, elapsed >= STREAM_SLICE * seconds):
                    break
                if stopped and self.step < until_step and self.diverged is None and self.setup.resume != "exact":
                    raise Uncut
        with np.errstate(over="ignore"):  # a double beyond the range of a float is inf, as it should be
            losses, grad_norm, update_ratio = (
                np.array(of, np.float32) for of in (records.loss, records.grad_norm, records.update_ratio)
            )
        return History(
            first_step=first_step,
            last_step=self.step,
            loss=losses,
            grad_norm=grad_norm,
            update_ratio=update_ratio,
            evaluations=tuple(records.evaluations),
            wall_s=time.perf_counter() - began,
            diverged=self.diverged,
        )

    def _may_cut(self, stopped: bool, long: bool) -> bool:
        if self.setup.resume == "from the start":
            return False
        if self.step % self.setup.steps_per_epoch == 0:
            return True
        return self.setup.resume == "exact" and (stopped or long or self.train.seekable)

    def checkpoint(self, *, verify: bool = False) -> bytes:
        """Return all that `open` needs to go on from here; ``verify`` raises `SpecError` for what `open` could not read."""
        self._lay_out("train")
        return state.pack(
            {
                "step": self.step,
                "diverged": self.diverged,
                "evaluated": self._evaluated,
                "sums": dict(self._sums),
                "count": self._count,
                "model": state.model_state(self.model),
                "optimizer": self.optimizer.state_dict(),
                "averaging": None if self.averaging is None else self.averaging.state(),
                "best": self.best,
            },
            verify=verify,
        )

    def fingerprint(self) -> tuple[str, float]:
        """Return the digest of the weights and the loss of the next batch; for a fresh session that is not run.

        In evaluation mode, so that a dropout mask, which another device draws otherwise, does not enter.
        """
        digest = state.weights_digest(self.model)
        return digest, self.loss_of(None)

    def loss_of(self, batch: Tree | None) -> float:
        """Return the loss of a batch, or of the next one, in evaluation mode; nothing is trained."""
        with caller_undisturbed(self.device), torch.no_grad():
            self.model.eval()
            seed_all(counted.derive(counted.STEP, self.trial.seed, self.step + 1), self.device)
            return self._loss(next(self._batches()) if batch is None else batch, training=False)[0].item()

    def rehearse(self, batches: list[Tree]) -> float:
        """Train a step on each of the batches, unrecorded; return the seconds of the last. The session is thrown away."""
        records = _Records()
        began = time.perf_counter()
        with caller_undisturbed(self.device):
            self._to_train()
            for batch in batches:
                began = time.perf_counter()
                self._train_step(iter([batch]), records, count=1)
        return time.perf_counter() - began

    def losses(self, most: int, stop: Callable[[list[float]], bool]) -> list[float]:
        """Train up to ``most`` steps as `run` does, but evaluate nothing, and return the loss of each.

        Ends earlier when the loss stops being finite, or when ``stop`` says so of the losses so far. The session is thrown
        away: what an evaluation would have cost a short test is not spent.
        """
        records = _Records()
        with caller_undisturbed(self.device):
            self._to_train()
            batches = self._batches()
            while len(records.loss) < most and self.diverged is None and not stop(records.loss):
                self._train_step(batches, records)
        return records.loss

    def evaluate(
        self, data: Data, prefix: str, batches: int | None = None, seconds: float = math.inf
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return metrics and standard errors of the model as it is (averaged, where the recipe says so), on ``data``.

        With ``batches`` or ``seconds`` on so many of its batches.
        """
        self._lay_out("eval")
        model = self.evaluated_model
        with caller_undisturbed(self.device), self._precision():
            seed_all(counted.derive(counted.EVALUATION, self.trial.seed), self.device)
            return evaluate(
                model,
                self.task,
                data,
                batch_size=evaluation_batch(self.setup.batch_size),
                forward=lambda inputs: model(self._laid_out(inputs)),
                prefix=prefix,
                batches=batches,
                seconds=seconds,
            )

    @property
    def recorded(self) -> frozenset[str]:
        """The names that steps record beside the loss, since the last regular evaluation."""
        return frozenset(self._sums) - {"loss"}

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is evaluated: the averaged one once averaging has begun."""
        return self.model if self.averaging is None or not self.averaging.begun else self.averaging.model

    def trained(self) -> nn.Module:
        """Return the model for use, in evaluation mode: averaged, or with the weights of the best evaluation."""
        self._lay_out("eval")
        model = self.evaluated_model  # what `evaluate` looks at
        if self.best is not None:
            state.load_model_state(model, self.best["model"])
        return model.eval()

    def _restore(self, restored: state.State) -> None:
        self.step, self.diverged = restored["step"], restored["diverged"]
        self._evaluated, self.best = restored["evaluated"], restored["best"]
        self._sums, self._count = dict(restored["sums"]), restored["count"]
        state.load_model_state(self.model, restored["model"])
        optimizers.restore(self.optimizer, restored["optimizer"])
        if self.averaging is not None:
            self.averaging.restore(restored["averaging"])

    def _batches(self) -> Iterator[Tree]:
        """Yield batches from the present step on; what reading them draws is counted, too."""
        while True:
            epoch, step = divmod(self.step, self.setup.steps_per_epoch)
            start, n = step * self.setup.recipe.accumulate, self.setup.batches_per_epoch
            reading = self.train.batches(self.setup.batch_size, self.trial.seed, epoch, start, self._reseed(epoch))
            for i in range(start, n):
                self._reseed(epoch)(i)
                yield next(reading)
            del reading  # before the next one starts workers, those of this one end

    def _reseed(self, epoch: int) -> Callable[[int | None], int]:
        def reseed(batch: int | None) -> int:
            purpose, counts = (counted.ORDER, ()) if batch is None else (counted.READ, (batch,))
            seed = counted.derive(purpose, self.trial.seed, epoch, *counts)
            if not self.train.is_still:
                seed_all(seed, self.device)
            return seed

        return reseed

    def _laid_out(self, inputs: Tree) -> Tree:
        if self.setup.channels_last and isinstance(inputs, Tensor) and inputs.ndim == 4:
            return inputs.contiguous(memory_format=torch.channels_last)
        return inputs

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        if self.setup.recipe.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def _loss(self, batch: Tree, *, training: bool = True) -> tuple[Tensor, Mapping[str, Any]]:
        """Return the loss of a batch and what else the step records."""
        task = self.task
        with self._precision():
            if task.step is not None:
                with _told(lambda: f"in task.step(model, batch {tree.describe(batch)})"):
                    returned = task.step(self.model, batch)
                made, recorded = loss.loss_of(returned, task.step)
                return loss.checked(made, "step", task.step, training=training), recorded
            assert task.loss is not None
            inputs, targets = loss.pair(batch)
            with _told(lambda: f"in model(inputs {tree.describe(inputs)}){loss.hint(inputs)}"):
                outputs = self.model(self._laid_out(inputs))
            with _told(lambda: f"in task.loss(outputs {tree.describe(outputs)}, targets {tree.describe(targets)})"):
                made = task.loss(outputs, targets)
            return loss.checked(made, "loss", task.loss, training=training), {}

    def _train_step(self, batches: Iterator[Tree], records: _Records, count: int | None = None) -> None:
        """Take one optimizer step on the next ``count`` batches (what the recipe accumulates, if not said)."""
        self._set_rates()
        count = count or self._to_accumulate()
        self.optimizer.zero_grad()
        value, recorded = 0.0, dict[str, float]()
        taken: list[Tree] = []
        for part in range(count):
            batch = next(batches)
            self._seed_step(part)
            made, extra = self._loss(batch)
            value += made.item() / count
            for name, number in extra.items():
                recorded[name] = recorded.get(name, 0.0) + loss.number_of(number, name, self.task.step) / count
            if not math.isfinite(value):
                break
            (made if count == 1 else made / count).backward()  # type: ignore[no-untyped-call]
            if self._needs_closure:
                taken.append(batch)
        grad_norm = update_ratio = math.nan
        if math.isfinite(value):
            self.meter.before()
            self._clip()
            if self._needs_closure:
                self.optimizer.step(self._closure(taken, value))
            else:
                self.optimizer.step()
            grad_norm, update_ratio = self.meter.after()
            if self.averaging is not None:
                self.averaging.update(self.model, self.step + 1)
        self.step += 1
        if not math.isfinite(value):
            self.diverged = self.step
        for name, number in {**recorded, "loss": value}.items():
            self._sums[name] = self._sums.get(name, 0.0) + number
        self._count += 1
        records.loss.append(value)
        records.grad_norm.append(grad_norm)
        records.update_ratio.append(update_ratio)

    def _clip(self) -> None:
        if self.setup.recipe.clip_norm is None:
            return
        if any(parameter.grad is not None and parameter.grad.is_sparse for parameter in self._parameters):
            raise SpecError("study.recipe.clip_norm: torch clips no sparse gradients; leave it out, or sparse=True")
        nn.utils.clip_grad_norm_(self._parameters, self.setup.recipe.clip_norm)

    def _seed_step(self, part: int) -> None:
        """Seed all that is random in a step, or in the later parts of an accumulated one."""
        counts = (self.trial.seed, self.step + 1, *((part,) if part else ()))
        seed_all(counted.derive(counted.STEP, *counts), self.device)

    def _set_rates(self) -> None:
        recipe = self.setup.recipe
        if recipe.schedule == "constant" and not recipe.warmup:
            return  # what an optimizer does to its own rates stays
        horizon_step = None if self.trial.horizon is None else self.setup.steps(self.trial.horizon)
        factor = recipe.factor(self.step + 1, steps_per_epoch=self.setup.steps_per_epoch, horizon_step=horizon_step)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor

    def _to_accumulate(self) -> int:
        """Return how many batches the next step has: fewer where the epoch ends."""
        start = self.step % self.setup.steps_per_epoch * self.setup.recipe.accumulate
        return min(self.setup.recipe.accumulate, self.setup.batches_per_epoch - start)

    def _closure(self, batches: list[Tree], value: float) -> Callable[[], float]:
        """Make what L-BFGS calls to evaluate the loss anew; its first call has the gradients that are there already."""
        calls = 0

        def closure() -> float:
            nonlocal calls
            calls += 1
            if calls == 1:
                return value
            self.optimizer.zero_grad()
            total = 0.0
            for part, batch in enumerate(batches):
                self._seed_step(part)
                made = self._loss(batch)[0] / len(batches)
                made.backward()  # type: ignore[no-untyped-call]
                total += made.item()
            self._clip()
            return total

        return closure

    def _to_train(self) -> None:
        self.model.train()
        self._lay_out("train")

    def _lay_out(self, mode: str) -> None:
        """Have a schedule-free optimizer put the weights to train, or those to evaluate, into the model.

        Its way there and back rounds; so that evaluations leave no trace in what is trained, the weights are kept meanwhile.
        """
        if not optimizers.has_modes(self.optimizer):
            return
        if mode == "eval" and self._training_weights is None:
            self._training_weights = [parameter.detach().clone() for parameter in self._parameters]
        optimizers.set_mode(self.optimizer, mode)
        if mode == "train" and self._training_weights is not None:
            with torch.no_grad():
                torch._foreach_copy_(list[Tensor](self._parameters), self._training_weights)
            self._training_weights = None

    def _is_due(self) -> bool:
        return self.step in self.ends or is_due(self.step, self.setup.steps_per_epoch, self.setup.evaluate_every)

    def _evaluate(self, records: _Records) -> None:
        metrics, errors = self.evaluate(self.val, "val_")
        means = {name: total / self._count for name, total in self._sums.items()} if self._count else {}
        train_loss = means.pop("loss", None)
        metrics |= {f"train_{name}": mean for name, mean in means.items()}
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
            self._sums, self._count = {}, 0
        if self.step and not math.isfinite(metrics.get("val_loss", 0.0)):
            self.diverged = self.step
        if self.setup.best is not None and self.step:
            recorded = metrics if train_loss is None else {**metrics, "train_loss": train_loss}
            self._keep_best(recorded.get(self.setup.best[0], math.nan))

    def _keep_best(self, value: float) -> None:
        assert self.setup.best is not None
        sign = 1.0 if self.setup.best[1] == "maximize" else -1.0
        if math.isfinite(value) and (self.best is None or sign * value > sign * self.best["value"]):
            weights = copy.deepcopy(state.model_state(self.evaluated_model))
            self.best = {"step": self.step, "value": value, "model": weights}


@contextlib.contextmanager
def _told(where: Callable[[], str]) -> Iterator[None]:
    """Have an error say what it was that the user's code was given: shapes and types."""
    try:
        yield
    except SpecError:
        raise
    except Exception as error:
        error.add_note(where())
        raise

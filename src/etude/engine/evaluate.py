"""Evaluates a model on held-out data: means over all examples, with standard errors where values come by example.

B batch, N examples.
"""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any, cast

import torch
from torch import Tensor, nn

from etude.engine.loss import loss_of, pair
from etude.errors import SpecError, source_of
from etude.tasks import tree
from etude.tasks.data import Data
from etude.tasks.metrics import is_aggregate
from etude.tasks.task import Task
from etude.tasks.tree import Tree

Loss = Callable[[Any, Any], Any]
GIVEN = ("outputs", "targets")  # what `evaluate` may return for the metrics, beside values


def evaluation_batch(batch_size: int) -> int:
    """Four training batches at a time, up to 256 examples: less memory than a training step takes, and faster."""
    return max(batch_size, min(256, 4 * batch_size))


@torch.no_grad()
def evaluate(
    model: nn.Module,
    task: Task,
    data: Data,
    *,
    batch_size: int,
    forward: Callable[[Tree], Any],
    prefix: str,
    batches: int | None = None,
    seconds: float = math.inf,
) -> tuple[dict[str, float], dict[str, float]]:
    """Return ({name: value}, {name: standard error}), names with ``prefix``; the model is left in evaluation mode.

    ``forward`` makes outputs of inputs as the model's plan wants them. The standard error is that of the mean over
    examples. The loss has one when it can be had by example: a loss module or function with ``reduction="mean"``. With
    ``batches`` only so many are looked at, with ``seconds`` (after the first two) as many as that allows.
    """
    model.eval()
    split = prefix.removesuffix("_")
    measured = _Measured(model, task, forward, split)
    reading, began = iter(data.in_order(batch_size)), time.perf_counter()
    for i in range(batches) if batches is not None else count():
        if i > 1 and time.perf_counter() - began > seconds:
            break
        try:
            batch, size = next(reading)
        except StopIteration:
            break
        except Exception as error:
            error.add_note(f"while task.{split} was read")
            raise
        try:
            measured.add(batch, size)
        except SpecError:
            raise
        except Exception as error:
            error.add_note(f"on a batch {tree.describe(batch)} of task.{split}")
            raise
    if not measured.sizes:
        raise SpecError(f"task.{split}: expected at least one batch, got none")
    return measured.result(prefix)


class _Measured:
    """What has been measured so far: a column a name, a row a batch."""

    def __init__(self, model: nn.Module, task: Task, forward: Callable[[Tree], Any], split: str) -> None:
        self.model, self.task, self.forward, self.split = model, task, forward, split
        self.sizes: list[int | None] = []
        self.columns: dict[str, list[Tensor]] = {}
        self.whole: list[tuple[Any, Any]] = []  # for metrics that are no mean of their values by batch
        metrics = cast(Mapping[str, Any], task.metrics)
        # An aggregate keeps what it has seen: a fresh one for each evaluation, the user's own is not touched.
        self.aggregates = {name: copy.deepcopy(metric) for name, metric in metrics.items() if is_aggregate(metric)}
        for metric in self.aggregates.values():
            metric.reset()
        self.metrics = {name: metric for name, metric in metrics.items() if name not in self.aggregates}
        self.by_example: Loss | None = None if task.loss is None else by_example(task.loss)
        self.examples: list[
            Tensor
        ] = []  # losses by example, a row a batch, while their means are the batches' own losses
        self.gathered: set[str] = set()

    def add(self, batch: Tree, size: int | None) -> None:
        """Measure one batch of ``size`` examples (None where that is not known)."""
        size = tree.length(batch) if size is None else size
        if self.task.evaluate is not None:
            self._of_evaluate(self.task.evaluate(self.model, batch), size)
        elif self.task.step is not None:
            self._of_step(self.task.step(self.model, batch), size)
        else:
            inputs, targets = pair(batch, f"task.{self.split}")
            outputs = self.forward(inputs)
            self.sizes.append(_size_of(targets, size))
            self._of_loss(outputs, targets)
            self._of_metrics(outputs, targets)

    def _of_evaluate(self, got: Any, size: int | None) -> None:
        if not isinstance(got, Mapping):
            where = source_of(self.task.evaluate)
            raise SpecError(f"task.evaluate: expected a dict of numbers or tensors, got {type(got).__name__} ({where})")
        if any(name in got for name in GIVEN) and not all(name in got for name in GIVEN):
            raise SpecError("task.evaluate: expected outputs and targets, or neither, for the metrics")
        if self.task.metrics and GIVEN[0] not in got:
            raise SpecError("task.evaluate: the metrics want outputs and targets, and the dict has none")
        self.sizes.append(_size_of(got.get(GIVEN[1]), size))
        for name, value in got.items():
            if name not in GIVEN:
                self._note(name, value, "evaluate")
        if GIVEN[0] in got:
            self._of_metrics(got[GIVEN[0]], got[GIVEN[1]])

    def _of_step(self, got: Any, size: int | None) -> None:
        self.sizes.append(size)
        assert self.task.step is not None
        loss, recorded = loss_of(got, self.task.step)
        for name, value in {"loss": loss, **recorded}.items():
            self._note(name, value, "step")

    def _of_loss(self, outputs: Any, targets: Any) -> None:
        """Note the batch's own loss, and its losses by example as long as their mean is that loss.

        It is not with class weights, nor where targets are ignored (padding), which may begin in any batch.
        """
        assert self.task.loss is not None
        own = self._note("loss", self.task.loss(outputs, targets), "loss")
        if self.by_example is None:
            return
        values = self.by_example(outputs, targets)
        if own.ndim == 0 and values.ndim and values.shape[0] == self.sizes[-1]:
            rows = _rows(values.detach())
            if torch.isclose(rows.double().mean().cpu(), own.double(), rtol=1e-4, atol=1e-7, equal_nan=True):
                self.examples.append(rows)
                return
        self.by_example = None

    def _of_metrics(self, outputs: Any, targets: Any) -> None:
        for metric in self.aggregates.values():
            if isinstance(metric, nn.Module) and isinstance(outputs, Tensor):
                metric.to(outputs.device)
            metric.update(outputs, targets)
        for name, metric in self.metrics.items():
            if self._note(name, metric(outputs, targets), f"metrics[{name!r}]", metric).ndim == 0:
                self.gathered.add(name)
        if self.gathered:
            self.whole.append((outputs, targets))

    def _note(self, name: str, got: Any, said_by: str, function: Any = None) -> Tensor:
        """Keep a value of the batch: a scalar, or one an example."""
        said = getattr(self.task, said_by) if function is None else function
        if isinstance(got, Tensor) and got.is_meta:
            raise SpecError(
                f"task.{said_by}: expected a tensor with values for {name!r}, got one on the device meta ({source_of(said)})"
            )
        try:
            values = torch.as_tensor(got)
            values = values.detach().to("cpu") if values.ndim == 0 else values.detach()
        except (TypeError, ValueError, RuntimeError, NotImplementedError):
            what = f"got {type(got).__name__} ({source_of(said)})"
            raise SpecError(f"task.{said_by}: expected a number or a tensor for {name!r}, {what}") from None
        size = self.sizes[-1]
        if values.ndim and size is None:
            self.sizes[-1] = size = int(values.shape[0])
        if values.ndim and values.shape[0] != size:
            raise SpecError(
                f"task.{said_by}: expected values by example, shape ({size},), or a scalar for {name!r}, got shape "
                f"{tuple(values.shape)} ({source_of(said)})"
            )
        column = self.columns.setdefault(name, [])
        column.append(_rows(values) if values.ndim else values)
        if column[-1].ndim != column[0].ndim:
            raise SpecError(
                f"task.{said_by}: expected {name!r} by example, shape (B,), or a scalar in all batches alike, got some of "
                f"each ({source_of(said)})"
            )
        return column[-1]

    def _of_all(self, name: str) -> float:
        """Return an aggregate such as F1, which is not the mean of its values by batch, of all examples at once."""
        metric = self.metrics[name]
        try:
            outputs, targets = (tree.join(parts) for parts in zip(*self.whole, strict=True))
        except (RuntimeError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise SpecError(
                f"task.metrics[{name!r}]: a scalar is computed of all examples at once, and their outputs or targets cannot be "
                f"laid together ({reason}); return values by example, shape (B,), or a metric with update and compute "
                f"({source_of(metric)})"
            ) from None
        return float(metric(outputs, targets))

    def result(self, prefix: str) -> tuple[dict[str, float], dict[str, float]]:
        """Return means and their standard errors."""
        by_name: dict[str, float] = {}
        errors: dict[str, float] = {}
        if len(self.examples) == len(self.sizes):
            self.columns["loss"] = self.examples
        for name, column in self.columns.items():
            if len(column) != len(self.sizes):
                said_by = "step" if self.task.evaluate is None else "evaluate"
                where = source_of(getattr(self.task, said_by))
                raise SpecError(
                    f"task.{said_by}: {name!r} is missing in some of the batches of task.{self.split}; return it for all of "
                    f"them ({where})"
                )
            if column[0].ndim:
                values_N = torch.cat([values.cpu() for values in column]).double()
                by_name[prefix + name] = values_N.mean().item()
                if len(values_N) > 1 and math.isfinite(error := values_N.std().item() / math.sqrt(len(values_N))):
                    errors[prefix + name] = error
            elif name in self.gathered:
                by_name[prefix + name] = self._of_all(name)
            else:
                weights = [1.0 if None in self.sizes else float(size or 0) for size in self.sizes]
                weighted = sum(value.double().item() * weight for value, weight in zip(column, weights, strict=True))
                by_name[prefix + name] = weighted / sum(weights)
        for name, metric in self.aggregates.items():
            computed = metric.compute()
            if not isinstance(computed, Tensor | float | int) or torch.as_tensor(computed).numel() != 1:
                raise SpecError(
                    f"task.metrics[{name!r}]: expected one number from compute(), got {tree.describe(computed)}; average over "
                    "classes, or give several metrics by name"
                )
            by_name[prefix + name] = float(computed)
        return by_name, errors


def _size_of(targets: Any, size: int | None) -> int | None:
    return len(targets) if isinstance(targets, Tensor) and targets.ndim else size


def _rows(values: Tensor) -> Tensor:
    """Return one value an example: (B, …) to (B,)."""
    return values if values.ndim == 1 else torch.mean(values.double().flatten(1), 1)


def by_example(loss: Loss) -> Loss | None:
    """Return the loss with ``reduction="none"``, or None where it offers no such thing."""
    if isinstance(loss, nn.Module):
        if getattr(loss, "reduction", None) != "mean" or getattr(loss, "weight", None) is not None:
            return None  # with class weights a batch's loss is not the mean of its examples' losses
        unreduced: Any = copy.copy(loss)
        unreduced.reduction = "none"
        return unreduced  # type: ignore[no-any-return]
    try:
        reduction = inspect.signature(loss).parameters.get("reduction")
    except (TypeError, ValueError):
        return None
    unreduced = partial(cast(Callable[..., Tensor], loss), reduction="none")
    return unreduced if reduction is not None and reduction.default == "mean" else None

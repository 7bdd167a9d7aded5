"""Evaluates a model on held-out data: means over all examples, with standard errors where values come by example.

B batch, N examples.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from etude.errors import SpecError
from etude.tasks.data import Resident

Loss = Callable[[Tensor, Tensor], Tensor]


def evaluation_batch(batch_size: int) -> int:
    """Four training batches at a time, up to 256 examples: less memory than a training step takes, and faster."""
    return max(batch_size, min(256, 4 * batch_size))


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Resident,
    loss: Loss,
    metrics: Mapping[str, Loss],
    *,
    batch_size: int,
    shape: Callable[[Tensor], Tensor],
    prefix: str,
) -> tuple[dict[str, float], dict[str, float]]:
    """Return ({name: value}, {name: standard error}), names with ``prefix``; the model is left in evaluation mode.

    ``shape`` lays a batch out as the model's plan wants it. The standard error is that of the mean over examples. The
    loss has one when it can be had by example: a loss module or function with ``reduction="mean"``.
    """
    model.eval()
    measures: dict[str, Loss] = {"loss": by_example(loss) or loss, **metrics}
    columns: dict[str, list[Tensor]] = {name: [] for name in measures}
    sizes: list[int] = []
    whole: list[tuple[Tensor, Tensor]] = []
    for inputs, targets in data.in_order(batch_size):
        outputs = model(shape(inputs))
        sizes.append(len(targets))
        for name, measure in measures.items():
            values = measure(outputs, targets)
            if name == "loss" and not sizes[1:] and not _agrees(values, loss, outputs, targets):
                measures[name], values = loss, loss(outputs, targets)
            columns[name].append(_checked(name, values, len(targets)))
        if any(columns[name][0].ndim == 0 for name in metrics):
            whole.append((outputs, targets))
    values_by_name: dict[str, float] = {}
    errors: dict[str, float] = {}
    for name, column in columns.items():
        if column[0].ndim:
            values_N = torch.cat(column).double()
            values_by_name[prefix + name] = values_N.mean().item()
            if len(values_N) > 1:
                error = values_N.std().item() / math.sqrt(len(values_N))
                if math.isfinite(error):
                    errors[prefix + name] = error
        elif name == "loss":
            weighted = sum(value.double().item() * size for value, size in zip(column, sizes, strict=True))
            values_by_name[prefix + name] = weighted / sum(sizes)
        else:  # an aggregate such as F1 is not the mean of its values by batch
            outputs, targets = (torch.cat(parts) for parts in zip(*whole, strict=True))
            values_by_name[prefix + name] = float(measures[name](outputs, targets))
    return values_by_name, errors


def _checked(name: str, got: Any, size: int) -> Tensor:
    values: Tensor = torch.as_tensor(got)
    if values.ndim == 0:
        return values
    if values.shape[0] != size:
        raise SpecError(
            f"task.metrics[{name!r}]: expected values by example, shape ({size},), or a scalar, "
            f"got shape {tuple(values.shape)}"
        )
    return _rows(values)  # (B, …) to (B,)


def _agrees(values: Tensor, loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    """Whether the mean of the values by example is the batch's own loss (it is not, with class weights or padding)."""
    if values.ndim == 0 or values.shape[0] != len(targets):
        return False
    mean, own = _rows(values).double().mean(), loss(outputs, targets).double()
    return bool(torch.isclose(mean, own, rtol=1e-4, atol=1e-7, equal_nan=True))


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

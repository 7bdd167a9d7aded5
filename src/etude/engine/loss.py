"""Makes a loss of a batch, in the two ways in which a task may say how, and tells what does not fit.

B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from etude.errors import SpecError, source_of
from etude.tasks import tree
from etude.tasks.tree import Tree


def pair(batch: Tree, field: str = "task.train") -> tuple[Any, Any]:
    """Return (inputs, targets) of a batch for ``loss``. Raises `SpecError`, naming ``field``, for a batch of another form."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch[0], batch[1]
    raise SpecError(
        f"{field}: expected batches of (inputs, targets) for task.loss, got {tree.describe(batch)}; write step(model, batch) "
        "instead of loss, which takes a batch as it is"
    )


def loss_of(got: Any, step: Callable[..., Any]) -> tuple[Tensor, dict[str, Any]]:
    """Return (loss, what else to record) of what ``step`` returned. Raises `SpecError` where there is no loss."""
    if isinstance(got, Tensor):
        return got, {}
    if isinstance(got, Mapping):
        if not isinstance(got.get("loss"), Tensor):
            raise SpecError(
                f"task.step: expected a dict with a tensor 'loss', got {tree.describe(got)} ({source_of(step)})"
            )
        return got["loss"], {name: value for name, value in got.items() if name != "loss"}
    raise SpecError(f"task.step: expected the loss, or a dict with it, got {type(got).__name__} ({source_of(step)})")


def number_of(value: Any, name: str, step: Any) -> float:
    """Return what ``step`` records beside the loss. Raises `SpecError` for what is no scalar."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise SpecError(
            f"task.step: expected a number or a scalar tensor for {name!r}, got {tree.describe(value)} ({source_of(step)})"
        ) from None


def checked(loss: Any, said_by: str, function: Callable[..., Any], *, training: bool) -> Tensor:
    """Return the loss. Raises `SpecError` for one that is no scalar, or in ``training`` has no graph to go back along."""
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.ndim:
        shape = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise SpecError(
            f"task.{said_by}: expected a scalar tensor, the mean loss of the batch, got {shape} ({source_of(function)})"
        )
    if training and not loss.requires_grad:
        raise SpecError(
            f"task.{said_by}: expected a loss that depends on the model's parameters, got one without a graph; something "
            f"between model and loss detaches it (.item(), .detach(), .data, no_grad, argmax) ({source_of(function)})"
        )
    return loss


def hint(inputs: Tree) -> str:
    """Say what to do about inputs in double precision, as NumPy makes them; nothing for others."""
    double = any(isinstance(leaf, Tensor) and leaf.dtype == torch.float64 for leaf in tree.leaves(inputs))
    return "; for a model in single precision write .astype('float32'), or .float() of a tensor" if double else ""

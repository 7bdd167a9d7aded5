"""Metrics by example. B batch, C classes."""

from __future__ import annotations

from torch import Tensor


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the largest of the outputs (B, C) is the target (B,): 0.0 or 1.0 for each example, shape (B,)."""
    return (outputs.argmax(1) == targets).float()

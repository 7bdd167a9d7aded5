"""A quadratic bowl whose answer is known: with plain gradient descent every rate above 2/λ_max diverges.

The loss is ½ Σ λ_i (w_i − 1)², written as a linear regression whose Hessian is diag(λ): example i has the input
√(D λ_i) e_i, and a batch of all D examples gives the exact gradient. See Goh, "Why Momentum Really Works", Distill
2017, doi 10.23915/distill.00006. D dimensions, B batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etude.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

SUMMARY = "gradient descent on a quadratic bowl, curvatures 0.01 to 1: the best rate is known"
DIMENSIONS = 10
SMALLEST, LARGEST = 0.01, 1.0  # curvature λ
FACTS: dict[str, Any] = {"train": DIMENSIONS, "val": DIMENSIONS, "parameters": DIMENSIONS}
DEFAULTS: dict[str, Any] = {
    "recipe": {"optimizer": "sgd", "batch_size": DIMENSIONS},
    "objective": "val_loss",
    "lrs": [1e-3, 1e-2, 0.1, 1, 1.9, 2.1, 10],
    "seeds": 1,
    "epochs": 200,  # an epoch is one step here
    "evaluate_every": 10,
}


def task() -> Task:
    """Make the task: training and validation data are the same ten examples."""
    import torch

    curvature_D = torch.logspace(0, 1, DIMENSIONS, base=LARGEST / SMALLEST, dtype=torch.float64) * SMALLEST
    inputs = torch.diag((DIMENSIONS * curvature_D).sqrt()).float()
    data = inputs, inputs.sum(1)
    return Task(name="quadratic", model=weights, train=data, val=data, loss=half_squared_error)


def weights() -> nn.Module:
    """Make one weight a dimension: (B, D) to (B,)."""
    from torch import nn

    return nn.Sequential(nn.Linear(DIMENSIONS, 1, bias=False), nn.Flatten(0))


def half_squared_error(outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """½ (outputs − targets)², shapes (B,); the mean, or by example with ``reduction="none"``."""
    losses = 0.5 * (outputs - targets) ** 2
    return losses.mean() if reduction == "mean" else losses

"""A perceptron on the packaged MNIST, trained with plain gradient descent: the model of many first lectures.

For the data see `etude.tasks.mnist`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.tasks import mnist
from etude.tasks.task import Task

if TYPE_CHECKING:
    from torch import nn

SUMMARY = "a perceptron with 128 hidden units on handwritten digits, 28×28"
FACTS: dict[str, Any] = {"train": 60_000, "val": 10_000, "parameters": 101_770, "epoch_s": 5}
CHOOSES_ON_TEST_SET = mnist.CHOOSES_ON_TEST_SET
DEFAULTS: dict[str, Any] = {
    "recipe": {"optimizer": "sgd", "batch_size": 64},
    "objective": "val_accuracy",
    "lrs": [1e-3, 1e-2, 0.1, 0.3, 1, 10],
    "seeds": 2,
    "epochs": 3,
}


def task(root: str | Path | None = None) -> Task:
    """Make the task; ``root`` reads ``root/MNIST/raw`` (torchvision's layout) instead of the packaged files.

    Raises `DataError`, naming the file, for one that is missing, truncated or corrupt.
    """
    from torch import nn

    from etude.tasks.metrics import accuracy

    train, val = mnist.splits(root)
    return Task(
        name="mnist-mlp",
        model=perceptron,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        metrics={"accuracy": accuracy},
    )


def perceptron() -> nn.Module:
    """Make 784 inputs, 128 hidden units with ReLU, 10 classes."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, 10))

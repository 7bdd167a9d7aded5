"""A small task for trying things out: a perceptron on scikit-learn's 8×8 digits.

Data: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998; the
1,797 images that scikit-learn carries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etude.tasks.task import Task

if TYPE_CHECKING:
    from torch import nn

SUMMARY = "a perceptron with 64 hidden units on small handwritten digits, 8×8"
FACTS: dict[str, Any] = {"train": 1_297, "val": 500, "parameters": 4_810, "epoch_s": 0.1}
DEFAULTS: dict[str, Any] = {
    "recipe": {"optimizer": "adam", "batch_size": 64},
    "objective": "val_accuracy",
    "lrs": "1e-5..1/6",
    "seeds": 3,
    "epochs": 10,
}


def task() -> Task:
    """Make the task: 1,297 images to train on, 500 to choose with, the same split every time."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    from etude.tasks.data import Resident
    from etude.tasks.metrics import accuracy

    images, labels = load_digits(return_X_y=True)
    whole = Resident(torch.from_numpy(images).float().div_(16), torch.from_numpy(labels).long())
    train, val = whole.split(FACTS["val"])
    return Task(
        name="digits",
        model=perceptron,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        metrics={"accuracy": accuracy},
    )


def perceptron() -> nn.Module:
    """Make 64 inputs, 64 hidden units with ReLU, 10 classes."""
    from torch import nn

    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

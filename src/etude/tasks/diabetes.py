"""Regression on a small table: the progression of diabetes in 442 patients, from ten measurements.

Data: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least Angle Regression", Annals of Statistics 32 (2004), 407-499;
the table that scikit-learn carries. The target is a score of the disease's progression in a year, from 25 to 346.
B batch, N patients.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from etude.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

SUMMARY = "a small perceptron on a table of 442 patients: regression"
FACTS: dict[str, Any] = {"train": 342, "val": 100, "parameters": 385, "epoch_s": 0.05}
DEFAULTS: dict[str, Any] = {
    "recipe": {"optimizer": "sgd", "batch_size": 32},
    "objective": "val_loss",
    "lrs": "1e-4..1/5",
    "seeds": 5,
    "epochs": 20,
}


def task() -> Task:
    """Make the task: 342 patients to train on, 100 to choose with, the same split every time.

    Measurements and target have mean 0 and standard deviation 1 over the training patients; ``mae`` is in the score's
    own unit.
    """
    import torch
    from sklearn.datasets import load_diabetes
    from torch import nn

    from etude.tasks.data import Resident

    table, score = load_diabetes(return_X_y=True, scaled=False)
    train, val = Resident(torch.from_numpy(table), torch.from_numpy(score)).split(FACTS["val"])
    mean, sd = train.inputs.mean(0), train.inputs.std(0)
    score_mean, score_sd = train.targets.mean(), train.targets.std()
    scaled = [
        (((part.inputs - mean) / sd).float(), ((part.targets - score_mean) / score_sd).float()) for part in (train, val)
    ]
    return Task(
        name="diabetes",
        model=perceptron,
        train=scaled[0],
        val=scaled[1],
        loss=nn.MSELoss(),
        metrics={"mae": partial(absolute_error, unit=score_sd.item()), "r2": r2},
    )


def perceptron() -> nn.Module:
    """Make 10 inputs, 32 hidden units with ReLU, one output: (B, 10) to (B,)."""
    from torch import nn

    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0))


def absolute_error(outputs: Tensor, targets: Tensor, *, unit: float) -> Tensor:
    """|outputs − targets| for each patient, shape (B,), in points of the score."""
    return (outputs - targets).abs() * unit


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of the targets' variance that is explained: one number for all patients, at most 1."""
    left = (outputs - targets).square().sum()
    return 1 - left / (targets - targets.mean()).square().sum()

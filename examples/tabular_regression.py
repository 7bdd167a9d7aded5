"""Regression on a table of NumPy arrays; R² by its name in torchmetrics (pip install 'etude[metrics]').

    etude run examples/tabular_regression.py        (or python examples/tabular_regression.py)

The loss of a regression has the target's unit, squared: scale the target by the training data, and the rates that work
for one table work for the next.

The best rate found is about 1e-2 (R² 0.91); 1e-3 is too low for ten epochs, 1 too high; 0.1 wants more seeds.
"""

import numpy as np
from sklearn.datasets import make_friedman1
from torch import nn

import etude

# 1,500 rows of ten columns, five of which matter, and noise that no model can explain (Friedman 1991).
table, target = make_friedman1(n_samples=1500, n_features=10, noise=1.0, random_state=0)
inputs = table.astype(np.float32)  # NumPy computes in float64, models in float32
targets = target.astype(np.float32)[:, None]  # shape (N, 1), as the model's outputs
train, val = slice(0, 1000), slice(1000, None)
inputs = (inputs - inputs[train].mean(0)) / inputs[train].std(0)
targets = (targets - targets[train].mean()) / targets[train].std()


def perceptron():
    return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


task = etude.Task(
    model=perceptron,
    train=(inputs[train], targets[train]),
    val=(inputs[val], targets[val]),
    loss=nn.MSELoss(),
    metrics={"r2": "R2Score"},  # computed once, on all validation rows: R² is no mean over batches
)
study = etude.Study(
    name="tabular-regression",
    task=task,
    recipe=etude.Recipe(optimizer="adamw", weight_decay=0.01, batch_size=50),
    objective=etude.maximize("val_r2"),
    lrs="1e-4..1/5",
    seeds=3,
    epochs=10,
)

if __name__ == "__main__":
    print(study.run().recommendation.conclusion)

"""A study to start from: `etude run study.py` takes seconds as it stands.

Put your own model, data, loss and metrics where the example's are, and say which learning rates to try. Results go to
`runs/study`, by this file's name. The same command again trains what is missing: after more rates, seeds or epochs here,
or with --lrs, --seeds and --epochs. Another model, other data or another recipe want another --out.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import etude


# The model: called once a trial, so that each starts with fresh weights. The seed is set before it is called.
def model() -> nn.Module:
    """Return a model with fresh weights."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


# The data: pairs (inputs, targets) of tensors or arrays; the first axis counts examples. Etude shuffles and batches
# them. The validation data choose between the rates, so they must not be the ones that you will report in the end.
images, labels = load_digits(return_X_y=True)  # 1,797 handwritten digits, 8×8, that scikit-learn carries
inputs = torch.tensor(images, dtype=torch.float32) / 16
targets = torch.tensor(labels, dtype=torch.int64)
order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
train, val = order[:1300], order[1300:]


# A metric: of a batch's outputs and targets; a value an example is averaged and gets a standard error.
def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether each example's class is right, shape (B,)."""
    return (outputs.argmax(1) == targets).float()


task = etude.Task(
    model=model,
    train=(inputs[train], targets[train]),
    val=(inputs[val], targets[val]),
    loss=nn.CrossEntropyLoss(),  # loss(outputs, targets): the mean of a batch
    metrics={"accuracy": accuracy},  # by any names; recorded as val_accuracy beside val_loss
)

study = etude.Study(
    task=task,
    # The optimizer is a class of torch.optim: optimizer="sgd", optimizer_options={"momentum": 0.9} is another.
    recipe=etude.Recipe(optimizer="adam", batch_size=32),
    objective=etude.maximize("val_accuracy"),  # what decides; etude.minimize("val_loss") is another
    lrs="1e-4..1/5",  # five rates, log-spaced; a list does as well: [1e-4, 1e-3]
    seeds=2,  # two trials a rate: without a second seed nobody knows what chance does
    epochs=5,
)

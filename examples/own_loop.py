"""A training loop of one's own, without PyTorch: a small perceptron in NumPy on scikit-learn's digits.

    python examples/own_loop.py

trains what `runs/numpy-mlp` lacks (some seconds; the second time nothing) and says which rate to train at.
"""

import numpy as np
from sklearn.datasets import load_digits

import etude

HIDDEN, BATCH = 32, 32

images, digits = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(digits))
images, digits = images[order] / 16, digits[order]
train_x, train_y, val_x, val_y = images[:1400], digits[:1400], images[1400:], digits[1400:]


def forward(weights, x):
    """Return the hidden layer and the logarithms of the classes' probabilities."""
    hidden = np.maximum(x @ weights[0], 0)
    logits = hidden @ weights[1]
    logits = logits - logits.max(axis=1, keepdims=True)
    return hidden, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def train_epoch(weights, lr, rng):
    """Train one epoch of plain SGD in place and return the mean loss."""
    losses = []
    for batch in np.array_split(rng.permutation(len(train_x)), len(train_x) // BATCH):
        x, y = train_x[batch], train_y[batch]
        hidden, log_p = forward(weights, x)
        losses.append(-log_p[np.arange(len(y)), y].mean())
        error = (np.exp(log_p) - np.eye(10)[y]) / len(y)  # the gradient of the loss by the logits
        gradients = x.T @ ((error @ weights[1].T) * (hidden > 0)), hidden.T @ error
        for weight, gradient in zip(weights, gradients, strict=True):
            weight -= lr * gradient
    return np.mean(losses)


def evaluate(weights):
    """Return loss and accuracy on the validation data, under the names that etude knows them by."""
    log_p = forward(weights, val_x)[1]
    return {
        "val_loss": -log_p[np.arange(len(val_y)), val_y].mean(),
        "val_accuracy": (log_p.argmax(axis=1) == val_y).mean(),
    }


study = etude.Study(
    name="numpy-mlp", lrs="1e-3..10/9", seeds=3, epochs=8, objective="val_accuracy",
    task_options={"model": f"64-{HIDDEN}-10", "optimizer": "sgd", "batch": BATCH},  # what makes it this training and no other
)  # fmt: skip

for trial in study.missing():
    rng = np.random.default_rng(trial.seed)
    weights = [rng.normal(0, 0.1, (64, HIDDEN)), rng.normal(0, 0.2, (HIDDEN, 10))]
    trial.log(epoch=0, **evaluate(weights))
    with np.errstate(over="ignore", invalid="ignore"):  # what diverges may overflow on its way
        for epoch in range(1, trial.epochs + 1):
            trial.log(epoch=epoch, train_loss=train_epoch(weights, trial.lr, rng), **evaluate(weights))
            if trial.diverged:
                break

result = study.result()
print(result.rates[["lr", "verdict", "reason"]].to_string(index=False, float_format="{:.3g}".format))
print(result.recommendation.conclusion)
print("Next:", result.recommendation.next_command)

"""A LightningModule as it is, without a Trainer (pip install lightning).

    etude run examples/lightning_module.py        (or python examples/lightning_module.py)

`training_step` and `validation_step` are called with each batch; what they log is what etude records. The optimizer is the
recipe's: `configure_optimizers` is not asked, since its rate is what is to be found.

The best rate found is about 0.1 (validation loss 0.01); 1e-2 is too low for five epochs, 1 restless, 10 diverges.
"""

import lightning
import torch
import torch.nn.functional as F
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etude


class Classifier(lightning.LightningModule):
    """Any LightningModule: nothing in it knows of etude."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 32), nn.Tanh(), nn.Linear(32, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", (logits.argmax(1) == y).float().mean())
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        self.log_dict({"val_loss": F.cross_entropy(logits, y), "val_accuracy": (logits.argmax(1) == y).float().mean()})


# These few lines fit any module whose steps return a loss and log scalars.
def logged(module, run, prefix):
    """Call a step of the module; return (what it returns, what it logs, by name without ``prefix``)."""
    said = {}
    module.log = lambda name, value, **_: said.update({name.removeprefix(prefix): value})
    module.log_dict = lambda values, **_: [module.log(name, value) for name, value in values.items()]
    return run(), said


def step(module, batch):
    loss, said = logged(module, lambda: module.training_step(batch, 0), "train_")
    return {**said, "loss": loss}


def evaluate(module, batch):
    return logged(module, lambda: module.validation_step(batch, 0), "val_")[1]


measurements, cultivars = load_wine(return_X_y=True)  # 178 wines of three cultivars, 13 measurements, in scikit-learn
x, y = torch.tensor(measurements, dtype=torch.float32), torch.tensor(cultivars)
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, val = order[:100], order[100:]
x = (x - x[train].mean(0)) / x[train].std(0)

task = etude.Task(
    model=Classifier,
    train=DataLoader(TensorDataset(x[train], y[train]), batch_size=10, shuffle=True),
    val=DataLoader(TensorDataset(x[val], y[val]), batch_size=78),
    step=step,
    evaluate=evaluate,
)
study = etude.Study(
    name="lightning-module", task=task, recipe=etude.Recipe(optimizer="sgd", optimizer_options={"momentum": 0.9}),
    objective=etude.minimize("val_loss"), lrs="1e-4..10/6", seeds=3, epochs=5,
)  # fmt: skip

if __name__ == "__main__":
    print(study.run().recommendation.conclusion)

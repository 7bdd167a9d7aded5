"""Fine-tuning: a pretrained backbone that is to change slowly, under a new head that has everything to learn.

    etude run examples/fine_tuning.py        (or python examples/fine_tuning.py)

The backbone has learned the digits 0 to 4; now few images of 5 to 9 are to do. `parameters` makes two groups, whose rates
are relative to the study's: 1 for the head, 0.1 for the backbone. What is tried is the head's rate.

The best rate found for the head is about 0.1 (93 %), so 0.01 for the backbone; 1e-2 is too low, 1 too high.
"""

import copy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import etude

pixels, labels = load_digits(return_X_y=True)  # 1,797 handwritten digits, 8×8, that scikit-learn carries
images, labels = torch.tensor(pixels, dtype=torch.float32) / 16, torch.tensor(labels)
old = labels < 5
new_images, new_labels = images[~old], labels[~old] - 5  # 896 images


def pretrained():
    """Return a backbone that has learned the old classes; yours comes from a file.

    It is part of the study's identity, so it must come out the same each time: seeded, and summed up in one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
        whole = nn.Sequential(backbone, nn.Linear(32, 5))
        adam = torch.optim.Adam(whole.parameters(), 1e-3)
        for _ in range(200):
            adam.zero_grad()
            F.cross_entropy(whole(images[old]), labels[old]).backward()
            adam.step()
    torch.set_num_threads(threads)
    return backbone


BACKBONE = pretrained()


class Network(nn.Module):
    """The backbone, and a head for the new classes."""

    def __init__(self):
        super().__init__()
        # A copy, so that each trial starts from what was pretrained; only the head depends on the trial's seed.
        self.backbone, self.head = copy.deepcopy(BACKBONE), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.backbone(x))


def parameters(model):
    return [{"params": model.backbone.parameters(), "lr": 0.1}, {"params": model.head.parameters(), "lr": 1.0}]


task = etude.Task(
    model=Network,
    parameters=parameters,
    train=(new_images[:200], new_labels[:200]),
    val=(new_images[200:], new_labels[200:]),
    loss=nn.CrossEntropyLoss(),
    metrics={"accuracy": etude.metrics.accuracy},
)
# Averaged weights (of about the last ten steps here) are what is evaluated, and what result.model() returns.
recipe = etude.Recipe(optimizer="adamw", batch_size=20, clip_norm=1.0, average="ema", average_decay=0.9)
study = etude.Study(name="fine-tuning", task=task, recipe=recipe, lrs="1e-3..1/7", seeds=3, epochs=10)

if __name__ == "__main__":
    print(study.run().recommendation.conclusion)

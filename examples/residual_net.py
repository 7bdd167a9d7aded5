"""A residual network with BatchNorm, trained as such networks usually are: SGD with momentum, warmup, cosine.

    etude run examples/residual_net.py        (or python examples/residual_net.py)

The study's rate is the peak of the schedule. The running statistics of BatchNorm are buffers, so they are stored and
restored with the weights. With a schedule that falls to zero at the end, more epochs are other trials.

The best rate found is about 0.1 (96 %); 1e-2 is too low for three epochs, 1 a little too high, 10 diverges.
"""

import torch.nn.functional as F
from torch import nn

import etude
from etude.tasks import mnist

# A part of the MNIST images that etude carries, at half the resolution: (N, 1, 14, 14), 0 to 1. The validation images come
# from the training set, so that its test set stays untouched by the choice.
whole, _ = mnist.splits(None)
images, labels = F.avg_pool2d(whole.inputs[:4000].float() / 255, 2), whole.targets[:4000]


class Block(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016): (B, C, H, W) to (B, width, H / stride, W / stride)."""

    def __init__(self, channels, width, stride=1):
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        same = channels == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x):
        return F.relu(self.path(x) + self.shortcut(x))


def resnet():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        Block(8, 8), Block(8, 16, stride=2), Block(16, 32, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


task = etude.Task(
    model=resnet,
    train=(images[:3000], labels[:3000]),
    val=(images[3000:], labels[3000:]),
    loss=nn.CrossEntropyLoss(),
    metrics={"accuracy": etude.metrics.accuracy},
)
recipe = etude.Recipe(
    optimizer="sgd", optimizer_options={"momentum": 0.9, "nesterov": True}, weight_decay=5e-4, batch_size=64,
    schedule="cosine", warmup="10%",
)  # fmt: skip
study = etude.Study(name="residual-net", task=task, recipe=recipe, lrs="1e-3..10/5", seeds=2, epochs=3)

if __name__ == "__main__":
    print(study.run().recommendation.conclusion)

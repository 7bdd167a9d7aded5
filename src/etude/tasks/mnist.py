"""The reference task: SimpleCNN on MNIST, as in the article that etude grew from.

Data: Y. LeCun, C. Cortes, C. J. C. Burges, the MNIST database of handwritten digits (CC BY-SA 3.0), carried by the
package. The 10,000 test images are the validation data, as in the article; ``holdout`` keeps training images instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.tasks import images
from etude.tasks.task import Task

if TYPE_CHECKING:
    from torch import nn

    from etude.tasks.data import Resident

SUMMARY = "SimpleCNN on handwritten digits, 28×28: the article's study"
FACTS: dict[str, Any] = {"train": 60_000, "val": 10_000, "parameters": 206_922, "epoch_s": 20}
# Choosing on the test set flatters the choice; what is printed says so.
CHOOSES_ON_TEST_SET = "the 10,000 test images"
DEFAULTS: dict[str, Any] = {
    "recipe": {"optimizer": "adam", "batch_size": 64},
    "objective": "val_accuracy",
    "lrs": [1e-4, 1e-3, 1e-2],
    "seeds": 1,
    "epochs": 5,
    "expect": {
        "1e-4": ["too low"],
        "1e-3": {"verdict": ["good"], "val_accuracy": [0.97, 0.98]},
        "1e-2": ["unstable", "diverged"],
    },
}

PACKAGED = Path(__file__).parent / "mnist_data"
FILES = {  # uncompressed size in bytes, md5
    "train-images-idx3-ubyte": (47_040_016, "6bbc9ace898e44ae57da46a324031adb"),
    "train-labels-idx1-ubyte": (60_008, "a25bea736e30d166cdddb491f175f624"),
    "t10k-images-idx3-ubyte": (7_840_016, "2646ac647ad5339dbf082846283269ea"),
    "t10k-labels-idx1-ubyte": (10_008, "27ae3e4e09519cfbb04c329615203637"),
}


def task(root: str | Path | None = None) -> Task:
    """Make the task; ``root`` reads ``root/MNIST/raw`` (torchvision's layout) instead of the packaged files.

    Raises `DataError`, naming the file, for one that is missing, truncated or corrupt.
    """
    from torch import nn

    from etude.tasks.metrics import accuracy

    train, val = splits(root)
    return Task(
        name="mnist",
        model=simple_cnn,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        metrics={"accuracy": accuracy},
    )


def splits(root: str | Path | None) -> tuple[Resident, Resident]:
    """Read the 60,000 training and the 10,000 test images; see `task` for ``root`` and what is raised."""
    given = images.as_folder(root)
    folder = PACKAGED if given is None else given / "MNIST" / "raw"
    train, test = (images.read_idx_split(folder, prefix, FILES, "MNIST") for prefix in ("train", "t10k"))
    return train, test


def simple_cnn() -> nn.Module:
    """Make two 3×3 convolutions (16, 32 channels) with ReLU and 2×2 max-pooling, then 128 and 10 linear units.

    The pooling comes before the ReLU: max(relu(x)) is relu(max(x)) and their gradients are equal, to the last bit, with a
    quarter of the values to rectify.
    """
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip

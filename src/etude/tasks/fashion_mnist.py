"""SimpleCNN on pictures of clothes: as large as MNIST, and harder. Downloaded once, 31 MB.

Data: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", 2017, arXiv 1708.07747 (MIT licence, Zalando SE), https://github.com/zalandoresearch/fashion-mnist. The
10,000 test images are the validation data; ``holdout`` keeps training images instead. B batch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.tasks import images, mnist
from etude.tasks.download import Remote, fetch
from etude.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

SUMMARY = "SimpleCNN on pictures of clothes, 28×28"
FACTS: dict[str, Any] = {"train": 60_000, "val": 10_000, "parameters": 206_922, "epoch_s": 20, "download_mb": 31}
CHOOSES_ON_TEST_SET = "the 10,000 test images"
DEFAULTS: dict[str, Any] = {
    "recipe": {"optimizer": "adam", "batch_size": 64},
    "objective": "val_accuracy",
    "lrs": "1e-5..1e-1/5",
    "seeds": 1,
    "epochs": 5,
}

SOURCE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
REMOTE = (
    Remote(url=f"{SOURCE}/train-images-idx3-ubyte.gz", md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    Remote(url=f"{SOURCE}/train-labels-idx1-ubyte.gz", md5="25c81989df183df01b3e8a0aad5dffbe"),
    Remote(url=f"{SOURCE}/t10k-images-idx3-ubyte.gz", md5="bef4ecab320f06d8554ea6380940ec79"),
    Remote(url=f"{SOURCE}/t10k-labels-idx1-ubyte.gz", md5="bb300cfdad3c16e7a12a480ee83cd310"),
)
FILES = {  # uncompressed size in bytes, md5
    "train-images-idx3-ubyte": (47_040_016, "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
    "train-labels-idx1-ubyte": (60_008, "9018921c3c673c538a1fc5bad174d6f9"),
    "t10k-images-idx3-ubyte": (7_840_016, "8181f5470baa50b63fa0f6fddb340f0a"),
    "t10k-labels-idx1-ubyte": (10_008, "15d484375f8d13e6eb1aabb0c3f46965"),
}
MEAN, SD = 0.2860, 0.3530  # of all training pixels, in [0, 1]


def task(root: str | Path | None = None) -> Task:
    """Make the task; ``root`` reads ``root/FashionMNIST/raw`` (torchvision's layout) and downloads nothing.

    Raises `DataError`, naming the file, for one that cannot be downloaded, is missing, truncated or corrupt.
    """
    from torch import nn

    from etude.tasks.metrics import accuracy

    given = images.as_folder(root)
    folder = _downloaded() if given is None else given / "FashionMNIST" / "raw"
    train, val = (
        replace(images.read_idx_split(folder, prefix, FILES, "Fashion-MNIST"), prepare=standardised)
        for prefix in ("train", "t10k")
    )
    return Task(
        name="fashion-mnist",
        model=mnist.simple_cnn,
        train=train,
        val=val,
        loss=nn.CrossEntropyLoss(),
        metrics={"accuracy": accuracy},
    )


def standardised(batch: Tensor) -> Tensor:
    """Turn grey values 0..255 (B, 1, 28, 28) into float32 with mean 0 and standard deviation 1 over the training set."""
    return batch.float().sub_(255 * MEAN).div_(255 * SD)


def _downloaded() -> Path:
    paths = [fetch(remote, "fashion-mnist") for remote in REMOTE]
    return paths[0].parent

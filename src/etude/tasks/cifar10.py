"""A CNN of three convolutions on CIFAR-10: small colour photographs of ten kinds of things. Downloaded once, 170 MB.

Data: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and its page
https://www.cs.toronto.edu/~kriz/cifar.html (which names no licence and asks to be cited), in the binary version. The
10,000 test images are the validation data; ``holdout`` keeps training images instead. B batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.errors import DataError
from etude.tasks import images
from etude.tasks.download import Remote, fetch
from etude.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from etude.tasks.cifar import Part
    from etude.tasks.data import Resident

SUMMARY = "a CNN of three convolutions on small colour photographs, 32×32"
FACTS: dict[str, Any] = {"train": 50_000, "val": 10_000, "parameters": 188_810, "epoch_s": 70, "download_mb": 170}
CHOOSES_ON_TEST_SET = "the 10,000 test images"
DEFAULTS: dict[str, Any] = {
    "recipe": {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "batch_size": 128},
    "objective": "val_accuracy",
    "lrs": "1e-4..1/5",
    "seeds": 1,
    "epochs": 5,
}

ARCHIVE = Remote(url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", md5="c32a1d4ab5d03f1284b67883e8d87530")
BINARY, PICKLED = "cifar-10-batches-bin", "cifar-10-batches-py"  # the folders that the two archives unpack to
BATCHES = {  # name: md5 in the Python version; the last one is the test set
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
IMAGES_A_BATCH = 10_000
MEAN, SD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training pixels' red, green, blue, in [0, 1]


def task(root: str | Path | None = None) -> Task:
    """Make the task; ``root`` reads ``root/cifar-10-batches-bin`` or ``-py`` (torchvision's layout) and downloads nothing.

    Raises `DataError`, naming the file, for one that cannot be downloaded, is missing, truncated or corrupt.
    """
    from torch import nn

    from etude.tasks.metrics import accuracy

    given = images.as_folder(root)
    *train, val = _downloaded() if given is None else _unpacked(given)
    return Task(
        name="cifar10",
        model=cnn,
        train=_resident(train),
        val=_resident([val]),
        loss=nn.CrossEntropyLoss(),
        metrics={"accuracy": accuracy},
    )


def cnn() -> nn.Module:
    """Make three 3×3 convolutions (32, 64, 64 channels) with 2×2 max-pooling and ReLU, then 128 and 10 linear units."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def standardised(batch: Tensor) -> Tensor:
    """Turn bytes (B, 3, 32, 32) into float32, each colour with mean 0 and standard deviation 1 over the training set."""
    floats = batch.float()
    mean, sd = (floats.new_tensor(of).view(3, 1, 1) * 255 for of in (MEAN, SD))
    return floats.sub_(mean).div_(sd)


def _downloaded() -> list[Part]:
    from etude.tasks import cifar

    names = [f"{BINARY}/{name}.bin" for name in BATCHES]
    return cifar.read_archive(fetch(ARCHIVE, "cifar10"), names, n_images=IMAGES_A_BATCH)


def _unpacked(root: Path) -> list[Part]:
    from etude.tasks import cifar

    if (root / BINARY).is_dir():
        paths = [root / BINARY / f"{name}.bin" for name in BATCHES]
        return [cifar.read_records(cifar.read_bytes(path), str(path), n_images=IMAGES_A_BATCH) for path in paths]
    if (root / PICKLED).is_dir():
        return [
            cifar.read_pickle(root / PICKLED / name, md5=md5, n_images=IMAGES_A_BATCH) for name, md5 in BATCHES.items()
        ]
    raise DataError(
        f"{root}: expected a folder {BINARY} or {PICKLED} in it, got neither; unpack CIFAR-10's archive there"
    )


def _resident(parts: list[Part]) -> Resident:
    import numpy as np
    import torch

    from etude.tasks.data import Resident

    pixels, labels = (np.concatenate(of) for of in zip(*parts, strict=True))
    return Resident(torch.from_numpy(pixels), torch.from_numpy(labels), standardised)

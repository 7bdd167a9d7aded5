"""Small images with labels, kept as bytes and prepared by batch. B batch, N images.

What `mnist`, `mnist-mlp`, `fashion-mnist` and `cifar10` share.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.errors import DataError, SpecError

if TYPE_CHECKING:
    from torch import Tensor

    from etude.tasks.data import Resident

Files = Mapping[str, tuple[int, str]]  # by name: uncompressed size in bytes, md5


def as_folder(root: object) -> Path | None:
    """Return the option ``root`` as a path, None if it was not given. Raises `SpecError` for what is no path."""
    if root is None or isinstance(root, str | Path):
        return None if root is None else Path(root)
    raise SpecError(f"study.task_options.root: expected a folder, got {root!r}")


def as_unit_floats(images: Tensor) -> Tensor:
    """Turn bytes 0..255 (B, C, H, W) into float32 in [0, 1], as torchvision's ``ToTensor`` does."""
    return images.float().div_(255)


def read_idx_split(folder: Path, prefix: str, files: Files, data_set: str) -> Resident:
    """Read ``PREFIX-images-idx3-ubyte`` and ``PREFIX-labels-idx1-ubyte``, plain or gzipped: images (N, 1, 28, 28).

    Raises `DataError`, naming the file, for one that is missing, truncated or corrupt.
    """
    import torch

    from etude.tasks.data import Resident

    images = torch.from_numpy(_read(folder, f"{prefix}-images-idx3-ubyte", files, data_set))
    labels = torch.from_numpy(_read(folder, f"{prefix}-labels-idx1-ubyte", files, data_set))
    return Resident(images.unsqueeze(1), labels.long(), as_unit_floats)


def _read(folder: Path, name: str, files: Files, data_set: str) -> Any:
    from etude.tasks.idx import read_idx

    n_bytes, md5 = files[name]
    found = next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)
    if found is None:
        raise DataError(
            f"{folder / name}: the file is missing, and so is {name}.gz; expected {data_set}'s four files there"
        )
    return read_idx(found, n_bytes=n_bytes, md5=md5)

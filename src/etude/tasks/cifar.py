"""The two formats of CIFAR-10: the binary version's records, and the Python version's pickles. N images.

A record is one byte, the label, and 3,072 bytes, 32 × 32 pixels of red, then green, then blue, row by row. Source:
https://www.cs.toronto.edu/~kriz/cifar.html, "Dataset layout".
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from etude.errors import DataError

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]  # images (N, 3, 32, 32), labels (N,)
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
CLASSES = 10


def read_archive(path: Path, names: Iterable[str], *, n_images: int) -> list[Part]:
    """Read the members ``names`` of a gzipped tar file, in their order; nothing is unpacked onto the disk.

    Raises `DataError`, naming the file, for one that is truncated, corrupt, or lacks a member.
    """
    wanted = list(names)
    found: dict[str, Part] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name in wanted and member.isfile() else None
                if file is not None:
                    found[member.name] = read_records(file.read(), f"{path}: {member.name}", n_images=n_images)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a sound .tar.gz file ({error}); copy it again") from None
    for name in wanted:
        if name not in found:
            raise DataError(f"{path}: expected a member {name}, got none; the file is another one")
    return [found[name] for name in wanted]


def read_records(content: bytes, name: str, *, n_images: int) -> Part:
    """Read a file of the binary version. Raises `DataError`, beginning with ``name``, for any other content."""
    n_bytes = n_images * (1 + PIXELS)
    if len(content) != n_bytes:
        raise DataError(f"{name}: expected {n_bytes:,} bytes, got {len(content):,}; copy it again")
    records = np.frombuffer(content, np.uint8).reshape(n_images, 1 + PIXELS)
    return _part(records[:, 1:], records[:, 0], name, n_images)


def read_pickle(path: Path, *, md5: str, n_images: int) -> Part:
    """Read a file of the Python version; no other name is looked up than NumPy's arrays need.

    Raises `DataError`, naming the file, for one that is missing, corrupt, or not the one with this checksum.
    """
    content = read_bytes(path)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(f"{path}: expected md5 {md5}, got {found}; the file is truncated, corrupt or another one")
    try:
        table = _Arrays(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = np.asarray(table[b"data"]), np.asarray(table[b"labels"])
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise DataError(f"{path}: not a batch of CIFAR-10's Python version: {error}") from None
    if pixels.dtype != np.uint8 or pixels.shape != (n_images, PIXELS) or labels.shape != (n_images,):
        raise DataError(
            f"{path}: expected bytes of shape ({n_images}, {PIXELS}) and as many labels, got {pixels.dtype} of shape "
            f"{pixels.shape} and {labels.size} labels"
        )
    return _part(pixels, labels, str(path), n_images)


def read_bytes(path: Path) -> bytes:
    """Return the file's content. Raises `DataError`, naming it, when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _part(pixels: NDArray[Any], labels: NDArray[Any], name: str, n_images: int) -> Part:
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= CLASSES:
        raise DataError(f"{name}: expected labels from 0 to {CLASSES - 1}; the file is corrupt or another one")
    return pixels.reshape(n_images, *SHAPE), labels.astype(np.int64)


class _Arrays(pickle.Unpickler):
    """Reads numbers, strings, lists, dicts and NumPy arrays; refuses to look up anything else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) in (
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),  # its name since NumPy 2
        ):
            return np.empty(0).__reduce__()[0]
        if (module_name, global_name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, global_name)
        raise pickle.UnpicklingError(f"refused: {module_name}.{global_name}")

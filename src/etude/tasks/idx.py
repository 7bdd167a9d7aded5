"""The IDX format of the MNIST files: two zero bytes, a type code, the number of axes, their big-endian lengths, the data.

Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", section "File formats".
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from etude.errors import DataError

UINT8 = 0x08


def read_idx(path: Path, *, n_bytes: int, md5: str) -> NDArray[np.uint8]:
    """Read one file of unsigned bytes, gzipped where the name ends in ``.gz``.

    ``n_bytes`` and ``md5`` are those of the uncompressed file. Raises `DataError`, naming the file, when it is missing,
    truncated, corrupt, or not the file it should be.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except EOFError:
            raise DataError(f"{path}: the gzip stream ends early; the file is truncated, copy it again") from None
        except (OSError, zlib.error) as error:
            raise DataError(f"{path}: not a sound gzip file ({error}); copy it again") from None
    if len(content) != n_bytes:
        raise DataError(f"{path}: expected {n_bytes:,} bytes uncompressed, got {len(content):,}; copy it again")
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(f"{path}: expected md5 {md5} uncompressed, got {found}; the file is corrupt or another one")
    if content[:3] != bytes([0, 0, UINT8]):
        raise DataError(f"{path}: expected an IDX file of unsigned bytes, got the first bytes {content[:4].hex(' ')}")
    n_axes = content[3]
    start = 4 + 4 * n_axes
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=n_axes, offset=4))
    if start + int(np.prod(shape)) != n_bytes:
        raise DataError(f"{path}: its header promises the shape {shape}, which is not what follows")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()

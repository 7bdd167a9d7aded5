"""Small files of the formats that the downloaded data sets have."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile

import numpy as np

BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def idx_files(train: int, test: int) -> dict[str, bytes]:
    """MNIST's four files, by name, uncompressed."""
    rng = np.random.default_rng(0)
    made = {}
    for prefix, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = rng.integers(0, 10, count, np.uint8)
        made[f"{prefix}-images-idx3-ubyte"] = struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + images.tobytes()
        made[f"{prefix}-labels-idx1-ubyte"] = struct.pack(">4BI", 0, 0, 8, 1, count) + labels.tobytes()
    return made


def cifar_batches(count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels (count, 3072) and labels (count,) of the six batches, by name."""
    rng = np.random.default_rng(1)
    return {
        name: (rng.integers(0, 256, (count, 3072), np.uint8), rng.integers(0, 10, count, np.uint8)) for name in BATCHES
    }


def cifar_records(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """A file of the binary version."""
    return np.concatenate([labels[:, None], pixels], 1).tobytes()


def cifar_archive(count: int, leave_out: str = "") -> tuple[bytes, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The binary version's archive, and what is in it; with the files that come along and are not read."""
    batches = cifar_batches(count)
    members = {f"{name}.bin": cifar_records(*batch) for name, batch in batches.items() if name != leave_out}
    members |= {"batches.meta.txt": b"airplane\n", "readme.html": b"<html>"}
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in reversed(members.items()):  # in any order
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue(), batches


def python_2_pickle(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """A file of the Python version, opcode by opcode as Python 2 wrote them: byte strings, and NumPy's old module name."""

    def text(words: bytes) -> bytes:
        return pickle.SHORT_BINSTRING + bytes([len(words)]) + words

    def whole(number: int) -> bytes:
        return pickle.BININT + struct.pack("<i", number)

    array = pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n" + pickle.MARK + pickle.GLOBAL + b"numpy\nndarray\n"
    array += whole(0) + pickle.TUPLE1 + text(b"b") + pickle.TUPLE + pickle.REDUCE
    dtype = pickle.GLOBAL + b"numpy\ndtype\n" + pickle.MARK + text(b"u1") + whole(0) + whole(1) + pickle.TUPLE
    dtype += pickle.REDUCE + pickle.MARK + whole(3) + text(b"|") + 3 * pickle.NONE + whole(-1) + whole(-1) + whole(0)
    dtype += pickle.TUPLE + pickle.BUILD
    state = pickle.MARK + whole(1) + pickle.MARK + b"".join(map(whole, pixels.shape)) + pickle.TUPLE + dtype
    state += pickle.NEWFALSE + pickle.BINSTRING + struct.pack("<i", pixels.size) + pixels.tobytes() + pickle.TUPLE
    listed = pickle.EMPTY_LIST + pickle.MARK + b"".join(whole(int(label)) for label in labels) + pickle.APPENDS
    table = pickle.EMPTY_DICT + pickle.MARK + text(b"data") + array + state + pickle.BUILD + text(b"labels") + listed
    table += text(b"batch_label") + text(b"training batch 1 of 5") + pickle.SETITEMS
    return pickle.PROTO + b"\x02" + table + pickle.STOP

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct

import numpy as np
import pytest

from etude import tasks
from etude.errors import DataError, EtudeError
from etude.tasks import mnist
from etude.tasks.idx import read_idx

VALUES = np.arange(200, dtype=np.uint8).reshape(2, 10, 10)


def idx(values, code=0x08):
    return (
        struct.pack(">BBBB", 0, 0, code, values.ndim)
        + struct.pack(f">{values.ndim}I", *values.shape)
        + values.tobytes()
    )


def write(path, content, *, of=None):
    """Write ``content``; return what `read_idx` is told of the file, which is that of the sound file ``of``."""
    path.write_bytes(content)
    sound = idx(VALUES) if of is None else of
    return {"n_bytes": len(sound), "md5": hashlib.md5(sound).hexdigest()}


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "some-idx3-ubyte"


@pytest.fixture
def zipped(tmp_path):
    return tmp_path / "some-idx3-ubyte.gz"


def test_a_raw_file_is_read(raw):
    read = read_idx(raw, **write(raw, idx(VALUES)))
    assert read.dtype == np.uint8
    assert np.array_equal(read, VALUES)
    assert read.flags.writeable


def test_a_gzipped_file_is_read(zipped):
    assert np.array_equal(read_idx(zipped, **write(zipped, gzip.compress(idx(VALUES)))), VALUES)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 15, 16, 100, 215])
def test_a_truncated_raw_file_is_refused(raw, length):
    told = write(raw, idx(VALUES)[:length])
    with pytest.raises(DataError, match=rf"some-idx3-ubyte: expected 216 bytes uncompressed, got {length}"):
        read_idx(raw, **told)


def test_a_file_that_is_too_long_is_refused(raw):
    told = write(raw, idx(VALUES) + b"\0")
    with pytest.raises(DataError, match="some-idx3-ubyte: expected 216 bytes uncompressed, got 217"):
        read_idx(raw, **told)


def test_a_gzipped_file_truncated_anywhere_is_refused(zipped):
    sound = gzip.compress(idx(VALUES))
    for length in range(len(sound)):
        told = write(zipped, sound[:length])
        with pytest.raises(DataError, match=r"some-idx3-ubyte\.gz: ") as caught:
            read_idx(zipped, **told)
        assert "\n" not in str(caught.value)


def outcome(path, told):
    """Read a file; return what is said of it, or None where its values are right."""
    try:
        assert np.array_equal(read_idx(path, **told), VALUES)
    except DataError as error:
        return str(error)
    return None


def test_a_gzipped_file_with_a_byte_flipped_anywhere_is_refused_or_unharmed(zipped):
    """Some bytes of a gzip header, such as the time, do not matter."""
    sound = gzip.compress(idx(VALUES))
    harmless = 0
    for position in range(len(sound)):
        flipped = bytearray(sound)
        flipped[position] ^= 0xFF
        told = write(zipped, bytes(flipped))
        said = outcome(zipped, told)
        harmless += said is None
        assert said is None or (said.startswith(f"{zipped}: ") and "\n" not in said)
    assert harmless < 10


@pytest.mark.parametrize("position", [0, 3, 7, 16, 100, 215])
def test_a_raw_file_with_a_flipped_byte_is_refused(raw, position):
    flipped = bytearray(idx(VALUES))
    flipped[position] ^= 0x01
    told = write(raw, bytes(flipped))
    with pytest.raises(DataError, match=r"some-idx3-ubyte: expected md5 .* the file is corrupt or another one"):
        read_idx(raw, **told)


@pytest.mark.parametrize(
    "content",
    [idx(VALUES, code=0x0D), b"\x89PNG" + bytes(100), b"", b"\0\0",
     struct.pack(">BBBB2I", 0, 0, 8, 2, 3, 3) + bytes(8)],
    ids=["floats", "png", "empty", "two bytes", "shape too large"],
)  # fmt: skip
def test_a_file_that_is_no_idx_of_bytes_is_refused_even_with_the_right_digest(raw, content):
    told = write(raw, content, of=content)
    with pytest.raises(DataError, match="some-idx3-ubyte: "):
        read_idx(raw, **told)


def test_a_missing_file_is_named(raw):
    with pytest.raises(DataError, match="some-idx3-ubyte: cannot be read: No such file"):
        read_idx(raw, n_bytes=216, md5="")


def test_a_directory_is_no_file(raw):
    raw.mkdir()
    with pytest.raises(DataError, match="some-idx3-ubyte: cannot be read"):
        read_idx(raw, n_bytes=216, md5="")


@pytest.fixture(scope="module")
def packaged():
    return mnist.task()


def test_the_packaged_mnist_has_the_shapes_and_label_counts_of_mnist(packaged):
    assert packaged.train.inputs.shape == (60_000, 1, 28, 28)
    assert packaged.val.inputs.shape == (10_000, 1, 28, 28)
    # As published with the data set.
    assert packaged.train.targets.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert packaged.val.targets.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert packaged.train.targets[:5].tolist() == [5, 0, 4, 1, 9]


def test_images_become_floats_from_0_to_1(packaged):
    ((inputs, _), _), *_ = packaged.val.in_order(100)
    assert inputs.shape == (100, 1, 28, 28)
    assert (inputs.min().item(), inputs.max().item()) == (0.0, 1.0)


def torchvision_folder(root):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in mnist.FILES:
        (folder / f"{name}.gz").symlink_to(mnist.PACKAGED / f"{name}.gz")
    return folder


def test_torchvisions_folder_gives_equal_data(packaged, tmp_path):
    folder = torchvision_folder(tmp_path)
    labels = folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(gzip.decompress((folder / f"{labels.name}.gz").read_bytes()))  # torchvision unpacks
    (folder / f"{labels.name}.gz").unlink()
    for root in (tmp_path, str(tmp_path)):
        made = mnist.task(root=root)
        assert made.val.digest() == packaged.val.digest()
    assert made.train.digest() == packaged.train.digest()


@pytest.mark.parametrize("name", mnist.FILES)
def test_a_file_missing_from_torchvisions_folder_is_named(tmp_path, name):
    folder = torchvision_folder(tmp_path)
    (folder / f"{name}.gz").unlink()
    with pytest.raises(DataError, match=rf"{name}: the file is missing, and so is {name}\.gz"):
        mnist.task(root=tmp_path)


def test_a_broken_link_in_torchvisions_folder_is_named(tmp_path):
    folder = torchvision_folder(tmp_path)
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte"):
        mnist.task(root=tmp_path)


def test_one_file_in_the_place_of_another_is_refused(tmp_path):
    folder = torchvision_folder(tmp_path)
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    shutil.copy(folder / "train-labels-idx1-ubyte.gz", path)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: expected 10,008 bytes uncompressed, got 60,008"):
        mnist.task(root=tmp_path)


@pytest.mark.parametrize("root", [3, True, ["data"]])
def test_a_root_that_is_no_path_is_refused(root):
    with pytest.raises(EtudeError):
        tasks.make("mnist", {"root": root})

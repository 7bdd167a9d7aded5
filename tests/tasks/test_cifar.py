from __future__ import annotations

import gzip
import hashlib
import pickle

import numpy as np
import pytest
from small import BATCHES, cifar_archive, cifar_batches, cifar_records, python_2_pickle

from etude import tasks
from etude.errors import DataError
from etude.tasks import cifar, cifar10

MEMBERS = [f"cifar-10-batches-bin/{name}.bin" for name in BATCHES]


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def md5_of(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def small(monkeypatch):
    """Ten images a batch, with the checksums of their pickles."""
    batches = cifar_batches(10)
    monkeypatch.setattr(cifar10, "IMAGES_A_BATCH", 10)
    monkeypatch.setattr(cifar10, "BATCHES", {name: md5_of(python_2_pickle(*batch)) for name, batch in batches.items()})
    return batches


def test_an_archive_is_read_by_name_whatever_its_order(tmp_path):
    content, batches = cifar_archive(10)
    parts = cifar.read_archive(written(tmp_path / "a.tar.gz", content), MEMBERS, n_images=10)
    for (pixels, labels), (images, targets) in zip(batches.values(), parts, strict=True):
        assert np.array_equal(images, pixels.reshape(10, 3, 32, 32))
        assert np.array_equal(targets, labels)
        assert targets.dtype == np.int64


def test_an_archive_without_a_member_is_refused(tmp_path):
    content, _ = cifar_archive(10, leave_out="data_batch_3")
    with pytest.raises(
        DataError, match=r"a\.tar\.gz: expected a member cifar-10-batches-bin/data_batch_3\.bin, got none"
    ):
        cifar.read_archive(written(tmp_path / "a.tar.gz", content), MEMBERS, n_images=10)


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no tar file", mtime=0), "half"])
def test_what_is_no_sound_archive_is_refused(tmp_path, content):
    whole, _ = cifar_archive(10)
    path = written(tmp_path / "a.tar.gz", whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(DataError, match=r"a\.tar\.gz: ") as told:
        cifar.read_archive(path, MEMBERS, n_images=10)
    assert "\n" not in str(told.value)


def test_an_archive_of_batches_of_another_size_is_refused(tmp_path):
    content, _ = cifar_archive(9)
    with pytest.raises(DataError, match=r"test_batch\.bin: expected 30,730 bytes, got 27,657"):
        cifar.read_archive(written(tmp_path / "a.tar.gz", content), MEMBERS, n_images=10)


def test_labels_beyond_nine_are_refused():
    pixels, labels = cifar_batches(10)["test_batch"]
    labels[3] = 10
    with pytest.raises(DataError, match="expected labels from 0 to 9; the file is corrupt or another one"):
        cifar.read_records(cifar_records(pixels, labels), "it", n_images=10)


def test_a_pickle_of_python_2_is_read(tmp_path):
    pixels, labels = cifar_batches(10)["data_batch_1"]
    content = python_2_pickle(pixels, labels)
    with pytest.raises(UnicodeDecodeError):
        pickle.loads(content)  # it is one that Python 3 does not read without being told
    assert np.array_equal(pickle.loads(content, encoding="bytes")[b"data"], pixels)
    images, targets = cifar.read_pickle(written(tmp_path / "data_batch_1", content), md5=md5_of(content), n_images=10)
    assert np.array_equal(images, pixels.reshape(10, 3, 32, 32))
    assert np.array_equal(targets, labels)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path):
    marker = tmp_path / "ran"
    content = pickle.dumps(Evil(marker), protocol=2)
    path = written(tmp_path / "data_batch_1", content)
    with pytest.raises(DataError, match=r"data_batch_1: not a batch of CIFAR-10's Python version: refused: .*\.open"):
        cifar.read_pickle(path, md5=md5_of(content), n_images=10)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}",
        pickle.dumps({}, protocol=2),
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": 1, b"labels": [1]}),
        pickle.dumps({b"data": [[1, 2], [3]], b"labels": [1]}),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, content):
    path = written(tmp_path / "data_batch_1", content)
    with pytest.raises(DataError, match="data_batch_1: ") as told:
        cifar.read_pickle(path, md5=md5_of(content), n_images=10)
    assert "\n" not in str(told.value)


def test_a_corrupt_pickle_is_refused_before_it_is_opened(tmp_path):
    content = python_2_pickle(*cifar_batches(10)["data_batch_1"])
    path = written(tmp_path / "data_batch_1", content[:-1])
    with pytest.raises(
        DataError, match=r"data_batch_1: expected md5 .*; the file is truncated, corrupt or another one"
    ):
        cifar.read_pickle(path, md5=md5_of(content), n_images=10)


def test_both_layouts_below_root_give_equal_data(tmp_path, small):
    for name, batch in small.items():
        written(tmp_path / "bin" / "cifar-10-batches-bin" / f"{name}.bin", cifar_records(*batch))
        written(tmp_path / "py" / "cifar-10-batches-py" / name, python_2_pickle(*batch))
    binary = tasks.make("cifar10", {"root": tmp_path / "bin"})
    pickled = tasks.make("cifar10", {"root": str(tmp_path / "py")})
    assert (len(binary.train), len(binary.val)) == (50, 10)
    assert binary.train.digest() == pickled.train.digest()
    assert binary.val.digest() == pickled.val.digest()


def test_a_root_without_the_batches_names_what_is_missing(tmp_path, small):
    with pytest.raises(
        DataError, match="expected a folder cifar-10-batches-bin or cifar-10-batches-py in it, got neither"
    ):
        tasks.make("cifar10", {"root": tmp_path})
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="data_batch_1: cannot be read: No such file"):
        tasks.make("cifar10", {"root": tmp_path})
    (tmp_path / "cifar-10-batches-bin").mkdir()
    with pytest.raises(DataError, match=r"data_batch_1\.bin: cannot be read: No such file"):
        tasks.make("cifar10", {"root": tmp_path})


def test_images_are_standardised_colour_by_colour():
    import torch

    batch = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    batch[1] = 255
    prepared = cifar10.standardised(batch)
    assert prepared.dtype == torch.float32
    for colour, (mean, sd) in enumerate(zip(cifar10.MEAN, cifar10.SD, strict=True)):
        assert prepared[0, colour].unique().item() == pytest.approx(-mean / sd, rel=1e-5)
        assert prepared[1, colour].unique().item() == pytest.approx((1 - mean) / sd, rel=1e-5)
    assert batch[1].min() == 255  # what is stored stays

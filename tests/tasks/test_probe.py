"""What is found out about data by reading them."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from etude.errors import SpecError
from etude.tasks import probe, tree
from etude.tasks.data import Resident
from etude.tasks.stream import Examples, Stream

X = torch.arange(240.0).view(40, 6)


class Rows(Dataset):
    def __init__(self, get=lambda i: (X[i], i), n=40):
        self.get, self.n, self.read = get, n, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        return self.get(i)


def settle(dataset, field="task.train"):
    return probe.settle(Examples(dataset), field, 8)


def test_the_same_examples_are_held_in_memory_as_they_are():
    settled = settle(Rows())
    assert isinstance(settled.data, Resident)
    assert torch.equal(settled.data.inputs, X)
    assert torch.equal(settled.data.targets, torch.arange(40))
    assert "40 examples were read into memory once" in settled.note


@pytest.mark.parametrize(
    ("get", "why"),
    [
        (lambda i: (X[i] + torch.rand(6), i), "draws random numbers"),
        (lambda i: (X[i] * np.random.rand(), i), "draws random numbers"),
        # Drawn by one example in ten only, which none of the probed ones need be.
        (lambda i: (X[i] + (torch.rand(6) if i % 10 == 3 else 0), i), "draws random numbers"),
        (lambda i: (X[i], f"name {i}"), "not all numbers"),
        (lambda i: {}, "not all numbers"),
    ],
)
def test_others_are_left_and_it_is_said_why(get, why):
    settled = settle(Rows(get))
    assert isinstance(settled.data, Examples)
    assert "examples are read anew in every epoch" in settled.note
    assert why in settled.note


def test_data_that_are_too_large_are_left(monkeypatch):
    monkeypatch.setattr(probe, "MOST_BYTES", 1000)
    settled = settle(Rows())
    assert isinstance(settled.data, Examples)
    assert "too many to hold in memory" in settled.note


def test_data_that_may_change_by_epoch_are_left():
    class Told(Rows):
        def set_epoch(self, epoch):
            pass

    assert "set_epoch" in settle(Told()).note


def test_every_example_is_looked_at_as_far_as_the_time_goes(monkeypatch):
    rows = Rows(lambda i: (X[i % 40] + torch.rand(6), i), n=1000)
    settle(rows)
    assert set(rows.read) == set(range(1000))
    monkeypatch.setattr(probe, "LOOKED_AT_S", 0.0)
    rows.read.clear()
    settle(rows)
    assert 0 < len(set(rows.read)) < 100


def test_examples_that_are_unlike_are_told_with_their_places():
    with pytest.raises(SpecError, match=r"task\.val: .*float32 \(3,\).* among examples|cannot be stacked"):
        settle(Rows(lambda i: (X[i][: 3 if i == 22 else 6], i)), "task.val")
    words = r"alike, got float32 \(6,\) among examples 0 to 1023, and float64 \(6,\) in examples 0, 75, 150, … 1199 together"
    with pytest.raises(SpecError, match=words):
        settle(Rows(lambda i: (X[0] if i < 1024 else X[0].double(), i % 5), n=1200))


def test_what_is_not_finite_comes_with_a_batch_that_holds_it():
    broken = X.clone()
    broken[33, 2], broken[35, 0] = torch.nan, torch.inf
    settled = probe.settle(Resident(broken, torch.arange(40)), "task.train", 16)
    assert settled.breach == "2 of 40 examples hold NaN or infinite values, the first is example 33"
    assert settled.broken[1].tolist() == list(range(24, 40))
    streamed = probe.settle(Stream(DataLoader([*zip(broken, range(40), strict=True)], 8)), "task.train", 8)
    assert streamed.breach == "batch 4 holds NaN or infinite values"
    assert streamed.broken[1].tolist() == list(range(32, 40))
    assert probe.settle(Resident(X, torch.arange(40)), "task.train", 8).breach == ""


class Tape:
    """Batches that say how they were read."""

    seekable, is_still = True, False

    def __init__(self, value):
        self.value, self.readings = value, 0

    def n_batches(self, batch_size):
        return 6

    def batches(self, batch_size, seed, epoch, start, reseed):
        self.readings += 1
        for i in range(start, 6):
            yield torch.tensor(float(self.value(self.readings, start, i)))


@pytest.mark.parametrize(
    ("value", "resume", "same_order"),
    [
        (lambda reading, start, i: i, "exact", True),
        (lambda reading, start, i: i + 10 * start, "by epoch", True),
        (lambda reading, start, i: i + 10 * reading, "from the start", False),
        (lambda reading, start, i: torch.rand(()), "exact", True),  # seeded before each batch
    ],
)
def test_reading_again_tells_where_a_trial_can_go_on(value, resume, same_order):
    reading = probe.read_again(Tape(value), 8, 0, lambda batch: torch.manual_seed(batch or 0).initial_seed())
    assert (reading.resume, reading.same_order) == (resume, same_order)
    assert len(reading.batches) == 4


def test_trees_are_walked_through_and_keep_their_form():
    batch = {"x": (torch.ones(3, 2), [torch.zeros(3)]), "names": ("a", "b", "c"), "n": 3}
    assert tree.length(batch) == 3
    assert tree.length((torch.ones(3), torch.ones(4))) is None
    assert tree.length((torch.ones(3), torch.ones(()))) is None
    assert tree.length("no tensors") is None
    joined = tree.join([batch, batch])
    assert joined["x"][0].shape == (6, 2)
    assert isinstance(joined["x"][1], list)
    assert tree.is_finite(batch)
    assert not tree.is_finite((1, {"x": torch.tensor([1.0, torch.nan])}))
    assert tree.describe(batch) == "{x: (float32 (3, 2), list), names: (str, str, str), n: int}"
    assert tree.describe(list("abcdef")) == "(str, str, str, str, … 6 of them)"
    assert tree.digest(batch) == tree.digest(tree.map_tensors(batch, torch.clone))
    assert tree.digest(batch) != tree.digest(tree.map_tensors(batch, lambda tensor: tensor + 1))

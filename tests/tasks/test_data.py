"""Data as people have them: what they become, where a trial can be cut, and that all kinds give the same curves."""

import dataclasses
import random
import textwrap
import threading
from typing import NamedTuple

import datasets
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)  # fmt: skip

import etude
import programs
from etude import runner, store
from etude.engine import rehearsal
from etude.engine.session import Session, Setup, Uncut
from etude.execution import sharing
from etude.spec.trial import Trial
from etude.tasks import tree
from etude.tasks.data import Resident, as_data
from etude.tasks.stream import Examples, Stream

N = 40
X = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
RECIPE = etude.Recipe(batch_size=8)


class Plain(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i], Y[i]


class Augmented(Plain):
    """Draws from all three global generators."""

    def __getitem__(self, i):
        return X[i] + 0.1 * torch.randn(4) + 0.1 * random.random() + 0.1 * float(np.random.rand()), Y[i]


class OwnGenerator(Plain):
    """Draws from a generator of its own that nobody can put back."""

    def __init__(self):
        self.generator = np.random.default_rng(0)

    def __getitem__(self, i):
        return X[i] + 0.1 * self.generator.normal(), Y[i]


class ByEpoch(OwnGenerator):
    """As fairseq's data sets: told the epoch, from where its own generator runs through it."""

    def set_epoch(self, epoch):
        self.generator = np.random.default_rng(epoch)


class Masked(Plain):
    """Without randomness, but other values in each epoch: as dynamic masking."""

    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, i):
        return X[i] * ((i + self.epoch) % 3 > 0), Y[i]


class Flow(IterableDataset):
    def __iter__(self):
        for i in torch.randperm(N).tolist():
            yield X[i] + 0.1 * torch.randn(4), Y[i]


class FlowWithLength(Flow):
    def __len__(self):
        return N


class Batches:
    """Neither a data set nor a loader of torch: something that can be iterated again."""

    def __len__(self):
        return 5

    def __iter__(self):
        return ((X[i : i + 8], Y[i : i + 8]) for i in range(0, N, 8))


def ragged(examples):
    """Cut sequences to different lengths and pad them."""
    rows = [x[: 1 + 3 * int(y)].unsqueeze(1) for x, y in examples]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return nn.functional.pad(padded.squeeze(2), (0, 4 - padded.shape[1])), torch.stack([y for _, y in examples])


def generator():
    return torch.Generator().manual_seed(5)


def many_workers(**more):
    return DataLoader(Augmented(), batch_size=8, shuffle=True, num_workers=2, **more)


KINDS = {
    "tensors": (lambda: (X, Y), "exact"),
    "a data set": (Plain, "exact"),
    "augmentation": (Augmented, "exact"),
    "a stream": (lambda: Stream(Flow(), epoch=5), "exact"),
    "a stream with a length": (FlowWithLength, "exact"),
    "an iterable of batches": (Batches, "exact"),
    "a loader": (lambda: DataLoader(Augmented(), batch_size=8, shuffle=True), "exact"),
    "its generator": (lambda: DataLoader(Augmented(), batch_size=8, shuffle=True, generator=generator()), "exact"),
    "two workers": (many_workers, "exact"),
    "workers that stay": (lambda: many_workers(persistent_workers=True), "exact"),
    "a weighted sampler": (
        lambda: DataLoader(Augmented(), 8, sampler=WeightedRandomSampler(torch.rand(N), N, generator=generator())), "exact",
    ),
    "a batch sampler": (
        lambda: DataLoader(Augmented(), batch_sampler=BatchSampler(RandomSampler(range(N)), 7, drop_last=True)), "exact",
    ),
    "drop_last": (lambda: DataLoader(Augmented(), batch_size=7, shuffle=True, drop_last=True), "exact"),
    "a collate_fn": (lambda: DataLoader(Plain(), batch_size=8, shuffle=True, collate_fn=ragged), "exact"),
    "a loader of a stream": (lambda: DataLoader(FlowWithLength(), batch_size=8), "exact"),
    "masking by epoch": (Masked, "exact"),
    "a generator by epoch": (ByEpoch, "by epoch"),
    "a generator of its own": (OwnGenerator, "from the start"),
    "a loader of that": (lambda: DataLoader(OwnGenerator(), batch_size=8, shuffle=True), "from the start"),
}  # fmt: skip
TRIAL = Trial(lr=0.01, seed=1)
LAST = 12


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))


def prepared(train, val=None):
    task = etude.Task(model=net, train=train, val=(X, Y) if val is None else val, loss=nn.CrossEntropyLoss())
    setup, about = rehearsal.settle(Setup(task=task, recipe=RECIPE), TRIAL)
    reading, more = rehearsal.read(setup, TRIAL)
    return dataclasses.replace(setup, resume=reading.resume), reading, [*about, *more]


def in_parts(setup, trial=TRIAL):
    """Run with a stop after every second step, wherever that is allowed, and return the losses that were kept."""
    checkpoint, losses, step, attempts = None, [], 0, 0
    while step < LAST:
        session, calls = Session.open(setup, trial, checkpoint), [0]
        patience = 2 if attempts < 4 else LAST  # who is cut off again and again must be left in peace in the end

        def stop(calls=calls, patience=patience):
            calls[0] += 1
            return calls[0] >= patience

        attempts += 1
        try:
            losses.append(session.run(LAST, stop=stop).loss)
        except Uncut:
            continue  # as the executors do: from the last checkpoint again
        step, checkpoint = session.step, session.checkpoint()
    return np.concatenate(losses), session


@pytest.mark.parametrize("kind", KINDS)
def test_how_a_trial_resumes_is_found_out_said_and_kept(kind):
    make, resume = KINDS[kind]
    setup, reading, notes = prepared(make())
    assert reading.resume == resume
    assert any(note.startswith(f"resume: {resume}") for note in notes) == (resume != "exact")
    assert reading.same_order == (resume != "from the start")
    assert any("do not see the same data" in note for note in notes) == (resume == "from the start")
    whole = Session.open(setup, TRIAL)
    losses = whole.run(LAST).loss
    assert len(losses) == LAST
    if resume == "from the start":
        with pytest.raises(Uncut):
            Session.open(setup, TRIAL).run(LAST, stop=lambda: True)
        return
    pieces, session = in_parts(setup)
    np.testing.assert_array_equal(losses, pieces)
    torch.testing.assert_close(whole.model.state_dict(), session.model.state_dict(), rtol=0, atol=0)
    # All rates of a seed see the same batches, and another seed sees others.
    assert Session.open(setup, Trial(lr=1e-9, seed=1)).run(1).loss[0] == losses[0]
    if "iterable" not in kind:
        assert Session.open(setup, Trial(lr=0.01, seed=2)).run(1).loss[0] != losses[0]


@pytest.mark.parametrize(
    "kind", ["augmentation", "a loader", "its generator", "a weighted sampler", "masking by epoch"]
)
def test_epochs_differ_from_each_other(kind):
    setup, _, _ = prepared(KINDS[kind][0]())
    first, second = (
        tree.digest(list(setup.task.train.batches(8, 1, epoch, 0, Session.open(setup, TRIAL)._reseed(epoch))))
        for epoch in (0, 1)
    )
    assert first != second


FORMS = {
    "a data set": Plain,
    "a list": lambda: [(x, y) for x, y in zip(X, Y, strict=True)],
    "a TensorDataset": lambda: TensorDataset(X, Y),
    "arrays": lambda: (X.numpy(), Y.numpy()),
    "a list of arrays": lambda: [X.numpy(), Y.numpy()],
    "parts of data sets": lambda: ConcatDataset([Subset(Plain(), range(10)), Subset(Plain(), range(10, N))]),
    "examples read anew": lambda: Examples(Plain()),
    "a loader over the same order": lambda: DataLoader(
        Plain(), batch_sampler=[o.tolist() for o in etude_order().split(8)]
    ),
}


def etude_order():
    from etude.tasks.data import order

    return order(N, TRIAL.seed, 0)


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_the_same_data_give_the_same_losses(form):
    usual = Session.open(prepared((X, Y))[0], TRIAL).run(5)
    if form == "examples read anew":
        task = etude.Task(model=net, train=Examples(Plain()), val=Examples(Plain()), loss=nn.CrossEntropyLoss())
        setup = Setup(task=task, recipe=RECIPE)
    else:
        data = FORMS[form]()
        setup = prepared(data, val=data if not isinstance(data, DataLoader) else None)[0]
    history = Session.open(setup, TRIAL).run(5)
    np.testing.assert_array_equal(history.loss, usual.loss)
    assert history.evaluations == usual.evaluations


def test_what_is_small_and_the_same_each_time_is_held_in_memory_and_that_is_said():
    setup, _, notes = prepared(Plain(), val=Augmented())
    assert isinstance(setup.task.train, Resident)
    assert isinstance(setup.task.val, Examples)
    assert "task.train: 40 examples were read into memory once (0.0 MB)." in notes
    assert "task.val: examples are read anew in every epoch: reading them draws random numbers." in notes


class Pair(NamedTuple):
    image: torch.Tensor
    label: torch.Tensor


class Several(Dataset):
    def __init__(self, form):
        self.form = form

    def __len__(self):
        return N

    def __getitem__(self, i):
        return self.form(i)


STRUCTURES = {
    "dicts": lambda i: {"image": X[i], "label": int(Y[i])},
    "several inputs": lambda i: ((X[i], X[i][:2]), int(Y[i])),
    "three parts": lambda i: (X[i], {"more": X[i]}, int(Y[i])),
    "named tuples": lambda i: Pair(X[i], Y[i]),
    "one tensor": lambda i: X[i],
    "NumPy": lambda i: (X[i].numpy(), np.int64(Y[i])),
    "images": lambda i: ((X[i].view(1, 2, 2) * 10).to(torch.uint8), float(Y[i])),
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_batch_has_the_structure_that_a_dataloader_gives_it_and_is_not_unpacked(structure):
    dataset, seen = Several(STRUCTURES[structure]), []

    def step(model, batch):
        seen.append(batch)
        return model(X[:2]).sum()

    task = etude.Task(model=net, train=dataset, val=dataset, step=step)
    setup, _ = rehearsal.settle(Setup(task=task, recipe=RECIPE), TRIAL)
    assert isinstance(setup.task.train, Resident)
    seen.clear()
    Session.open(setup, TRIAL).run(1)
    expected = next(iter(DataLoader(dataset, batch_sampler=[etude_order()[:8].tolist()])))
    trained = seen[-1]  # after the evaluation of step 0
    assert tree.digest(trained) == tree.digest(expected)
    assert tree.describe(trained) == tree.describe(expected)
    if structure == "named tuples":
        assert isinstance(trained, Pair)


def hf(**format_):
    made = datasets.Dataset.from_dict({"x": X.numpy().tolist(), "y": Y.tolist()})
    return made.with_format(**format_) if format_ else made


def hf_step(model, batch):
    return nn.functional.cross_entropy(model(batch["x"]), batch["y"])


@pytest.mark.parametrize("made", [hf, lambda: hf(type="torch"), lambda: hf(type="numpy")])
def test_a_map_style_data_set_of_hugging_face_is_held_in_memory_and_trains(made, tmp_path):
    dataset = made()
    before = dict(dataset.format)
    task = etude.Task(model=net, train=dataset, val=dataset, step=hf_step)
    result = etude.Study(task=task, recipe=RECIPE, lrs=[0.01], epochs=1).run(tmp_path / "run", executor="inline")
    assert result.counts == {"completed": 1}
    usual = etude.Task(model=net, train={"x": X, "y": Y}, val={"x": X, "y": Y}, step=hf_step)
    etude.Study(task=usual, recipe=RECIPE, lrs=[0.01], epochs=1).run(tmp_path / "usual", executor="inline")
    assert losses(tmp_path / "run") == losses(tmp_path / "usual")
    assert dataset.format == before, "the owner's own object stays as it is"


def losses(directory):
    return [steps["loss"] for steps in store.read_steps(directory).values()]


def test_an_iterable_data_set_of_hugging_face_streams_and_is_shuffled_by_epoch():
    made = hf().to_iterable_dataset(num_shards=4).shuffle(seed=3, buffer_size=10).with_format("torch")
    task = etude.Task(model=net, train=Stream(made, epoch=5), val=made, step=hf_step)
    setup, _ = rehearsal.settle(Setup(task=task, recipe=RECIPE), TRIAL)
    reading, notes = rehearsal.read(setup, TRIAL)
    assert reading.resume == "exact"
    assert any("in its own order, the same for all rates of a seed" in note for note in notes)
    whole = Session.open(setup, TRIAL).run(LAST).loss
    np.testing.assert_array_equal(whole, in_parts(setup)[0])
    epochs = [tree.digest(list(setup.task.train.batches(8, 1, epoch, 0))) for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]


def test_what_the_run_does_with_the_data_is_in_its_notices_and_its_result(tmp_path):
    said = []
    task = etude.Task(model=net, train=OwnGenerator(), val=Augmented(), loss=nn.CrossEntropyLoss())
    study = etude.Study(task=task, recipe=RECIPE, lrs=[0.01, 0.1], epochs=1)
    result = runner.run(
        study, tmp_path / "run", executor="inline", on_event=lambda e: said.extend(getattr(e, "notices", ()))
    )
    for words in ("resume: from the start", "do not see the same data", "task.val: examples are read anew"):
        assert any(words in note for note in said), words
        assert any(words in note for note in result.notes), words
    assert result.stored.environments[-1]["resume"] == "from the start"
    assert study.run(tmp_path / "run", executor="inline").counts == {"completed": 2}, "the same command again"


def test_validation_data_that_differ_from_reading_to_reading_are_said_and_stay_the_same_study(tmp_path):
    task = etude.Task(model=net, train=(X, Y), val=OwnGenerator(), loss=nn.CrossEntropyLoss())
    study = etude.Study(task=task, recipe=RECIPE, lrs=[0.01], epochs=1)
    result = study.run(tmp_path / "run", executor="inline")
    assert any("task.val: reading twice gives different values" in note for note in result.notes)
    assert study.replace(epochs=2).run(tmp_path / "run", executor="inline").counts == {"completed": 1}


def test_a_shuffled_validation_loader_gives_the_same_evaluation_every_time():
    val = DataLoader(Plain(), batch_size=8, shuffle=True, generator=generator())
    setup, _, _ = prepared((X, Y), val=val)
    session = Session.open(setup, TRIAL)
    assert session.evaluate(session.val, "val_") == session.evaluate(session.val, "val_")
    before = rehearsal.digests(setup, True)[0]
    next(iter(val))  # the owner goes on with it
    assert rehearsal.digests(setup, True)[0] == before


def test_a_private_copy_shares_code_large_arrays_and_locks_and_nothing_else():
    class Held(Plain):
        def __init__(self):
            self.lock, self.count, self.generator = threading.Lock(), 0, generator()
            self.large, self.small, self.function = np.zeros(100_000), [1, 2], lambda x: x
            self.under_way = (i for i in range(3))

    held = Held()
    loader = DataLoader(held, batch_size=8, num_workers=1, persistent_workers=True, generator=generator())
    reading = iter(loader)
    copied = sharing.private(loader)
    assert copied is not loader
    assert copied._iterator is None
    assert loader._iterator is reading
    mine, theirs = held, copied.dataset
    assert type(theirs) is Held
    for name in ("lock", "large", "function", "under_way"):
        assert getattr(mine, name) is getattr(theirs, name), name
    for name in ("generator", "small"):
        assert getattr(mine, name) is not getattr(theirs, name), name
    assert copied.generator is not loader.generator
    assert len(list(copied)) == 5


def test_as_data_tells_kinds_apart_without_reading():
    class Untouchable(Plain):
        def __getitem__(self, i):
            raise AssertionError("read too early")

    assert isinstance(as_data(Untouchable(), "task.train"), Examples)
    assert isinstance(as_data(DataLoader(Untouchable(), 8), "task.train"), Stream)
    assert isinstance(as_data((X, X, Y), "task.train"), Resident)
    assert isinstance(as_data({"x": X}, "task.train"), Resident)
    assert isinstance(as_data(hf().to_iterable_dataset(), "task.train"), Stream)


SCRIPT = textwrap.dedent(
    """
    import os, random, signal, sys
    import torch, etude
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    directory, at = sys.argv[1], int(sys.argv[2])

    class Augmented(Dataset):
        def __len__(self):
            return 40

        def __getitem__(self, i):
            return x[i] + 0.1 * torch.randn(4) + random.random(), y[i]

    class Net(nn.Linear):
        def __init__(self):
            super().__init__(4, 2)
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, inputs):
            if self.training:
                self.steps += 1
                if self.steps == at:
                    os.killpg(0, signal.SIGINT)  # as a terminal does: to the loader's workers, too
            return super().forward(inputs)

    loader = DataLoader(Augmented(), batch_size=8, shuffle=True, num_workers=2)
    task = etude.Task(model=Net, train=loader, val=(x, y), loss=nn.CrossEntropyLoss())
    try:
        etude.Study(task=task, lrs=[1e-2], epochs=3).run(directory, executor="inline")
    except etude.errors.Interrupted:
        sys.exit(130)
    """
)


def test_ctrl_c_within_an_epoch_of_a_loader_with_workers_and_the_same_again_give_the_same_bits(tmp_path):
    script = tmp_path / "stranger.py"
    script.write_text(SCRIPT)

    def run(directory, at):
        return programs.run(script, tmp_path / directory, at, cwd=tmp_path, one_core=True)

    stopped = run("run", 12)  # in the third epoch, after the steps of the rehearsal
    assert stopped.returncode == 130, stopped.stderr
    (trial,) = store.read(tmp_path / "run").trials
    assert trial.status == "paused", "a loader's workers must not die of it and fail the trial"
    assert trial.step == 12
    assert run("run", 0).returncode == 0
    assert run("whole", 0).returncode == 0
    ours, theirs = (store.read(tmp_path / name).trials[0] for name in ("run", "whole"))
    assert ours.evaluations == theirs.evaluations
    assert store.read_steps(tmp_path / "run") == store.read_steps(tmp_path / "whole")

"""Mistakes that anybody makes: one clear line each, with the user's own line where there is one, and nothing left behind."""

import dataclasses
import threading

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler

import etude
import programs
from etude import runner
from etude.errors import EtudeError, SpecError, TrainingError

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
CROSS_ENTROPY = nn.CrossEntropyLoss()
HERE = r"test_strangers\.py, line \d+"
MADE = rf"the task is made at .*{HERE}\)$"


class Examples(Dataset):
    def __init__(self, get=lambda i: (X[i % 40], Y[i % 40]), n=40, says=None):
        self.get, self.n, self.says = get, n, says or n

    def __len__(self):
        return self.says

    def __getitem__(self, i):
        if i >= self.n:
            raise IndexError(f"no example {i}")
        return self.get(i)


class Flow(IterableDataset):
    def __init__(self, n=40):
        self.n = n

    def __iter__(self):
        return ((X[i % 40], Y[i % 40]) for i in range(self.n))


class FlowWithLength(Flow):
    def __init__(self, n=40, says=None):
        self.n, self.says = n, says or n

    def __len__(self):
        return self.says


def linear():
    return nn.Linear(4, 2)


def normed():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


PROTOTYPE = nn.Linear(4, 2)


class Sharing(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.own = PROTOTYPE, nn.Linear(2, 2)

    def forward(self, x):
        return self.own(self.shared(x))


class Both(nn.Linear):
    def forward(self, x):
        return super().forward(x), x


def broken_at_17(i):
    if i == 17:
        raise OSError("17.png is truncated")
    return X[i], Y[i]


def noisy_and_broken_at_17(i):
    return broken_at_17(i)[0] + torch.randn(4), Y[i]


def only_in_training(outputs, targets):
    if not torch.is_grad_enabled():
        raise RuntimeError("no grad here")
    return CROSS_ENTROPY(outputs, targets)


def other_names(model, batch):
    inputs, targets = batch
    return {"loss": CROSS_ENTROPY(model(inputs), targets), "many" if len(targets) > 20 else "few": 1.0}


def study(recipe=None, epochs=1, **changes):
    task = etude.Task(**{"model": linear, "train": (X, Y), "val": (X, Y), "loss": CROSS_ENTROPY, **changes})
    usual = {} if isinstance(changes.get("train"), DataLoader) else {"batch_size": 8}
    return etude.Study(
        task=task, recipe=etude.Recipe(**{**usual, **(recipe or {})}), lrs=[1e-3, 1e-2], epochs=epochs,
        objective=etude.minimize("val_loss"),
    )  # fmt: skip


def step(**said):
    return {"loss": None, "step": lambda model, batch: {"loss": CROSS_ENTROPY(model(batch[0]), batch[1]), **said}}


def measure(metric):
    return {"metrics": {"odd": metric}}


def holding(value):
    return torch.where(torch.arange(40)[:, None] == 13, value, X)


MISTAKES = {
    # The model.
    "a finished module": (lambda: {"model": PROTOTYPE}, r"task\.model: expected a function.*model=lambda"),
    "one module twice": (lambda: {"model": lambda: PROTOTYPE}, rf"fresh weights from every call.*copy\.deepcopy.*{HERE}"),
    "shared parameters": (lambda: {"model": Sharing}, rf"fresh weights.*\(or parameters\) twice.*{HERE}"),
    "no module": (lambda: {"model": lambda: None}, r"task\.model: expected it to return a torch\.nn\.Module, got NoneType"),
    "a tuple of outputs": (
        lambda: {"model": lambda: Both(4, 2)},
        rf"task\.loss\(outputs \(float32 \(8, 2\), float32 \(8, 4\)\), targets int64 \(8,\)\).*{MADE}",
    ),
    # Examples that cannot be read.
    "an example that cannot be read": (
        lambda: {"train": Examples(broken_at_17)},
        rf"task\.train: .*example 17 cannot be read: OSError: 17\.png is truncated \(.*{HERE}\)$",
    ),
    "an example of random data that cannot be read": (
        lambda: {"train": Examples(noisy_and_broken_at_17)}, rf"example 17 cannot be read: OSError.*{HERE}",
    ),
    "the same in the validation data": (lambda: {"val": Examples(broken_at_17)}, rf"task\.val: .*example 17 cannot.*{HERE}"),
    "a length that lies": (
        lambda: {"train": Examples(says=50)}, rf"its length says 50 examples, and example 40 cannot be read.*{HERE}",
    ),
    "a stream that ends too soon": (
        lambda: {"train": FlowWithLength(20, says=40)}, r"its length says 5 batches.*ended after 3; mend __len__.*epoch=3",
    ),
    "a stream without a length": (lambda: {"train": Flow()}, r"Flow has no length; .*etude\.Stream\(data, epoch=1000\)"),
    "a loader over a length that lies": (
        lambda: {"train": DataLoader(Examples(says=50), batch_size=8)}, rf"batch 5 cannot be read: IndexError.*{HERE}",
    ),
    "the same in a loader's worker": (
        lambda: {"train": DataLoader(Examples(says=50), batch_size=8, num_workers=1)},
        rf"batch 5 cannot be read: IndexError: no example 40 \(.*{HERE}\)$",
    ),
    "a loader over a stream that ends too soon": (
        lambda: {"train": DataLoader(FlowWithLength(20, says=40), batch_size=8)}, r"says 5 batches.*ended after 3",
    ),
    "a loader that yields nothing": (
        lambda: {"train": DataLoader(Examples(n=4), batch_size=8, drop_last=True)}, r"task\.train: .*length is 0; it drops",
    ),
    "a loader that yields nothing to evaluate": (
        lambda: {"val": DataLoader(Examples(n=4), batch_size=8, drop_last=True)}, r"task\.val: expected at least one batch",
    ),
    # Data that are none, or another kind than is meant.
    "a generator": (lambda: {"train": ((x, y) for x, y in zip(X, Y, strict=True))}, r"task\.train: .*a generator, which can"),
    "one tensor": (lambda: {"train": X}, r"task\.train: expected \(inputs, targets\), got one Tensor"),
    "a data frame": (lambda: {"train": pd.DataFrame(X.numpy())}, r"task\.train: .*got one DataFrame; give its columns"),
    "several data sets": (
        lambda: {"train": {"train": Examples(), "test": Examples()}}, r"got several \('train', 'test'\); take one of them",
    ),
    "a number": (lambda: {"train": 5}, r"task\.train: expected a pair.*got int"),
    "unequal lengths": (lambda: {"train": (X, Y[:30])}, r"as many targets as inputs.*\(40, 4\) and \(30,\)"),
    "different shapes": (lambda: {"train": Examples(lambda i: (X[i][: 1 + i % 3], Y[i]))}, r"cannot be stacked.*collate_fn"),
    "shapes that differ later": (
        lambda: {"train": Examples(lambda i: (X[i][: 3 if i == 22 else 4], Y[i]))}, r"task\.train: .*cannot be stacked",
    ),
    "strings": (lambda: {"train": Examples(lambda i: (str(i), Y[i]))}, rf"model\(inputs \(str, .* 8 of them\)\).*{MADE}"),
    "validation data of another form": (
        lambda: {"val": Examples(lambda i: {"x": X[i], "y": Y[i]})}, r"task\.val: expected batches of \(inputs, targets\)",
    ),
    "three parts": (
        lambda: {"train": (X, X, Y), "val": (X, X, Y)}, r"task\.train: .*got \(float32 \(8, 4\), float32.*write step",
    ),
    # NaN.
    "NaN": (lambda: {"train": (holding(torch.nan), Y)}, r"task\.train: 1 of 40 examples holds NaN.*is example 13"),
    "infinity to evaluate": (lambda: {"val": (holding(torch.inf), Y)}, r"task\.val: 1 of 40 .*infinite.*example 13"),
    "NaN in random data": (
        lambda: {"train": Examples(lambda i: (torch.randn(4) / (i != 13), Y[i]))}, r"task\.train: examples 0 to 39 hold NaN",
    ),
    "NaN from a loader": (lambda: {"train": DataLoader([*zip(holding(torch.nan), Y, strict=True)], 8)}, "batch 1 holds NaN"),
    # Targets and inputs that the loss or the model does not take.
    "float targets": (
        lambda: {"train": (X, Y.float())}, rf"loss\(outputs float32 \(8, 2\), targets float32 \(8,\)\).*{MADE}",
    ),
    "targets out of range": (lambda: {"train": (X, Y + 1)}, rf"Target 2 is out of bounds; in task\.loss.*{MADE}"),
    "float64 inputs": (lambda: {"train": (X.double(), Y)}, rf"Double.*in model\(inputs float64 \(8, 4\)\).*{MADE}"),
    "too few columns": (lambda: {"train": (X[:, :3], Y)}, rf"in model\(inputs float32 \(8, 3\)\).*{MADE}"),
    # Losses and steps.
    "a loss by example": (lambda: {"loss": nn.CrossEntropyLoss(reduction="none")}, r"scalar tensor.*got shape \(8,\)"),
    "a loss without a graph": (lambda: {"loss": lambda o, t: CROSS_ENTROPY(o, t).detach()}, rf"without a graph.*{HERE}"),
    "a loss that is a number": (lambda: {"loss": lambda o, t: CROSS_ENTROPY(o, t).item()}, rf"got float \(.*{HERE}"),
    "a loss that raises": (lambda: {"loss": lambda o, t: o.nonsense}, rf"'nonsense'; in task\.loss\(outputs.*{HERE}"),
    "a loss that raises in evaluation": (lambda: {"loss": only_in_training}, rf"no grad here.*{HERE}"),
    "a step without a loss": (lambda: {"loss": None, "step": lambda m, b: {"los": 1}}, rf"'loss', got \{{los: int\}}.*{HERE}"),
    "a step that returns nothing": (lambda: {"loss": None, "step": lambda m, b: None}, rf"got NoneType \(.*{HERE}"),
    "a step that raises": (
        lambda: {"loss": None, "step": lambda m, b: m(b)}, rf"in task\.step\(model, batch \(float32 \(8, 4\), int64.*{HERE}",
    ),
    "a step that records words": (lambda: step(who="me"), rf"scalar tensor for 'who', got str \(.*{HERE}"),
    "a step that records a vector": (lambda: step(many=torch.ones(7)), r"for 'many', got float32 \(7,\)"),
    "a loss and a step": (lambda: {"step": lambda m, b: 0}, "task: expected one of .*got both"),
    "neither": (lambda: {"loss": None}, "task: expected one of .*got neither"),
    # Metrics and evaluation.
    "metrics with a step alone": (lambda: {**step(), "metrics": ["accuracy"]}, r"no outputs to measure; give evaluate"),
    "a metric elsewhere": (lambda: measure(lambda o, t: torch.ones((), device="meta")), rf"on the device meta \(.*{HERE}"),
    "a metric of a wrong shape": (lambda: measure(lambda o, t: torch.ones(3)), rf"shape \(32,\).*got shape \(3,\).*{HERE}"),
    "a metric that is a word": (lambda: measure(lambda o, t: "good"), rf"for 'odd', got str \(.*{HERE}"),
    "a metric that is nothing": (lambda: measure(lambda o, t: None), rf"for 'odd', got NoneType \(.*{HERE}"),
    "a metric that raises": (
        lambda: measure(lambda o, t: o.nonsense), rf"on a batch \(float32 \(32, 4\), int64 \(32,\)\) of task\.val.*{HERE}",
    ),
    "a metric of two kinds": (
        lambda: measure(lambda o, t: torch.ones(len(t)) if len(t) > 20 else 1.0), rf"got some of each \(.*{HERE}",
    ),
    "an aggregate of several": (
        lambda: {"metrics": {"f1": etude.metrics.named("F1Score", task="multiclass", num_classes=2, average=None)}},
        r"expected one number from compute\(\), got float32 \(2,\)",
    ),
    "an evaluation that is no dict": (lambda: {"evaluate": lambda m, b: 1.0}, rf"a dict of.*got float \(.*{HERE}"),
    "other names in other batches": (lambda: {"evaluate": other_names}, rf"is missing in some of the batches.*{HERE}"),
    # Recipes.
    "an optimizer that ignores its rate": (
        lambda: {"recipe": {"optimizer": lambda p, lr: torch.optim.SGD(p, lr=0.1)}}, rf"rates that follow.*{HERE}",
    ),
    "another batch size than the loader's": (
        lambda: {"train": DataLoader(Examples(), 8), "recipe": {"batch_size": 16}}, r"of their own \(8\), got 16; leave it out",
    ),
    # A last batch of one.
    "one example left": (lambda: {"model": normed, "train": Examples(n=41)}, "41 examples in batches of 8 leave a last batch"),
    "one left of random ones": (
        lambda: {"model": normed, "train": Examples(lambda i: (torch.randn(4), Y[i % 40]), n=41)}, "last batch of one",
    ),
    "one left by a loader": (lambda: {"model": normed, "train": DataLoader(Examples(n=41), 8)}, "last batch of one"),
    "one left by a stream": (lambda: {"model": normed, "train": FlowWithLength(41)}, "last batch of one"),
    "one left to accumulate": (
        lambda: {"model": normed, "train": Examples(n=41), "recipe": {"accumulate": 2}}, "last batch of one",
    ),
    "one that is squeezed away": (
        lambda: {"train": Examples(n=41), "val": Examples(), "loss": lambda o, t: CROSS_ENTROPY(o.squeeze(), t)},
        r"last batch of one, on which the model does not train \(RuntimeError: size mismatch",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing_behind(tmp_path, mistake):
    make, match = MISTAKES[mistake]
    with pytest.raises(EtudeError, match=match) as told:
        study(**make()).run(tmp_path / "run", executor="inline")
    assert isinstance(told.value, SpecError | TrainingError)
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_a_holdout_from_a_loader_is_told(tmp_path):
    with pytest.raises(SpecError, match=r"study\.holdout: 10 examples cannot be kept back from a DataLoader"):
        study(train=DataLoader(Examples(), 8)).replace(holdout=10).run(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def notices(study, directory, **options):
    said = []
    result = runner.run(study, directory, on_event=lambda e: said.extend(getattr(e, "notices", ())), **options)
    assert result.counts == {"completed": 2}
    return said, result


SOUND = {
    "a loader that drops the last batch": lambda: {"train": DataLoader(Examples(n=41), 8, drop_last=True)},
    "a batch sampler that does": lambda: {
        "train": DataLoader(Examples(n=41), batch_sampler=BatchSampler(RandomSampler(range(41)), 8, drop_last=True))
    },
    "a loader with one short batch": lambda: {"train": DataLoader(Examples(), batch_size=100)},
    "a norm over places": lambda: {
        "model": lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(4, 2)),
        "train": Examples(n=41),
    },
}


@pytest.mark.parametrize("what", SOUND)
def test_what_only_looks_like_a_mistake_is_trained(tmp_path, what):
    notices(study(**{"model": normed, **SOUND[what]()}), tmp_path / "run", executor="inline")


def test_targets_that_are_missing_are_no_mistake_where_the_loss_leaves_them_out(tmp_path):
    def masked(outputs, targets):
        known = ~targets.isnan()
        return ((outputs - targets)[known] ** 2).mean()

    targets = X[:, :2].clone()
    targets[::3, 1] = torch.nan
    said, _ = notices(study(train=(X, targets), val=(X, targets), loss=masked), tmp_path / "a", executor="inline")
    assert sum("14 of 40 examples hold NaN" in one and "finite all the same" in one for one in said) == 2
    with pytest.raises(SpecError, match=r"task\.train: 14 of 40 examples hold NaN"):
        study(train=(X, targets), val=(X, targets), loss=nn.MSELoss()).run(tmp_path / "b")


def test_a_stream_that_goes_on_after_its_length_is_said(tmp_path):
    said, result = notices(study(train=FlowWithLength(40, says=20)), tmp_path / "run", executor="inline")
    assert any("goes on after the 3 batches that its length says" in one for one in said)
    assert {trial.step for trial in result.stored.trials} == {3}


def test_more_workers_than_cores_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("etude.execution.plan.cores", lambda: 1)
    said, _ = notices(study(), tmp_path / "run", executor="processes", workers=2)
    assert any(one.startswith("2 workers take turns on the 1 cores") for one in said)


class Locked(Examples):
    def __init__(self):
        super().__init__(lambda i: (torch.randn(4), Y[i]))
        self.lock = threading.Lock()


def test_a_task_that_cannot_travel_is_told_or_trained_here(tmp_path, monkeypatch):
    mistaken = study(train=Locked())
    with pytest.raises(
        SpecError, match=r"study\.task\.train\.dataset\.lock: cannot be taken to a worker process"
    ) as told:
        mistaken.run(tmp_path / "asked", executor="processes")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "asked").exists()
    monkeypatch.setattr("etude.execution.plan.QUICK_S", 0.0)  # so that "auto" wants processes
    monkeypatch.setattr("etude.execution.plan.cores", lambda: 2)
    said, result = notices(mistaken, tmp_path / "run", executor="auto")
    assert any("cannot be taken" in one and "one at a time in this process" in one for one in said)
    assert result.stored.environments[-1]["executor"] == "inline"


def test_an_error_in_a_worker_process_names_the_users_line(tmp_path):
    script = tmp_path / "stranger.py"
    script.write_text(
        "import torch, etude\n"
        "from torch import nn\n"
        "class Late(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        if float(self.weight.abs().max()) > 5:\n"
        "            raise RuntimeError('no more')\n"
        "        return super().forward(x)\n"
        "x = torch.randn(32, 4)\n"
        "task = etude.Task(model=lambda: Late(4, 2), train=(x, x[:, :2]), val=(x, x[:, :2]), loss=nn.MSELoss())\n"
        "recipe = etude.Recipe(optimizer='sgd', batch_size=8)\n"
        "result = etude.Study(task=task, recipe=recipe, lrs=[1e-3, 1e3], epochs=4).run('run', executor='processes')\n"
        "print(result.to_dict()['trials'][1]['reason'])\n"
    )
    done = programs.run(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "RuntimeError: no more; " in done.stdout
    assert done.stdout.rstrip().endswith("stranger.py, line 6)")


def test_a_copy_of_a_task_keeps_the_users_functions(tmp_path):
    task = study().task
    assert dataclasses.replace(task).loss is task.loss
    assert etude.errors.source_of(linear).endswith(f"test_strangers.py, line {linear.__code__.co_firstlineno}")
    assert etude.errors.source_of(CROSS_ENTROPY) == "CrossEntropyLoss"

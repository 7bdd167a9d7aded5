"""A run leaves nothing behind in the caller's process but its directory; and memory does not grow with trials."""

import json
import subprocess
import sys
import textwrap

# One fresh process, as a person has it, so that what the first import or the first optimizer does is seen, too.
SCRIPT = textwrap.dedent(
    """
    import copy, hashlib, json, os, pickle, random, signal, sys, threading, warnings
    from pathlib import Path

    import numpy as np
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset

    import etude

    ME = os.getpid()
    X = torch.randn(48, 4, generator=torch.Generator().manual_seed(0))
    Y = (X[:, 0] > 0).long()


    class Counted(Dataset):  # keeps count, generators, a lock, and an array that is large enough to be shared
        def __init__(self):
            self.reads, self.lock = 0, threading.Lock()
            self.torch = torch.Generator().manual_seed(1)
            self.numpy, self.random = np.random.default_rng(2), random.Random(3)
            self.large = np.zeros(20_000)

        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            self.reads += 1
            self.large[self.reads % 2] += 0  # touched, not changed
            noise = torch.rand(1, generator=self.torch) + self.numpy.random() + self.random.random()
            return X[i] + 0.01 * noise.float() + random.random() + np.random.rand() + torch.rand(1), Y[i]


    class Smoothed(nn.Module):  # a loss with a state
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))
            self.calls = 0

        def forward(self, outputs, targets):
            self.seen += 1
            self.calls += 1
            return nn.functional.cross_entropy(outputs, targets)


    class Tally:  # a metric that is no function
        def __init__(self):
            self.calls = 0

        def __call__(self, outputs, targets):
            self.calls += 1
            return (outputs.argmax(1) == targets).float()


    class Net(nn.Sequential):
        what = "succeed"

        def forward(self, x):
            made = super().forward(x)
            if self.training and self.what != "succeed" and float(self[0].steps) > 9:
                if self.what == "raise":
                    raise RuntimeError("no more")
                os.kill(ME, signal.SIGINT)
            if self.training:
                self[0].steps += 1
            return made


    class Prototype(nn.BatchNorm1d):
        def __init__(self):
            super().__init__(4)
            self.register_buffer("steps", torch.zeros(()))


    prototype = Net(Prototype(), nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 2))
    dataset, loss, tally = Counted(), Smoothed(), Tally()
    loader = DataLoader(dataset, batch_size=8, shuffle=True, generator=torch.Generator().manual_seed(4))
    under_way = DataLoader(X, batch_size=8, num_workers=1, persistent_workers=True)
    held = iter(under_way)
    next(held)
    val = DataLoader([(X[i], Y[i]) for i in range(48)], batch_size=8, shuffle=True,
                     generator=torch.Generator().manual_seed(6))
    f1 = etude.metrics.named("F1Score", task="multiclass", num_classes=2)
    f1.update(torch.eye(2), torch.tensor([0, 0]))
    large = torch.randn(48, 1000)
    torch.optim.SGD([torch.zeros(1)], lr=1)  # imports sympy, which sets warnings' filters: torch's own trace


    def world():
        torches = {
            "model": prototype.state_dict(), "grads": [p.grad for p in prototype.parameters()],
            "loss": (loss.seen, loss.calls), "metric": {k: getattr(f1, k) for k in f1._defaults}, "large": large,
            "generators": [g.get_state() for g in (dataset.torch, loader.generator, val.generator)],
            "rng": torch.get_rng_state(),
        }
        return {
            **{name: hashlib.sha256(repr(flat(value)).encode()).hexdigest() for name, value in torches.items()},
            "tally": tally.calls,
            "training": prototype.training, "threads": torch.get_num_threads(), "dtype": str(torch.get_default_dtype()),
            "deterministic": torch.are_deterministic_algorithms_enabled(), "grad": torch.is_grad_enabled(),
            "dataset": (dataset.reads, repr(dataset.numpy.bit_generator.state), hash(dataset.random.getstate()),
                        dataset.large.sum()),
            "numpy": hashlib.sha256(pickle.dumps(np.random.get_state())).hexdigest(),
            "random": hash(random.getstate()),
            "warnings": repr(warnings.filters), "errstate": repr(np.geterr()),
            "signals": {int(s): repr(signal.getsignal(s)) for s in signal.valid_signals()},
            "mask": repr(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "environ": dict(os.environ), "directory": os.getcwd(), "main": sys.modules["__main__"].__name__,
            "reading": under_way._iterator is held, "listing": sorted(p.name for p in Path().iterdir()),
        }


    def flat(value):
        if isinstance(value, torch.Tensor):
            return value.detach().numpy().tobytes(), value.requires_grad, value.is_shared()
        if isinstance(value, dict):
            return {k: flat(v) for k, v in value.items()}
        return [flat(v) for v in value] if isinstance(value, list | tuple) else value


    said = {}
    for executor in ("inline", "processes"):
        for what in ("succeed", "raise", "interrupt"):
            Net.what = what
            dataset.lock = threading.Lock() if executor == "inline" else None  # a lock cannot travel
            name = f"{executor}-{what}"
            metrics = {"tally": tally, "f1": f1}
            if name in ("processes-raise", "processes-interrupt"):
                del metrics["f1"]  # every worker would import torchmetrics for it, which takes it six seconds
            workers = 1 if executor == "processes" else None
            task = etude.Task(model=lambda: copy.deepcopy(prototype), train=loader, val=val, loss=loss, metrics=metrics)
            other = etude.Task(model=lambda: nn.Linear(1000, 2), train=(large, Y), val=(large, Y), loss=loss)
            before = world()
            ended = "nothing"
            try:
                etude.Study(task=task, lrs=[1e-3, 1e-2], epochs=4).run(name, executor=executor, workers=workers)
                if what == "succeed":
                    recipe = etude.Recipe(batch_size=8)
                    again = etude.Study(task=other, recipe=recipe, lrs=[1e-3, 1e-2], epochs=2)
                    again.run(name + "-2", executor=executor, workers=workers)
            except BaseException as error:
                ended = type(error).__name__
            after = world()
            fresh = [n for n in after["listing"] if n not in before["listing"]]
            before["listing"] = after["listing"] = None
            said[name] = {"ended": ended, "fresh": fresh,
                          "changed": {k: [str(before[k])[:300], str(after[k])[:300]] for k in before if before[k] != after[k]}}
    print(json.dumps(said))
    """
)


ENDS = {"succeed": "nothing", "raise": "TrainingError", "interrupt": "Interrupted"}


def test_the_callers_process_is_as_it_was_but_for_the_run_directory(tmp_path):
    script = tmp_path / "stranger.py"
    script.write_text(SCRIPT)
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, str(script)], cwd=work, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert set(said) == {f"{executor}-{what}" for executor in ("inline", "processes") for what in ENDS}
    for name, seen in said.items():
        what = name.partition("-")[2]
        assert (name, seen["ended"]) == (name, ENDS[what])
        assert (name, seen["changed"]) == (name, {})
        assert seen["fresh"] == ([name, f"{name}-2"] if what == "succeed" else [name])


def test_memory_does_not_grow_with_trials(tmp_path):
    import gc

    import psutil
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    import etude
    from etude import events, runner

    x = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    pairs = [(row, int(row[0] > 0)) for row in x]
    task = etude.Task(
        model=lambda: nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 2)),
        train=DataLoader(pairs, batch_size=64, shuffle=True), val=(x, (x[:, 0] > 0).long()), loss=nn.CrossEntropyLoss(),
        metrics={"f1": etude.metrics.named("F1Score", task="binary")},
        evaluate=lambda model, batch: {"loss": nn.functional.cross_entropy(model(batch[0]), batch[1]),
                                       "outputs": model(batch[0]).argmax(1), "targets": batch[1]},
    )  # fmt: skip
    process, used = psutil.Process(), []

    def on_event(event):
        if isinstance(event, events.Advanced):
            if len(used) % 10 == 2:
                gc.collect()
            used.append(process.memory_info().rss / 2**20)

    study = etude.Study(task=task, lrs="1e-4..1e-2/20", seeds=3, epochs=1)
    runner.run(study, tmp_path / "run", executor="inline", on_event=on_event)
    assert len(used) == 60
    # Weights, gradients, Adam's moments and the checkpoint of a trial are 1 MB: were they kept, 57 of them would be 50 MB.
    assert max(used[12::10]) - used[2] < 12, used

"""What the engine's tests train: tiny models and data, and the parts of a loop that anybody would write."""

import numpy as np
import torch
import torch.utils._pytree
from torch import nn

import etude
from etude import counted
from etude.engine.session import Session, Setup
from etude.engine.state import model_state
from etude.spec.trial import Trial

N, SIZE = 150, 15  # examples, and of them in a batch: 10 an epoch
TRIAL = Trial(lr=0.02, seed=3)


def plain_net():
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3))


def norm_net():
    return nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def flat_net():
    """Return a net all of whose parameters are matrices, as Muon wants them."""
    return nn.Sequential(nn.Linear(12, 16, bias=False), nn.Tanh(), nn.Linear(16, 3, bias=False))


def sparse_net():
    return nn.EmbeddingBag(20, 3, mode="sum", sparse=True)


def make_task(model=plain_net, *, n=N, dtype=torch.float32, **changes):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 12, generator=generator).to(dtype)
    targets = torch.randint(0, 3, (n,), generator=generator)
    if model is sparse_net:
        inputs = torch.randint(0, 20, (n, 5), generator=generator)
    kwargs = {"loss": nn.CrossEntropyLoss(), "metrics": {"accuracy": etude.metrics.accuracy}, **changes}
    return etude.Task(model=model, train=(inputs, targets), val=(inputs[:50], targets[:50]), **kwargs)


def make_setup(recipe=None, task=None, evaluate_every=0.35, **kwargs):
    recipe = {"batch_size": SIZE, **(recipe or {})}
    return Setup(task=task or make_task(), recipe=etude.Recipe(**recipe), evaluate_every=evaluate_every, **kwargs)


def holds_the_law(setup, stops=(7, 13, 14), last=25, trial=TRIAL, ends=frozenset()):
    """Assert that stopping at ``stops``, storing and opening changes no bit, and return the uninterrupted session."""
    whole = Session.open(setup, trial, ends=ends)
    uncut = whole.run(last)
    checkpoint, parts = None, []
    for stop in [*stops, last]:
        session = Session.open(setup, trial, checkpoint, ends=ends)
        parts.append(session.run(stop))
        torch.rand(3)  # the rest of the world goes on meanwhile
        checkpoint = session.checkpoint(verify=True)
    for name in ("loss", "grad_norm", "update_ratio"):
        cut = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(uncut, name), cut, err_msg=name)
    assert [evaluation for part in parts for evaluation in part.evaluations] == list(uncut.evaluations)
    assert uncut.last_step == session.step
    same(whole.optimizer.state_dict(), session.optimizer.state_dict())
    same(model_state(whole.model), model_state(session.model))
    same(model_state(whole.trained()), model_state(session.trained()))
    return whole, uncut


def same(one, other):
    """Assert that two states are equal bit for bit."""
    ours, theirs = (torch.utils._pytree.tree_flatten(state) for state in (one, other))
    assert ours[1] == theirs[1]
    for a, b in zip(ours[0], theirs[0], strict=True):
        if isinstance(a, torch.Tensor):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
        else:
            assert a == b


def fresh(task, trial=TRIAL):
    """Make the model as a trial of that seed has it."""
    torch.manual_seed(counted.derive(counted.WEIGHTS, trial.seed))
    return task.model()


def batches(task, epochs, size=SIZE, trial=TRIAL):
    """Yield for each epoch its batches, in the order that all rates of the seed see."""
    x, y = task.train.inputs, task.train.targets
    for epoch in range(epochs):
        seed = counted.derive(counted.ORDER, trial.seed, epoch)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        yield [(x[index], y[index]) for index in order.split(size)]


def norm_of(parameters):
    return torch.stack([p.grad.norm() for p in parameters]).norm().item()

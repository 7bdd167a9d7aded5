"""The law, and equality with a loop that anybody would write."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import etude
from etude import counted
from etude.engine.evaluate import evaluation_batch
from etude.engine.session import Session, Setup
from etude.engine.state import model_state
from etude.spec.trial import Trial

N, LAST = 150, 25  # examples; steps, of 10 an epoch


def dropout_net():
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def norm_net():
    return nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


class NoisyNet(nn.Module):
    """Draws from all three generators, and keeps a buffer out of its state dict."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 3)
        self.register_buffer("calls", torch.zeros(1), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls += 1
            x = x + 0.1 * random.random() + 0.1 * float(np.random.rand()) + 0.1 * torch.randn_like(x)
        return self.linear(x) * (1 + 0.001 * self.calls)


def conv_net():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))


def make_task(model, shape=(12,)):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(N, *shape, generator=generator)
    targets = torch.randint(0, 3, (N,), generator=generator)
    return etude.Task(
        model=model, train=(inputs, targets), val=(inputs[:50], targets[:50]), loss=nn.CrossEntropyLoss(),
        metrics={"accuracy": etude.metrics.accuracy},
    )  # fmt: skip


RECIPES = {
    "momentum": etude.Recipe(optimizer="sgd", optimizer_options={"momentum": 0.9}, batch_size=15),
    "adam": etude.Recipe(optimizer="adam", batch_size=15),
    "adamw": etude.Recipe(optimizer="adamw", optimizer_options={"weight_decay": 0.1}, batch_size=15),
    "cosine": etude.Recipe(optimizer="adam", schedule="cosine", batch_size=15),
}
TRIAL = Trial(lr=0.02, seed=3)


def setup_for(recipe, model, **kwargs):
    return Setup(task=make_task(model, **kwargs), recipe=RECIPES[recipe], evaluate_every=0.35)


def recorded(histories):
    return {
        name: np.concatenate([getattr(h, name) for h in histories]) for name in ("loss", "grad_norm", "update_ratio")
    }, [e for h in histories for e in h.evaluations]


def assert_same_state(a, b):
    for ours, theirs in (
        (model_state(a.model), model_state(b.model)),
        (a.optimizer.state_dict(), b.optimizer.state_dict()),
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("model", [dropout_net, norm_net, NoisyNet])
@settings(max_examples=8, deadline=None)
@given(stops=st.lists(st.integers(0, LAST), max_size=3))
def test_stopping_anywhere_and_going_on_changes_no_bit(recipe, model, stops):
    setup = setup_for(recipe, model)
    trial = Trial(lr=0.02, seed=3, horizon=2.5 if recipe == "cosine" else None)
    whole = Session.open(setup, trial, ends=frozenset([13]))
    histories = [whole.run(LAST)]
    checkpoint, parts = None, []
    for stop in [*sorted(stops), LAST]:
        session = Session.open(setup, trial, checkpoint, ends=frozenset([13]))
        parts.append(session.run(stop))
        torch.rand(3), random.random(), np.random.rand()  # the rest of the world goes on meanwhile
        checkpoint = session.checkpoint(verify=True)
    arrays, evaluations = recorded(histories)
    cut_arrays, cut_evaluations = recorded(parts)
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], cut_arrays[name])
    assert evaluations == cut_evaluations
    assert [e.step for e in evaluations] == [0, 4, 7, 11, 13, 14, 18, 21, 25]
    assert_same_state(whole, session)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("recipe", ["momentum", "adam", "adamw"])
def test_session_equals_a_plain_loop_bit_for_bit(recipe, channels_last):
    task = make_task(conv_net, shape=(1, 6, 6))
    recipe = RECIPES[recipe]
    history = Session.open(Setup(task=task, recipe=recipe, channels_last=channels_last), TRIAL).run(LAST)

    # The loop that anybody would write; only its seeds are etude's.
    layout = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(counted.derive(counted.WEIGHTS, TRIAL.seed))
    model = conv_net().to(memory_format=layout)
    cls = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    optimizer = cls(model.parameters(), lr=TRIAL.lr, **recipe.optimizer_options)
    criterion = nn.CrossEntropyLoss()
    losses, accuracies, val_losses = [], [], []
    for epoch in range(3):
        order = torch.randperm(
            N, generator=torch.Generator().manual_seed(counted.derive(counted.ORDER, TRIAL.seed, epoch))
        )
        model.train()
        for index in order.split(recipe.batch_size):
            if len(losses) == LAST:
                break
            x, y = task.train.inputs[index].contiguous(memory_format=layout), task.train.targets[index]
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        if len(losses) < LAST:
            with torch.no_grad():
                parts = zip(
                    task.val.inputs.split(evaluation_batch(15)),
                    task.val.targets.split(evaluation_batch(15)),
                    strict=True,
                )
                outputs = [(model(x.contiguous(memory_format=layout)), y) for x, y in parts]
                accuracies.append(sum((o.argmax(1) == y).sum().item() for o, y in outputs) / 50)
                val_losses.append(sum(criterion(o, y).item() * len(y) for o, y in outputs) / 50)
    np.testing.assert_array_equal(history.loss, np.array(losses, np.float32))
    epochs = [e for e in history.evaluations if e.step]
    assert [e.metrics["val_accuracy"] for e in epochs] == pytest.approx(accuracies, abs=1e-12)
    assert [e.metrics["val_loss"] for e in epochs] == pytest.approx(val_losses, rel=1e-6)
    assert epochs[0].train_loss == sum(losses[:10]) / 10
    assert epochs[1].train_loss == sum(losses[10:20]) / 10


def test_gradient_norm_and_update_ratio_are_those_of_the_algebra():
    setup = Setup(task=make_task(dropout_net), recipe=etude.Recipe(optimizer="sgd", batch_size=15))
    session = Session.open(setup, TRIAL)
    before = nn.utils.parameters_to_vector(session.model.parameters()).clone()
    history = session.run(1)
    after = nn.utils.parameters_to_vector(session.model.parameters())
    # Plain gradient descent: the update is the rate times the gradient.
    assert history.grad_norm[0] == pytest.approx((after - before).norm().item() / TRIAL.lr, rel=1e-4)
    assert history.update_ratio[0] == pytest.approx(((after - before).norm() / after.norm()).item(), rel=1e-5)


def test_all_rates_of_a_seed_share_weights_batches_and_masks():
    setup = Setup(task=make_task(dropout_net), recipe=RECIPES["adam"])
    low, high = (Session.open(setup, Trial(lr=lr, seed=5)) for lr in (1e-5, 1e-1))
    assert low.fingerprint() == high.fingerprint()
    assert low.run(1).loss == high.run(1).loss
    assert Session.open(setup, Trial(lr=1e-5, seed=6)).fingerprint() != low.fingerprint()


def test_the_callers_generators_stay_where_they_were():
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    expected = torch.rand(2).tolist(), np.random.rand(), random.random()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    session = Session.open(Setup(task=make_task(NoisyNet), recipe=RECIPES["adam"]), TRIAL)
    session.fingerprint()
    session.run(12)
    assert (torch.rand(2).tolist(), np.random.rand(), random.random()) == expected


def test_a_loss_that_stops_being_finite_ends_the_trial_at_its_step():
    task = make_task(lambda: nn.Sequential(nn.Linear(12, 3)))
    recipe = etude.Recipe(optimizer="sgd", batch_size=15)
    session = Session.open(Setup(task=task, recipe=recipe), Trial(lr=1e38, seed=0))
    history = session.run(LAST)
    assert history.diverged is not None
    assert 1 < history.diverged < LAST
    assert session.step == history.last_step == history.diverged
    assert not np.isfinite(history.loss[-1])
    assert np.isfinite(history.loss[:-1]).all()
    again = Session.open(Setup(task=task, recipe=recipe), Trial(lr=1e38, seed=0), session.checkpoint())
    assert len(again.run(LAST).loss) == 0, "a diverged trial goes no further"


def test_state_that_cannot_be_read_back_is_refused_at_once():
    class Odd(nn.Linear):
        def get_extra_state(self):
            return object()

        def set_extra_state(self, state):
            pass

    session = Session.open(Setup(task=make_task(lambda: Odd(12, 3)), recipe=RECIPES["adam"]), TRIAL)
    with pytest.raises((etude.errors.SpecError, AttributeError)):
        session.checkpoint(verify=True)


def test_a_corrupt_checkpoint_is_an_error_in_one_line():
    setup = Setup(task=make_task(dropout_net), recipe=RECIPES["adam"])
    session = Session.open(setup, TRIAL)
    session.run(3)
    packed = session.checkpoint()
    for broken in (packed[: len(packed) // 2], b"", b"nonsense" * 100):
        with pytest.raises(etude.errors.StoreError, match="checkpoint"):
            Session.open(setup, TRIAL, broken)


def test_a_loss_that_is_no_scalar_and_an_unknown_option_are_told():
    task = make_task(dropout_net)
    bad = etude.Task(model=task.model, train=task.train, val=task.val, loss=nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(etude.errors.SpecError, match=r"scalar.*shape \(15,\)"):
        Session.open(Setup(task=bad, recipe=RECIPES["adam"]), TRIAL).fingerprint()
    for options, match in (({"momentun": 0.9}, "momentum"), ({"momentum": -1}, "refuses"), ({"fused": True}, "fused")):
        recipe = etude.Recipe(optimizer="sgd", optimizer_options=options)
        with pytest.raises(etude.errors.SpecError, match=match):
            Session.open(Setup(task=task, recipe=recipe), TRIAL)

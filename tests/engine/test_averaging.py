"""Averaged weights equal those of `torch.optim.swa_utils` in a plain loop; buffers, layouts and what cannot be copied."""

import numpy as np
import pytest
import torch
from loops import TRIAL, batches, fresh, holds_the_law, make_setup, make_task, norm_net, same
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import etude
from etude.engine.session import Session, Setup
from etude.errors import SpecError


def batch_norm_net():
    return nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


HOW = {
    "ema": ({"average": "ema", "average_decay": 0.9}, {"multi_avg_fn": get_ema_multi_avg_fn(0.9)}),
    "swa": ({"average": "swa"}, {}),
}


@pytest.mark.parametrize("start", [0, 0.55, 1])
@pytest.mark.parametrize("how", HOW)
def test_averaging_equals_the_plain_loop(how, start):
    recipe, average = HOW[how]
    task = make_task(batch_norm_net)
    session = Session.open(make_setup({**recipe, "average_start": start}, task, evaluate_every=0.5), TRIAL)
    history = session.run(20)
    model = fresh(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=TRIAL.lr)
    averaged = AveragedModel(model, **average, use_buffers=True)
    losses, val_losses, first = [], {}, {0: 0, 0.55: 6, 1: 10}[start]
    for epoch in batches(task, 2):
        for x, y in epoch:
            model.train()
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) > first:
                averaged.update_parameters(model)
            if len(losses) % 5 == 0:
                looked_at = averaged.module if averaged.n_averaged else model
                looked_at.eval()
                with torch.no_grad():
                    each = nn.functional.cross_entropy(looked_at(task.val.inputs), task.val.targets)
                val_losses[len(losses)] = each.item()
    np.testing.assert_array_equal(history.loss, np.array(losses, np.float32))
    assert {e.step: e.metrics["val_loss"] for e in history.evaluations[1:]} == pytest.approx(val_losses, rel=1e-6)
    # torch writes the mean in another form for the CPU, which rounds otherwise.
    rtol = 1e-5 if how == "swa" else 0
    ours, theirs = ([p.detach() for p in m.parameters()] for m in (session.trained(), averaged.module))
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol / 10)
    statistics = [name for name, buffer in averaged.module.named_buffers() if buffer.is_floating_point()]
    ours, theirs = dict(session.trained().named_buffers()), dict(averaged.module.named_buffers())
    assert statistics == ["1.running_mean", "1.running_var"]
    for name in statistics:
        torch.testing.assert_close(ours[name], theirs[name], rtol=rtol, atol=rtol / 10)
    assert ours["1.num_batches_tracked"] == 20, "counts are the model's own, not means"


def test_before_averaging_begins_the_last_weights_are_evaluated():
    recipe = {"average": "ema", "average_decay": 0.9, "average_start": 1}
    plain, averaged = (Session.open(make_setup(r, evaluate_every=0.5), TRIAL).run(20) for r in ({}, recipe))
    np.testing.assert_array_equal(plain.loss, averaged.loss)
    same_metrics = [a.metrics == b.metrics for a, b in zip(plain.evaluations, averaged.evaluations, strict=True)]
    assert same_metrics == [True, True, True, False, False]


class Masked(nn.Module):
    """Has a mask and a position table, as attention has them, and a buffer that it changes by itself."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 3)
        self.register_buffer("mask", torch.ones(3, dtype=torch.bool))
        self.register_buffer("places", torch.arange(3))
        self.register_buffer("running", torch.zeros(3), persistent=False)

    def forward(self, x):
        out = self.linear(x) * self.mask + 0.01 * self.places
        if self.training:
            self.running.lerp_(out.detach().mean(0), 0.1)
        return out - self.running


@pytest.mark.parametrize("how", HOW)
def test_masks_counts_and_buffers_outside_the_state_dict_are_averaged_or_kept(how):
    whole, _ = holds_the_law(make_setup(HOW[how][0], make_task(Masked)))
    model = whole.trained()
    assert model is not whole.model
    assert model.mask.tolist() == [True, True, True]
    assert model.places.tolist() == [0, 1, 2]
    assert not torch.equal(model.running, whole.model.running)


def conv_net():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def images():
    generator = torch.Generator().manual_seed(2)
    inputs, targets = torch.randn(60, 3, 6, 6, generator=generator), torch.randint(0, 3, (60,), generator=generator)
    return etude.Task(model=conv_net, train=(inputs, targets), val=(inputs, targets), loss=nn.CrossEntropyLoss())


def test_averaging_keeps_the_layout_channels_last_also_through_a_checkpoint():
    recipe = etude.Recipe(optimizer="sgd", average="ema", average_decay=0.8, batch_size=15)
    setups = [Setup(task=images(), recipe=recipe, channels_last=layout) for layout in (True, False)]
    last, plain = (holds_the_law(setup, stops=(3, 4), last=8) for setup in setups)
    assert last[0].trained()[0].weight.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(last[1].loss, plain[1].loss, rtol=1e-4)
    assert [e.metrics["val_loss"] for e in last[1].evaluations] == pytest.approx(
        [e.metrics["val_loss"] for e in plain[1].evaluations], rel=1e-4
    )


def test_an_evaluation_of_averaged_weights_counts_no_batches_in_the_trained_model():
    session = Session.open(make_setup({"average": "swa"}, make_task(batch_norm_net)), TRIAL)
    session.run(7)
    tracked = session.model[1].num_batches_tracked.item()
    session.evaluate(session.val, "val_")
    assert session.model[1].num_batches_tracked.item() == tracked == 7


def test_a_task_that_evaluates_by_itself_is_handed_the_averaged_model():
    seen = []

    def look(model, batch):
        seen.append(model)
        return {"loss": nn.functional.cross_entropy(model(batch[0]), batch[1])}

    task = make_task(norm_net, evaluate=look, metrics={})
    session = Session.open(make_setup({"average": "swa", "average_start": 0.5}, task, evaluate_every=0.5), TRIAL)
    session.run(10)
    assert seen[0] is seen[1] is session.model, "before averaging has begun"
    assert seen[-1] is session.evaluated_model is not session.model


def test_a_model_that_cannot_be_copied_is_told():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("only one\nof me")

    with pytest.raises(SpecError, match=r"study\.recipe\.average: the model cannot be copied .*\(only one of me\)"):
        Session.open(make_setup({"average": "ema"}, make_task(lambda: Stubborn(12, 3))), TRIAL)


def test_frozen_weights_stay_as_they_are():
    def half_frozen():
        model = batch_norm_net()
        model[0].requires_grad_(False)
        return model

    task = make_task(half_frozen)
    whole, _ = holds_the_law(make_setup(HOW["ema"][0], task))
    same(whole.trained()[0].state_dict(), fresh(task)[0].state_dict())

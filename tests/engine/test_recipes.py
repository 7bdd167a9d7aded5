"""The law, and equality with loops as the field writes them, for what a recipe may ask for."""

import numpy as np
import prodigyopt
import pytest
import schedulefree
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import TRIAL, N, batches, fresh, holds_the_law, make_setup, make_task, norm_net, norm_of, sparse_net
from torch import nn

import etude
from etude.engine import rehearsal
from etude.engine.session import Session
from etude.errors import SpecError
from etude.spec.trial import Trial

RARELY = 1000.0  # epochs between evaluations


def numbers(model, batch):
    """A step that records more than its loss, one of the numbers random."""
    x, y = batch
    outputs = model(x)
    return {
        "loss": nn.functional.cross_entropy(outputs, y),
        "accuracy": (outputs.argmax(1) == y).float().mean(),
        "noise": torch.rand(()),
    }


SETUPS = {
    "accumulate 4, the last step of an epoch 2": ({"accumulate": 4}, {}),
    "accumulate more than an epoch": ({"accumulate": 12, "optimizer": "sgd"}, {}),
    "accumulate a short last batch": ({"accumulate": 3, "batch_size": 16}, {}),
    "clip": ({"clip_norm": 0.2, "optimizer": "sgd", "optimizer_options": {"momentum": 0.9}}, {}),
    "weight decay": ({"optimizer": "adamw", "weight_decay": 0.3}, {}),
    "bf16": ({"precision": "bf16"}, {}),
    "ema from one epoch on": ({"average": "ema", "average_decay": 0.9, "average_start": 1}, {}),
    "swa from a part of an epoch on": ({"average": "swa", "average_start": 0.55}, {}),
    "schedule-free, averaged": ({"optimizer": "adamwschedulefree", "average": "ema", "average_decay": 0.8}, {}),
    "all of it": (
        {
            "optimizer": "adamw", "weight_decay": 0.1, "accumulate": 3, "clip_norm": 0.5, "precision": "bf16",
            "average": "ema", "average_decay": 0.7, "schedule": "linear",
        },
        {},
    ),
    "numbers of a step": ({"accumulate": 2}, {"loss": None, "metrics": {}, "step": numbers}),
    "groups": (
        {"optimizer": "adam", "schedule": "cosine"},
        {"parameters": lambda m: [{"params": m[0].parameters(), "lr": 1}, {"params": m[3:].parameters(), "lr": 10}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("best", [("val_loss", "minimize"), None], ids=["best kept", "last"])
@pytest.mark.parametrize("name", SETUPS)
@settings(max_examples=3, deadline=None)
@given(stops=st.lists(st.integers(0, 12), max_size=3))
def test_the_law_holds_for_every_recipe(name, best, stops):
    recipe, task = SETUPS[name]
    # BatchNorm and dropout; the horizon is for those with a schedule.
    setup = make_setup(recipe, make_task(norm_net, **task), best=best)
    trial = Trial(lr=0.02, seed=3, horizon=4.0 if setup.recipe.depends_on_horizon else None)
    whole, history = holds_the_law(setup, sorted(stops), last=12, trial=trial, ends=frozenset([5]))
    assert history.diverged is None
    assert len(history.evaluations) > 2
    assert (whole.best is None) == (best is None)


def test_numbers_that_a_step_records_are_means_over_its_batches_and_steps():
    task = make_task(step=numbers, loss=None, metrics={})
    history = Session.open(make_setup({"accumulate": 4}, task, evaluate_every=1.0), TRIAL).run(3)
    model = fresh(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=TRIAL.lr)
    (epoch,) = batches(task, 1)
    by_step = []
    for some in (epoch[:4], epoch[4:8], epoch[8:]):
        optimizer.zero_grad()
        shares = []
        for x, y in some:
            outputs = model(x)
            (nn.functional.cross_entropy(outputs, y) / len(some)).backward()
            shares.append((outputs.argmax(1) == y).double().mean().item())
        optimizer.step()
        by_step.append(np.mean(shares))
    recorded = history.evaluations[-1].metrics
    assert {"val_loss", "val_accuracy", "train_accuracy", "train_noise"} <= recorded.keys()
    assert recorded["train_accuracy"] == pytest.approx(np.mean(by_step), abs=1e-6)


def trained(recipe, steps, task=None, trial=TRIAL, **kwargs):
    session = Session.open(make_setup(recipe, task, **kwargs), trial)
    return session, session.run(steps)


def test_accumulation_equals_the_plain_loop_bit_for_bit():
    n = N - 7  # a last batch of 8; and of the ten batches of an epoch the last step has two
    task = make_task(n=n)
    session, history = trained({"accumulate": 4}, 9, task)
    assert session.setup.steps_per_epoch == 3
    model = fresh(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=TRIAL.lr)
    losses, norms = [], []
    for epoch in batches(task, 3):
        for start in (0, 4, 8):
            some = epoch[start : start + 4]
            optimizer.zero_grad()
            total = 0.0
            for x, y in some:
                loss = nn.functional.cross_entropy(model(x), y)
                (loss / len(some)).backward()
                total += loss.item() / len(some)
            norms.append(norm_of(model.parameters()))
            optimizer.step()
            losses.append(total)
    np.testing.assert_array_equal(history.loss, np.array(losses, np.float32))
    np.testing.assert_allclose(history.grad_norm, norms, rtol=1e-6)
    # Each batch counts alike, also one with fewer examples: a mean of means.
    assert history.evaluations[-1].epoch == 3.0
    for ours, theirs in zip(session.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_accumulating_all_of_an_epoch_is_one_step_on_its_mean():
    whole = trained({"batch_size": N, "optimizer": "sgd"}, 4)[1]
    parts = trained({"accumulate": 10, "optimizer": "sgd"}, 4)[1]
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-5)
    np.testing.assert_allclose(parts.grad_norm, whole.grad_norm, rtol=1e-4)


@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_clipping_equals_the_plain_loop_and_records_the_norm_before(clip):
    task = make_task()
    session, history = trained({"clip_norm": clip, "optimizer": "sgd"}, 20, task)
    model = fresh(task)
    optimizer = torch.optim.SGD(model.parameters(), lr=TRIAL.lr)
    losses, norms = [], []
    for epoch in batches(task, 2):
        for x, y in epoch:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), clip).item())
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_array_equal(history.loss, np.array(losses, np.float32))
    np.testing.assert_allclose(history.grad_norm, norms, rtol=1e-6)
    weights = nn.utils.parameters_to_vector(session.model.parameters()).norm().item()
    # Plain gradient descent moves by the rate times the clipped norm.
    moved = TRIAL.lr * min(clip, norms[-1])
    assert history.update_ratio[-1] == pytest.approx(moved / weights, rel=1e-3)


def test_bf16_equals_the_plain_loop_under_autocast():
    task = make_task()
    session, history = trained({"precision": "bf16"}, 20, task, evaluate_every=1.0)
    model = fresh(task)
    optimizer = torch.optim.Adam(model.parameters(), lr=TRIAL.lr)
    losses = []
    for epoch in batches(task, 2):
        for x, y in epoch:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_array_equal(history.loss, np.array(losses, np.float32))
    assert not np.array_equal(history.loss, trained({}, 20, task)[1].loss), "it does compute in another precision"
    assert {p.dtype for p in session.model.parameters()} == {torch.float32}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(task.val.inputs)
    accuracy = (outputs.argmax(1) == task.val.targets).float().mean().item()
    assert history.evaluations[-1].metrics["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)


SCHEDULE_FREE = {
    "adamwschedulefree": schedulefree.AdamWScheduleFree,
    "radamschedulefree": schedulefree.RAdamScheduleFree,
    "sgdschedulefree": schedulefree.SGDScheduleFree,
}


@pytest.mark.parametrize("name", SCHEDULE_FREE)
def test_a_schedule_free_optimizer_equals_the_loop_of_its_readme(name):
    task = make_task()
    history = trained({"optimizer": name}, 20, task, evaluate_every=1.0)[1]
    model = fresh(task)
    optimizer = SCHEDULE_FREE[name](model.parameters(), lr=TRIAL.lr)
    losses, val_losses = [], []
    for epoch in batches(task, 2):
        model.train()
        optimizer.train()
        for x, y in epoch:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        optimizer.eval()
        with torch.no_grad():
            val_losses.append(nn.functional.cross_entropy(model(task.val.inputs), task.val.targets).item())
    # Up to the first evaluation bit for bit; its change of weights and back rounds in the loop, and leaves no trace here.
    np.testing.assert_array_equal(history.loss[:10], np.array(losses[:10], np.float32))
    np.testing.assert_allclose(history.loss, losses, rtol=2e-5)
    assert [e.metrics["val_loss"] for e in history.evaluations[1:]] == pytest.approx(val_losses, rel=1e-5)


@pytest.mark.parametrize(
    "recipe", [{"optimizer": "adamwschedulefree"}, {"average": "ema", "average_decay": 0.9}, {"average": "swa"}, {}]
)
def test_evaluations_leave_no_trace_in_what_is_trained(recipe):
    often, rarely = (trained(recipe, 20, make_task(norm_net), evaluate_every=every)[1] for every in (0.1, RARELY))
    assert (len(often.evaluations), len(rarely.evaluations)) == (21, 1)
    np.testing.assert_array_equal(often.loss, rarely.loss)
    np.testing.assert_array_equal(often.update_ratio, rarely.update_ratio)


def test_a_checkpoint_right_after_an_evaluation_has_the_weights_that_are_trained():
    setup = make_setup({"optimizer": "adamwschedulefree"}, evaluate_every=RARELY)
    whole = Session.open(setup, TRIAL).run(20)
    session, losses = Session.open(setup, TRIAL), []
    for step in range(1, 21):
        losses += [*session.run(step).loss]
        before = session.evaluate(session.val, "val_")
        session = Session.open(setup, TRIAL, session.checkpoint())
        assert session.evaluate(session.val, "val_") == before
    np.testing.assert_array_equal(losses, whole.loss)


def test_a_rehearsal_reads_four_batches_however_many_are_accumulated():
    reading, _ = rehearsal.read(make_setup({"accumulate": 7}), TRIAL)
    assert len(reading.batches) == 4


def test_prodigy_equals_the_plain_loop_bit_for_bit():
    task = make_task()
    history = trained({"optimizer": "prodigy", "weight_decay": 0.01}, 20, task, trial=Trial(lr=1.0, seed=3))[1]
    model = fresh(task)
    optimizer = prodigyopt.Prodigy(model.parameters(), lr=1.0, weight_decay=0.01)
    losses = []
    for epoch in batches(task, 2):
        for x, y in epoch:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_array_equal(history.loss, np.array(losses, np.float32))


@pytest.mark.parametrize("options", [{"max_iter": 3}, {"max_iter": 4, "line_search_fn": "strong_wolfe"}])
@pytest.mark.parametrize("clip", [None, 0.1])
def test_lbfgs_equals_the_plain_loop_with_a_closure(options, clip):
    task = make_task()
    recipe = {"optimizer": "lbfgs", "optimizer_options": options, "clip_norm": clip}
    history = trained(recipe, 10, task, trial=Trial(lr=0.5, seed=3))[1]
    model = fresh(task)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, **options)
    losses = []
    for x, y in next(batches(task, 1)):

        def closure(x=x, y=y):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            return loss

        losses.append(optimizer.step(closure).item())
    np.testing.assert_array_equal(history.loss, np.array(losses, np.float32))


def test_groups_in_the_ratio_ten_to_one_equal_adamw_with_two_groups():
    def parameters(model):
        return [
            {"params": model[0].parameters(), "lr": 1e-4, "weight_decay": 0.0},
            {"params": model[2].parameters(), "lr": 1e-3},
        ]

    task = make_task(parameters=parameters)
    session, history = trained(
        {"optimizer": "adamw", "schedule": "linear"}, 20, task, trial=Trial(lr=0.02, seed=3, horizon=2.0)
    )
    model = fresh(task)
    optimizer = torch.optim.AdamW(
        [
            {"params": model[0].parameters(), "lr": 0.002, "weight_decay": 0.0},
            {"params": model[2].parameters(), "lr": 0.02},
        ]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 20)
    losses, rates = [], []
    for epoch in batches(task, 2):
        for x, y in epoch:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            rates.append(schedule.get_last_lr())
            schedule.step()
            losses.append(loss.item())
    np.testing.assert_allclose(history.loss, losses, rtol=1e-6)
    assert [group["lr"] for group in session.optimizer.param_groups] == pytest.approx(rates[-1], rel=1e-9)


class Trap(nn.Module):
    """Goes wrong in one forward pass, counted from 1, in its outputs or only in its gradient."""

    def __init__(self, at, gradient):
        super().__init__()
        self.linear, self.at, self.gradient = nn.Linear(12, 3), at, gradient
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        out = self.linear(x)
        if not self.training:
            return out
        self.calls += 1
        if self.calls != self.at:
            return out
        # The square root of zero is 0 and its slope infinite: 0 · ∞ is NaN in the gradient alone.
        return out + (0 * self.linear.weight.sum()).sqrt() if self.gradient else out * torch.inf


@pytest.mark.parametrize(("at", "step"), [(9, 3), (10, 3), (12, 3), (13, 4)])
def test_a_loss_that_is_not_finite_within_an_accumulated_step_ends_the_trial_there(at, step):
    recipe = {"accumulate": 4, "average": "ema", "batch_size": 10}
    session, history = trained(recipe, 8, make_task(lambda: Trap(at, gradient=False)))
    assert history.diverged == history.last_step == session.step == step
    assert np.isfinite(history.loss[:-1]).all()
    assert not np.isfinite(history.loss[-1])
    weights = nn.utils.parameters_to_vector(session.model.parameters())
    assert torch.isfinite(weights).all(), "no step is taken on it"
    assert len(Session.open(session.setup, TRIAL, session.checkpoint(verify=True)).run(8).loss) == 0


@pytest.mark.parametrize("recipe", [{}, {"clip_norm": 1.0}, {"average": "swa"}, {"optimizer": "adamwschedulefree"}])
def test_a_gradient_that_is_nan_under_a_finite_loss_ends_the_trial_at_the_next_step(recipe):
    _, history = trained(recipe, 20, make_task(lambda: Trap(5, gradient=True)), evaluate_every=RARELY)
    assert np.isfinite(history.loss[4])
    assert np.isnan(history.grad_norm[4])
    assert history.diverged == 6
    assert not np.isfinite(history.loss[5])


def test_a_gradient_that_is_nan_in_the_last_step_ends_it_at_the_evaluation():
    session = Session.open(make_setup(task=make_task(lambda: Trap(5, gradient=True))), TRIAL, ends=frozenset([5]))
    assert session.run(5).diverged == 5


def test_a_clipped_sparse_gradient_is_refused_in_one_line():
    session = Session.open(make_setup({"optimizer": "sgd", "clip_norm": 1.0}, make_task(sparse_net)), TRIAL)
    with pytest.raises(SpecError, match="torch clips no sparse gradients"):
        session.run(1)


@pytest.mark.parametrize("metric", ["train_loss", "train_accuracy", "val_loss"])
def test_the_best_evaluation_is_found_by_whatever_is_recorded(metric):
    direction = "maximize" if metric == "train_accuracy" else "minimize"
    task = make_task(step=numbers, loss=None, metrics={})
    session, history = trained({}, 25, task, best=(metric, direction))
    recorded = {e.step: {**e.metrics, "train_loss": e.train_loss}[metric] for e in history.evaluations if e.step}
    best = (max if direction == "maximize" else min)(recorded, key=recorded.get)
    assert (session.best["step"], session.best["value"]) == (best, recorded[best])


@pytest.mark.parametrize(
    ("recipe", "direction"),
    [
        ({}, "minimize"),
        ({"average": "ema", "average_decay": 0.5}, "minimize"),
        ({"optimizer": "adamwschedulefree"}, "maximize"),  # it gets no worse here
    ],
    ids=["last", "ema", "free"],
)
def test_what_is_tested_is_the_model_of_the_best_evaluation(recipe, direction):
    setup, trial = make_setup(recipe, best=("val_loss", direction)), Trial(lr=0.3, seed=3)
    session = Session.open(setup, trial)
    losses = [e.metrics["val_loss"] for e in session.run(60).evaluations[1:]]
    opened = Session.open(setup, trial, session.checkpoint())
    model = opened.trained()
    best = min(losses) if direction == "minimize" else max(losses)
    assert abs(losses[-1] - best) > 0.01 * best, "the last one is another"
    assert opened.evaluate(opened.val, "val_")[0]["val_loss"] == pytest.approx(best, rel=1e-6)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(setup.task.val.inputs), setup.task.val.targets).item()
    assert loss == pytest.approx(best, rel=1e-5)


def digits(tmp_path, lrs, recipe, epochs=3):
    study = etude.Study(task="digits", lrs=lrs, epochs=epochs, recipe=recipe)
    result = study.run(tmp_path / "run", executor="inline")
    return {trial.lr: trial.evaluations[-1].metrics["val_accuracy"] for trial in result.stored.trials}


def test_averaged_weights_are_not_worse_at_a_high_rate(tmp_path):
    last = digits(tmp_path / "a", [0.1], {})
    averaged = digits(tmp_path / "b", [0.1], {"average": "ema", "average_decay": 0.95})
    assert averaged[0.1] != last[0.1]
    assert averaged[0.1] > last[0.1] - 0.01


def test_bf16_reaches_what_float32_reaches(tmp_path):
    full = digits(tmp_path / "a", [1e-2], {})
    half = digits(tmp_path / "b", [1e-2], {"precision": "bf16"})
    assert half[1e-2] == pytest.approx(full[1e-2], abs=0.03)


def test_a_learning_rate_free_optimizer_reaches_nearly_what_the_best_rate_of_adam_does(tmp_path):
    adam = digits(tmp_path / "a", [1e-4, 1e-3, 1e-2], {}, epochs=5)
    free = digits(tmp_path / "b", [1.0], {"optimizer": "prodigy"}, epochs=5)
    assert adam[1e-4] < max(adam.values()) - 0.05, "the rate matters here"
    assert free[1.0] > max(adam.values()) - 0.04

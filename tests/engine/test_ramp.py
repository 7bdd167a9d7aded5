"""The ramp: its losses are those of the reference loop at these rates, and it leaves no trace."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

import etude
from etude.engine import ranging
from etude.engine.session import Session, Setup
from etude.engine.state import weights_digest
from etude.spec.trial import Trial


def setup_of(task, **recipe):
    return Setup(task=task, recipe=etude.Recipe(**{"batch_size": 16, **recipe}))


@pytest.mark.parametrize("recipe", [
    {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}},
    {"optimizer": "adamw", "clip_norm": 0.1, "accumulate": 2, "schedule": "cosine", "warmup": "10%", "average": "ema"},
    {"optimizer": lambda params, lr: torch.optim.RMSprop(params, lr=lr)},
], ids=["sgd", "adamw and all", "own"])  # fmt: skip
def test_its_losses_are_those_of_a_trial_with_these_rates(recipe, tiny_task, one_thread):
    lrs = ranging.rates(1e-4, 1.0, 12)
    plain = {name: value for name, value in recipe.items() if name not in ("warmup", "average")}
    by_hand = setup_of(tiny_task, **{**plain, "schedule": lambda step: float(lrs[step] / 1e-4)})
    history = Session.open(by_hand, Trial(lr=1e-4, seed=3)).run(12)
    made = ranging.ramp(setup_of(tiny_task, **recipe), 3, 1e-4, 1.0, 12)
    assert made.from_step == 0
    np.testing.assert_allclose(made.loss, history.loss, rtol=2e-6)


def test_from_a_checkpoint_it_goes_on_where_that_was_taken_and_can_be_repeated(tiny_task, one_thread):
    setup = setup_of(tiny_task, optimizer="adam")
    session = Session.open(setup, Trial(lr=1e-2, seed=0))
    session.run(6)
    checkpoint, digest = session.checkpoint(), weights_digest(session.model)
    first, again = (ranging.ramp(setup, 0, 1e-2, 1e-2 * (1 + 1e-12), 5, checkpoint) for _ in range(2))
    assert first.from_step == 6
    np.testing.assert_array_equal(first.loss, again.loss)
    # At one rate throughout, it is the trial itself.
    np.testing.assert_allclose(first.loss, session.run(11).loss, rtol=1e-6)
    assert weights_digest(Session.open(setup, Trial(lr=1e-2, seed=0), checkpoint).model) == digest


def test_nothing_of_the_callers_is_changed(tiny_task):
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    threads = torch.get_num_threads()
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    data = tiny_task.train.inputs.clone()
    ranging.ramp(setup_of(tiny_task), 0, 1e-5, 1.0, 10)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    assert torch.equal(tiny_task.train.inputs, data)
    assert torch.get_num_threads() == threads


def test_it_evaluates_nothing_and_ends_when_all_is_lost(tiny_task):
    def never(model, batch):
        raise AssertionError("a range test evaluates nothing")

    task = etude.Task(
        model=lambda: nn.Linear(4, 1), train=tiny_task.train, val=tiny_task.val, evaluate=never,
        step=lambda model, batch: ((model(batch[0])[:, 0] - batch[1]) ** 2).mean(),
    )  # fmt: skip
    made = ranging.ramp(setup_of(task, optimizer="sgd"), 0, 1e-4, 1e6, 200)
    assert 50 < len(made.loss) < 200
    assert made.loss[-1] > ranging.EXPLODED * made.loss[0]
    diverging = ranging.ramp(setup_of(task, optimizer="sgd"), 0, 1e30, 1e36, 200)
    assert not np.isfinite(diverging.loss[-1]) or len(diverging.loss) < 20


def test_a_rate_that_is_a_hint_alone_is_refused(tiny_task):
    assert "finds its own rate" in ranging.refusal(setup_of(tiny_task, optimizer="prodigy"))
    assert "first step alone" in ranging.refusal(setup_of(tiny_task, optimizer="rprop"))
    assert ranging.refusal(setup_of(tiny_task, optimizer="sgd")) is None

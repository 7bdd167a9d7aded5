"""The rules, against curves whose answer is plain, a naive reading of their definitions, and the libraries themselves."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etude.analysis.picks import RULES, finder, lightning, longest_fall, picks, smooth, steepest

LRS = np.geomspace(1e-7, 10.0, 100)


def curve(fall=1e-2, explosion=1.0, noise=0.0, seed=0):
    """From 2.3 down to 0.3 around the rate ``fall`` (a sigmoid over log10 η), up again like η/``explosion``."""
    x = np.log10(LRS)
    loss = 2.3 - 2.0 / (1 + np.exp(-4 * (x - math.log10(fall)))) + (LRS / explosion) ** 3
    return loss + noise * np.random.default_rng(seed).normal(size=len(x))


def test_steepest_finds_the_middle_of_a_sigmoid_whatever_the_noise_and_the_explosion():
    for noise in (0.0, 0.05):
        found = steepest(LRS, curve(noise=noise), 100)
        assert abs(math.log10(found / 1e-2)) < 0.3
    assert abs(math.log10(steepest(LRS, curve(fall=1e-4), 100) / 1e-4)) < 0.1


def test_smoothing_leaves_a_line_as_it_is_and_stays_within_its_losses():
    x = np.log10(LRS)
    np.testing.assert_allclose(smooth(LRS, 3 - 0.2 * x), 3 - 0.2 * x, atol=1e-9)
    loss = curve(explosion=0.1)
    smoothed = smooth(LRS, loss)
    assert loss.min() <= smoothed.min()
    assert smoothed.max() <= loss.max()


def test_every_rule_picks_within_the_falling_part_of_a_long_clean_fall():
    # Falls straight from the first step to the last: no end is special, so what is picked comes from the rule alone.
    loss = np.linspace(3.0, 1.0, 100)
    found = {pick.rule: pick for pick in picks(LRS, [loss, loss])}
    assert found.keys() == RULES.keys()
    assert all(pick.spread == 0.0 and LRS[0] < pick.lr < LRS[-1] for pick in found.values())
    kept = LRS[10:95]
    assert found["fastai minimum/10"].lr == pytest.approx(kept[-1] / 10)
    # The longest fall has all 85 points: thirds of 28 and a half of one, counted from one before the first.
    assert found["fastai valley"].lr == pytest.approx(kept[-1 + 28 + 14])
    # A straight line has one slope: the way from the right ends at once.
    assert found["fastai slide"].lr == pytest.approx(LRS[94 - 15], rel=1e-9)


def test_the_median_the_ends_and_the_spread_are_over_seeds():
    losses = [curve(fall=fall) for fall in (1e-3, 1e-2, 1e-1)]
    pick = next(pick for pick in picks(LRS, losses) if pick.rule == "steepest")
    assert (pick.low, pick.lr, pick.high) == pytest.approx(sorted(pick.lrs))
    assert pick.spread == pytest.approx(math.log10(pick.high / pick.low))
    assert 1.7 < pick.spread < 2.1


def test_too_few_steps_give_reasons_instead_of_picks():
    for pick in picks(LRS[:2], [np.array([1.0, math.nan])]):
        assert pick.lr is None
        assert pick.lrs == (None,)
        assert "too few steps" in pick.reason


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9))
@settings(max_examples=30, deadline=None)
def test_the_longest_fall_is_the_longest_of_all_there_are(y):
    falls = [
        way
        for n in range(2, len(y) + 1)
        for way in itertools.combinations(range(len(y)), n)
        if all(y[i] > y[j] for i, j in itertools.pairwise(way))
    ]
    longest = max(map(len, falls), default=0)
    end = min((way[-1] for way in falls if len(way) == longest), default=0)
    assert longest_fall(np.array(y, float)) == (end - longest, end)


def ended(loss, at):
    """A test whose loss is not finite any more in step ``at``."""
    return np.concatenate([loss[: at - 1], [math.nan]])


CANNED = [
    curve(noise=0.02, seed=1), curve(noise=0.2, seed=2), curve(fall=0.1, explosion=0.5, noise=0.1, seed=3),
    curve(explosion=1e3, noise=0.3, seed=4),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected call of")
def test_torch_lr_finder_says_the_same():
    finders = pytest.importorskip("torch_lr_finder", reason="torch-lr-finder is in the extra 'peers'")
    import torch
    from matplotlib.figure import Figure
    from torch.utils.data import DataLoader, TensorDataset

    class Canned(finders.LRFinder):
        def _train_batch(self, *_, **__):
            return next(self.canned)

    loader = DataLoader(TensorDataset(torch.zeros(1, 1), torch.zeros(1, 1)))
    for loss in [*CANNED, ended(CANNED[0], 60)]:
        model = torch.nn.Linear(1, 1)
        peer = Canned(model, torch.optim.SGD(model.parameters(), lr=LRS[0]), None)
        peer.canned = itertools.chain(map(float, loss), itertools.repeat(math.nan))
        peer.range_test(loader, end_lr=LRS[-1], num_iter=len(LRS))
        suggested = peer.plot(ax=Figure().subplots())[1]
        pick = next(pick for pick in picks(LRS, [loss]) if pick.rule == "torch-lr-finder")
        assert pick.lr == pytest.approx(suggested)
    assert finder(LRS[:16], CANNED[0][:16], 16) is None


def test_lightning_says_the_same():
    peer = pytest.importorskip(
        "lightning.pytorch.tuner.lr_finder", reason="Lightning is in the extras 'dev' and 'peers'"
    )
    for loss in [*CANNED, ended(CANNED[0], 60)]:
        callback = peer._LRCallback(num_training=len(LRS))
        trainer = SimpleNamespace(
            accumulate_grad_batches=1, should_stop=False, fit_loop=SimpleNamespace(batch_idx=0), global_step=0,
            strategy=SimpleNamespace(broadcast=lambda stop: stop),
        )  # fmt: skip
        for value in np.concatenate([loss, np.full(len(LRS) - len(loss), math.nan)]):
            trainer.global_step += 1
            callback.on_train_batch_end(trainer, None, {"loss": np.float64(value)}, None, 0)
            if trainer.should_stop:
                break
        found = peer._LRFinder("exponential", LRS[0], LRS[-1], len(LRS))
        found.results = {"lr": LRS[: len(callback.losses)].tolist(), "loss": callback.losses}
        pick = next(pick for pick in picks(LRS, [loss]) if pick.rule == "Lightning")
        assert pick.lr == pytest.approx(found.suggestion())
    assert lightning(LRS[:12], CANNED[0][:12], 12) is None

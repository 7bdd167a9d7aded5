"""What is said of rates that a search paused: the words, what they bound, and what is still asked for."""

import dataclasses
import math

import made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import STEPS, trial, verdicts

from etude.analysis import Curve, pause
from etude.analysis.scale import Scale

LOSS = Scale(kind="positive", sign=-1)
HORIZON = 16.0


def run(lr, until=HORIZON, seed=0, *, pace=1e2, floor=0.05, hurt=1.0, status=None):
    """A trial whose loss falls as its rate is high, to a floor that rises with it; it diverges from 1 on."""
    t = np.arange(until + 1)
    loss = floor * (1 + hurt * lr / 1e-2) + 2.3 / (1 + pace * lr * t) ** 1.5
    loss = loss * (1 + 0.01 * math.sin(7 * seed + 9 * math.log10(lr)))
    return Curve(
        lr=lr, seed=seed, status=status or ("completed" if until == HORIZON else "paused"),
        steps=(t * STEPS).astype(int), epochs=t, metrics={"val_loss": loss}, errors={"val_loss": np.full(len(t), 0.002)},
        loss=np.empty(0), end_step=int(HORIZON) * STEPS,
    )  # fmt: skip


def judge(curves, **fields):
    known = {"horizon_step": int(HORIZON) * STEPS, "horizon": HORIZON, "searched": True, **fields}
    return made.judge(curves, **known)


def evidence(found, lr):
    return next(rate.evidence for rate in found.rates if rate.lr == lr)


WHOLE = [run(lr, seed=s) for lr in (1e-2, 3e-2) for s in (0, 1)] + [run(1e-1)]


def test_a_rate_far_behind_below_the_good_ones_is_too_low_and_one_above_too_high():
    found = judge([run(1e-4, 1), run(1e-3, 4), *WHOLE, run(1.0, 1)])
    assert verdicts(found) == {
        1e-4: "too low",
        1e-3: "too low",
        1e-2: "good",
        3e-2: "too high",
        1e-1: "too high",
        1.0: "too high",
    }
    for rate in found.rates:
        if rate.lr in (1e-4, 1e-3, 1.0):
            assert rate.grade is None
            assert rate.evidence["n_paused"] == rate.evidence["n_trials"] == 1
    far = evidence(found, 1e-3)
    assert far["paused_at"] == 4
    assert far["behind"] == pytest.approx(
        far["paused_mean"] - np.mean([run(1e-2, seed=s).metrics["val_loss"][4] for s in (0, 1)])
    )
    assert 0 < far["best_reached"] < 1
    said = {rate.lr: rate.reason for rate in found.rates}
    assert said[1e-3].startswith("Paused after 4 epochs at 1.")
    assert said[1e-3].endswith("behind the best rate, which had as much after 0.55 epochs: too slow to catch up.")
    assert not found.recommendation.provisional


def test_one_that_is_a_little_slow_may_catch_up_and_is_not_told():
    """Behind at the pause, as any lower rate is; at the horizon it would be the best."""
    whole = [run(lr, seed=s, pace=500) for lr in (1e-2, 3e-2) for s in (0, 1)]
    found = judge([run(4e-3, 1, pace=500), *whole])
    assert found.recommendation.lr == 1e-2
    e = evidence(found, 4e-3)
    assert e["behind"] > pause.CLEAR * 2.3
    assert verdicts(found)[4e-3] == "undetermined"
    assert judge([*(run(4e-3, seed=s, pace=500) for s in (0, 1)), *whole]).recommendation.lr == 4e-3


def test_one_that_was_ahead_may_win_is_said_and_is_carried_on_first():
    found = judge([run(3e-3, 4), run(1e-2), run(3e-2, 4), run(1e-1, 1)])
    assert verdicts(found)[3e-2] == "undetermined"
    assert "ahead of the recommended rate there" in next(r.reason for r in found.rates if r.lr == 3e-2)
    best = found.recommendation
    assert (best.lr, best.edge) == (1e-2, None)
    assert "3e-3 and 3e-2 beside it were paused and may be better yet" in best.reason
    assert "the only one of 4 rates that got to the end" in best.reason
    assert best.next_run.lrs == (3e-3, 3e-2)
    assert best.next_run.seeds == 1
    assert found.response.reason == "not located: a curve needs 4 rates that learned, there is 1"
    assert any("3 were paused before the end" in line for line in found.summary)


def test_a_rate_beyond_one_that_is_too_low_is_too_low_as_well():
    """By itself the lowest says nothing: it was hardly behind yet."""
    slow = [run(1e-3, 8), run(5e-4, 1), run(1e-3, 1)]
    alone, beside = (judge([*curves, *WHOLE]) for curves in ([slow[1]], slow[:2]))
    assert verdicts(beside)[5e-4] == "too low"
    assert verdicts(alone)[5e-4] in ("too low", "undetermined")


def test_seeds_that_were_paused_leave_a_rate_with_a_score_as_it_is():
    whole = [run(lr, seed=s) for lr in (1e-3, 3e-3, 1e-2, 3e-2, 1e-1) for s in (0, 1)]
    plain, mixed = judge(whole), judge([*whole, run(1e-2, 2, seed=2), run(1e-1, 1, seed=2)])
    assert verdicts(plain) == verdicts(mixed)
    assert plain.recommendation == mixed.recommendation
    e = evidence(mixed, 1e-2)
    assert (e["n_scored"], e["n_paused"], e["n_unfinished"], e["n_trials"]) == (2, 1, 0, 3)
    assert math.isnan(e["paused_at"])
    assert "2 of 2 seeds agree" in next(r.reason for r in mixed.rates if r.lr == 1e-2)


def test_a_rate_of_which_some_seed_diverged_and_the_other_was_paused_is_lost_only_if_most_are():
    lost = run(1.0, 1, seed=1, status="diverged")
    one, two = (
        judge([run(1e-3, 4), *WHOLE, run(1.0, 1), lost, *more])
        for more in ([], [run(1.0, 1, seed=2, status="diverged")])
    )
    assert verdicts(one)[1.0] == "unstable"
    assert "Lost 1 of its 2 seeds" in next(r.reason for r in one.rates if r.lr == 1.0)
    assert verdicts(two)[1.0] == "diverged"
    assert one.recommendation.edge is two.recommendation.edge is None


@pytest.mark.parametrize("searched", [True, False])
def test_only_what_a_search_paused_is_not_waited_for(searched):
    found = judge([run(1e-3, 4), *WHOLE], searched=searched)
    assert found.recommendation.provisional is not searched
    assert (found.recommendation.next_run.why == "finish what was asked for") is not searched
    assert evidence(found, 1e-3)["n_unfinished"] == (not searched)


def test_paused_rates_that_are_told_bound_the_interval_and_others_leave_it_open():
    whole = [run(lr, seed=s) for lr in (3e-3, 5e-3, 1e-2, 2e-2) for s in (0, 1)]
    closed = judge([run(1e-3, 4), *whole, run(0.5, 4)])
    open_ended = judge(whole)
    assert verdicts(closed)[1e-3] == "too low"
    low, high = closed.recommendation.optimum_interval
    assert 1e-3 <= low < high <= 0.5
    assert closed.recommendation.interval_open == ()
    assert min(closed.response.lrs) == pytest.approx(3e-3, rel=0.1), (
        "there is no curve where no rate was carried to the end"
    )
    assert open_ended.recommendation.lr == closed.recommendation.lr


def test_nothing_carried_to_the_end_is_no_recommendation_but_a_run_that_would_make_one():
    found = judge([run(1e-3, 4), run(1e-2, 4), run(1e-1, 1), run(10.0, 1, status="diverged")])
    assert found.recommendation.lr is None
    assert "stopped before the end" in found.recommendation.reason
    assert (found.recommendation.next_run.lrs, found.recommendation.next_run.seeds) == ((1e-2,), 1)
    assert set(verdicts(found).values()) == {"undetermined", "diverged"}


@pytest.mark.parametrize("level", [3.0, 2.0, 1.5, 0.0])
def test_when_a_curve_was_at_a_level(level):
    t, y = np.array([0.0, 1.0, 3.0]), np.array([3.0, 2.0, 1.0])
    assert pause.when(t, y, level) == {3.0: 0.0, 2.0: 1.0, 1.5: 2.0, 0.0: math.inf}[level]


@given(st.floats(1.0, 15.0), st.floats(1e-4, 1.0), st.floats(0.01, 100.0))
@settings(deadline=None, max_examples=60)
def test_a_pause_is_the_same_in_another_unit_of_the_loss(at, lr, unit):
    here, there = (
        pause.paused([made.scaled(run(lr, at), u)], [made.scaled(run(1e-2), u)], "val_loss", LOSS, HORIZON)
        for u in (1.0, unit)
    )
    assert here.reached == pytest.approx(there.reached)
    for name in ("level", "behind", "gain", "short"):
        assert getattr(here, name) * unit == pytest.approx(getattr(there, name), rel=1e-6, abs=1e-9 * unit)
    assert here.is_too_slow(0.1) == there.is_too_slow(0.1 * unit)
    assert here.is_lost_above(0.1) == there.is_lost_above(0.1 * unit)


def test_a_rate_without_an_evaluation_after_the_start_has_no_pause():
    assert pause.paused([run(1e-3, 0)], [run(1e-2)], "val_loss", LOSS, HORIZON) is None
    found = judge([run(1e-3, 0), trial(1e-4, 1.0, status="paused", steps=np.empty(0, int), epochs=np.empty(0),
                                       metrics={"val_loss": np.empty(0)}, errors={"val_loss": np.empty(0)}), *WHOLE])  # fmt: skip
    assert verdicts(found)[1e-3] == verdicts(found)[1e-4] == "undetermined"


def test_where_the_best_rate_was_not_evaluated_nothing_is_said_of_who_was_ahead_and_behind_is_at_least():
    rare = [run(lr, seed=s) for lr in (1e-2, 3e-2) for s in (0, 1)]
    keep = [0, 4, 8, 12, 16]
    rare = [
        dataclasses.replace(
            c, steps=c.steps[keep], epochs=c.epochs[keep], metrics={"val_loss": c.metrics["val_loss"][keep]},
            errors={"val_loss": c.errors["val_loss"][keep]},
        )
        for c in rare
    ]  # fmt: skip
    found = judge([*rare, run(1e-4, until=1), run(1e-1, until=1)])
    said = {rate.lr: rate.reason for rate in found.rates}
    assert evidence(found, 1e-1)["behind"] < 0
    assert "where the recommended rate was not evaluated: which of the two was ahead is not told" in said[1e-1]
    assert " at least " in said[1e-4]
    whole = {r.lr: r.reason for r in judge([run(1e-2), run(3e-2), run(1e-4, until=1), run(1e-1, until=1)]).rates}
    assert " at least " not in whole[1e-4]


def test_paused_rates_that_are_exactly_alike_ask_for_nothing():
    def constant(lr):
        c = run(lr, until=1)
        return dataclasses.replace(c, metrics={"val_loss": np.full(len(c.steps), 0.7)})

    found = judge([constant(lr) for lr in (1e-4, 1e-3, 1e-2)])
    assert found.recommendation.reason.endswith("all exactly alike: the rate makes no difference there.")
    assert found.recommendation.next_run is None

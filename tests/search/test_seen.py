"""What a searcher makes of what is stored: which trials are at a rung, what they reached there, and how the best rate drifts."""

from __future__ import annotations

import math

import pytest
from invented import STEPS, study

from etude.search import Standing
from etude.search.seen import FIRST, MOST_STEPS, SECOND, Seen
from etude.spec.recipe import Recipe

STUDY = study(seeds=3)


def seen(results, of=STUDY):
    """``results`` by (rate, seed, own horizon or None), each a standing or its scores."""
    made = {}
    for (lr, seed, epochs), what in results.items():
        standing = what if isinstance(what, Standing) else Standing(epochs=what[-1][0], ended=False, scores=tuple(what))
        made[of.trial(lr, seed, epochs)] = standing
    return Seen(study=of, results=made, steps_per_epoch=STEPS)


def drift(share, **recipe):
    return seen({}, study(recipe=Recipe(**recipe))).drift(share)


def test_the_optimum_drifts_by_the_ratio_of_what_the_rates_add_up_to():
    assert drift(FIRST) == pytest.approx(math.log10(16))
    assert drift(SECOND, schedule="cosine") == pytest.approx(math.log10(4), abs=0.01), (
        "a rung has a schedule of its own"
    )
    total = sum(0.5 ** (t / STEPS) for t in range(16 * STEPS))
    part = sum(0.5 ** (t / STEPS) for t in range(4 * STEPS))
    decaying = drift(SECOND, schedule="exponential", schedule_options={"factor": 0.5})
    assert decaying == pytest.approx(math.log10(total / part), abs=0.01)
    # Of a warmup of two epochs the first rung sees the first half: a quarter of the sum, and then 14 epochs follow.
    assert drift(FIRST, warmup=2) == pytest.approx(math.log10(15 / 0.25), abs=0.05)
    assert MOST_STEPS > 16 * STEPS  # so that these are sums over all steps


def test_a_schedule_that_is_zero_at_the_rung_drifts_like_a_constant_one():
    assert drift(FIRST, schedule=lambda t: 0.0 if t < 4 * STEPS else 1.0) == pytest.approx(math.log10(16))


def test_each_seed_is_held_against_its_own_start():
    """At 1e-5 nothing moved, although seed 1 starts below seed 0."""
    of = seen({
        (1e-5, 0, 16.0): [(0, 2.5), (16, 2.5)], (1e-5, 1, 16.0): [(0, 2.3), (16, 2.3)],
        (1e-2, 0, 16.0): [(0, 2.5), (16, 2.4)],
    })  # fmt: skip
    assert of.still == [-5.0]
    assert of.moved(1.0)
    assert of.answer().lrs == pytest.approx((1e-2,))


def test_the_score_is_the_last_evaluation_up_to_the_horizon():
    of = seen({
        (1e-3, 0, 16.0): [(0, 2.0), (16, 1.0), (20, 0.5)],  # carried beyond
        (1e-2, 0, 16.0): [(0, 2.0), (13, 0.7)],  # not there yet
        (1e-1, 0, 16.0): Standing(epochs=16.0, ended=True, scores=((0, 2.0), (15, 0.3))),  # diverged in the end
        (1e-4, 0, 16.0): [(0, 2.0), (10, 1.5), (16, math.nan)],
    })  # fmt: skip
    assert of.full == {-3.0: 0.0}
    assert of.lost == [-4.0, -1.0]


def test_the_best_score_is_the_best_up_to_a_rung():
    of = seen({(1e-3, 0, 16.0): [(0, math.nan), (2, 0.5), (4, 1.0), (16, 0.4)]}, study(select="best"))
    assert of.at(SECOND)[-3.0] == pytest.approx(math.log(0.5))
    assert of.full[-3.0] == pytest.approx(math.log(0.4))


def test_rates_are_compared_at_a_rung_where_trials_were_evaluated():
    """In a run at 3 and 6 epochs; as soon as a trial was paused at 4, there, and 6 is too far off."""
    results = {(1e-3, 0, 16.0): [(0, 2.0), (3, 1.0), (6, 0.5)], (1e-2, 0, 16.0): [(0, 2.0), (6, 0.7)]}
    assert [*seen(results).at(SECOND)] == [-3.0]
    paused = seen({**results, (1e-4, 0, 16.0): [(0, 2.0), (4, 1.5)]})
    assert [*paused.at(SECOND)] == [-4.0, -3.0]
    assert paused.at(FIRST) == {}


def test_a_short_horizon_is_cut_at_whole_steps():
    """Of nine steps the first rung is one and the second two."""
    of = study(epochs=0.45)
    made = seen({(1e-3, 0, 0.45): [(0, 2.0), (0.05, 1.9)], (1e-2, 0, 0.45): [(0, 2.0), (0.05, 1.5), (0.1, 1.4)]}, of)
    assert (made.until(FIRST), made.until(SECOND), made.until(1.0)) == (0.05, 0.1, 0.45)
    assert made.is_done(of.trial(1e-3, 0, 0.45), FIRST)
    assert not made.is_done(of.trial(1e-3, 0, 0.45), SECOND)
    assert [*made.at(FIRST)] == [-3.0, -2.0]
    assert [*made.at(SECOND)] == [-2.0]


def test_with_a_schedule_of_the_horizon_a_rung_is_a_trial_of_its_own():
    of = study(recipe=Recipe(schedule="cosine"))
    made = seen({(1e-3, 0, 4.0): [(0, 2.0), (1, 1.9), (4, 1.0)], (1e-2, 0, 16.0): [(0, 2.0), (4, 1.5), (16, 0.5)]}, of)
    assert [*made.at(SECOND)] == [-3.0]
    assert [*made.full] == [-2.0]
    assert made.at(FIRST) == {}
    assert not made.is_done(of.trial(1e-3, 0, 16.0), 1.0)


def test_a_loss_over_training_steps_which_has_no_value_before_them_is_not_lost():
    of = seen({(1e-3, 0, 16.0): [(0, math.nan)], (1e-2, 0, 16.0): [(0, math.nan), (16, 1.0)]})
    assert of.lost == []
    assert math.isnan(of.start)
    assert of.moved(1.0), "as far as is known"

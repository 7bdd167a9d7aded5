"""The adaptive searcher in an invented world: it finds a good rate, keeps to the budget, always ends, and says why."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from invented import STEPS, Game, World, play, study

from etude.notation import rate_text
from etude.search import Standing
from etude.search.adaptive import GAP, SPENT, Adaptive
from etude.search.seen import FIRST, Seen
from etude.spec.recipe import Recipe

WIDE = Adaptive(low=1e-5, high=10.0, steps_per_epoch=STEPS)
STUDY, WORLD = study(), World(x=-2.1)


def scored(value):
    """A twist that changes all scores: ``value(trial, epoch, score, start)``."""

    def twist(trial, standing):
        start = standing.scores[0][1]
        return dataclasses.replace(
            standing, scores=tuple((e, value(trial, e, score, start)) for e, score in standing.scores)
        )

    return twist


def drawn(trial):
    """A number from 0 to 1 that is a trial's own."""
    return np.random.default_rng([trial.seed, int(trial.lr * 1e15)]).random()


TWISTS = {
    "none": lambda trial, standing: standing,
    "not a number": scored(lambda trial, e, score, start: math.nan),
    "none before training": scored(lambda trial, e, score, start: score if e else math.nan),
    "constant": scored(lambda trial, e, score, start: 0.5),
    "still": scored(lambda trial, e, score, start: start),
    "collapses": scored(lambda trial, e, score, start: score if e < 9 else start),
    "negative": scored(lambda trial, e, score, start: math.log(score) - 1),
    "share": scored(lambda trial, e, score, start: math.exp(-score)),
    "chance": scored(lambda trial, e, score, start: round(math.exp(-score), 1)),
    "diverges": lambda trial, standing: dataclasses.replace(standing, ended=True),
    "sometimes diverges": lambda trial, standing: dataclasses.replace(
        standing, ended=standing.ended or drawn(trial) < 0.3
    ),
    "fails": lambda trial, standing: Standing(epochs=0.0, ended=False, failed=True),
    "sometimes fails": lambda trial, standing: dataclasses.replace(standing, failed=drawn(trial) < 0.3),
}
RECIPES = (
    Recipe(), Recipe(schedule="cosine"), Recipe(warmup=2), Recipe(warmup="5%"), Recipe(schedule="wsd", warmup="30 steps"),
    Recipe(schedule="step", schedule_options={"every": 3}), Recipe(schedule="exponential", schedule_options={"factor": 0.7}),
)  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True, phases=[Phase.generate])
@given(data=st.data())
def test_it_keeps_its_promises_whatever_comes_back(data):
    """No trial twice, none that has ended, none beyond the budget (see `invented.check`), and an end with a reason."""
    pick = lambda *of: data.draw(st.sampled_from(of))  # noqa: E731
    low = pick(-6.0, -4.3, -2.0)
    high = low + pick(0.1, 1.0, 3.0, 8.0)
    of = study(
        epochs=pick(16.0, 1.0, 0.5), recipe=pick(*RECIPES), seeds=pick(1, 3, 10), evaluate_every=pick(1.0, 0.11, 5.0),
        select=pick("last", "best"), objective=pick("min:val_loss", "max:val_score"),
    )  # fmt: skip
    world = World(x=low + pick(-1.0, 0.5, 2.0, 4.0), cliff=pick(-0.5, 0.3, 1.0, 9.0), horizon=of.epochs)
    searcher = Adaptive(
        low=10**low, high=10**high, bracket=pick(None, (1e-4, 3e-2)), steps_per_epoch=STEPS, workers=pick(1, 1, 4)
    )
    twist, leak = TWISTS[pick(*TWISTS)], pick(0.0, 0.0, 0.3)
    game = play(searcher, of, world, pick(None, 2.0, 2.5, 4.0, 9.75, 30.0), twist=twist, leak=leak)
    more = play(searcher, of, world, pick(1.0, 5.0), twist=twist, game=game)
    again = dict(reversed(more.results.items()))
    assert searcher.ask(of, again, more.left) == more.decisions[-1], "the order of the results does not matter"


def test_the_pick_is_within_the_margin_wherever_the_best_rate_is():
    """Random optima, ranges, noise, cliffs and slopes, with a quarter of a full grid's cost."""
    rng = np.random.default_rng(0)
    for number in range(16):
        x = rng.uniform(-4, 0)
        world = World(x=x, cliff=rng.uniform(0.1, 1.2), sd=(0.003, 0.02, 0.1)[number % 3], shape=rng.uniform(0.3, 1.5))
        searcher = Adaptive(
            low=10 ** (x - rng.uniform(0.4, 4)), high=10 ** (x + rng.uniform(0.4, 3)), steps_per_epoch=STEPS
        )
        of = study(seeds=(1, 3, 10)[number % 3])
        game = play(searcher, of, world, 9.75)
        assert world.good(game.pick(of)), (world, searcher, game.whys)


@pytest.mark.parametrize("recipe", RECIPES[1:3])
def test_a_schedule_with_its_own_horizon_and_a_warmup_are_searched_alike(recipe):
    of = study(recipe=recipe)
    assert WORLD.good(play(WIDE, of, WORLD).pick(of))


def test_it_looks_at_every_decade_first_briefly_and_with_one_seed():
    first = WIDE.ask(STUDY, {}, 160.0)
    assert [round(math.log10(one.trial.lr), 3) for one in first.requests] == [-5, -4, -3, -2, -1, 0, 1]
    assert {(one.epochs, one.trial.seed) for one in first.requests} == {(FIRST * 16, 0)}
    assert first.why == "a first look at the whole range"


def test_what_cannot_be_the_best_at_the_horizon_is_not_carried_on():
    """The optimum moves by log10(16) decades at most from the first rung, and log10(4) from the second."""
    game = play(WIDE, STUDY, WORLD)
    seen = Seen(study=STUDY, results=game.results, steps_per_epoch=STEPS)
    low, high = seen.region(FIRST)
    assert low == pytest.approx(min(seen.tied(FIRST)) - math.log10(16) - 0.2)
    assert len(game.asked(4.0)) >= 3
    assert low <= game.asked(4.0)[0] <= game.asked(4.0)[-1] <= high
    assert low <= game.asked(16.0)[0]
    assert {*game.asked(1.0)} - {*game.asked(4.0), *game.asked(16.0)}, "some were left where they were"


@pytest.mark.parametrize("bracket", [(1e-5, 2e-5), (1.0, 8.0), (2e-3, 3e-2)])
def test_a_bracket_says_where_to_look_first_and_is_left_where_the_best_is_not_in_it(bracket):
    searcher = dataclasses.replace(WIDE, bracket=bracket)
    game = play(searcher, STUDY, WORLD)
    first = [one.trial.lr for one in game.decisions[0].requests]
    assert bracket[0] / 10 <= min(first) <= max(first) <= bracket[1] * 10
    assert game.whys[0] == "a first look at what the range test leaves"
    assert ("a first look further" in game.whys[1]) == (bracket != (2e-3, 3e-2))
    assert WORLD.good(game.pick(STUDY))


@pytest.mark.parametrize(("x", "end"), [(-5.4, -5.0), (3.0, 1.0)])
def test_a_best_rate_beyond_the_range_leads_to_its_end_and_no_further(x, end):
    game = play(WIDE, STUDY, World(x=x))
    assert math.log10(game.pick(STUDY)) == pytest.approx(end, abs=0.01)
    assert end in np.round(game.asked(16.0), 2)


@pytest.mark.parametrize(("x", "beyond"), [(-0.5, -1.0), (-3.2, -3.0)])
def test_where_the_best_is_at_the_end_of_those_tried_it_goes_on_beyond(x, beyond):
    world = World(x=x, cliff=9.0)
    game = Game()
    for lr in (10**-2.5, 1e-2, 10**-1.5):
        game.carry(STUDY.trial(lr, 0, 16.0), 16.0, STUDY, world)
    decision = WIDE.ask(STUDY, game.results, 16.0)  # enough for one more
    assert [math.log10(one.trial.lr) for one in decision.requests] == pytest.approx([beyond])
    best = "3.16e-2" if x > -1 else "3.16e-3"
    assert decision.why == f"the best rate so far, {best}, is at the end of those trained to the horizon"


def test_a_rate_that_was_begun_near_there_is_carried_on():
    """The second rung has 1e-4; the third leaves it, until 3.16e-4 is the best and the lowest."""
    game = play(WIDE, STUDY, World(x=-3.3), 6.0)
    at = game.whys.index("the best rate so far, 3.16e-4, is at the end of those trained to the horizon")
    assert [one.trial.lr for one in game.decisions[at].requests] == [1e-4]
    assert -4.0 in np.round(game.asked(4.0), 3)


def test_beyond_the_best_rate_something_is_tried_and_the_gaps_beside_it_are_halved():
    game = play(WIDE, STUDY, WORLD, None)
    x, whole = math.log10(game.pick(STUDY)), game.asked(16.0)
    beside = [max(one for one in whole if one < x - 0.01), min(one for one in whole if one > x + 0.01)]
    assert beside[0] >= x - GAP
    assert beside[1] <= x + GAP
    assert any("closer to" in why for why in game.whys)


def test_seeds_are_added_to_the_pick_and_its_rival_until_it_is_settled():
    game = play(WIDE, STUDY, WORLD, None)
    assert re.fullmatch(r"\S+ is within the margin of the best rate with a chance of (9[5-9]|100) %", game.whys[-1])
    asked = [one for of in game.decisions for one in of.requests if one.trial.seed > 0]
    assert {one.why for one in asked} == {"another seed"}
    assert len({one.trial.lr for one in asked}) >= 2
    assert {one.epochs for one in asked} == {16.0}
    assert {one.trial.seed for one in asked} < {1, 2, 3, 4}, "no more than it takes"
    noisy = play(WIDE, study(seeds=3), dataclasses.replace(WORLD, sd=0.5), None)
    assert {one.trial.seed for of in noisy.decisions for one in of.requests} == {0, 1, 2}


@pytest.mark.parametrize(
    ("twist", "reason"),
    [
        ("not a number", "every rate tried was lost: it diverged, failed, or its objective was not finite"),
        ("diverges", "every rate tried was lost: it diverged, failed, or its objective was not finite"),
        ("fails", "every rate tried was lost: it diverged, failed, or its objective was not finite"),
        ("constant", "the objective has not improved at any rate"),
        ("still", "the objective has not improved at any rate"),
        ("collapses", "the objective has not improved at any rate"),
    ],
)
def test_where_nothing_is_found_it_says_why(twist, reason):
    game = play(WIDE, STUDY, WORLD, twist=TWISTS[twist])
    assert game.whys[-1] == reason
    assert game.left > 0


def test_a_budget_that_is_too_small_is_told():
    assert WIDE.ask(STUDY, {}, 16.0).why == "the budget buys no run"
    assert play(WIDE, STUDY, WORLD, 4.0).whys[-1] == SPENT
    assert play(WIDE, STUDY, WORLD, 2.0).asked(16.0), "two trials' worth carry one to the horizon"


def test_a_rate_that_failed_does_not_hide_those_above_it():
    def twist(trial, standing):
        return dataclasses.replace(standing, failed=math.isclose(trial.lr, 1e-2, rel_tol=0.01))

    world = World(x=-1.5)
    game = play(WIDE, STUDY, world, twist=twist)
    assert game.asked(4.0)[-1] >= -1.01
    assert world.good(game.pick(STUDY))


def test_rates_that_were_trained_before_are_known_and_do_not_mislead():
    """Three poor ones at the horizon; and a good one, written with many digits, is carried on as it is."""
    game = Game()
    for lr in (1e-6, 3e-6, 1e-5, 9.8765432e-3):
        game.carry(STUDY.trial(lr, 0, 16.0), 16.0, STUDY, WORLD)
    play(WIDE, STUDY, WORLD, 8.0, game=game)
    assert WORLD.good(game.pick(STUDY))
    rates = {trial.lr for trial in game.results}
    assert not any(0 < abs(math.log10(lr / 9.8765432e-3)) < 0.05 for lr in rates)
    assert sum(trial.lr == 9.8765432e-3 for trial in game.results) > 1


def test_more_budget_goes_on_where_the_search_stopped():
    game = play(WIDE, STUDY, WORLD, 4.0)
    before = {trial: standing.epochs for trial, standing in game.results.items()}
    play(WIDE, STUDY, WORLD, 6.0, game=game)
    assert all(game.results[trial].epochs >= epochs for trial, epochs in before.items())
    assert 6.0 - game.left / 16 == pytest.approx(
        (sum(s.epochs for s in game.results.values()) - sum(before.values())) / 16
    )


def test_a_decision_promises_no_more_than_it_carries():
    """Of two trials one where the budget has no more, and another seed for the rate alone that lacks it."""
    game = Game()
    for _ in range(2):
        for one in WIDE.ask(STUDY, game.results, 160.0).requests:
            game.carry(one.trial, one.epochs, STUDY, WORLD)
    whole, half = (WIDE.ask(STUDY, game.results, left) for left in (160.0, 16.0))
    assert half.requests == whole.requests[:1]
    assert half.why == f"{whole.why} (the budget carries 1 of {len(whole.requests)} trials)"
    played = play(WIDE, STUDY, dataclasses.replace(WORLD, sd=0.1), None)
    said = [of for of in played.decisions if of.why.startswith("another seed at ")]
    assert said
    for decision in said:
        rates = decision.why.removeprefix("another seed at ").partition(", ")[0].split(" and ")
        assert rates == [rate_text(one.trial.lr) for one in decision.requests]


def test_of_a_budget_of_time_one_trial_has_no_more_than_its_part():
    """Four workers have 3.9 trials' worth of time left: none can be carried to the horizon."""
    searcher = dataclasses.replace(WIDE, workers=4)
    game = play(searcher, STUDY, WORLD, 3.9)
    assert not game.results
    assert play(searcher, STUDY, WORLD, 5.0).asked(16.0)


def test_workers_carry_trials_to_the_horizon_side_by_side():
    """Two workers with 1.34 trials' worth of time each carry two trials; a third would make their sum too much."""
    game = Game()
    for _ in range(2):  # looks, to a quarter of the horizon
        for one in WIDE.ask(STUDY, game.results, 160.0).requests:
            game.carry(one.trial, one.epochs, STUDY, WORLD)
    alone = WIDE.ask(STUDY, game.results, 3 * 16.0).requests
    assert [one.epochs for one in alone] == [16.0, 16.0]
    two = dataclasses.replace(WIDE, workers=2)
    assert two.ask(STUDY, game.results, 2 * 1.34 * 16.0).requests == alone
    assert two.ask(STUDY, game.results, 2 * 0.9 * 16.0).requests == alone, "of which a quarter is done"
    assert two.ask(STUDY, game.results, 1.4 * 16.0).requests == ()
    assert dataclasses.replace(WIDE, workers=4).ask(STUDY, game.results, 4 * 0.7 * 16.0).requests == ()

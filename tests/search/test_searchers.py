"""Searchers against made-up responses: they decide from results alone, keep to the budget, and find a good rate."""

from __future__ import annotations

import dataclasses
import math
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import etude
from etude.errors import SpecError
from etude.search import Standing
from etude.search.grid import Full
from etude.search.halving import Halving
from etude.search.named import SEARCHERS, make
from etude.search.optuna import Optuna
from etude.search.random import Random
from etude.search.rungs import at
from etude.search.spacing import order

LOW, HIGH, HORIZON = 1e-6, 1.0, 10.0
STUDY = etude.Study(task="quadratic", lrs=[1.0], seeds=5, epochs=HORIZON, objective="val_loss")
DECAYING = STUDY.replace(recipe={"schedule": "cosine"})
PEERS = {
    "grid": Full(low=LOW, high=HIGH),
    "random": Random(low=LOW, high=HIGH),
    "halving": Halving(low=LOW, high=HIGH),
    "median": Optuna(low=LOW, high=HIGH),
    "hyperband": Optuna(low=LOW, high=HIGH, pruner="hyperband"),
}
# Decades from the best rate, at most, after ten trials over six decades: ten draws leave such a gap in 2 of 100 cases.
OFF = {"grid": 0.5, "random": 1.0, "halving": 0.5, "median": 0.5, "hyperband": 0.5}


def loss(lr: float, epochs: float, best: float = 1e-2, edge: float = 0.1) -> float:
    """A bowl over log η around ``best``, which shorter runs see higher up; above ``edge`` it is not finite."""
    if lr > edge:
        return math.nan
    return (math.log10(lr / best) - 0.2 * math.log10(HORIZON / epochs)) ** 2 + 1 / (1 + epochs)


@dataclasses.dataclass
class Game:
    """A search as it was played: results, what it cost in full trials, and what was decided."""

    results: dict
    spent: float
    decisions: list

    def best(self, of=min):
        whole = [(s.scores[-1][1], t.lr) for t, s in self.results.items() if not s.ended and s.epochs >= HORIZON]
        return of(whole)[1]


def play(searcher, budget, *, study=STUDY, response=loss, game=None, until=math.inf):
    """Play a search with ``budget`` full trials; results are known for what is asked, and for nothing else."""
    game = game or Game({}, 0.0, [])
    while len(game.decisions) < until:
        decision = searcher.ask(study, game.results, (budget - game.spent) * HORIZON)
        if not decision.requests:
            assert decision.why
            break
        game.decisions.append(decision)
        for request in decision.requests:
            known = game.results.get(request.trial, Standing(epochs=0.0, ended=False))
            assert not known.ended
            assert known.epochs < request.epochs <= HORIZON
            value = response(request.trial.lr, request.epochs)
            scores = (*known.scores, (request.epochs, value)) if math.isfinite(value) else known.scores
            game.results[request.trial] = Standing(epochs=request.epochs, ended=not math.isfinite(value), scores=scores)
            game.spent += (request.epochs - known.epochs) / HORIZON
    return game


@pytest.mark.parametrize("study", [STUDY, DECAYING], ids=["constant", "cosine"])
@pytest.mark.parametrize("name", PEERS)
def test_every_peer_finds_a_good_rate_within_its_budget(name, study):
    game = play(PEERS[name], 10, study=study)
    assert game.spent <= 10 + 1e-9
    assert game.spent > 8.3  # what is left carries nothing that the searcher would do
    assert abs(math.log10(game.best() / 1e-2)) < OFF[name]
    assert {trial.seed for trial in game.results} == {0}  # ten trials are no whole row of the grid
    assert all(LOW <= trial.lr <= HIGH for trial in game.results)


@pytest.mark.parametrize("name", PEERS)
def test_the_largest_is_found_where_more_is_better(name):
    study = STUDY.replace(objective="max:val_accuracy")
    game = play(PEERS[name], 10, study=study, response=lambda lr, epochs: 1 - loss(lr, epochs))
    assert abs(math.log10(game.best(max) / 1e-2)) < OFF[name]


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from([*PEERS]), budget=st.floats(0.02, 9), stop=st.integers(0, 12), best=st.floats(-5, -0.5),
    shuffled=st.randoms(),
)  # fmt: skip
def test_results_alone_decide_and_the_budget_is_kept(name, budget, stop, best, shuffled):
    def response(lr, epochs):
        return loss(lr, epochs, 10**best, 0.5)

    whole = play(PEERS[name], budget, response=response)
    assert whole.spent <= budget + 1e-9
    # Stopped anywhere, and gone on with by another object from results in another order.
    part = play(PEERS[name], budget, response=response, until=stop)
    items = list(part.results.items())
    shuffled.shuffle(items)
    part.results = dict(items)
    again = play(dataclasses.replace(PEERS[name]), budget, response=response, game=part)
    assert again.results == whole.results
    assert again.decisions == whole.decisions


@pytest.mark.parametrize("name", PEERS)
def test_a_larger_budget_goes_on_from_a_smaller_one(name):
    small = play(PEERS[name], 4)
    before = dict(small.results)
    large = play(PEERS[name], 9, game=small)
    assert large.spent > 7
    assert all(large.results[trial].epochs >= standing.epochs for trial, standing in before.items())


@pytest.mark.parametrize("name", PEERS)
def test_a_trial_whose_code_raises_is_not_tried_again(name):
    first = PEERS[name].ask(STUDY, {}, 9 * HORIZON).requests[0].trial
    failed = {first: Standing(epochs=0.0, ended=False, failed=True)}
    game = play(PEERS[name], 4, game=Game(failed, 0.0, []))
    assert first not in {request.trial for decision in game.decisions for request in decision.requests}


def test_halving_keeps_the_best_third_at_each_rung():
    game = play(Halving(low=LOW, high=HIGH), 3.1)
    counts = [(len(d.requests), d.requests[0].epochs) for d in game.decisions]
    assert [count for count, _ in counts] == [27, 9, 3, 1]
    assert [epochs for _, epochs in counts] == pytest.approx([HORIZON / 27, HORIZON / 9, HORIZON / 3, HORIZON])
    for decision, following in zip(game.decisions, game.decisions[1:], strict=False):
        by_loss = sorted(
            (loss(r.trial.lr, r.epochs), r.trial.lr) for r in decision.requests if loss(r.trial.lr, r.epochs) < math.inf
        )
        assert [r.trial.lr for r in following.requests] == [lr for _, lr in by_loss[: len(following.requests)]]


def test_halving_takes_fewer_rates_where_the_budget_carries_no_more_and_other_rates_the_next_time():
    assert [len(d.requests) for d in play(Halving(low=LOW, high=HIGH), 2.5).decisions] == [9, 3, 1]
    assert play(Halving(low=LOW, high=HIGH), 1.6).decisions == []
    twice = play(Halving(low=LOW, high=HIGH), 6.1).decisions
    assert [len(d.requests) for d in twice] == 2 * [27, 9, 3, 1]
    assert not {r.trial.lr for r in twice[0].requests} & {r.trial.lr for r in twice[4].requests}


def test_halving_with_a_decaying_schedule_pays_each_rung_from_its_start():
    game = play(Halving(low=LOW, high=HIGH), 4.1, study=DECAYING)
    assert [len(d.requests) for d in game.decisions] == [27, 9, 3, 1]
    assert game.spent == pytest.approx(4)  # a constant rate would have taken three
    assert sorted({trial.horizon for trial in game.results}) == pytest.approx(
        [HORIZON / 27, HORIZON / 9, HORIZON / 3, HORIZON]
    )


def test_halving_ends_where_every_rate_diverges():
    game = play(Halving(low=LOW, high=HIGH), 9, response=lambda lr, epochs: math.nan)
    assert len(game.decisions) == 1
    assert "finite" in Halving(low=LOW, high=HIGH).ask(STUDY, game.results, 80).why


def test_the_median_pruner_lets_five_trials_end_and_then_stops_what_is_behind():
    decided = play(PEERS["median"], 9, response=lambda lr, epochs: loss(lr, epochs, edge=2)).decisions
    trials = list(dict.fromkeys(d.requests[0].trial for d in decided))
    reached = [max(d.requests[0].epochs for d in decided if d.requests[0].trial == trial) for trial in trials]
    assert reached[:5] == 5 * [HORIZON]
    assert min(reached[5:]) == pytest.approx(HORIZON / 9)
    assert HORIZON in reached[5:]


def test_hyperband_prunes_at_its_rungs_from_the_second_trial_on():
    game = play(PEERS["hyperband"], 8, response=lambda lr, epochs: loss(lr, epochs, edge=2))
    *ended, _ = game.results.values()  # the budget may have ended the last one
    ends = {standing.epochs for standing in ended}
    assert sorted(ends) == pytest.approx([HORIZON / 9, HORIZON / 3, HORIZON])


def test_optuna_learns_where_to_look():
    game = play(PEERS["median"], 20, study=DECAYING)
    rates = list(dict.fromkeys(trial.lr for trial in game.results))
    late = [abs(math.log10(lr / 1e-2)) < 1 for lr in rates[15:]]
    assert sum(late) > len(late) / 2  # of six decades two


def test_optuna_says_what_to_install_and_leaves_its_logging_alone(monkeypatch):
    import optuna

    before = optuna.logging.get_verbosity()
    PEERS["median"].ask(STUDY, {}, 80)
    assert optuna.logging.get_verbosity() == before
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SpecError, match=r"optuna is not installed; pip install 'etude\[optuna\]'"):
        make("optuna", LOW, HIGH)


def test_a_full_grid_is_trained_seed_by_seed_and_any_beginning_of_it_is_spread():
    grid = play(Full(low=LOW, high=HIGH), 39)
    assert len(grid.results) == 39
    assert list(dict.fromkeys(trial.seed for trial in grid.results)) == [0, 1, 2]
    assert min(t.lr for t in grid.results) == LOW
    assert max(t.lr for t in grid.results) == HIGH
    assert sorted(order(13)) == list(range(13))
    for count in range(3, 13):
        begun = sorted(order(13)[:count])
        gaps = [b - a for a, b in zip([-1, *begun], [*begun, 13], strict=True)]
        assert max(gaps) <= 2 * math.ceil(13 / count)


def test_an_evaluation_counts_for_the_rung_that_it_is_nearest_to():
    trial = STUDY.trial(1e-3, 0, HORIZON)
    scores = ((0.0, 9.0), (1.1, 8.0), (3.3, 7.0), (10.0, 6.0))
    results = {trial: Standing(epochs=10.0, ended=False, scores=scores)}
    assert [at(STUDY, results, 1e-3, 0, e, e / 3).value for e in (10 / 9, 10 / 3, 10)] == [8, 7, 6]
    results = {trial: Standing(epochs=3.3, ended=False, scores=scores[:3])}
    assert at(STUDY, results, 1e-3, 0, HORIZON, HORIZON / 3).left == pytest.approx(6.7)
    results = {trial: Standing(epochs=5.0, ended=True, scores=scores[:3])}
    assert at(STUDY, results, 1e-3, 0, HORIZON / 3, HORIZON / 9).value == 7
    assert math.isnan(at(STUDY, results, 1e-3, 0, HORIZON, HORIZON / 3).value)


@pytest.mark.parametrize(
    ("make_it", "said"),
    [
        (lambda: make("adaptiv", LOW, HIGH), "no searcher is named 'adaptiv'; did you mean 'adaptive'?"),
        (lambda: make("bayes", LOW, HIGH), "known: adaptive, grid, halving, optuna, random"),
        (lambda: make("random", 1.0, 1e-3), "expected a range of rates that rises, got 1..1e-3"),
        (lambda: Halving(low=LOW, high=HIGH, rates=2), "at least as many rates"),
        (lambda: Optuna(low=LOW, high=HIGH, pruner="medain"), "did you mean 'median'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(make_it, said):
    with pytest.raises(SpecError) as refused:
        make_it()
    assert said in str(refused.value)


def test_searchers_are_made_by_name():
    made = [make(name, LOW, HIGH, (1e-4, 1e-2)) for name in SEARCHERS]
    assert [type(one).__name__ for one in made] == ["Adaptive", "Full", "Random", "Halving", "Optuna"]
    assert made[0].bracket == (1e-4, 1e-2)

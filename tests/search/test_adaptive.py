"""The adaptive searcher in an invented world: it finds a good rate, keeps to the budget, always ends, and says why."""

from __future__ import annotations

import dataclasses
import math

import invented
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented import STEPS, World, play, study

from etude.search import Standing
from etude.search.adaptive import SPENT, Adaptive
from etude.search.seen import FIRST, SECOND, Seen
from etude.spec.recipe import Recipe

LOW, HIGH = 1e-5, 10.0
WIDE = Adaptive(low=LOW, high=HIGH, steps_per_epoch=STEPS)


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


@settings(max_examples=60, deadline=None, derandomize=True)
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
    world = World(x=pick(-7.0, -3.1, -1.0, 2.0), cliff=pick(-9.0, 0.3, 1.0, 9.0), horizon=of.epochs)
    searcher = Adaptive(
        low=10**low, high=10**high, bracket=pick(None, (1e-4, 3e-2)), steps_per_epoch=STEPS, workers=pick(1, 1, 4)
    )
    twist = TWISTS[pick(*TWISTS)]
    game = play(searcher, of, world, pick(None, 2.0, 2.5, 4.0, 9.75, 30.0), twist=twist)
    more = play(searcher, of, world, pick(1.0, 5.0), twist=twist, game=game)
    again = dict(reversed(more.results.items()))
    assert searcher.ask(of, again, more.left) == more.decisions[-1], "the order of the results does not matter"

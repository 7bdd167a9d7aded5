"""A world in which training is a formula: what a rate reaches after so many epochs with a seed, and a player of searches."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

import etude
from etude.engine.history import is_due, step_of
from etude.search import Decision, Standing
from etude.search.seen import Seen
from etude.spec.recipe import Recipe
from etude.spec.trial import Trial

STEPS = 20  # an epoch


@dataclass(frozen=True, kw_only=True)
class World:
    """A loss that falls as a power of (rate × steps) to a floor that rises with the rate, and a cliff.

    ``x`` is log10 of the best rate at the horizon, ``cliff`` how many decades above it training diverges (early where the
    rate is far above, late where it is near), ``sd`` the noise between seeds in the log loss, ``shape`` the power.
    """

    x: float = -2.0
    cliff: float = 0.8
    sd: float = 0.02
    horizon: float = 16.0
    shape: float = 1.0

    def y(self, x: float, share: float) -> float:
        """Return the log loss without noise."""
        falling = (1 + 10 ** (x - self.x + 1) * share) ** -self.shape
        floor = self.shape * 10 * 11 ** (-self.shape - 1) * 10 ** (x - self.x)  # both slopes cancel at the best rate
        return math.log(falling + min(floor, 1.0) * min(1.0, 100 * share))

    def died(self, x: float) -> float:
        """Return the share of the horizon after which training has diverged."""
        over = x - self.x - self.cliff
        return 0.02 * 10**-over if over > 0 else math.inf

    def score(self, lr: float, seed: int, share: float) -> float:
        """Return the loss."""
        y = self.y(math.log10(lr), share)
        # All rates of a seed start alike, and part as they get on.
        shared, own = (np.random.default_rng([seed, of]).standard_normal() for of in (0, int(lr * 1e15)))
        return math.exp(y + self.sd * (shared + own * (1 - math.exp(y))))

    def good(self, lr: float) -> bool:
        """Whether a rate's mean is within δ: 2 % of what training gains, or the standard deviation between seeds."""
        best = math.exp(self.y(self.x, 1.0))
        delta = max(math.sqrt(2) * self.sd * best, 0.02 * (1 - best))
        return math.log10(lr) < self.x + self.cliff and math.exp(self.y(math.log10(lr), 1.0)) - best <= delta

    def standing(self, trial: Trial, step: int, ends: set[int], every: float = 1.0) -> Standing:
        """Return what is stored of a trial that was carried to a step; ``ends`` are where it was paused."""
        whole = self.horizon if trial.horizon is None else trial.horizon
        x, last = math.log10(trial.lr), step_of(self.horizon, STEPS)
        dies = min(self.died(x) * last, 1e9)
        ended = math.ceil(dies) <= step
        scores = [
            (s / STEPS, self.score(trial.lr, trial.seed, s / last))
            for s in range(min(step, math.ceil(dies) - 1 if ended else step) + 1)
            if is_due(s, STEPS, every) or s in ends or s == step_of(whole, STEPS)
        ]
        return Standing(epochs=(math.ceil(dies) if ended else step) / STEPS, ended=ended, scores=tuple(scores))


FRESH = Standing(epochs=0.0, ended=False)


@dataclass
class Game:
    """A search as it is played; ``left`` in epochs."""

    results: dict[Trial, Standing] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    ends: dict[Trial, set[int]] = field(default_factory=dict)
    left: float = math.inf

    @property
    def whys(self) -> list[str]:
        return [decision.why for decision in self.decisions]

    def asked(self, epochs: float) -> list[float]:
        """Return the rates (log10) that were asked for until then, rising."""
        return sorted({
            math.log10(one.trial.lr) for of in self.decisions for one in of.requests if math.isclose(one.epochs, epochs)
        })  # fmt: skip

    def carry(self, trial, epochs, of, world, twist=lambda trial, standing: standing) -> None:
        """Carry a trial on, as a search or a person may want it."""
        step = step_of(epochs, STEPS)
        ends = self.ends.setdefault(trial, set())
        ends.add(step)
        self.results[trial] = twist(trial, world.standing(trial, step, ends, of.evaluate_every))

    def pick(self, of) -> float:
        """Return the rate that the analysis recommends of what is stored by now."""
        made = Seen(study=of, results=self.results, steps_per_epoch=STEPS).answer()
        return made.lrs[made.pick()]


def study(**changes) -> etude.Study:
    """Return a study of no matter what, of sixteen epochs."""
    fields = {"task": "quadratic", "lrs": (1.0,), "seeds": 5, "epochs": 16.0, "objective": "val_loss", **changes}
    return etude.Study(recipe=fields.pop("recipe", Recipe()), **fields)


def play(
    searcher, of, world, budget=10.0, *, game=None, twist=lambda trial, standing: standing, leak=0.0, most=100
) -> Game:
    """Play a search with ``budget`` full trials until it ends, and hold each decision against the searcher's promises.

    ``twist`` changes what came of a trial; ``leak`` is what goes of the budget beside training, as time does, in full trials
    a decision.
    """
    game = game or Game()
    game.left = math.inf if budget is None else budget * of.epochs
    for _ in range(most):
        decision = searcher.ask(of, game.results, None if math.isinf(game.left) else game.left)
        assert decision.why, "a decision says why"
        game.decisions.append(decision)
        if not decision.requests:
            return game
        check(searcher, of, game, decision)
        for one in decision.requests:
            before = game.results.get(one.trial, FRESH)
            game.carry(one.trial, one.epochs, of, world, twist)
            game.left -= max(0.0, game.results[one.trial].epochs - before.epochs)
        game.left -= leak * of.epochs
    raise AssertionError(f"the search does not end: {game.whys}")


def check(searcher, of, game, decision) -> None:
    """Hold a decision against what every searcher promises."""
    trials = [one.trial for one in decision.requests]
    assert len({*trials}) == len(trials), "no trial twice"
    cost = 0.0
    for one in decision.requests:
        assert searcher.low <= one.trial.lr <= searcher.high or one.trial.lr in {t.lr for t in game.results}
        assert one.trial.seed in of.seeds
        assert one.why
        before = game.results.get(one.trial, FRESH)
        until = step_of(one.epochs, STEPS) / STEPS
        assert not before.ended, "what ended is not asked for again"
        assert not before.failed, "what failed is not asked for again"
        assert until > before.epochs, "what is done is not asked for again"
        assert one.trial.horizon is None or one.trial.horizon == one.epochs
        cost += until - before.epochs
        assert (until - before.epochs) * searcher.workers <= game.left * (1 + 1e-6), "no more than a worker has"
    assert cost <= game.left * (1 + 1e-6), "no more than there is"

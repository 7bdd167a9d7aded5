"""Plays searchers against dense sweeps that were trained before: what a search would have seen, it is shown, and what it would
have cost is counted; nothing is trained.

A sweep is a tidy table (the columns of ``etude judge``). An asked rate gets the curve of the nearest rate of the sweep; the trial
is charged in full also where that curve was shown before. A pause between two evaluations becomes one at the later.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import etude
from etude.analysis import Curve, analyse
from etude.analysis.answer import answer
from etude.analysis.scale import Scale, find_scale
from etude.search import Searcher, Standing
from etude.spec.objective import parse_objective
from etude.spec.trial import Trial

Floats = NDArray[np.float64]
GAIN_SHARE = 0.02  # of what training gained: the margin where a sweep has one seed


@dataclass(frozen=True)
class Sweep:
    """A dense sweep: ``values[r, s, e]`` of the objective at ``epochs[e]``, NaN from where a trial was no longer finite on.

    ``lrs`` (R,), ``seeds`` (S,), ``epochs`` (E,), the last of which is the horizon; ``ends`` (R, S) the last epoch of each trial,
    where it diverged or the horizon. ``whole`` is the sweep that this one is a part of, whose margin counts.
    """

    name: str
    metric: str
    direction: str
    lrs: Floats
    seeds: tuple[int, ...]
    epochs: Floats
    values: Floats
    ends: Floats
    whole: Sweep | None = None

    @classmethod
    def read(cls, path: Path, metric: str) -> Sweep:
        """Read a table; seeds that not every rate has are left out."""
        table = pd.read_csv(path)
        counts = table.groupby("seed")["lr"].nunique()
        seeds = tuple(int(seed) for seed in counts.index[counts == table["lr"].nunique()])
        table = table[table["seed"].isin(seeds)]
        lrs = np.unique(table["lr"])
        ends = table.groupby(["lr", "seed"])["epoch"].max().unstack().to_numpy()
        # A trial that diverged has a row where it did, between the regular ones.
        seen = table["epoch"].value_counts()
        whole = int((ends == ends.max()).sum())
        epochs = np.sort(seen.index[seen >= max(1, whole)].to_numpy(float))
        table = table[table["epoch"].isin(epochs)]
        losses = [name for name in ("train_loss", "val_loss") if name in table]
        fine = np.isfinite(table[metric].to_numpy(float))
        fine &= np.isfinite(table[losses].to_numpy(float)).all(axis=1) | (table["epoch"].to_numpy(float) == 0)
        values = np.full((len(lrs), len(seeds), len(epochs)), np.nan)
        place = [
            np.searchsorted(known, table[name])
            for known, name in ((lrs, "lr"), (np.array(seeds), "seed"), (epochs, "epoch"))
        ]
        values[place[0], place[1], place[2]] = np.where(fine, table[metric], np.nan)
        # From the first value on that is not finite a trial has diverged.
        values[np.isnan(values).cumsum(2) > 0] = np.nan
        objective = parse_objective(metric)
        died = np.isnan(values)
        ends = np.where(died.any(2), np.minimum(ends, epochs[died.argmax(2)]), epochs[-1])
        return cls(path.name.removesuffix(".csv.gz"), metric, objective.direction, lrs, seeds, epochs, values, ends)

    @cached_property
    def scale(self) -> Scale:
        """The scale of the metric."""
        return find_scale(self.direction, self.values.ravel(), self.metric, final=self.values[:, :, -1].ravel())

    @cached_property
    def finals(self) -> Floats:
        """The mean objective at the horizon (R,), as good as it was at the start where a seed diverged."""
        start = np.nanmean(self.values[:, :, 0])
        return np.asarray(np.where(np.isfinite(self.values[:, :, -1]), self.values[:, :, -1], start).mean(1))

    @cached_property
    def regrets(self) -> Floats:
        """How much worse each rate ends than the best, in the metric's unit (R,)."""
        best = self.scale.sign * self.finals
        return np.asarray(best.max() - best)

    @cached_property
    def gain(self) -> float:
        """What the best rate gained over the start."""
        return float(abs(self.finals[self.regrets.argmin()] - np.nanmean(self.values[:, :, 0])))

    @cached_property
    def margin(self) -> float:
        """What counts as a practical difference: the margin that etude states of the sweep, or 2 % of what was gained."""
        if self.whole is not None:
            return self.whole.margin
        if len(self.seeds) == 1:
            return GAIN_SHARE * self.gain
        made = analyse(
            self.curves(), metric=self.metric, direction=self.direction, margin=None,
            horizon_step=len(self.epochs) - 1, horizon=float(self.epochs[-1]),
        )  # fmt: skip
        assert made.margin is not None
        return made.margin

    def curves(self) -> list[Curve]:
        """All trials, as the analysis takes them; an evaluation counts as a step."""
        made = []
        for r, lr in enumerate(self.lrs):
            for s, seed in enumerate(self.seeds):
                n = int(np.isfinite(self.values[r, s]).sum())
                made.append(
                    Curve(
                        lr=float(lr), seed=seed, status="completed" if n == len(self.epochs) else "diverged",
                        steps=np.arange(n), epochs=self.epochs[:n], metrics={self.metric: self.values[r, s, :n]},
                        errors={self.metric: np.full(n, np.nan)}, loss=np.empty(0), end_step=len(self.epochs) - 1,
                        diverged_step=None if n == len(self.epochs) else n,
                    )
                )  # fmt: skip
        return made

    def part(self, rates: NDArray[np.int64], seeds: NDArray[np.int64]) -> Sweep:
        """Return the part with some rates, and the seeds in another order."""
        return dataclasses.replace(
            self, lrs=self.lrs[rates], seeds=tuple(self.seeds[s] for s in seeds), whole=self,
            values=self.values[np.ix_(rates, seeds)], ends=self.ends[np.ix_(rates, seeds)],
        )  # fmt: skip

    def nearest(self, lr: float) -> int:
        """Return the index of the rate of the sweep that stands for ``lr``."""
        return int(np.abs(np.log(self.lrs) - math.log(lr)).argmin())

    def study(self) -> etude.Study:
        """Return the study that a searcher is told of: one of no task, since nothing is trained."""
        return etude.Study(
            task="quadratic", lrs=(1.0,), seeds=self.seeds, epochs=float(self.epochs[-1]),
            objective=parse_objective(f"{self.direction[:3]}:{self.metric}"),
        )  # fmt: skip

    def evaluated(self, epochs: float) -> float:
        """Return the next epoch at which trials were evaluated."""
        return float(self.epochs[min(int(np.searchsorted(self.epochs, epochs * (1 - 1e-9))), len(self.epochs) - 1)])

    def standing(self, trial: Trial, epochs: float) -> Standing:
        """Return what is stored of a trial that was carried to ``epochs``."""
        r, s = self.nearest(trial.lr), self.seeds.index(trial.seed)
        upto = (self.epochs <= epochs + 1e-9) & np.isfinite(self.values[r, s])
        ended = bool(np.isnan(self.values[r, s, -1])) and self.ends[r, s] <= epochs + 1e-9
        scores = tuple(zip(self.epochs[upto].tolist(), self.values[r, s, upto].tolist(), strict=True))
        return Standing(epochs=float(self.ends[r, s]) if ended else epochs, ended=ended, scores=scores)


@dataclass
class Play:
    """A search as it was played: ``spent`` in full trials; ``results`` by trial; whether the last decision is carried out."""

    sweep: Sweep
    results: dict[Trial, Standing]
    spent: float = 0.0
    decided: bool = True

    def regret(self, *, by_curve: bool) -> float:
        """Return the regret of the pick in margins, infinite without one.

        The pick is etude's recommendation, of least expected regret, or the rate with the best mean at the horizon.
        """
        scores, lost = finals(self.sweep, self.results)
        if not scores:
            return math.inf
        best = min(scores, key=lambda lr: float(np.mean([*scores[lr].values()])))
        if by_curve and (made := answer(scores, barred=lost, lost=lost, stalled=(), examples={})) is not None:
            pick = made.pick()
            best = best if pick is None else made.lrs[pick]
        return float(self.sweep.regrets[self.sweep.nearest(best)] / self.sweep.margin)


def finals(sweep: Sweep, results: Mapping[Trial, Standing]) -> tuple[dict[float, dict[int, float]], set[float]]:
    """Return the scores at the horizon by rate and seed, on the even scale, and the rates of which a trial was lost."""
    scores: dict[float, dict[int, float]] = {}
    for trial, standing in results.items():
        if not standing.ended and standing.epochs >= sweep.epochs[-1] - 1e-9:
            scores.setdefault(trial.lr, {})[trial.seed] = float(sweep.scale.even(standing.scores[-1][1]))
    return scores, {trial.lr for trial, standing in results.items() if standing.ended}


def stated(sweep: Sweep, results: Mapping[Trial, Standing]) -> tuple[float, float] | None:
    """Return the interval of the optimum that etude states, None where it states none."""
    scores, lost = finals(sweep, results)
    made = answer(scores, barred=lost, lost=lost, stalled=(), examples={}) if scores else None
    return None if made is None else made.describe(sweep.scale, None).optimum_interval


def play(sweep: Sweep, searcher: Searcher, budget: float, most: int = 1_000) -> Iterator[Play]:
    """Play a search with ``budget`` full trials, one request after another."""
    study, horizon = sweep.study(), float(sweep.epochs[-1])
    game = Play(sweep, {})
    for _ in range(most):
        decision = searcher.ask(study, game.results, (budget - game.spent) * horizon)
        if not decision.requests:
            return
        for i, request in enumerate(decision.requests, 1):
            before = game.results[request.trial].epochs if request.trial in game.results else 0.0
            after = sweep.standing(request.trial, sweep.evaluated(request.epochs))
            game.results[request.trial] = after
            game.spent += max(0.0, after.epochs - before) / horizon
            game.decided = i == len(decision.requests)
            yield game
    raise RuntimeError(f"{searcher} does not end on {sweep.name}")

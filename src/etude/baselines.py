"""What did tuning buy? Optimizers that have no rate to choose, or hardly one, trained beside a run and held against its answer.

Prodigy (Mishchenko & Defazio 2023, arXiv 2306.06101) estimates the rate while it trains; 1 is the factor on it that is meant
to be left alone. Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682) does without a schedule and still has a rate: its
package's usual one is taken, and that is said. Each is an ordinary run of its own beside the run, ``runs/NAME.prodigy`` and
``runs/NAME.schedule-free``: same task, batches and epochs, three seeds.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import store
from etude.comparison import Comparison, compare
from etude.errors import EtudeError, SpecError
from etude.notation import rate_text
from etude.result import ADAMW_DECAY, Result
from etude.spec.objective import Objective
from etude.spec.recipe import Recipe

if TYPE_CHECKING:
    from etude.events import Event
    from etude.spec.study import Study

SEEDS = 3


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to train that is spared the choice; ``ending`` is that of its folder, ``at`` what is said of its rate."""

    ending: str
    name: str
    at: str
    optimizer: str
    lr: float

    def place(self, directory: str | Path) -> Path:
        """Return its run directory beside that of a run."""
        directory = Path(directory)
        return directory.with_name(f"{directory.name}.{self.ending}")

    def recipe(self, recipe: Recipe) -> Recipe:
        """Return the recipe that it trains with in the place of ``recipe``.

        Batches, clipping and precision stay. So does a weight decay that is decoupled from the gradient, which AdamW's is;
        another one means something else under another optimizer, and is left out. Prodigy keeps schedule, warmup and averaging
        (it is told of the warmup, as its authors advise); schedule-free the warmup alone.
        """
        said = recipe.optimizer_options.get("weight_decay", ADAMW_DECAY)
        decay = recipe.weight_decay if recipe.weight_decay is not None else said
        changes: dict[str, Any] = {
            "optimizer": self.optimizer,
            "optimizer_options": {},
            "weight_decay": decay if recipe.optimizer == "adamw" else None,
        }
        if self.optimizer == "prodigy":
            warms_up = bool(recipe.warmup) or recipe.schedule == "one-cycle"
            changes |= {"optimizer_options": {"safeguard_warmup": True} if warms_up else {}}
        else:
            usual = Recipe()
            changes |= {
                name: getattr(usual, name)
                for name in ("schedule", "schedule_options", "average", "average_decay", "average_start")
            }
        return dataclasses.replace(recipe, **changes)

    def study(self, study: Study, seeds: Sequence[int]) -> Study:
        """Return the study that trains it beside ``study``."""
        return study.replace(
            name=f"{study.name}.{self.ending}", recipe=self.recipe(study.recipe), lrs=[self.lr],
            seeds=list(seeds)[:SEEDS], expect={},
        )  # fmt: skip


METHODS = (
    Method(ending="prodigy", name="Prodigy", at="which has no rate to choose", optimizer="prodigy", lr=1.0),
    Method(
        ending="schedule-free", name="schedule-free AdamW", at="at its package's usual rate of 0.0025",
        optimizer="adamwschedulefree", lr=0.0025,
    ),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A method beside a run.

    ``estimate`` is what it reaches and ``standard_error`` the error of that; ``bought`` by how much the run's recommended
    rate is better, with its 95 % ``interval``, all in the metric's unit; ``outcome`` is better, worse, within the margin or no
    difference told. What is not known is None, and ``reason`` says why.
    """

    name: str
    directory: str
    lr: float
    estimate: float | None
    standard_error: float | None
    n_seeds: int
    bought: float | None
    interval: tuple[float, float] | None
    outcome: str
    reason: str | None
    sentence: str


def check(study: Study, directory: str | Path) -> None:
    """Raise what can be known before anything is trained: `SpecError` where a package is missing or a run stands in the way."""
    from etude.engine import optimizers

    for method in METHODS:
        try:
            optimizers.optimizer_class(method.optimizer)
        except SpecError as error:
            raise SpecError(f"baselines: {str(error).partition(': ')[2]}") from None
        stored = store.read_if_any(method.place(directory))
        if stored is not None and stored.study["recipe"].get("optimizer") != method.optimizer:
            raise SpecError(
                f"baselines: {method.place(directory)} holds another run, and {method.name} would be trained there; move it, or "
                "search into another --out"
            )
        method.study(study, study.seeds)  # a recipe that cannot be says so


def left(study: Study, directory: str | Path, seeds: Sequence[int]) -> float:
    """Return how many trials' worth of steps the baselines still take."""
    total = 0.0
    for method in METHODS:
        stored = store.read_if_any(method.place(directory))
        for trial in method.study(study, seeds).trials():
            known = {one.trial: one for one in stored.trials} if stored is not None else {}
            begun = known.get(trial)
            if begun is None or begun.status not in ("diverged", "failed"):
                total += 1 - (0.0 if begun is None else min(1.0, begun.step / begun.end_step))
    return total


def train(
    method: Method, study: Study, directory: str | Path, seeds: Sequence[int], *, executor: str = "auto",
    workers: int | None = None, device: str = "auto", on_event: Callable[[Event], None] = lambda _: None,
) -> Result:  # fmt: skip
    """Train what is missing of a method beside the run in ``directory``, with the first of ``seeds``.

    Raises what `etude.runner.run` raises.
    """
    from etude import runner

    try:
        return runner.run(
            method.study(study, seeds), method.place(directory), executor=executor, workers=workers, device=device,
            on_event=on_event,
        )  # fmt: skip
    finally:
        # The run stays the latest one, which `etude show` takes. Not touch(): the clock that the kernel stamps files with is
        # coarse, and the baseline's last write would bear the same time.
        now = time.time_ns()
        os.utime(Path(directory) / store.DATABASE, ns=(now, now))


def read(result: Result) -> tuple[Baseline, ...]:
    """Return what is stored of the baselines beside a run, by the objective that it is read by; nothing is trained."""
    if result.directory is None or result.is_own_loop:
        return ()
    found = []
    for method in METHODS:
        place = method.place(result.directory)
        if not store.exists(place):
            continue
        try:
            beside = Result.load(place)
            if beside.study["recipe"].get("optimizer") != method.optimizer or [*beside.study["lrs"]] != [method.lr]:
                continue  # somebody's own run, which has that name
            found.append(_held(method, beside, result))
        except EtudeError as error:
            found.append(_unknown(method, place, str(error)))
    return tuple(found)


def _held(method: Method, beside: Result, result: Result) -> Baseline:
    assert beside.directory is not None
    if not beside.complete:
        return _unknown(method, beside.directory, f"{beside.directory} is not finished")
    if beside.horizon != result.horizon:
        return _unknown(method, beside.directory, f"it was trained for {beside.horizon:g} epochs")
    if result.recommendation.lr is None:
        return _unknown(method, beside.directory, "no rate is recommended that it could be held against")
    made = compare([beside, result], Objective(**result.objective))
    run, pair = made.runs[0], made.pairs[0]
    if run.estimate is None or pair.difference is None:
        lost = ", ".join(f"{count} {status}" for status, count in sorted(beside.counts.items()))
        return _unknown(method, beside.directory, f"it did not learn ({lost})")
    return Baseline(
        name=method.name, directory=str(beside.directory), lr=method.lr, estimate=run.estimate,
        standard_error=run.standard_error, n_seeds=run.n_seeds, bought=pair.difference, interval=pair.interval,
        outcome=pair.outcome, reason=pair.reason, sentence=_sentence(method, made),
    )  # fmt: skip


def _unknown(method: Method, place: Path, reason: str) -> Baseline:
    return Baseline(
        name=method.name, directory=str(place), lr=method.lr, estimate=None, standard_error=None, n_seeds=0, bought=None,
        interval=None, outcome="no difference told", reason=reason,
        sentence=f"{_capital(method.name)}, {method.at}: {reason}; so what tuning bought is not known.",
    )  # fmt: skip


def _sentence(method: Method, made: Comparison) -> str:
    """Say what the two reach, and what tuning bought."""
    from etude.analysis.compare import signed

    (theirs, ours), (pair,), scale = made.runs, made.pairs, made.scale
    assert theirs.estimate is not None
    assert ours.estimate is not None
    assert ours.lr is not None
    assert pair.difference is not None
    error = math.nan if theirs.standard_error is None else theirs.standard_error
    reached = f"{_capital(method.name)}, {method.at}, reaches {scale.pm_text(theirs.estimate, error)}"
    said = f"{reached}; the recommended rate, {rate_text(ours.lr)}, is expected to reach {scale.text(ours.estimate)}: "
    if pair.interval is None:
        which = "better" if pair.difference > 0 else "worse"
        gap = f"{scale.gap_text(abs(pair.difference))} {which}" if pair.difference else "the same"
        return (
            f"{said}{gap}; whether by more than chance is not known ({(pair.reason or '').removesuffix(': not told')})."
        )
    low, high = pair.interval
    width = (high - low) / 2
    interval = f"95 %: {signed(low, width, scale, unit=False)} to {signed(high, width, scale)}"
    size = signed(abs(pair.difference), width, scale, plus=False)
    if pair.outcome == "better":
        return f"{said}tuning bought {size} ({interval})."
    if pair.outcome == "worse":
        return f"{said}tuning lost {size} against it ({interval})."
    if pair.outcome == "within the margin":
        return f"{said}tuning bought nothing that counts ({interval})."
    return f"{said}whether tuning bought anything is not told ({interval})."


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]

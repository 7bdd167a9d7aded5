"""The range test: prepares, has one ramp a seed trained, reads them, and keeps what was read as an artefact of a run.

It is no trial and enters no table; a search uses nothing but its bracket.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import store
from etude.analysis import ranging as reading
from etude.analysis.ranging import RangeTest
from etude.errors import SpecError, TrainingError
from etude.notation import format_rate
from etude.result import Result
from etude.spec.rates import parse_range, parse_seeds
from etude.spec.study import Study
from etude.spec.value import number

if TYPE_CHECKING:
    from etude.engine.ranging import Ramp
    from etude.engine.session import Setup

    Ramps = Callable[[Setup], tuple[dict[int, Ramp], str]]

RANGE = (1e-7, 10.0)  # as torch-lr-finder's page has it, and fastai
SEEDS = 3
USUAL_STEPS, HORIZON_SHARE = 100, 0.25  # a seed; of the horizon's steps at most, where nobody says how many
FEWEST_STEPS = 10
SPENT_SHARE = 0.03  # of a search's budget, that its bracket may cost; or HORIZON_SHARE of one trial where that is more
COARSE, FINE = 4, 10  # steps a decade of a search's ramp, at least and at most: the brackets agree from 4 on


def range_test(
    study: Study, directory: str | Path | None = None, *, lrs: object = None, seeds: object = None,
    steps: int | None = None, from_lr: float | None = None, device: str = "auto",
    on_begin: Callable[[int, int], None] | None = None,
) -> RangeTest:  # fmt: skip
    """See `Study.range_test`. ``on_begin`` is told how many seeds and steps there will be."""
    from etude.engine import ranging
    from etude.preparation import prepare

    directory = study.place(directory)
    low, high = parse_range(RANGE if lrs is None else lrs, "range_test: lrs")
    if steps is not None:
        steps = int(number("range_test: steps", steps, whole=True))
        if steps < FEWEST_STEPS:
            raise SpecError(f"range_test: steps: expected at least {FEWEST_STEPS} a seed, got {steps}")
    checkpoints = {} if from_lr is None else _checkpoints(directory, from_lr, seeds)
    wanted = tuple(checkpoints) or (parse_seeds(SEEDS if seeds is None else seeds, "range_test: seeds"))
    with store.Writer(directory) as writer:
        prepared = prepare(study.replace(lrs=(low,), seeds=wanted), directory, "inline", None, device, "study")
        setup, stored = prepared.setup, prepared.stored
        if (why := ranging.refusal(setup)) is not None:
            raise SpecError(f"range_test: {why}; choose another optimizer")
        horizon_step = setup.steps(study.epochs)
        count = steps or max(FEWEST_STEPS, min(USUAL_STEPS, int(HORIZON_SHARE * horizon_step)))
        if on_begin is not None:
            on_begin(len(wanted), count)
        made = _carried(setup, low, high, count, wanted, horizon_step, checkpoints, from_lr)
        writer.begin(
            _written(study, setup) if stored is None else stored.study,
            prepared.identity,
            prepared.environment(),
            prepared.seeds,
        )
        writer.save_range_test(made.to_dict())
        if stored is not None and stored.analysis is not None and stored.analysis[0] == stored.revision:
            writer.save_analysis(stored.analysis[1], stored.analysis[2])  # a range test changes no verdict
    return made


def bracket(
    setup: Setup, study: Study, low: float, high: float, seeds: Sequence[int], budget_steps: float | None = None,
    carry: Callable[[Ramps, int], tuple[dict[int, Ramp], str]] | None = None,
) -> RangeTest | str:  # fmt: skip
    """Make a range test for a search, or return the reason why it is not worth its cost; nothing is stored.

    It costs at most a quarter of one trial to the horizon, or 3 % of ``budget_steps`` where that is more: as many of the
    ``seeds``, up to three, as that buys with 4 steps a decade, and up to 10 steps a decade. ``carry`` is given what is to be
    trained and the number of steps, to have it done elsewhere.

    A rate at which the task's code raises is one at which all is lost, as the trials there will be. Raises `TrainingError`
    where it raises before anything can be told, and what ``carry`` raises.
    """
    from etude.engine import ranging

    if (why := ranging.refusal(setup)) is not None:
        return why
    horizon_step = setup.steps(study.epochs)
    most = int(max(HORIZON_SHARE * horizon_step, SPENT_SHARE * (budget_steps or 0.0)))
    decades = math.log10(high / low)
    fewest = max(FEWEST_STEPS, math.ceil(COARSE * decades) + 1)
    count = min(SEEDS, len(seeds), most // fewest)
    if count == 0:
        return f"a range test takes {fewest} steps or more, and {most} is what it may cost here"
    steps = min(most // count, max(fewest, math.ceil(FINE * decades) + 1))
    train = functools.partial(_ramps, low=low, high=high, steps=steps, seeds=tuple(seeds[:count]))
    began = time.perf_counter()
    ramps, raised = train(setup) if carry is None else carry(train, count * steps)
    if raised and min(len(ramp.loss) for ramp in ramps.values()) <= ranging.BEGAN:
        raise TrainingError(f"the task's code raised at once: {raised}")
    test = _read(ramps, low, high, steps, horizon_step, began)
    if raised:
        reason = f"{test.bracket.reason}; the task's code raised: {raised}"
        test = dataclasses.replace(test, bracket=dataclasses.replace(test.bracket, reason=reason))
    return test


def _written(study: Study, setup: Setup) -> dict[str, Any]:
    """Return the study for a directory of its own, with what the store needs to draw a schedule of the caller's own."""
    return {**study.to_dict(), **study.recipe.samples(setup.steps_per_epoch, setup.steps(study.epochs))}


def _carried(
    setup: Setup, low: float, high: float, steps: int, seeds: Sequence[int], horizon_step: int,
    checkpoints: Mapping[int, bytes], from_lr: float | None,
) -> RangeTest:  # fmt: skip
    from etude.engine import ranging
    from etude.execution.carrier import failure_of

    began = time.perf_counter()
    ramps = {}
    for seed in seeds:
        ramps[seed] = ranging.ramp(setup, seed, low, high, steps, checkpoints.get(seed))
        if (error := ramps[seed].raised) is not None:
            failure = failure_of(error, setup.task.made_at)
            raise TrainingError(f"range test: the task's code raised while the rate rose: {failure.reason}") from error
    return _read(ramps, low, high, steps, horizon_step, began, from_lr)


def _ramps(setup: Setup, low: float, high: float, steps: int, seeds: Sequence[int]) -> tuple[dict[int, Ramp], str]:
    """Train a ramp a seed, and say what the task's code raised first, if it did.

    In words, because a worker process may do it, and not every exception can be sent from there.
    """
    from etude.engine import ranging
    from etude.execution.carrier import failure_of

    ramps = {seed: ranging.ramp(setup, seed, low, high, steps) for seed in seeds}
    raised = [failure_of(ramp.raised, setup.task.made_at).reason for ramp in ramps.values() if ramp.raised is not None]
    return {seed: dataclasses.replace(ramp, raised=None) for seed, ramp in ramps.items()}, raised[0] if raised else ""


def _read(
    ramps: Mapping[int, Ramp], low: float, high: float, steps: int, horizon_step: int, began: float,
    from_lr: float | None = None,
) -> RangeTest:  # fmt: skip
    from etude.engine import ranging

    return reading.read(
        ranging.rates(low, high, steps),
        {seed: ramp.loss for seed, ramp in ramps.items()},
        horizon_step=horizon_step,
        wall_s=time.perf_counter() - began,
        from_steps=[ramp.from_step for ramp in ramps.values()],
        from_lr=from_lr,
    )


def _checkpoints(directory: Path, lr: float, seeds: object) -> dict[int, bytes]:
    """Return by seed the checkpoints of the trials at a rate: of the seeds that were named, or of all that have one."""
    result = Result.load(directory)
    stored = {trial.seed: trial for trial in result.judged if trial.lr == lr}
    if not stored:
        known = ", ".join(format_rate(rate) for rate in sorted({trial.lr for trial in result.judged}))
        raise SpecError(f"range_test: {directory} has no trial at rate {lr:g}; its rates are {known or 'none'}")
    kept = {seed: one for seed, one in stored.items() if one.checkpoint is not None and one.diverged is None}
    wanted = sorted(kept) if seeds is None else parse_seeds(seeds, "range_test: seeds")
    missing = [seed for seed in wanted if seed not in kept]
    if missing or not kept:
        has = f"seeds {', '.join(map(str, sorted(kept)))} have" if kept else "none has"
        raise SpecError(
            f"range_test: expected checkpoints of finite trials at rate {lr:g} to begin from, got none of seed "
            f"{', '.join(map(str, missing or sorted(stored)))}; {has}"
        )
    return {seed: store.read_checkpoint(directory, kept[seed]) for seed in wanted}

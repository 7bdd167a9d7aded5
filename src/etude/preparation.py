"""Finds out all that can go wrong with a run before anything is trained or stored, and how it will be carried out."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from etude import commands, store
from etude.engine import rehearsal
from etude.engine.rehearsal import Rehearsal
from etude.engine.session import Session, Setup
from etude.errors import EtudeError, SpecError, TrainingError, nearest
from etude.execution import plan, sharing
from etude.execution.carrier import failure_of
from etude.execution.plan import Plan
from etude.notation import format_rate
from etude.search import Request, Standing
from etude.search.grid import Grid
from etude.searched import Searched
from etude.spec import identity
from etude.spec.budget import GRID_TRIALS
from etude.spec.study import Study
from etude.spec.trial import Trial
from etude.store import UNFINISHED, Stored, StoredTrial
from etude.tasks.data import Data
from etude.tasks.task import Task
from etude.tasks.tree import Tree

TOLD_BYTES = 500_000_000  # weights that take more than this are told before training begins
Carry = Literal["study", "unfinished", "both"]


@dataclass
class Prepared:
    """All that is known of a run before anything is trained or stored."""

    study: Study
    directory: Path
    setup: Setup
    stored: Stored | None
    identity: dict[str, Any]
    seeds: dict[int, tuple[str, float]]
    requests: list[Request]
    rehearsal: Rehearsal | None
    plan: Plan
    notices: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Optimizer steps still to train."""
        known = by_trial(self.stored)
        return sum(
            self.setup.steps(request.epochs) - (known[request.trial].step if request.trial in known else 0)
            for request in self.requests
        )

    @property
    def seconds(self) -> float:
        """Seconds for these steps in one process, evaluations among them."""
        if self.rehearsal is None:
            return 0.0
        evaluations = self.steps / max(1.0, self.setup.evaluate_every * self.setup.steps_per_epoch)
        return self.steps * self.rehearsal.step_s + evaluations * self.rehearsal.evaluation_s

    @property
    def weights_bytes(self) -> int:
        """Bytes that the weights of the trials to train take on disk while all of them are kept."""
        return 0 if self.rehearsal is None else len(self.requests) * self.rehearsal.checkpoint_bytes

    @property
    def kept_bytes(self) -> int:
        """Bytes of these that stay once all is trained."""
        kept = {"all": len(self.requests), "best": min(len(self.study.seeds), len(self.requests)), "none": 0}
        return 0 if self.rehearsal is None else kept[self.study.keep] * self.rehearsal.checkpoint_bytes

    @property
    def merged(self) -> Study:
        """The study with what the directory already has: rates and seeds are joined, the longer horizon is kept."""
        return self.study if self.stored is None else self.study.joined(self.stored.study)

    def written(self) -> dict[str, Any]:
        """Return the merged study for the store, with what it needs to draw a schedule of the caller's own."""
        merged = self.merged
        samples = merged.recipe.samples(self.setup.steps_per_epoch, self.setup.steps(merged.epochs))
        searched = {} if self.stored is None or "search" not in self.stored.study else self.stored.study["search"]
        return {**merged.to_dict(), **samples, **({"search": searched} if searched else {})}

    def environment(self) -> dict[str, Any]:
        """Versions, machine, and how it is used: what may change the bits of a curve."""
        import numpy as np
        import torch

        import etude

        return {
            "etude": etude.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "platform": platform.platform(),
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "cores": plan.cores(),
            "executor": self.plan.executor,
            "workers": self.plan.workers,
            "threads": self.plan.threads,
            "device": self.plan.device,
            "channels_last": self.setup.channels_last,
            "resume": self.setup.resume,
            "command": commands.of_process(),
        }


def by_trial(stored: Stored | None) -> dict[Trial, StoredTrial]:
    """Return the stored trials by what they are trials of."""
    trials = stored.trials if stored is not None else ()
    return {t.trial: t for t in trials}


def prepare(
    study: Study, directory: Path, executor: str, workers: int | None, device: str, carry: Carry,
    epochs: float | None = None,
) -> Prepared:  # fmt: skip
    """Find out all that can go wrong before anything is stored.

    For a search, which has no requests yet, ``epochs`` is how much it may train, infinite where its time is limited.

    Raises `SpecError` and its kin for a study that cannot be, `TrainingError` for what the task's code raises.
    """
    device = plan.choose_device(device)
    task = _with_data_of_its_own(study.make_task())
    _check_names(study, _known_names(task))
    setup = Setup(
        task=task, recipe=study.recipe, evaluate_every=study.evaluate_every, device=device, best=_best_of(study)
    )
    stored = store.read_if_any(directory)
    trials = study.trials()
    # Which seeds a search will use is not known: it adds them when it does.
    of_seeds = study.seeds if epochs is None else {study.seeds[0], *(stored.seeds if stored is not None else ())}
    by_seed = {trial.seed: trial for trial in trials if trial.seed in of_seeds}
    if stored is not None and stored.seeds and not by_seed.keys() & stored.seeds.keys():
        known_seed = min(stored.seeds)  # with new seeds alone an edited model would go unnoticed
        by_seed[known_seed] = dataclasses.replace(trials[0], seed=known_seed)
    try:
        setup, about_data = rehearsal.settle(setup, trials[0])
        _check_batch_size(study, setup)
        study.recipe.check(steps_per_epoch=setup.steps_per_epoch, horizon_step=setup.steps(study.epochs))
        rehearsal.check_factory(setup, trials[0])
        reading, about_reading = rehearsal.read(setup, trials[0])
        setup = _with_layout(dataclasses.replace(setup, resume=reading.resume), trials[0], reading.batches[0])
        digests, about_val = rehearsal.digests(setup, reading.same_order)
        about_reading += about_val
        identified = identity.identify(
            study,
            setup.task,
            setup.steps_per_epoch,
            digests=digests,
            optimizer=rehearsal.describe_optimizer(setup, trials[0]),
            notes=[*about_reading, *(note for note in about_data if "read into memory" not in note)],
        )
        if stored is not None:
            identity.check_same(directory, stored.identity, identified)
        seeds = {seed: rehearsal.fingerprint(setup, trial) for seed, trial in by_seed.items()}
        if stored is not None:
            kinds = {of.get("device", device).partition(":")[0] for of in [*stored.environments, {"device": device}]}
            otherwise = study.recipe.precision == "bf16" or len(kinds) > 1
            identity.check_fingerprints(directory, stored.seeds, seeds, coarse=otherwise)
        requests = [] if epochs is not None else _requests(study, stored, setup, carry)
        to_train = [request.trial for request in requests] if epochs is None else trials
        seen = rehearsal.rehearse(setup, to_train[0], list(reading.batches)) if to_train else None
    except EtudeError:
        raise
    except Exception as error:
        failure = failure_of(error, task.made_at)
        raise TrainingError(f"the task's code raised before the first step: {failure.reason}") from error
    if seen is not None:
        _check_names(study, {"train_loss", *seen.recorded})
    prepared = Prepared(
        study=study, directory=directory, setup=setup, stored=stored, identity=identified, seeds=seeds,
        requests=requests, rehearsal=seen, plan=plan.choose(executor, workers, device, n_trials=0, seconds=0.0),
    )  # fmt: skip
    if epochs is None:
        prepared.plan = plan.choose(executor, workers, device, n_trials=len(requests), seconds=prepared.seconds)
    else:
        assert seen is not None
        epoch_s = setup.steps_per_epoch * seen.step_s + seen.evaluation_s / setup.evaluate_every
        prepared.plan = plan.choose(
            executor,
            workers,
            device,
            n_trials=GRID_TRIALS,
            seconds=epochs * epoch_s,
            timed=math.isinf(epochs),
            searching=True,
        )
    prepared.notices = [*about_data, *about_reading, *_notices(prepared)]
    return prepared


def _with_data_of_its_own(task: Task) -> Task:
    """Return the task with copies of data sets that may keep a state, so that reading leaves no trace in the caller's.

    Large tensors and arrays in them are not copied. What cannot be copied is used as it is.
    """
    return task.with_data(*(sharing.private(getattr(task, split)) for split in ("train", "val", "test")))


def _best_of(study: Study) -> tuple[str, str] | None:
    assert study.objective is not None
    return (study.objective.metric, study.objective.direction) if study.select == "best" else None


def _known_names(task: Task) -> set[str] | None:
    """Return the names that will be recorded, None where only the task's own functions know."""
    if task.step is not None or task.evaluate is not None:
        return None
    return {"train_loss", "val_loss", *(f"val_{name}" for name in task.metrics)}


def _check_names(study: Study, recorded: Iterable[str] | None) -> None:
    """Raise `SpecError` for an objective or an expectation of what is not recorded."""
    if recorded is None:
        return
    assert study.objective is not None
    recorded = set(recorded)
    if study.objective.metric not in recorded:
        metric = study.objective.metric
        raise SpecError(f"study.objective: the task records no metric {metric!r}{nearest(metric, recorded)}")
    for lr, what in study.expect.items():
        for name in what.metrics:
            if name not in recorded:
                where = f"study.expect[{format_rate(lr)}]"
                raise SpecError(f"{where}: the task records no metric {name!r}{nearest(name, recorded)}")


def _check_batch_size(study: Study, setup: Setup) -> None:
    train: Data = setup.task.train
    size = study.recipe.batch_size
    if size is not None and not setup.task.makes_batches and train.examples is not None and size > train.examples:
        raise SpecError(
            f"study.recipe.batch_size: expected at most the {train.examples:,} training examples, got {size:,}"
        )


def standings(study: Study, stored: Stored | None, steps_per_epoch: int) -> dict[Trial, Standing]:
    """Return how far the stored trials are, and what they have reached: all that a searcher is told."""
    assert study.objective is not None
    metric = study.objective.metric
    return {
        trial: Standing(
            epochs=one.step / steps_per_epoch,
            ended=one.status == "diverged",
            failed=one.status == "failed",
            scores=tuple(
                (e.epoch, math.nan if value is None else value)
                for e in one.evaluations
                for value in [e.train_loss if metric == "train_loss" else e.metrics.get(metric)]
            ),
        )
        for trial, one in by_trial(stored).items()
    }


def _requests(study: Study, stored: Stored | None, setup: Setup, carry: Carry) -> list[Request]:
    """Ask the grid, and add what was asked for earlier where that is to be carried on; what a search has paused may rest.

    Raises `SpecError` for a trial that is to go on and whose weights were not kept.
    """
    known = by_trial(stored)
    searched = None if stored is None else Searched.of(stored)
    asked_now = Grid().ask(study, standings(study, stored, setup.steps_per_epoch)).requests
    requests = [] if carry == "unfinished" else list(asked_now)
    requests = [r for r in requests if r.trial not in known or known[r.trial].step < setup.steps(r.epochs)]
    if carry != "study":
        asked = {request.trial: request.epochs for request in requests}
        for trial, one in known.items():
            rests = searched is not None and one.status in UNFINISHED and searched.may_rest(one)
            if one.status not in ("completed", "diverged") and not rests:
                asked[trial] = max(one.epochs, asked.get(trial, 0.0))
        requests = [Request(trial=trial, epochs=epochs) for trial, epochs in asked.items()]
    check_weights(requests, known, study.keep)
    return requests


def check_weights(requests: Iterable[Request], known: Mapping[Trial, StoredTrial], keep: str) -> None:
    """Raise `SpecError` for a trial that is to go on and whose weights were not kept."""
    for request in requests:
        begun = known.get(request.trial)
        if begun is not None and begun.step and begun.checkpoint is None:
            raise SpecError(
                f"study.epochs: {request.trial} cannot go on from step {begun.step:,}: its weights were not kept (keep = "
                f"{keep!r}); run into another --out"
            )


def _with_layout(setup: Setup, trial: Trial, batch: Tree) -> Setup:
    """Take channels_last on the CPU where the model has convolutions and works in that layout.

    Not where the task takes the step itself: the layout of its inputs is its own affair.
    """
    if setup.device != "cpu" or setup.task.loss is None or not plan.has_convolutions(Session.open(setup, trial).model):
        return setup
    changed = dataclasses.replace(setup, channels_last=True)
    return changed if rehearsal.works_in_channels_last(changed, trial, batch) else setup


def _notices(prepared: Prepared) -> list[str]:
    notices = []
    if prepared.rehearsal is not None and not prepared.rehearsal.repeats:
        notices.append(
            f"On {prepared.setup.device} the same steps do not give the same bits twice (some of this model's operations add up "
            "in another order every time): curves repeat within noise."
        )
    if prepared.stored is not None and prepared.stored.environments and prepared.rehearsal is not None:
        before, now = prepared.stored.environments[-1], prepared.environment()
        changed = [
            f"{name} {before.get(name)} → {now[name]}"
            for name in ("torch", "cpu", "threads", "device", "channels_last")
            if before.get(name) != now[name]
        ]
        if changed:
            notices.append(
                f"The machine differs from the run's ({', '.join(changed)}): "
                "from here on curves are equal within noise, not bit for bit."
            )
    if prepared.study.recipe.depends_on_horizon and prepared.stored is not None:
        searched = Searched.of(prepared.stored)
        rungs = searched.asked if searched is not None and searched.search.epochs == prepared.study.epochs else set()
        others = [t for t in prepared.stored.trials if t.horizon != prepared.study.epochs and t.trial not in rungs]
        if others and prepared.rehearsal is not None:
            notices.append(
                f"The {prepared.study.recipe.horizon_reason} depends on the horizon: {prepared.study.epochs:g} epochs "
                "are other trials, trained from the start."
            )
    if prepared.identity["task"]["chosen_on_test_set"]:
        notices.append(
            f"Rates are chosen on {prepared.identity['task']['chosen_on_test_set']}; "
            "--holdout 5000 (with another --out) keeps training images for choosing and the test images for the end."
        )
    if prepared.plan.executor == "processes" and prepared.plan.workers > plan.cores():
        notices.append(
            f"{prepared.plan.workers} workers take turns on the {plan.cores()} cores that this process may use; as many workers "
            "as cores are usually faster."
        )
    weights = prepared.weights_bytes
    if weights >= TOLD_BYTES:
        stay = "" if prepared.study.keep == "all" else f", of which about {prepared.kept_bytes / 1e9:,.1f} GB stay"
        notices.append(
            f"The weights of {len(prepared.requests)} trials take about {weights / 1e9:,.1f} GB on disk{stay} "
            f"(keep = {prepared.study.keep!r})."
        )
    loaders = getattr(getattr(prepared.setup.task.train, "source", None), "num_workers", 0)
    together = loaders * (prepared.plan.workers if prepared.plan.executor == "processes" else 1)
    if together > plan.cores():
        notices.append(
            f"The training data's DataLoader starts {loaders} workers for each of {together // loaders} trials at a time, and "
            f"this machine has {plan.cores()} cores; fewer of either may be faster."
        )
    return notices

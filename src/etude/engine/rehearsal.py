"""A dress rehearsal: a few steps of a throw-away session, so that what cannot work is told before anything is stored."""

from __future__ import annotations

import time
from dataclasses import dataclass

from etude.engine.evaluate import evaluation_batch
from etude.engine.session import Session, Setup
from etude.spec.trial import Trial
from etude.tasks.data import Resident


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What was seen: seconds a step and an evaluation, the size of a checkpoint, and the metrics' names."""

    step_s: float
    evaluation_s: float
    checkpoint_bytes: int
    metrics: tuple[str, ...]


def rehearse(setup: Setup, trial: Trial) -> Rehearsal:
    """Train two steps, evaluate one batch, pack a checkpoint. Raises what the task's code raises."""
    session = Session.open(setup, trial)
    step_s = session.rehearse()
    val: Resident = session.val
    size = min(len(val), evaluation_batch(setup.recipe.batch_size))
    began = time.perf_counter()
    metrics, _ = session.evaluate(Resident(val.inputs[:size], val.targets[:size], val.prepare), "val_")
    evaluation_s = (time.perf_counter() - began) * len(val) / size
    return Rehearsal(
        step_s=step_s,
        evaluation_s=evaluation_s,
        checkpoint_bytes=len(session.checkpoint(verify=True)),
        metrics=tuple(metrics),
    )


def fingerprint(setup: Setup, trial: Trial) -> tuple[str, float]:
    """Return what tells an edited model, loss or preprocessing: the digest of the initial weights, and the first loss."""
    return Session.open(setup, trial).fingerprint()

"""A dress rehearsal: a few steps of throw-away sessions, so that what cannot work is told before anything is stored."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from etude.engine.evaluate import evaluation_batch
from etude.engine.session import Session, Setup
from etude.engine.state import weights_digest
from etude.errors import SpecError
from etude.spec.trial import Trial
from etude.tasks.data import Resident


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What was seen: seconds a step and an evaluation, in one thread on the CPU, and the size of a checkpoint."""

    step_s: float
    evaluation_s: float
    checkpoint_bytes: int


def rehearse(setup: Setup, trial: Trial) -> Rehearsal:
    """Train four steps at once, and two, stored, opened, and two; evaluate one batch of each data set.

    Raises what the task's code raises, and `SpecError` when the two ways do not end with the same weights: then the model
    or the loss keeps state where a checkpoint does not see it, and trials could not take turns.
    """
    threads = torch.get_num_threads()
    if setup.device == "cpu":
        torch.set_num_threads(1)
    try:
        session = Session.open(setup, trial)
        step_s = session.rehearse(4)
        cut = Session.open(setup, trial)
        cut.rehearse(2)
        checkpoint = cut.checkpoint(verify=True)
        resumed = Session.open(setup, trial, checkpoint)
        resumed.rehearse(2)
        # On a GPU sums may differ in their last bits from run to run, whatever the model does.
        if setup.device == "cpu" and weights_digest(session.model) != weights_digest(resumed.model):
            raise SpecError(
                "task: two steps, stored, opened, and two more do not equal four steps: the model, its forward pass or the "
                "loss keeps state outside parameters and buffers; register it as a buffer"
            )
        evaluation_s = _evaluate_a_batch(session, session.val)
        if setup.task.test is not None:
            _evaluate_a_batch(session, setup.task.test.to(session.device))
    finally:
        torch.set_num_threads(threads)
    return Rehearsal(step_s=step_s, evaluation_s=evaluation_s, checkpoint_bytes=len(checkpoint))


def _evaluate_a_batch(session: Session, data: Resident) -> float:
    """Evaluate the first batch; return the seconds that all of them would take."""
    size = min(len(data), evaluation_batch(session.setup.recipe.batch_size))
    began = time.perf_counter()
    session.evaluate(Resident(data.inputs[:size], data.targets[:size], data.prepare), "val_")
    return (time.perf_counter() - began) * len(data) / size


def works_in_channels_last(setup: Setup, trial: Trial) -> bool:
    """Whether the model trains in that layout; one that calls ``view`` after a convolution does not."""
    try:
        Session.open(setup, trial).rehearse(1)
    except Exception:  # noqa: BLE001 - whatever it is, it is told if it also happens in the plain layout
        return False
    return True


def fingerprint(setup: Setup, trial: Trial) -> tuple[str, float]:
    """Return what tells an edited model, loss or preprocessing: the digest of the initial weights, and the first loss."""
    return Session.open(setup, trial).fingerprint()

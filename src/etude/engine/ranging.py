"""A range test's training: one live trial whose rate rises exponentially from step to step (Smith 2017, arXiv 1506.01186).

The session is thrown away, so weights, data and generators of the caller stay as they were, and a checkpoint that it starts
from can be used again. What the losses say is not known here. N steps.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from etude.engine.session import Session, Setup
from etude.errors import EtudeError
from etude.spec.trial import Trial

Floats = NDArray[np.float64]

EXPLODED = 4.0  # times the loss that it began with; every library's own test (4 or 5 times the best) has ended by then
BEGAN = 5  # steps whose mean is the loss that it began with
FORGET = 0.98  # of the running mean, as fastai's and Lightning's; one bad batch ends nothing
# Optimizers that take the rate for a hint, or for the first step alone: a ramp of it says nothing.
UNRAMPED = {"prodigy": "it finds its own rate", "rprop": "its rate is that of the first step alone"}


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """The losses (N,) of a ramp that began after ``from_step``, in float64; shorter where it ended early, then the last may
    not be finite. It is NaN where the task's code ``raised``."""

    loss: Floats
    from_step: int
    raised: Exception | None = None


def rates(low: float, high: float, steps: int) -> Floats:
    """Return the rates (N,) of a ramp, evenly spaced on a log scale, both ends among them."""
    return np.geomspace(low, high, steps)


def refusal(setup: Setup) -> str | None:
    """Say why the recipe's optimizer cannot be ramped, None where it can."""
    name = setup.recipe.optimizer_name
    return f"a ramp of the rate says nothing of {name}: {UNRAMPED[name]}" if name in UNRAMPED else None


def ramp(setup: Setup, seed: int, low: float, high: float, steps: int, checkpoint: bytes | None = None) -> Ramp:
    """Train up to ``steps`` steps from the start or from a checkpoint, on the batches that the seed's trials see there.

    The recipe's schedule, warmup and averaging are left out; clipping, accumulation and precision stay. Ends early when the
    loss is not finite, or has exploded, or the task's code raises: that a rate is too high for it is what a ramp is to find.
    """
    ratio = high / low
    began = 0
    raised: Exception | None = None

    def rise(t: int) -> float:
        return float(ratio ** ((t - began) / max(1, steps - 1)))

    recipe = dataclasses.replace(
        setup.recipe, schedule=rise, schedule_options={}, warmup=0.0, average="none", average_decay=0.999,
        average_start=0.0,
    )  # fmt: skip
    setup = dataclasses.replace(setup, recipe=recipe, best=None)
    threads = torch.get_num_threads()
    if setup.device == "cpu":
        torch.set_num_threads(1)  # as trials are trained
    ended = _Exploded()
    try:
        session = Session.open(setup, Trial(lr=low, seed=seed), checkpoint)
        began = session.step
        loss = session.losses(steps, ended)
    except EtudeError:
        raise
    except Exception as error:  # noqa: BLE001 - a task's code may raise anything
        raised, loss = error, [*ended.losses, math.nan]
    finally:
        torch.set_num_threads(threads)
    return Ramp(loss=np.array(loss), from_step=began, raised=raised)


class _Exploded:
    """Whether the running mean of the losses is far above what they began with; it keeps the losses that it was told."""

    def __init__(self) -> None:
        self.mean = self.weight = 0.0
        self.losses: list[float] = []

    def __call__(self, losses: list[float]) -> bool:
        self.losses = list(losses)
        if not losses:
            return False
        self.mean = FORGET * self.mean + (1 - FORGET) * losses[-1]
        self.weight = FORGET * self.weight + (1 - FORGET)
        first = losses[:BEGAN]
        began = math.fsum(first) / len(first)
        return len(losses) > BEGAN and self.mean / self.weight > began + (EXPLODED - 1) * abs(began)

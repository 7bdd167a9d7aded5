"""What a session recorded between two steps. Values only, without torch.

T steps of the slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The metrics at a step. ``train_loss`` is the mean over the steps since the last regular evaluation (None at step 0).

    A metric that is not a number is NaN; ``standard_errors`` has those that come from values by example.
    """

    step: int
    epoch: float
    train_loss: float | None
    metrics: Mapping[str, float]
    standard_errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class History:
    """Steps (first_step, last_step], each with its loss, gradient norm and update-to-weight ratio, shape (T,).

    ``diverged`` is the step whose loss was not finite, ``wall_s`` what the slice took.
    """

    first_step: int
    last_step: int
    loss: Floats
    grad_norm: Floats
    update_ratio: Floats
    evaluations: tuple[Evaluation, ...]
    wall_s: float
    diverged: int | None = None


def is_due(step: int, steps_per_epoch: int, evaluate_every: float) -> bool:
    """Whether a regular evaluation falls on ``step``: at step 0 and each ``evaluate_every`` epochs, rounded to steps."""
    distance = evaluate_every * steps_per_epoch
    return step == 0 or distance <= 1 or math.floor(round(step / distance) * distance + 0.5) == step


def step_of(epochs: float, steps_per_epoch: int) -> int:
    """Return the step that ``epochs`` end with, at least 1."""
    return max(1, math.floor(epochs * steps_per_epoch + 0.5))

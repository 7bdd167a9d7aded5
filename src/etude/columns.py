"""The evaluations of one trial as columns, so that a million of them are a few arrays and not a million objects.

E evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from etude.store import StoredEvaluation

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Columns(Sequence[StoredEvaluation]):
    """All arrays are (E,). As a sequence it makes a `StoredEvaluation` when one is asked for."""

    steps: NDArray[np.int64]
    epochs: Floats
    train_loss: Floats
    metrics: Mapping[str, Floats]
    errors: Mapping[str, Floats]

    @classmethod
    def of(cls, evaluations: Sequence[StoredEvaluation]) -> Columns:
        """Set evaluations out in columns, NaN where there is nothing."""
        if isinstance(evaluations, Columns):
            return evaluations
        nan = math.nan
        names = sorted({name for e in evaluations for name in e.metrics})
        with_error = sorted({name for e in evaluations for name in e.standard_errors})
        return cls(
            steps=np.array([e.step for e in evaluations], np.int64),
            epochs=np.array([e.epoch for e in evaluations], float),
            train_loss=np.array([nan if e.train_loss is None else e.train_loss for e in evaluations], float),
            metrics={n: np.array([e.metrics.get(n, nan) for e in evaluations], float) for n in names},
            errors={n: np.array([e.standard_errors.get(n, nan) for e in evaluations], float) for n in with_error},
        )

    def take(self, mask: NDArray[np.bool_]) -> Columns:
        """Keep the evaluations where ``mask`` (E,) is true."""
        return Columns(
            steps=self.steps[mask],
            epochs=self.epochs[mask],
            train_loss=self.train_loss[mask],
            metrics={name: values[mask] for name, values in self.metrics.items()},
            errors={name: values[mask] for name, values in self.errors.items()},
        )

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, index: int) -> StoredEvaluation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[StoredEvaluation]: ...
    def __getitem__(self, index: int | slice) -> StoredEvaluation | Sequence[StoredEvaluation]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        train_loss = float(self.train_loss[index])
        return StoredEvaluation(
            step=int(self.steps[index]),
            epoch=float(self.epochs[index]),
            train_loss=None if math.isnan(train_loss) else train_loss,
            metrics={name: float(values[index]) for name, values in self.metrics.items()},
            standard_errors={
                name: float(values[index]) for name, values in self.errors.items() if math.isfinite(values[index])
            },
        )

"""One (learning rate, seed) of a study; with a schedule that depends on the horizon, one (rate, seed, horizon)."""

from __future__ import annotations

from dataclasses import dataclass

from etude.notation import format_rate


@dataclass(frozen=True, kw_only=True, order=True)
class Trial:
    """``horizon`` in epochs, or None where the schedule does not depend on it (more epochs then extend the trial)."""

    lr: float
    seed: int
    horizon: float | None = None

    @property
    def key(self) -> str:
        """A name that is unique in a run directory and fit for a folder."""
        tail = "" if self.horizon is None else f"-epochs{self.horizon!r}"
        return f"lr{format_rate(self.lr)}-seed{self.seed}{tail}"

    def __str__(self) -> str:
        return f"rate {format_rate(self.lr)}, seed {self.seed}"

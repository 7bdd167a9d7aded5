"""A range test read: what every rule picks, and the bracket that a search looks into. Values; the training is elsewhere.

A test of a hundred steps is blind to the rest of a run, so the bracket asks it only what it can tell: from which rate on
the loss moves at all, and from which on all is lost. N steps, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from etude.analysis.picks import Pick, picks, smooth
from etude.analysis.values import Floats
from etude.notation import format_rate

STARTS = 0.1  # the first tenth of the steps says what the loss begins with, and how far it scatters from batch to batch
MOVED = 0.1  # of the whole fall: where the loss has begun to move, and above which on the way back all is lost
SEEN = 2.0  # times the scatter of the mean over seeds: a fall less deep is not told from it
ROUNDING = 1e-4  # of the loss: what float32 computes differently from step to step is no fall
MARGIN = 0.5  # decades, at both ends


@dataclass(frozen=True, kw_only=True)
class Bracket:
    """The lowest and the highest rate worth a search; both None where nothing can be told, with the ``reason``.

    ``moves`` is the rate at which the loss has begun to fall; ``explodes`` that at which all of the fall is lost again,
    the median over seeds, ``exploded`` (S,) by seed. None where it did not happen up to the highest rate.
    """

    low: float | None
    high: float | None
    moves: float | None
    explodes: float | None
    exploded: tuple[float | None, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """A range test: the ``lrs`` (N,) that rise from step to step, and what every rule picks from the ``losses``.

    ``losses`` are by seed, (N,) or shorter where a seed's test ended early because the loss exploded; the last may then
    not be finite. A seed's test began after ``from_steps`` (S,), 0 for fresh weights, and ``from_lr`` is the rate of the
    trials whose checkpoints it began from, or None. ``steps`` were spent in all, in ``wall_s`` seconds; ``horizon_step``
    is the last step of a trial of the study.
    """

    lrs: Floats
    seeds: tuple[int, ...]
    losses: tuple[Floats, ...]
    from_steps: tuple[int, ...]
    from_lr: float | None
    horizon_step: int
    steps: int
    wall_s: float
    picks: tuple[Pick, ...]
    bracket: Bracket

    @property
    def share(self) -> float:
        """What it cost, in trials to the horizon."""
        return self.steps / self.horizon_step

    @property
    def caution(self) -> str:
        """What such a test can tell and what it cannot, in a sentence."""
        told = sorted(pick.lr for pick in self.picks if pick.lr is not None)
        apart = math.log10(told[-1] / told[0]) if told else 0.0
        differ = f"; here the rules' picks are {apart:.1f} decades apart" if len(told) > 1 else ""
        return (
            "It sees the first steps alone: where the loss begins to move and where all is lost, not which rate is best at "
            f"the end{differ}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values; a loss that is not finite is None."""
        return {
            **asdict(self),
            "lrs": self.lrs.tolist(),
            "losses": [[float(x) if math.isfinite(x) else None for x in loss] for loss in self.losses],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RangeTest:
        """Read what `to_dict` returned."""
        bracket = stored["bracket"]
        changed = {
            "lrs": np.array(stored["lrs"]),
            "seeds": tuple(stored["seeds"]),
            "losses": tuple(np.array(loss, float) for loss in stored["losses"]),
            "from_steps": tuple(stored["from_steps"]),
            "picks": tuple(Pick(**{**pick, "lrs": tuple(pick["lrs"])}) for pick in stored["picks"]),
            "bracket": Bracket(**{**bracket, "exploded": tuple(bracket["exploded"])}),
        }
        return cls(**{**stored, **changed})


def read(
    lrs: Floats, losses: Mapping[int, Floats], *, horizon_step: int, wall_s: float,
    from_steps: Sequence[int] | None = None, from_lr: float | None = None,
) -> RangeTest:  # fmt: skip
    """Read a test's losses by seed: picks and bracket."""
    began = tuple(from_steps or [0] * len(losses))
    of = tuple(losses.values())
    return RangeTest(
        lrs=lrs, seeds=tuple(losses), losses=of, from_steps=began, from_lr=from_lr, horizon_step=horizon_step,
        steps=sum(map(len, of)), wall_s=wall_s, picks=picks(lrs, of),
        bracket=bracket(lrs, of, steps=max(1, horizon_step - min(began))),
    )  # fmt: skip


def bracket(lrs: Floats, losses: Sequence[Floats], *, steps: int) -> Bracket:
    """Return where to look for the best constant rate of a training of so many ``steps``.

    Above: where on most seeds all of the fall is lost again, and half a decade more. A ramp passes each rate in a few
    steps, so it under-sees a slow divergence; but it also begins at fresh weights, where curvature is often largest, and
    does without the recipe's warmup, so it may see an explosion that a trial does not have. Only the second can cost the
    answer, and the margin is for it.

    Below: where the loss begins to move, divided by √(steps / n), n being the steps of the ramp in which the rate grew
    e-fold, and half a decade more. A longer run prefers lower rates: where noise limits it, the best constant rate of
    stochastic gradient descent falls with the square root of the steps (Nemirovski et al. 2009, doi 10.1137/070704277,
    section 2.2).
    """
    low, high = float(lrs[0]), float(lrs[-1])
    curves = [_Curve.of(lrs, loss) for loss in losses]
    exploded = tuple(curve.explodes() for curve in curves)
    told = sorted(math.inf if lr is None else lr for lr in exploded)
    median = told[len(told) // 2]  # of an even number the higher one
    explodes = None if math.isinf(median) else median
    moves = _moves(lrs, curves)
    if moves is None and explodes is None:
        return Bracket(
            low=None, high=None, moves=None, explodes=None, exploded=exploded,
            reason=f"the loss neither falls nor explodes from {_text(low)} to {_text(high)}: nothing can be told",
        )  # fmt: skip
    said = []
    if moves is None:
        bottom = low
        said.append("the loss falls no further than it scatters, so the lowest rate stays")
    else:
        e_fold = (len(lrs) - 1) / math.log(high / low)
        bottom = max(low, moves / math.sqrt(max(1.0, steps / e_fold)) / 10**MARGIN)
        said.append(f"the loss begins to fall at {_text(moves)}")
    if explodes is None:
        top = high
        said.append("it does not explode on most seeds, so the highest rate stays")
    else:
        top = min(high, explodes * 10**MARGIN)
        said.append(f"{'it explodes' if moves is None else 'all of that is lost again'} at {_text(explodes)}")
    return Bracket(
        low=float(f"{bottom:.2g}"), high=float(f"{top:.2g}"), moves=moves, explodes=explodes, exploded=exploded,
        reason=", and ".join(said),
    )  # fmt: skip


def _text(lr: float) -> str:
    return format_rate(float(f"{lr:.2g}"))


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """A seed's curve up to the first loss that is not finite: rates and smoothed losses, and whether it ended so."""

    lrs: Floats
    smoothed: Floats
    start: float
    scatter: float
    ended: bool

    @classmethod
    def of(cls, lrs: Floats, loss: Floats) -> _Curve:
        broken = np.flatnonzero(~np.isfinite(loss))
        n = int(broken[0]) if len(broken) else len(loss)
        first = loss[: min(n, max(3, int(STARTS * len(lrs))))]
        return cls(
            lrs=lrs[: max(1, len(loss))],
            smoothed=smooth(lrs[:n], loss[:n]) if n else np.empty(0),
            start=float(first.mean()) if n else math.nan,
            scatter=float(first.std(ddof=1)) if n > 1 else math.nan,
            ended=n < len(loss),
        )

    def explodes(self) -> float | None:
        """The first rate beyond the least loss at which all of the fall is lost again, or the loss is not finite."""
        if not len(self.smoothed):
            return float(self.lrs[0])
        least = int(self.smoothed.argmin())
        fall = self.start - float(self.smoothed[least])
        # Where there is no fall to lose, the loss has to rise further than it scatters.
        seen = max(SEEN * self.scatter, ROUNDING * abs(self.start))
        lost = self.start - MOVED * fall if fall > seen else self.start + 2 * seen
        back = np.flatnonzero(self.smoothed[least + 1 :] > lost)
        if len(back):
            return float(self.lrs[least + 1 + back[0]])
        return float(self.lrs[-1]) if self.ended else None


def _moves(lrs: Floats, curves: Sequence[_Curve]) -> float | None:
    """Return where the mean over seeds has begun to fall; None where it falls no further than it scatters."""
    n = min(len(curve.smoothed) for curve in curves)
    if n < 3:
        return None
    mean = np.mean([curve.smoothed[:n] for curve in curves], axis=0)
    start = float(np.mean([curve.start for curve in curves]))
    scatter = math.sqrt(float(np.mean([curve.scatter**2 for curve in curves])) / len(curves))
    least = int(mean.argmin())
    fall = start - float(mean[least])
    if fall <= max(SEEN * scatter, ROUNDING * abs(start)):
        return None
    still = np.flatnonzero(mean[: least + 1] > start - MOVED * fall)
    return float(lrs[still[-1]]) if len(still) else float(lrs[0])

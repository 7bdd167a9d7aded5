"""What decides between rates: a metric, its direction, and the margin that counts as a practical difference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from etude.errors import SpecError
from etude.spec.value import number, value

Direction = Literal["maximize", "minimize"]
_RISING = ("accuracy", "acc", "f1", "auc", "auroc", "precision", "recall", "r2", "bleu", "iou", "dice")
_FALLING = ("loss", "error", "perplexity", "mse", "mae", "rmse", "nll", "bpc")


def _margin(got: object) -> object:
    return None if got is None else number("study.objective.margin", got)


@value("study.objective")
class Objective:
    """``metric`` by its recorded name (``val_accuracy``), a ``direction``, and the margin δ in the metric's own unit.

    Without a margin it is taken from the noise: see `etude.analysis.noise`.
    """

    metric: str
    direction: Direction
    margin: Annotated[float | None, BeforeValidator(_margin)] = None

    def __str__(self) -> str:
        return f"{self.direction[:3]}:{self.metric}"


def maximize(metric: str, *, margin: float | None = None) -> Objective:
    """An objective to be made large, such as ``val_accuracy``."""
    return Objective(metric=metric, direction="maximize", margin=margin)


def minimize(metric: str, *, margin: float | None = None) -> Objective:
    """An objective to be made small, such as ``val_loss``."""
    return Objective(metric=metric, direction="minimize", margin=margin)


def parse_objective(got: str) -> Objective:
    """Read ``val_loss``, ``max:val_f1`` or ``min:val_error``; a well-known metric needs no direction.

    Raises `SpecError` when the direction is neither written nor known.
    """
    direction, colon, metric = got.strip().partition(":")  # a metric's own name may have colons
    if not colon:
        metric = direction
    else:
        long = {"max": "maximize", "maximize": "maximize", "min": "minimize", "minimize": "minimize"}.get(direction)
        if long is None or not metric:
            raise SpecError(f"study.objective: expected max:METRIC or min:METRIC, got {got!r}")
        return Objective(metric=metric, direction=long)  # type: ignore[arg-type]
    word = metric.removeprefix("val_").removeprefix("train_").lower()
    if word in _RISING:
        return maximize(metric)
    if word in _FALLING:
        return minimize(metric)
    raise SpecError(
        f"study.objective: whether {metric!r} should be large or small is not known; "
        f"write max:{metric or 'METRIC'} or min:{metric or 'METRIC'}"
    )

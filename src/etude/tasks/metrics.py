"""Metrics: by example, or by name through torchmetrics. B batch, C classes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from etude.errors import SpecError, nearest


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the largest of the outputs (B, C) is the target (B,): 0.0 or 1.0 for each example, shape (B,)."""
    return (outputs.argmax(1) == targets).float()


def named(name: str, **options: Any) -> Any:
    """Return a metric of torchmetrics by the name of its class, any case: ``named("F1Score", task="multiclass", num_classes=10)``.

    It is computed once over all examples and gets no standard error; ``accuracy`` without options is etude's own, which
    has one. Raises `SpecError` for a name or an option that is not known, or when torchmetrics is not installed.
    """
    if name == "accuracy" and not options:
        return accuracy
    try:
        import torchmetrics
    except ImportError:
        raise SpecError(
            f"task.metrics: {name!r} is looked up in torchmetrics, which is not installed; pip install 'etude[metrics]'"
        ) from None
    plain = {key.replace("_", "").lower(): key for key in torchmetrics.__all__ if key[:1].isupper()}
    found = plain.get(name.replace("_", "").replace("-", "").lower())
    if found is None:
        near = nearest(name.replace("_", ""), plain).replace(
            "known: " + ", ".join(sorted(plain)), "see torchmetrics.ai"
        )
        raise SpecError(f"task.metrics: torchmetrics has no metric named {name!r}{near}")
    try:
        return getattr(torchmetrics, found)(**options)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SpecError(
            f"task.metrics: {found} wants other options ({reason}); write etude.metrics.named({found!r}, option=…)"
        ) from None


def is_aggregate(metric: Any) -> bool:
    """Whether it gathers examples in a state of its own, as torchmetrics do: update, compute, reset."""
    return all(callable(getattr(metric, name, None)) for name in ("update", "compute", "reset"))

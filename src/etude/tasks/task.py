"""What is trained: a model factory, data, a loss and metrics. No torch at import, so that a study is read without it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etude.errors import SpecError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from etude.tasks.data import Resident

RESERVED = ("loss",)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model and what it learns from.

    ``model`` is called once a trial, without arguments, and returns a module with fresh weights. ``train``, ``val`` and
    ``test`` are pairs (inputs, targets) of tensors or arrays whose first axis counts examples, a `TensorDataset`, or a
    `Resident`. ``loss(outputs, targets)`` returns the mean loss of a batch, a scalar. A metric is called in the same
    way; values by example, shape (B,), are averaged and get a standard error, a scalar is computed once on all
    examples and gets none. Raises `SpecError` for data or functions that do not fit.
    """

    model: Callable[[], nn.Module]
    train: Any
    val: Any
    loss: Callable[..., Tensor]
    metrics: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = field(default_factory=dict)
    test: Any = None
    name: str = ""

    def __post_init__(self) -> None:
        for what in ("model", "loss"):
            if not callable(getattr(self, what)):
                raise SpecError(f"task.{what}: expected something to call, got {type(getattr(self, what)).__name__}")
        if _is_module(self.model):
            raise SpecError(
                "task.model: expected a function that makes a model with fresh weights, got one finished module; "
                "write model=lambda: MyModel()"
            )
        for name, metric in self.metrics.items():
            if not callable(metric):
                raise SpecError(f"task.metrics[{name!r}]: expected something to call, got {type(metric).__name__}")
            if name in RESERVED or not name.isidentifier():
                raise SpecError(f"task.metrics: expected a name like 'accuracy' that is not 'loss', got {name!r}")
        from etude.tasks.data import as_resident

        for split in ("train", "val", "test"):
            if split != "test" or self.test is not None:
                object.__setattr__(self, split, as_resident(getattr(self, split), f"task.{split}"))
        object.__setattr__(self, "metrics", dict(self.metrics))
        object.__setattr__(self, "name", self.name or _name_of(self.model))

    def with_holdout(self, count: int) -> Task:
        """Keep ``count`` training examples, drawn once and for all, for choosing; the validation data become the test set."""
        train: Resident = self.train
        if count >= len(train):
            raise SpecError(f"study.holdout: expected fewer than the {len(train)} training examples, got {count}")
        kept, held = train.split(count)
        return dataclasses.replace(self, train=kept, val=held, test=self.val if self.test is None else self.test)


def _is_module(thing: object) -> bool:
    import torch

    return isinstance(thing, torch.nn.Module)


def _name_of(factory: object) -> str:
    name = getattr(factory, "__name__", type(factory).__name__)
    return "task" if name == "<lambda>" else name

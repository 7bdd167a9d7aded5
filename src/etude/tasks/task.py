"""What is trained: a model factory, data, a loss and metrics. No torch at import, so that a study is read without it."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from etude.errors import SpecError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from etude.tasks.data import Data

RESERVED = ("loss", "outputs", "targets")
_PACKAGE = str(Path(__file__).parents[1])


@dataclass(frozen=True, kw_only=True)
class Task:
    """A model and what it learns from.

    ``model`` is called once a trial, without arguments, and returns a module with fresh weights.

    ``train``, ``val`` and ``test``: a pair (inputs, targets) of tensors or arrays whose first axis counts examples, a
    longer tuple or a dict of them, a map-style `Dataset` (also of Hugging Face), a `DataLoader`, an `IterableDataset`, or
    `Resident` and `Stream`, which say more.

    How a batch becomes a loss is said in one of two ways:

    - ``loss(outputs, targets)`` returns the mean loss of a batch, a scalar; a batch is a pair (inputs, targets) then, and
      the outputs are ``model(inputs)``.
    - ``step(model, batch)`` returns the loss, or a dict with ``loss`` and scalars to record beside it (as
      ``train_NAME``, means over the steps between two evaluations). A batch is passed on as the data made it.

    ``metrics``: by name, functions ``(outputs, targets)``, metrics of torchmetrics, or names of them
    (`etude.metrics.named`). Values by example, shape (B,), are averaged and get a standard error; a scalar is computed once
    on all examples and gets none.

    ``evaluate(model, batch)`` returns what is recorded of held-out data: a dict of values by example, shape (B,), or of
    scalars (means over batches, by their number of examples where that is known). With ``outputs`` and ``targets`` among
    them, ``metrics`` are computed of these. Without it, ``step`` is asked, or the loss and metrics.

    ``parameters(model)`` returns what is trained: parameters, or groups as `torch.optim` takes them. Learning rates in
    groups are relative: the largest becomes the study's rate, and the others keep their ratio to it.

    Raises `SpecError` for data or functions that do not fit.
    """

    model: Callable[[], nn.Module]
    train: Any
    val: Any
    loss: Callable[..., Any] | None = None
    step: Callable[..., Any] | None = None
    evaluate: Callable[..., Mapping[str, Any]] | None = None
    metrics: Mapping[str, Callable[..., Any] | str] | Iterable[str] = field(default_factory=dict)
    parameters: Callable[[Any], Iterable[Any]] | None = None
    test: Any = None
    name: str = ""
    # Where it was made, for messages: "study.py, line 12"; nothing for a built-in one.
    made_at: str | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for what in ("model", "loss", "step", "evaluate", "parameters"):
            given = getattr(self, what)
            if not callable(given) and (given is not None or what == "model"):
                raise SpecError(f"task.{what}: expected something to call, got {type(given).__name__}")
        if (self.loss is None) == (self.step is None):
            got = "neither" if self.loss is None else "both"
            raise SpecError(f"task: expected one of loss(outputs, targets) and step(model, batch), got {got}")
        if _is_module(self.model):
            raise SpecError(
                "task.model: expected a function that makes a model with fresh weights, got one finished module; "
                "write model=lambda: MyModel()"
            )
        object.__setattr__(self, "metrics", _metrics(self.metrics))
        if self.metrics and self.loss is None and self.evaluate is None:
            raise SpecError(
                "task.metrics: with step alone there are no outputs to measure; give evaluate(model, batch) that returns "
                "a dict with outputs and targets, or return the numbers from it"
            )
        from etude.tasks.data import as_data

        for split in ("train", "val", "test"):
            if split != "test" or self.test is not None:
                object.__setattr__(self, split, as_data(getattr(self, split), f"task.{split}"))
        object.__setattr__(self, "name", self.name or _name_of(self.model))
        object.__setattr__(self, "made_at", _caller() if self.made_at is None else self.made_at)

    @property
    def batch_size(self) -> int | None:
        """The number of examples in a batch that the training data make by themselves; None where the recipe says."""
        size: int | None = getattr(self.train, "batch_size", None)
        return size

    @property
    def makes_batches(self) -> bool:
        """Whether the training data come in batches already, so that no recipe has a say."""
        from torch.utils.data import IterableDataset

        from etude.tasks.stream import Stream

        return isinstance(self.train, Stream) and not isinstance(self.train.source, IterableDataset)

    def private(self, device: torch.device) -> Task:
        """Return the task with a loss on ``device`` and metrics of its own, where they are objects that may keep a state.

        Functions are not copied, and neither is what cannot be.
        """
        loss: Any = _own(self.loss)
        metrics = {name: _own(metric) for name, metric in cast(Mapping[str, Any], self.metrics).items()}
        return dataclasses.replace(self, loss=loss.to(device) if _is_module(loss) else loss, metrics=metrics)

    def with_data(self, train: Data, val: Data, test: Data | None) -> Task:
        """Return the task with other data."""
        return dataclasses.replace(self, train=train, val=val, test=test)

    def with_holdout(self, count: int) -> Task:
        """Keep ``count`` training examples, drawn once and for all, for choosing; the validation data become the test set."""
        train: Data = self.train
        if train.examples is not None and count >= train.examples:
            raise SpecError(f"study.holdout: expected fewer than the {train.examples} training examples, got {count}")
        kept, held = train.split(count)
        return dataclasses.replace(self, train=kept, val=held, test=self.val if self.test is None else self.test)


def _metrics(given: Any) -> dict[str, Any]:
    from etude.tasks import metrics

    if isinstance(given, str):
        given = [given]
    table = dict(given) if isinstance(given, Mapping) else {name: name for name in given}
    for name, metric in table.items():
        if isinstance(metric, str):
            table[name] = metric = metrics.named(metric)
        if not callable(metric):
            raise SpecError(f"task.metrics[{name!r}]: expected something to call, got {type(metric).__name__}")
        if not isinstance(name, str) or name in RESERVED or not name.isidentifier():
            raise SpecError(f"task.metrics: expected a name like 'accuracy' that is not {name!r}")
    return table


def _own(thing: Any) -> Any:
    try:
        return copy.deepcopy(thing)
    except Exception:  # noqa: BLE001 - copying runs the user's own __deepcopy__ and __reduce__
        return thing


def _is_module(thing: object) -> bool:
    import torch

    return isinstance(thing, torch.nn.Module)


def _name_of(factory: object) -> str:
    name = getattr(factory, "__name__", type(factory).__name__)
    return "task" if name == "<lambda>" else name


def _caller() -> str:
    """Return the place that the task is made at; nothing where that is in this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path not in ("<string>", __file__):  # the first is what `dataclass` wrote
            return "" if path.startswith(_PACKAGE) else f"{path}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""

"""Data held in memory, `Resident`, and the border at which all kinds of data are told apart.

All data have the shape of `Data`: batches whose order is counted from (seed, epoch). B batch, N examples.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from etude import counted
from etude.errors import SpecError
from etude.tasks import tree
from etude.tasks.tree import Tree

MOST_OF_FREE = 0.5  # of a GPU's memory: the rest is for models, their gradients and what they compute
# Seeds all generators before batch i of an epoch is read; None is the epoch as a whole. Returns the seed.
Reseed = Callable[[int | None], int]


class Data(Protocol):
    """What a session reads its batches from."""

    @property
    def seekable(self) -> bool:
        """Whether batch ``start`` can be read without those before it."""

    @property
    def is_still(self) -> bool:
        """Whether reading draws no random numbers."""

    @property
    def examples(self) -> int | None:
        """How many examples there are, None where that is not known."""

    def n_batches(self, batch_size: int) -> int:
        """Batches in an epoch."""

    def batches(self, batch_size: int, seed: int, epoch: int, start: int, reseed: Reseed) -> Iterator[Tree]:
        """Yield the batches of ``epoch`` (from 0) in the order of (seed, epoch), from batch ``start`` on."""

    def in_order(self, batch_size: int) -> Iterator[tuple[Tree, int | None]]:
        """Yield all examples once, as they are stored, in batches, each with its number of examples where that is known."""

    def to(self, device: torch.device) -> Data:
        """Return the same data, its batches on ``device``."""

    def split(self, count: int) -> tuple[Data, Data]:
        """Return (all but ``count``, ``count``) examples: the same draw every time, order kept within each part."""

    def digest(self) -> str:
        """Return a digest by which other data are noticed."""


def order(n: int, seed: int, epoch: int) -> Tensor:
    """Return the order of ``n`` examples in an epoch, shape (N,): the same for every rate of a seed."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(counted.derive(counted.ORDER, seed, epoch)))


def draw(n: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the indexes of (all but ``count``, ``count``) of ``n`` examples, each ascending; the same every time."""
    order_N = torch.randperm(n, generator=torch.Generator().manual_seed(counted.derive(counted.HOLDOUT)))
    return order_N[count:].sort().values, order_N[:count].sort().values


@dataclass(frozen=True)
class Resident:
    """``inputs`` (N, …) and ``targets`` (N, …), kept as they are stored (images as ``uint8``).

    A batch is the pair (inputs, targets). ``inputs`` may be a tuple or dict of tensors, and without ``targets`` it is the
    batch alone: ``Resident({"input_ids": …, "labels": …})`` gives dicts. ``prepare`` turns the inputs of a batch, as
    stored, into what the model takes: (B, …) to (B, …).
    """

    inputs: Tree
    targets: Tree = None
    prepare: Callable[[Tree], Tree] | None = None
    device: torch.device | None = None  # where batches go, if not all of it fits there

    seekable = is_still = True

    def __len__(self) -> int:
        return len(self._first)

    @property
    def examples(self) -> int:
        """How many examples there are."""
        return len(self)

    @property
    def _first(self) -> Tensor:
        return next(leaf for leaf in tree.leaves(self.inputs) if isinstance(leaf, Tensor))

    @property
    def n_bytes(self) -> int:
        """The memory that the tensors take."""
        tensors = [leaf for leaf in tree.leaves((self.inputs, self.targets)) if isinstance(leaf, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def n_batches(self, batch_size: int) -> int:
        """Batches in an epoch; the last one may be short."""
        return -(-len(self) // batch_size)

    def batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, reseed: Reseed | None = None
    ) -> Iterator[Tree]:
        """Yield the batches of ``epoch`` (from 0) in the order of (seed, epoch), from batch ``start`` on."""
        del reseed  # nothing is drawn here
        order_N = order(len(self), seed, epoch).to(self._first.device)
        for index_B in torch.split(order_N, batch_size)[start:]:
            yield self._batch(index_B)

    def in_order(self, batch_size: int) -> Iterator[tuple[Tree, int]]:
        """Yield all examples once, as they are stored."""
        for begin in range(0, len(self), batch_size):
            end = min(begin + batch_size, len(self))
            yield self._batch(slice(begin, end)), end - begin

    def _batch(self, index_B: Tensor | slice) -> Tree:
        inputs, targets = tree.map_tensors((self.inputs, self.targets), lambda column: column[index_B])
        if self.device is not None:
            inputs, targets = tree.to_device((inputs, targets), self.device)
        if self.prepare is not None:
            inputs = self.prepare(inputs)
        return inputs if self.targets is None else (inputs, targets)

    def map(self, change: Callable[[Tensor], Tensor]) -> Resident:
        """Return the same with ``change`` done to each column."""
        return Resident(tree.map_tensors(self.inputs, change), tree.map_tensors(self.targets, change), self.prepare)

    def split(self, count: int) -> tuple[Resident, Resident]:
        """Return (all but ``count``, ``count``) examples: the same draw every time, order kept within each part."""
        kept, held = draw(len(self), count)
        return self.map(lambda column: column[kept]), self.map(lambda column: column[held])

    def to(self, device: torch.device) -> Resident:
        """Return the same data on ``device``, or the same with its batches there, where half of what is free would not do."""
        if self.n_bytes <= MOST_OF_FREE * _free_bytes(device):
            return self.map(lambda column: column.to(device))
        return replace(self, device=device)

    def digest(self) -> str:
        """Return a digest of all values, shapes and types: another file or another preprocessing is noticed."""
        hashed = hashlib.blake2b(digest_size=16)
        for leaf in tree.leaves((self.inputs, self.targets)):
            if isinstance(leaf, Tensor):
                hashed.update(f"{leaf.dtype} {tuple(leaf.shape)} ".encode())
                hashed.update(leaf.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return hashed.hexdigest()

    def check(self, field: str) -> Resident:
        """Return the data. Raises `SpecError`, naming ``field``, where the columns are not of one length, or empty."""
        columns = [leaf for leaf in tree.leaves((self.inputs, self.targets)) if leaf is not None]
        for column in columns:
            if not isinstance(column, Tensor):
                raise SpecError(f"{field}: expected tensors in a Resident, got {type(column).__name__}")
        shapes = [tuple(column.shape) for column in columns]
        if not shapes:
            raise SpecError(f"{field}: expected at least one tensor, got none")
        if not all(shapes) or len({shape[0] for shape in shapes}) > 1:
            what = (
                "as many targets as inputs"
                if len(shapes) == 2 and self.targets is not None
                else "columns of one length"
            )
            raise SpecError(
                f"{field}: expected {what} along the first axis, got shapes {' and '.join(map(str, shapes))}"
            )
        if not shapes[0][0]:
            raise SpecError(f"{field}: expected at least one example, got none")
        return self


def _free_bytes(device: torch.device) -> float:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else math.inf


def as_data(data: Any, field: str) -> Data:
    """Tell what kind of data it is; nothing is read yet. Raises `SpecError`, naming ``field``, for what is none.

    Tensors and arrays, in a pair (inputs, targets), a longer tuple or a dict, and `TensorDataset` become `Resident`; what
    has a length and is indexed becomes `Examples` (made resident later where that can be); a `DataLoader`, an
    `IterableDataset` and whatever else can be iterated again and again become a `Stream`.
    """
    from etude.tasks.stream import Examples, Stream

    if isinstance(data, Resident):
        return data.check(field)
    if isinstance(data, Examples | Stream):
        return data
    if isinstance(data, TensorDataset):
        data = tuple(data.tensors)
    if isinstance(data, tuple) or _is_pair_of_columns(data):
        columns = tuple(_as_tensor(part, f"{field}[{i}]") for i, part in enumerate(data))
        if len(columns) == 1:
            return Resident(columns[0]).check(field)
        return (Resident(*columns) if len(columns) == 2 else Resident(columns)).check(field)
    if isinstance(data, Mapping) and any(isinstance(part, Dataset) or _is_examples(part) for part in data.values()):
        names = ", ".join(map(repr, data))
        raise SpecError(f"{field}: expected one data set, got several ({names}); take one of them")
    if isinstance(data, Mapping):
        return Resident({name: _as_tensor(part, f"{field}[{name!r}]") for name, part in data.items()}).check(field)
    if isinstance(data, DataLoader | IterableDataset):
        return Stream(data)
    if isinstance(data, Tensor | np.ndarray):
        raise SpecError(
            f"{field}: expected (inputs, targets), got one {type(data).__name__}; for a model that needs no targets give "
            "etude.Resident(inputs) and a step"
        )
    if hasattr(data, "iloc"):
        raise SpecError(
            f"{field}: expected (inputs, targets), got one {type(data).__name__}; give its columns as arrays: "
            "(frame[names].to_numpy('float32'), frame[name].to_numpy())"
        )
    if isinstance(data, Iterator):
        raise SpecError(
            f"{field}: expected data that can be read again and again, got a {type(data).__name__}, which can be read once; "
            "give a Dataset, a list, or an object whose __iter__ starts anew"
        )
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | bytes):
        return Examples(data)
    if hasattr(data, "__iter__") and not isinstance(data, str | bytes):
        return Stream(data)
    raise SpecError(
        f"{field}: expected a pair (inputs, targets) of tensors or arrays, a dict of them, a Dataset, a DataLoader or an "
        f"IterableDataset, got {type(data).__name__}"
    )


def _is_examples(part: Any) -> bool:
    """Whether it is a data set of Hugging Face, which is no `Dataset` of torch."""
    return type(part).__module__.partition(".")[0] == "datasets"


def _is_pair_of_columns(data: Any) -> bool:
    return isinstance(data, list) and len(data) == 2 and all(isinstance(part, Tensor | np.ndarray) for part in data)


def _as_tensor(part: Any, field: str) -> Tensor:
    if isinstance(part, Tensor):
        return part.detach()
    try:
        array = np.ascontiguousarray(part)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise SpecError(f"{field}: expected a tensor or a numeric array, got {type(part).__name__}: {error}") from None

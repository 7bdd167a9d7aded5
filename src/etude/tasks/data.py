"""Data held in memory: `Resident`, with batches whose order is counted from (seed, epoch).

B batch, N examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from etude import counted
from etude.errors import SpecError

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Resident:
    """``inputs`` (N, …) and ``targets`` (N, …), kept as they are stored (images as ``uint8``).

    ``prepare`` turns a batch of inputs, as stored, into what the model takes: (B, …) to (B, …).
    """

    inputs: Tensor
    targets: Tensor
    prepare: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def n_batches(self, batch_size: int) -> int:
        """Batches in an epoch; the last one may be short."""
        return -(-len(self) // batch_size)

    def batches(self, batch_size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of ``epoch`` (from 0) in the order of (seed, epoch), from batch ``start`` on."""
        generator = torch.Generator().manual_seed(counted.derive(counted.ORDER, seed, epoch))
        order_N = torch.randperm(len(self), generator=generator).to(self.inputs.device)
        for index_B in torch.split(order_N, batch_size)[start:]:
            yield self._prepared(self.inputs[index_B]), self.targets[index_B]

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all examples once, as they are stored."""
        for inputs, targets in zip(
            torch.split(self.inputs, batch_size), torch.split(self.targets, batch_size), strict=True
        ):
            yield self._prepared(inputs), targets

    def _prepared(self, inputs: Tensor) -> Tensor:
        return inputs if self.prepare is None else self.prepare(inputs)

    def split(self, count: int) -> tuple[Resident, Resident]:
        """Return (all but ``count``, ``count``) examples: the same draw every time, order kept within each part."""
        generator = torch.Generator().manual_seed(counted.derive(counted.HOLDOUT))
        order_N = torch.randperm(len(self), generator=generator)
        held, kept = order_N[:count].sort().values, order_N[count:].sort().values
        return (
            Resident(self.inputs[kept], self.targets[kept], self.prepare),
            Resident(self.inputs[held], self.targets[held], self.prepare),
        )

    def to(self, device: torch.device) -> Resident:
        """Return the same data on ``device``."""
        return Resident(self.inputs.to(device), self.targets.to(device), self.prepare)

    def digest(self) -> str:
        """Return a digest of all values, shapes and types: another file or another preprocessing is noticed."""
        hashed = hashlib.blake2b(digest_size=16)
        for tensor in (self.inputs, self.targets):
            hashed.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
            hashed.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
        return hashed.hexdigest()


def as_resident(data: Any, field: str) -> Resident:
    """Make data resident. Raises `SpecError`, naming ``field``, for what is no pair of tensors or arrays of one length."""
    if isinstance(data, Resident):
        resident = data
    else:
        pair = data.tensors if isinstance(data, TensorDataset) else data
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise SpecError(
                f"{field}: expected a pair (inputs, targets) of tensors or arrays, got {type(data).__name__}; "
                "stack a dataset into two tensors first"
            )
        inputs, targets = (_as_tensor(part, f"{field}[{i}]") for i, part in enumerate(pair))
        resident = Resident(inputs, targets)
    if not resident.inputs.ndim or not resident.targets.ndim or len(resident.inputs) != len(resident.targets):
        raise SpecError(
            f"{field}: expected as many targets as inputs along the first axis, got shapes "
            f"{tuple(resident.inputs.shape)} and {tuple(resident.targets.shape)}"
        )
    if not len(resident):
        raise SpecError(f"{field}: expected at least one example, got none")
    return resident


def _as_tensor(part: Any, field: str) -> Tensor:
    if isinstance(part, Tensor):
        return part.detach()
    try:
        array = np.ascontiguousarray(part)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise SpecError(f"{field}: expected a tensor or a numeric array, got {type(part).__name__}: {error}") from None

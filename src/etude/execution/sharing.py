"""Takes a value to other processes: code by cloudpickle, large tensors and arrays by shared memory, not copied.

A model made in a notebook or in ``__main__`` is pickled by value. The shared memory has no name once it is handed over
(torch's ``file_descriptor`` strategy), so it is gone with the last process that holds it, however that one ends.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor

from etude.errors import SpecError

LARGE_BYTES = 64 * 1024


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.shared: list[Tensor] = []
        self._seen: dict[int, tuple[int, str]] = {}
        self._alive: list[object] = []  # ids stay unique as long as their objects live

    def persistent_id(self, thing: object) -> tuple[int, str] | None:
        if id(thing) in self._seen:
            return self._seen[id(thing)]
        if type(thing) is Tensor and not thing.requires_grad and thing.device.type == "cpu" and not thing.is_sparse:
            tensor, kind = thing, "tensor"
        elif type(thing) is np.ndarray and thing.dtype.kind in "biuf" and thing.dtype.isnative:
            tensor, kind = torch.from_numpy(np.ascontiguousarray(thing)), "array"
        else:
            return None
        if tensor.numel() * tensor.element_size() < LARGE_BYTES or not tensor.is_contiguous():
            return None
        copy = torch.empty_like(tensor).share_memory_()  # type: ignore[no-untyped-call]  # the caller's own stays where it is
        self.shared.append(copy.copy_(tensor))
        self._alive.append(thing)
        self._seen[id(thing)] = len(self.shared) - 1, kind
        return self._seen[id(thing)]


class _ByReference(cloudpickle.Pickler):  # type: ignore[misc]
    """Takes a value apart, but for its large tensors and arrays, which the copy holds, too."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.held: list[object] = []
        self._seen: dict[int, int] = {}

    def persistent_id(self, thing: object) -> int | None:
        large = (type(thing) is Tensor and thing.numel() * thing.element_size() >= LARGE_BYTES) or (
            type(thing) is np.ndarray and thing.nbytes >= LARGE_BYTES
        )
        if not large:
            return None
        if id(thing) not in self._seen:
            self._seen[id(thing)] = len(self.held)
            self.held.append(thing)
        return self._seen[id(thing)]


class _Holding(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, held: list[object]) -> None:
        super().__init__(file)
        self.held = held

    def persistent_load(self, pid: int) -> object:
        return self.held[pid]


def private(value: Any) -> Any:
    """Return a copy of ``value`` whose state is its own; large tensors and arrays are not copied.

    What cannot be pickled is returned as it is.
    """
    file = io.BytesIO()
    pickler = _ByReference(file)
    try:
        pickler.dump(value)
        return _Holding(io.BytesIO(file.getvalue()), pickler.held).load()
    except Exception:  # noqa: BLE001 - pickling runs the user's own __reduce__ and __setstate__
        return value


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, shared: list[Tensor]) -> None:
        super().__init__(file)
        self.shared = shared

    def persistent_load(self, pid: tuple[int, str]) -> object:
        index, kind = pid
        return self.shared[index] if kind == "tensor" else self.shared[index].numpy()


def dump(value: object) -> tuple[bytes, list[Tensor]]:
    """Return the pickled value and the shared tensors that it refers to. Raises `SpecError` when it cannot be pickled."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump(value)
    except Exception as error:  # noqa: BLE001 - pickling runs the user's own __reduce__ and __getstate__
        raise SpecError(
            f"study.task: cannot be taken to a worker process ({type(error).__name__}: {error}); "
            "use executor='inline', or keep locks, files and generators out of the task"
        ) from None
    return file.getvalue(), pickler.shared


def load(pickled: bytes, shared: list[Tensor]) -> Any:
    """Return the value that `dump` took apart."""
    return _Unpickler(io.BytesIO(pickled), shared).load()

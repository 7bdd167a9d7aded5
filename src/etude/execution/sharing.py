"""Takes a value to other processes: code by cloudpickle, large tensors and arrays by shared memory, not copied.

A model made in a notebook or in ``__main__`` is pickled by value. The shared memory has no name once it is handed over
(torch's ``file_descriptor`` strategy), so it is gone with the last process that holds it, however that one ends.
"""

from __future__ import annotations

import copyreg
import dataclasses
import io
import marshal
import pickle
import types
from collections import ChainMap
from collections.abc import Callable
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import torch
from torch import Tensor
from torch.utils.data.dataloader import _BaseDataLoaderIter

from etude.errors import SpecError

LARGE_BYTES = 64 * 1024
DEEPEST = 4  # attributes of attributes, when what cannot be pickled is looked for


def _code(code: types.CodeType) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
    return marshal.loads, (marshal.dumps(code),)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    # cloudpickle forgets the file that code is written in, which messages name.
    dispatch_table: ClassVar[Any] = ChainMap({types.CodeType: _code}, cloudpickle.Pickler.dispatch_table)

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


class _ByReference(pickle.Pickler):
    """Takes a value apart as `copy.deepcopy` does, but for what the copy holds, too.

    That is code (functions, classes, modules), large tensors and arrays, and what cannot be taken apart, such as a lock.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.held: list[object] = []
        self._seen: dict[int, int] = {}
        self._apart: dict[type, bool] = {}

    def persistent_id(self, thing: object) -> int | None:
        if isinstance(thing, _BaseDataLoaderIter):
            return self._hold(None)  # a reading under way, with its workers, stays the caller's
        large = (type(thing) is Tensor and thing.numel() * thing.element_size() >= LARGE_BYTES) or (
            type(thing) is np.ndarray and thing.nbytes >= LARGE_BYTES
        )
        code = isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType)
        return self._hold(thing) if large or code or not self._comes_apart(thing) else None

    def _hold(self, thing: object) -> int:
        if id(thing) not in self._seen:
            self._seen[id(thing)] = len(self.held)
            self.held.append(thing)
        return self._seen[id(thing)]

    def _comes_apart(self, thing: object) -> bool:
        kind = type(thing)
        if kind not in self._apart:
            self._apart[kind] = kind in _PLAIN or kind in copyreg.dispatch_table or _reduces(thing)
        return self._apart[kind]


_PLAIN = {type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset}


def _reduces(thing: object) -> bool:
    try:
        thing.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - it may be the user's own __reduce__ or __getstate__
        return False
    return True


class _Holding(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, held: list[object]) -> None:
        super().__init__(file)
        self.held = held

    def persistent_load(self, pid: int) -> object:
        return self.held[pid]


def private(value: Any) -> Any:
    """Return a copy of ``value`` whose state is its own; code, large tensors and arrays are not copied.

    What cannot be taken apart (locks, open files) is shared with ``value``; and a value that cannot be put together again is
    returned as it is.
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
        words = " ".join(str(error).split())
        raise SpecError(
            f"study.{_culprit(value, 'task')}: cannot be taken to a worker process ({type(error).__name__}: {words}); "
            "use executor='inline', or keep locks, files and generators out of the task"
        ) from None
    return file.getvalue(), pickler.shared


def _culprit(value: object, path: str, depth: int = DEEPEST) -> str:
    """Return the path of the innermost part that cannot be pickled, as far as attributes lead there."""
    if dataclasses.is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    else:
        parts = dict(getattr(value, "__dict__", {})) if not isinstance(value, type | types.FunctionType) else {}
    for name, part in parts.items() if depth else ():
        if not _picklable(part):
            inner = name if name in ("task", "recipe") else f"{path}.{name}"  # the setup is what a study calls its own
            return _culprit(part, inner, depth - 1)
    return path


def _picklable(value: object) -> bool:
    try:
        _Pickler(io.BytesIO()).dump(value)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def load(pickled: bytes, shared: list[Tensor]) -> Any:
    """Return the value that `dump` took apart."""
    return _Unpickler(io.BytesIO(pickled), shared).load()

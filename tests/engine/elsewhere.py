"""A second device, made of CPU memory, on machines without a GPU: what is left behind on the CPU is noticed as CUDA would.

Tensors say that they are on ``elsewhere``, and computing on them together with tensors on the CPU is refused, scalars,
copies and indexes apart. It is a backend of PyTorch's in Python (``PrivateUse1``), registered once a process.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "elsewhere"
aten = torch.ops.aten
MIXING = {  # takes tensors of several devices on CUDA, too
    aten.copy_.default, aten._to_copy.default, aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default
}  # fmt: skip


class There(torch.Tensor):
    """A tensor on the device; ``held`` has its values."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=torch.device(NAME, 0),
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})

    def tolist(self):
        return self.held.tolist()

    def __reduce_ex__(self, protocol):
        return to_there, (self.held.detach(),)

    def __deepcopy__(self, memo):
        copied = There(self.held.detach().clone())
        return torch.nn.Parameter(copied, self.requires_grad) if getattr(self, "_is_param", False) else copied

    def __repr__(self):
        return f"There({self.held})"


def to_there(tensor):
    return tensor.to(NAME)


def compute(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    here = [tensor for tensor in tensors if not isinstance(tensor, There) and tensor.ndim]
    if there and here and function not in MIXING:
        raise RuntimeError(f"Expected all tensors to be on the same device, got {NAME}:0 and cpu ({function})")
    wanted = kwargs.get("device")
    stays = bool(there) if wanted is None else torch.device(wanted).type == NAME
    if function is aten.copy_.default:
        stays = isinstance(args[0], There)
    if wanted is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    made = function(*tree_map_only(There, lambda t: t.held, args), **tree_map_only(There, lambda t: t.held, kwargs))
    if not stays:
        return made
    made = tree_map_only(torch.Tensor, lambda t: t if isinstance(t, There) else There(t), made)
    return return_and_correct_aliasing(function, args, kwargs, made) if there else made


class _Everywhere(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


@functools.cache
def _register() -> None:
    backend_registration._setup_privateuseone_for_python_backend(NAME)


@contextlib.contextmanager
def there() -> Iterator[str]:
    """Have the device while the block runs, and return its name."""
    if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this PyTorch has no backends in Python")
    _register()
    with torch.serialization.safe_globals([to_there]), _Everywhere():
        yield NAME

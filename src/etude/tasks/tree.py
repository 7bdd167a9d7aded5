"""Batches as people have them: a tensor, or tuples, lists and dicts of them. A batch is walked through, never unpacked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Tree = Any  # a tensor, a tuple, list or dict of trees, or something else, which is left alone


def map_tensors(tree: Tree, change: Callable[[Tensor], Any]) -> Tree:
    """Return the tree with ``change`` done to each of its tensors; containers keep their type."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, tuple):
        parts = [map_tensors(part, change) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    if isinstance(tree, list):
        return [map_tensors(part, change) for part in tree]
    if isinstance(tree, dict):
        return {name: map_tensors(part, change) for name, part in tree.items()}
    if isinstance(tree, Mapping) and callable(getattr(tree, "to", None)):  # BatchEncoding and its kin
        return type(tree)({name: map_tensors(part, change) for name, part in tree.items()})  # type: ignore[call-arg]
    return tree


def leaves(tree: Tree) -> Iterator[Any]:
    """Yield what the tree holds, containers opened, in order."""
    if isinstance(tree, tuple | list):
        for part in tree:
            yield from leaves(part)
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from leaves(part)
    else:
        yield tree


def to_device(tree: Tree, device: torch.device) -> Tree:
    """Return the tree with all tensors on ``device``."""
    return map_tensors(tree, lambda tensor: tensor.to(device))


def digest(tree: Tree) -> str:
    """Return a digest of all values, shapes and types in the tree."""
    hashed = hashlib.blake2b(digest_size=16)
    for leaf in leaves(tree):
        if isinstance(leaf, Tensor):
            dense = leaf.detach().to_dense() if leaf.layout is not torch.strided else leaf.detach()
            hashed.update(f"{dense.dtype} {tuple(dense.shape)} ".encode())
            flat = dense.cpu().contiguous().reshape(-1)
            hashed.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
        else:
            hashed.update(f"{type(leaf).__name__} {leaf!r} ".encode())
    return hashed.hexdigest()


def describe(tree: Tree, *, depth: int = 2) -> str:
    """Say what the tree is, for a message: ``(float32 (64, 10), int64 (64,))``."""
    if isinstance(tree, Tensor):
        return f"{str(tree.dtype).removeprefix('torch.')} {tuple(tree.shape)}"
    if depth and isinstance(tree, Mapping):
        return "{" + ", ".join(f"{name}: {describe(part, depth=depth - 1)}" for name, part in tree.items()) + "}"
    if depth and isinstance(tree, tuple | list):
        return "(" + ", ".join(describe(part, depth=depth - 1) for part in tree) + ")"
    return type(tree).__name__

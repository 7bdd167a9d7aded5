"""Batches as people have them: a tensor, or tuples, lists and dicts of them. A batch is walked through, never unpacked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

MOST_SAID = 4  # parts of a tuple or list that a message describes
Tree = Any  # a tensor, a tuple, list or dict of trees, or something else, which is left alone


def map_tensors(tree: Tree, change: Callable[[Tensor], Any]) -> Tree:
    """Return the tree with ``change`` done to each of its tensors; containers keep their type."""
    return map_leaves(tree, lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf)


def map_leaves(tree: Tree, change: Callable[[Any], Any]) -> Tree:
    """Return the tree with ``change`` done to each of its leaves, in the order of `leaves`; containers keep their type."""
    if isinstance(tree, tuple):
        parts = [map_leaves(part, change) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    if isinstance(tree, list):
        return [map_leaves(part, change) for part in tree]
    if isinstance(tree, dict):
        return {name: map_leaves(part, change) for name, part in tree.items()}
    if isinstance(tree, Mapping):  # BatchEncoding and its kin
        made = {name: map_leaves(part, change) for name, part in tree.items()}
        return type(tree)(made) if callable(getattr(tree, "to", None)) else made  # type: ignore[call-arg]
    return change(tree)


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


def length(tree: Tree) -> int | None:
    """Return the length that the first axes of all tensors in the tree have in common, None where they have none."""
    tensors = [leaf for leaf in leaves(tree) if isinstance(leaf, Tensor)]
    lengths = {tensor.shape[0] if tensor.ndim else None for tensor in tensors}
    return lengths.pop() if len(lengths) == 1 else None


def is_finite(tree: Tree) -> bool:
    """Whether no tensor in the tree holds NaN or infinite values."""
    floating = (leaf for leaf in leaves(tree) if isinstance(leaf, Tensor) and leaf.is_floating_point())
    return all(bool(torch.isfinite(leaf).all()) for leaf in floating)


def join(trees: Sequence[Tree]) -> Tree:
    """Lay batches of one form together along the first axis. Raises what torch raises for tensors that do not fit."""
    columns = [list(leaves(tree)) for tree in trees]
    joined = (torch.cat(parts) if isinstance(parts[0], Tensor) else parts[0] for parts in zip(*columns, strict=True))
    return map_leaves(trees[0], lambda _: next(joined))


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
        parts = [describe(part, depth=depth - 1) for part in tree[:MOST_SAID]]
        more = [f"… {len(tree)} of them"] if len(tree) > MOST_SAID else []
        return "(" + ", ".join(parts + more) + ")"
    return type(tree).__name__

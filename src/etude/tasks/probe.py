"""Finds out, by reading and not by belief, what data are like: whether they can be held in memory, and be read again.

N examples.
"""

from __future__ import annotations

import os
import pickle
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from etude.errors import SpecError
from etude.tasks import tree
from etude.tasks.data import Data, Reseed, Resident
from etude.tasks.stream import Examples, Stream, unreadable
from etude.tasks.tree import Tree

Resume = Literal["exact", "by epoch", "from the start"]
MOST_BYTES, MOST_SHARE = 4 << 30, 0.25  # data larger than this, or than this share of the memory, are not held in it
PROBED = 16  # examples that are read twice
CHUNK = 64  # examples that are read at once where they are only looked at
LOOKED_AT_S = 3.0  # data that are not held in memory are looked through, as far as that goes in this time


@dataclass(frozen=True)
class Settled:
    """The data as they will be used, and in words what was made of them, where there is something to say.

    ``broken`` is a batch that holds NaN or infinite values, where one was seen, and ``breach`` says where that is.
    """

    data: Data
    note: str = ""
    broken: Tree = None
    breach: str = ""


def settle(data: Data, field: str, batch_size: int) -> Settled:
    """Hold data in memory that are small and the same each time they are read; leave others, and say why.

    Raises `SpecError`, naming ``field`` and the example, for what cannot be read or stacked, as far as data that are left are
    read in a few seconds.
    """
    if isinstance(data, Stream):
        return _look_at_batches(data, field, batch_size)
    if not isinstance(data, Examples):
        assert isinstance(data, Resident)
        return _whole(data, batch_size, "")
    n = len(data)
    if not n:
        raise SpecError(f"{field}: expected at least one example, got none")
    data = _tensors_please(data)
    places = sorted({n * i // PROBED for i in range(PROBED)} | {n - 1})
    before = _generators()
    first = _read(data, places, field)
    if _generators() != before or tree.digest(first) != tree.digest(_read(data, places, field)):
        return _look_at_examples(data, field, "reading them draws random numbers")
    if callable(getattr(data.dataset, "set_epoch", None)):
        return _look_at_examples(data, field, "they have set_epoch, so they may change with it")
    batch = _stack(first, field)
    columns = list(tree.leaves(batch))
    if not columns or not all(isinstance(column, Tensor) for column in columns):
        return _look_at_examples(data, field, "they are not all numbers")
    n_bytes = sum(column[0].numel() * column.element_size() for column in columns) * n
    most = min(MOST_BYTES, int(MOST_SHARE * _memory()))
    if n_bytes > most:
        return _look_at_examples(data, field, f"{n_bytes / 1e9:.1f} GB are too many to hold in memory")
    whole = _read_all(data, batch, places, field)
    if _generators() != before or tree.digest(first) != tree.digest(_read(data, places, field)):
        return _look_at_examples(data, field, "reading them draws random numbers")
    is_pair = isinstance(whole, tuple | list) and len(whole) == 2 and not hasattr(whole, "_fields")
    resident = (Resident(*whole) if is_pair else Resident(whole)).check(field)
    return _whole(resident, batch_size, f"{n:,} examples were read into memory once ({n_bytes / 1e6:,.1f} MB)")


def _whole(data: Resident, batch_size: int, note: str) -> Settled:
    found = not_finite(data)
    if found is None:
        return Settled(data, note)
    breach, place = found
    first = max(0, min(place, len(data) - batch_size))
    part = data.map(lambda column: column[first : first + batch_size])
    return Settled(data, note, next(part.in_order(batch_size))[0], breach)


def _look_at_examples(data: Examples, field: str, why: str) -> Settled:
    """Read examples as far as that goes in a few seconds, so that what is unlike the others is found now."""
    began, note = time.perf_counter(), f"examples are read anew in every epoch: {why}"
    for begin in range(0, len(data), CHUNK):
        places = range(begin, min(begin + CHUNK, len(data)))
        batch = _stack(_read(data, places, field), field)
        if not tree.is_finite(batch):
            return Settled(data, note, batch, f"examples {begin} to {places[-1]} hold NaN or infinite values")
        if time.perf_counter() - began > LOOKED_AT_S:
            break
    return Settled(data, note)


def _look_at_batches(data: Stream, field: str, batch_size: int) -> Settled:
    """Read a stream as far as that goes in a few seconds. Raises `SpecError` when it ends before its length."""
    began, n = time.perf_counter(), data.n_batches(batch_size) if field == "task.train" else None
    reading, note, broken, breach = iter(data.in_order(batch_size)), "", None, ""
    for i in count():
        try:
            batch, _ = next(reading)
        except StopIteration:
            if n is not None and i < n:
                raise data.ended(i, n) from None
            break
        except SpecError:
            raise
        except Exception as error:
            raise unreadable(error, f"{field}: batch {i}") from error
        if i == n:
            note = f"it goes on after the {n} batches that its length says; an epoch ends there"
            break
        if not breach and not tree.is_finite(batch):
            broken, breach = batch, f"batch {i} holds NaN or infinite values"
        if time.perf_counter() - began > LOOKED_AT_S:
            break
    return Settled(data, note, broken, breach)


def _tensors_please(data: Examples) -> Examples:
    """Have a data set of Hugging Face give tensors where it would give lists; its owner's own object stays as it is."""
    dataset = data.dataset
    if type(dataset).__module__.partition(".")[0] == "datasets" and getattr(dataset, "format", {}).get("type") is None:
        return Examples(dataset.with_format("torch"), data.indexes, data.device)
    return data


def _read(data: Examples, places: Sequence[int], field: str) -> list[Any]:
    try:
        return data.read(places)
    except Exception:
        for place in places:
            try:
                data.read([place])
            except Exception as error:
                said = f"{field}: its length says {len(data):,} examples, and example {place}"
                raise unreadable(error, said) from error
        raise


def _stack(examples: list[Any], field: str) -> Tree:
    try:
        return default_collate(examples)
    except (TypeError, RuntimeError, KeyError, ValueError) as error:
        what = " ".join(str(error).split("\n")[0].split())
        raise SpecError(
            f"{field}: its examples cannot be stacked into a batch ({what}); make them alike, or give a DataLoader with a "
            "collate_fn"
        ) from None


def _read_all(data: Examples, batch: Tree, places: Sequence[int], field: str) -> Tree:
    """Read all examples into columns that are made at once, so that memory is not taken twice."""
    n, chunk = len(data), max(1, min(1024, len(data)))
    whole = tree.map_tensors(batch, lambda column: torch.empty((n, *column.shape[1:]), dtype=column.dtype))
    columns = list(tree.leaves(whole))
    for begin in range(0, n, chunk):
        some = range(begin, min(begin + chunk, n))
        for column, part in zip(columns, tree.leaves(_stack(_read(data, some, field), field)), strict=True):
            if part.shape[1:] != column.shape[1:] or part.dtype != column.dtype:
                raise SpecError(
                    f"{field}: expected examples that are alike, got {tree.describe(part[0])} among examples "
                    f"{begin} to {some[-1]}, and {tree.describe(column[0])} in examples {_some(places)} together"
                )
            column[begin : some[-1] + 1] = part
    return whole


def _some(places: Sequence[int]) -> str:
    return ", ".join(map(str, places[:3])) + (f", … {places[-1]}" if len(places) > 3 else "")


def _generators() -> bytes:
    """Return the state of the global generators: reading that draws from one of them changes it."""
    return pickle.dumps((random.getstate(), np.random.get_state(), torch.get_rng_state().numpy().tobytes()))


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return MOST_BYTES


@dataclass(frozen=True)
class Reading:
    """How training data can be read again, and their first batches."""

    resume: Resume
    batches: tuple[Tree, ...]
    same_order: bool


def read_again(data: Data, batch_size: int, seed: int, reseed: Reseed, k: int = 2) -> Reading:
    """Read 2k batches, again, and from batch k on: what is equal tells where a trial can go on.

    ``exact``: within an epoch. ``by epoch``: where an epoch begins. ``from the start``: nowhere, since reading twice gives
    other batches, which also means that rates of one seed see other batches.
    """
    n = min(2 * k, data.n_batches(batch_size))

    def read(start: int) -> tuple[Tree, ...]:
        reading = data.batches(batch_size, seed, 0, start, reseed)
        batches = []
        for i in range(start, n):
            if i or data.seekable:
                reseed(i)
            batches.append(next(reading))
        return tuple(batches)

    whole = read(0)
    if data.seekable and isinstance(data, Resident):
        return Reading("exact", whole, same_order=True)
    digests = [tree.digest(batch) for batch in whole]
    if digests != [tree.digest(batch) for batch in read(0)]:
        return Reading("from the start", whole, same_order=False)
    start = min(k, n - 1)
    if digests[start:] != [tree.digest(batch) for batch in read(start)]:
        return Reading("by epoch", whole, same_order=True)
    return Reading("exact", whole, same_order=True)


def not_finite(data: Resident) -> tuple[str, int] | None:
    """Say which examples hold NaN or infinity, and return the first one's place; None where there is none."""
    for column in tree.leaves((data.inputs, data.targets)):
        if isinstance(column, Tensor) and column.is_floating_point():
            broken = ~torch.isfinite(column).flatten(1).all(1) if column.ndim > 1 else ~torch.isfinite(column)
            if found := int(broken.sum()):
                which = int(broken.nonzero()[0])
                hold = "holds" if found == 1 else "hold"
                return (
                    f"{found:,} of {len(data):,} examples {hold} NaN or infinite values, the first is example {which}",
                    which,
                )
    return None

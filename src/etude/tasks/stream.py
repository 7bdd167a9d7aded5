"""Data that are read as training goes: `Examples` by index, `Stream` from a loader or an iterable.

B batch, N examples.
"""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, default_collate

from etude import counted
from etude.errors import SpecError, place_of, words_of
from etude.tasks import tree
from etude.tasks.data import Reseed, draw, order
from etude.tasks.tree import Tree

DIGESTED = 2  # batches that stand for data which are not held in memory
_FIXED = 64  # examples in a batch of the digest, whatever the recipe says


@dataclass(frozen=True)
class Examples:
    """A map-style data set, read example by example; ``indexes`` are those of it that belong here.

    The order is the one that `Resident` has, so that it does not matter which of them the data became.
    """

    dataset: Any
    indexes: Sequence[int] | None = None
    device: torch.device | None = None

    seekable, is_still = True, False

    def __len__(self) -> int:
        return len(self.dataset) if self.indexes is None else len(self.indexes)

    @property
    def examples(self) -> int:
        """How many examples there are, as the data set says."""
        return len(self)

    def n_batches(self, batch_size: int) -> int:
        """Batches in an epoch; the last one may be short."""
        return -(-len(self) // batch_size)

    def read(self, places: Sequence[int]) -> list[Any]:
        """Return examples by their place, from 0, as the data set gives them."""
        indexes = [int(place) if self.indexes is None else int(self.indexes[place]) for place in places]
        many = getattr(self.dataset, "__getitems__", None)
        return list(many(indexes)) if many is not None else [self.dataset[index] for index in indexes]

    def batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, reseed: Reseed | None = None
    ) -> Iterator[Tree]:
        """Yield the batches of ``epoch`` in the order of (seed, epoch), from batch ``start`` on, stacked by torch."""
        del reseed  # what reading draws is drawn when the batch is asked for
        _tell_epoch(epoch, self.dataset)
        for index_B in torch.split(order(len(self), seed, epoch), batch_size)[start:]:
            yield self._stacked(index_B.tolist())

    def in_order(self, batch_size: int) -> Iterator[tuple[Tree, int]]:
        """Yield all examples once, as the data set has them."""
        for begin in range(0, len(self), batch_size):
            places = range(begin, min(begin + batch_size, len(self)))
            yield self._stacked(places), len(places)

    def _stacked(self, places: Sequence[int]) -> Tree:
        batch = default_collate(self.read(places))
        return batch if self.device is None else tree.to_device(batch, self.device)

    def split(self, count: int) -> tuple[Examples, Examples]:
        """Return (all but ``count``, ``count``) examples: the same draw every time, order kept within each part."""
        own = range(len(self)) if self.indexes is None else self.indexes
        kept, held = draw(len(self), count)
        return replace(self, indexes=[own[i] for i in kept.tolist()]), replace(
            self, indexes=[own[i] for i in held.tolist()]
        )

    def to(self, device: torch.device) -> Examples:
        """Return the same data, its batches on ``device``."""
        return self if device.type == "cpu" else replace(self, device=device)

    def digest(self) -> str:
        """Return a digest of how many there are and of some of them, spread over all."""
        count = min(len(self), DIGESTED * _FIXED)
        places = [len(self) * i // count for i in range(count)]
        return tree.digest((len(self), self.read(places)))


@dataclass(frozen=True)
class Stream:
    """A `DataLoader` with its own collate, workers and sampler; an `IterableDataset`; or anything that yields batches.

    ``epoch`` is the number of batches that an epoch has, for what has no length or should be cut short. An
    `IterableDataset` yields examples, which are stacked to the recipe's batch size; everything else yields batches, which
    are left as they are.

    A shuffling loader draws its order from the global generators or from a generator of its own; both are seeded from
    (seed, epoch) before an epoch begins, so that all rates of a seed see one order. A sampler or data set with
    ``set_epoch`` is told which epoch begins. To start within an epoch the batches before are read and dropped.
    """

    source: Any
    epoch: int | None = None
    device: torch.device | None = None
    # Generators that the loader and its samplers hold.
    generators: tuple[torch.Generator, ...] = field(default=(), init=False, repr=False, compare=False)

    seekable = is_still = False

    def __post_init__(self) -> None:
        if isinstance(self.source, Iterator):
            raise SpecError(
                f"etude.Stream: expected something that can be iterated again and again, got a {type(self.source).__name__}, "
                "which can be read once; give an object whose __iter__ starts anew"
            )
        if not hasattr(self.source, "__iter__"):
            raise SpecError(f"etude.Stream: expected something to iterate over, got {type(self.source).__name__}")
        if self.epoch is not None and (isinstance(self.epoch, bool) or self.epoch != int(self.epoch) or self.epoch < 1):
            raise SpecError(f"etude.Stream: expected a positive number of batches for epoch, got {self.epoch!r}")
        holders = [self.source, getattr(self.source, "sampler", None), getattr(self.source, "batch_sampler", None)]
        holders.append(getattr(holders[-1], "sampler", None))
        found = [getattr(holder, "generator", None) for holder in holders]
        unique = {id(one): one for one in found if isinstance(one, torch.Generator)}
        object.__setattr__(self, "generators", tuple(unique.values()))

    @property
    def batch_size(self) -> int | None:
        """The number of examples in a batch that a loader makes; None where the recipe says, or where it varies."""
        if isinstance(self.source, DataLoader):
            size = self.source.batch_size or getattr(self.source.batch_sampler, "batch_size", None)
            return size if isinstance(size, int) else None
        return None

    @property
    def examples(self) -> int | None:
        """How many examples there are, None where that is not known."""
        held = getattr(self.source, "dataset", self.source)
        with_length = isinstance(self.source, DataLoader | IterableDataset)
        return _length(held) if with_length and self.epoch is None else None

    @property
    def counted(self) -> tuple[int, int] | None:
        """Examples in an epoch, and in a full batch, of a loader that keeps a short last batch; None for others.

        The examples are those that the loader's sampler draws.
        """
        sampler = getattr(self.source, "batch_sampler", None)
        if type(sampler) is not BatchSampler or sampler.drop_last or self.epoch is not None:
            return None
        n = _length(sampler.sampler)
        return None if n is None else (n, sampler.batch_size)

    def known_batches(self, batch_size: int) -> int | None:
        """Batches in an epoch, None where nobody says."""
        if self.epoch is not None:
            return int(self.epoch)
        length = _length(self.source)
        if length is not None and isinstance(self.source, IterableDataset):
            return -(-length // batch_size)
        return length

    def n_batches(self, batch_size: int) -> int:
        """Batches in an epoch. Raises `SpecError` where nobody says."""
        known = self.known_batches(batch_size)
        if known == 0:
            dropped = getattr(self.source, "drop_last", False)
            raise SpecError(
                "task.train: expected at least one batch, got a "
                f"{type(self.source).__name__} whose length is 0"
                + ("; it drops the last batch (drop_last=True), and has no full one" if dropped else "")
            )
        if known is None:
            raise SpecError(
                f"task.train: {type(self.source).__name__} has no length; say how many batches are an epoch: "
                "etude.Stream(data, epoch=1000)"
            )
        return known

    def batches(
        self, batch_size: int, seed: int, epoch: int, start: int = 0, reseed: Reseed | None = None
    ) -> Iterator[Tree]:
        """Return the batches of ``epoch`` from batch ``start`` on; the first one is read before this returns.

        Raises `SpecError` (when that is reached) for data that end before their length.
        """
        del seed  # it is in what `reseed` does
        n = self.n_batches(batch_size)
        source = self.source
        sampler = getattr(getattr(source, "batch_sampler", None), "sampler", None)
        _tell_epoch(epoch, source, getattr(source, "dataset", None), getattr(source, "sampler", None), sampler)
        iterator = self._iterate(batch_size, reseed)
        first = self._next(iterator, 0, n)
        for i in range(1, start + 1):
            if reseed is not None:
                reseed(i)
            if i < n:
                first = self._next(iterator, i, n)
        return self._rest(iterator, first, start, n)

    def _rest(self, iterator: Iterator[Tree], first: Tree, start: int, n: int) -> Iterator[Tree]:
        yield self._placed(first)
        for i in range(start + 1, n):
            yield self._placed(self._next(iterator, i, n))

    def in_order(self, batch_size: int) -> Iterator[tuple[Tree, int | None]]:
        """Yield the batches as the source has them; how many examples each has is not known."""
        for batch in islice(self._iterate(batch_size, None), self.epoch):
            yield self._placed(batch), None

    def _iterate(self, batch_size: int, reseed: Reseed | None) -> Iterator[Tree]:
        # Without reseeding, as for evaluation, generators of the loader's own start alike each time.
        seed = counted.derive(counted.READ) if reseed is None else reseed(None)
        for generator in self.generators:
            generator.manual_seed(seed)
        source = self.source
        if isinstance(source, IterableDataset):
            source = DataLoader(source, batch_size=batch_size)
        with _interrupts_held_back():
            if isinstance(source, DataLoader) and source.persistent_workers:
                return (
                    source._get_iterator()
                )  # with fresh workers: kept ones go on with the random numbers of the last epoch
            return iter(source)

    def _next(self, iterator: Iterator[Tree], i: int, n: int) -> Tree:
        try:
            return next(iterator)
        except StopIteration:
            raise self.ended(i, n) from None
        except Exception as error:
            raise unreadable(error, f"task.train: batch {i} of the {n} in an epoch") from error

    def ended(self, i: int, n: int) -> SpecError:
        """Return the error of training data that ended after ``i`` of ``n`` batches."""
        said = "etude.Stream says" if self.epoch is not None else "its length says"
        return SpecError(
            f"task.train: {said} {n} batches an epoch, and it ended after {i}; mend __len__, or say what is there: "
            f"etude.Stream(data, epoch={max(i, 1)})"
        )

    def _placed(self, batch: Tree) -> Tree:
        return batch if self.device is None else tree.to_device(batch, self.device)

    def split(self, count: int) -> tuple[Stream, Stream]:
        """Raise `SpecError`: a stream has no examples to keep back."""
        raise SpecError(
            f"study.holdout: {count} examples cannot be kept back from a {type(self.source).__name__}; give the held-out "
            "data as val, or the data set itself instead of a loader"
        )

    def to(self, device: torch.device) -> Stream:
        """Return the same data, its batches on ``device``."""
        return self if device.type == "cpu" else replace(self, device=device)

    def digest(self) -> str:
        """Return a digest of the lengths and the first batches; the caller has seeded the global generators."""
        lengths = (self.epoch, _length(self.source))
        return tree.digest((lengths, list(islice(self._iterate(_FIXED, None), DIGESTED))))


def unreadable(error: Exception, what: str) -> SpecError:
    """Return the error of data of which ``what`` cannot be read, with the user's own line."""
    at = place_of(error)
    return SpecError(f"{what} cannot be read: {words_of(error)}{f' ({at})' if at else ''}")


def _tell_epoch(epoch: int, *holders: Any) -> None:
    """Call ``set_epoch`` where there is one, as a loop of one's own would: samplers and data sets that shuffle by epoch."""
    for told in {id(holder): holder for holder in holders}.values():
        if callable(tell := getattr(told, "set_epoch", None)):
            tell(epoch)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Have workers that start within this block never see Ctrl-C, which goes to all processes of a terminal.

    The step under way still needs them; they end with the reading. Here the signal is only late by this block.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _length(thing: Any) -> int | None:
    try:
        length = len(thing)
    except (TypeError, NotImplementedError):
        return None
    return int(length) if math.isfinite(length) else None

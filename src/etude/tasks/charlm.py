"""A language model that reads English by the character: a small transformer on the prose of Python's own manual.

Data: the language reference that every Python carries for ``help()`` (`pydoc_data.topics`, Python documentation, PSF
licence), so nothing is downloaded. Another minor version of Python has another text, hence other data and another digest:
a run begun with one is refused by another. The size is the same everywhere. B batch, N blocks, T characters.
"""

from __future__ import annotations

import math
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from etude.errors import DataError, SpecError
from etude.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

SUMMARY = "a transformer of two layers on Python's manual, the next character"
BLOCK = 64  # characters that an example predicts
BLOCKS = 3_000
ALPHABET = "\n" + "".join(map(chr, range(ord(" "), ord("~") + 1)))
FACTS: dict[str, Any] = {"train": 2_700, "val": 300, "parameters": 116_576, "epoch_s": 6}
DEFAULTS: dict[str, Any] = {
    "recipe": {"optimizer": "adamw", "batch_size": 32},
    "objective": "val_loss",
    "lrs": [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1],
    "seeds": 1,
    "epochs": 8,
}
PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "…": "..."})
SHORTEST = 60  # characters; what is shorter is a heading or a cell of a table


def task(dropout: float = 0.0) -> Task:
    """Make the task: 2,700 blocks of 64 characters to train on, 300 to choose with, the same split every time.

    ``dropout`` is the share of values dropped, from 0 up to, not including, 1. Raises `SpecError` for another one, and
    `DataError` for a Python without its manual.
    """
    import torch

    from etude.tasks.data import Resident

    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise SpecError(f"study.task_options.dropout: expected a share from 0 to below 1, got {dropout!r}")
    symbols = torch.tensor([ALPHABET.index(character) for character in text()], dtype=torch.uint8)
    blocks = symbols.view(BLOCKS, BLOCK + 1)
    train, val = Resident(blocks[:, :-1].contiguous(), blocks[:, 1:].long()).split(FACTS["val"])
    return Task(
        name="charlm",
        model=partial(transformer, dropout=float(dropout)),
        train=train,
        val=val,
        loss=cross_entropy,
        metrics={"bpc": bits_per_character, "accuracy": accuracy},
    )


def text() -> str:
    """Return the first 195,000 characters of the manual's prose: paragraphs of sentences, each once, a line each."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError("charlm: this Python comes without pydoc_data.topics, the text that the task reads") from None
    wanted = BLOCKS * (BLOCK + 1)
    paragraphs: dict[
        str, None
    ] = {}  # sections stand under several topics, and a copy in the validation data would leak
    for name in sorted(topics):
        for part in re.split(r"\n\s*\n", topics[name]):
            said = " ".join(part.split()).translate(PLAIN)
            sentences = said[:1].isupper() and said.endswith((".", ":"))
            if sentences and len(said) >= SHORTEST and all(map(ALPHABET.__contains__, said)):
                paragraphs[said] = None
    prose = "\n".join(paragraphs)
    if len(prose) < wanted:
        raise DataError(
            f"charlm: expected at least {wanted:,} characters of prose in pydoc_data.topics, got {len(prose):,}; "
            "use another version of Python"
        )
    return prose[:wanted]


def transformer(*, dropout: float = 0.0) -> nn.Module:
    """Make a transformer of two layers, width 64, four heads: (B, T) to (B, T, V)."""
    from etude.tasks.transformer import Transformer

    return Transformer(symbols=len(ALPHABET), positions=BLOCK, width=64, heads=4, layers=2, dropout=dropout)


def cross_entropy(outputs: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Nats by character: scores (B, T, V) and symbols (B, T) to the mean, or with ``reduction="none"`` (B, T)."""
    from torch.nn import functional

    return functional.cross_entropy(outputs.transpose(1, 2), targets, reduction=reduction)


def bits_per_character(outputs: Tensor, targets: Tensor) -> Tensor:
    """Bits by character, the mean over each block: shape (B,)."""
    return cross_entropy(outputs, targets, reduction="none").mean(1) / math.log(2)


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Share of the characters that the largest score hits, by block: shape (B,)."""
    return (outputs.argmax(2) == targets).float().mean(1)

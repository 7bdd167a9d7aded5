"""Randomness is counted, not carried: every random draw has a seed made from what it is for.

Initial weights come from the seed, the order of the data from (seed, epoch), and everything random in a step from
(seed, step). No generator state is stored, every step can be reached from any checkpoint, and all learning rates of a
seed share weights, batches and dropout masks, so that differences between rates are paired.
"""

from __future__ import annotations

import hashlib

WEIGHTS, ORDER, READ, STEP, EVALUATION, HOLDOUT = "weights", "order", "read", "step", "evaluation", "holdout"


def derive(purpose: str, *counts: int) -> int:
    """Return a 63-bit seed for ``purpose`` and its counts, such as ``derive(ORDER, seed, epoch)``."""
    text = purpose + ":" + ",".join(map(str, counts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

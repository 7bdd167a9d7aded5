"""Seeds every generator that a training step may draw from, and leaves the caller's settings as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_all(seed: int, device: torch.device) -> None:
    """Seed torch, NumPy's global generator and `random`."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


@contextmanager
def caller_undisturbed(device: torch.device) -> Iterator[None]:
    """Put the global generators back to where the caller had them; on CUDA, have cuDNN repeat itself meanwhile.

    By default it may take algorithms that add up in another order every time, so that two runs of a convolution differ in
    their last bits, and a trial that was stopped differs from one that was not.
    """
    of_random, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    of_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    cudnn = torch.backends.cudnn
    of_cudnn = cudnn.deterministic, cudnn.benchmark
    if device.type == "cuda":
        cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        random.setstate(of_random)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if of_cuda is not None:
            torch.cuda.set_rng_state(of_cuda, device)
            cudnn.deterministic, cudnn.benchmark = of_cudnn

"""Chooses how the machine is used: device, executor, workers, threads and layout. Says why.

On the CPU every trial gets one thread, whatever carries it, so that `inline` and `processes` give the same bits and a
study trained with two workers can go on with eight. Two trials side by side with a thread each are faster than two
threads on one trial (docs/benchmarks.md).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import nn

from etude.engine.session import Setup
from etude.errors import SpecError, nearest
from etude.execution import EXECUTORS, Executor

QUICK_S = 4.0  # less work than this is done before worker processes have started


@dataclass(frozen=True, kw_only=True)
class Plan:
    """``executor`` with ``workers``, ``threads`` each, on ``device``; ``reason`` in words."""

    executor: str
    workers: int
    threads: int
    device: str
    reason: str

    def __str__(self) -> str:
        workers = "" if self.executor == "inline" else f" × {self.workers}"
        return f"{self.executor}{workers}, {self.threads} thread{'s' * (self.threads != 1)} each, {self.device}"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(device: str) -> str:
    """Return ``cpu`` or ``cuda[:N]``; ``auto`` takes CUDA when there is one. Raises `SpecError` for one that is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise SpecError(f"device: no device is named {device!r}{nearest(device, ('auto', 'cpu', 'cuda'))}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise SpecError(
            f"device: expected a CUDA device for {device!r}, and torch {torch.__version__} sees none; use cpu"
        )
    index = device.partition(":")[2]
    if kind == "cuda" and index and not (index.isdigit() and int(index) < torch.cuda.device_count()):
        raise SpecError(f"device: expected cuda:0 to cuda:{torch.cuda.device_count() - 1}, got {device!r}")
    return device


def has_convolutions(model: nn.Module) -> bool:
    """Whether `channels_last` pays: the model has 2-D convolutions."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def check(executor: str, workers: int | None) -> None:
    """Raise `SpecError` for an executor or a number of workers that cannot be."""
    if executor not in EXECUTORS:
        raise SpecError(f"executor: no executor is named {executor!r}{nearest(executor, EXECUTORS)}")
    if workers is not None and workers < 1:
        raise SpecError(f"workers: expected at least 1, got {workers}")


def choose(
    executor: str, workers: int | None, device: str, *, n_trials: int, seconds: float, timed: bool = False,
    searching: bool = False,
) -> Plan:  # fmt: skip
    """Choose for ``n_trials`` unfinished trials that would take about ``seconds`` in one process.

    ``timed`` is said where time is limited: a process can then be ended. A search does not know how many trials there will be;
    ``n_trials`` is then how many there may be.
    """
    available = cores()
    if executor != "auto":
        chosen, reason = executor, "as asked"
    elif device != "cpu":
        chosen, reason = "inline", f"the trials share the device {device}"
    elif timed:
        chosen, reason = "processes", "what hangs or is out of time can be ended"
    elif n_trials == 1:
        chosen, reason = "inline", "one trial is left to train"
    elif available == 1 and workers is None:
        chosen, reason = "inline", "there is one core"
    elif seconds < QUICK_S:
        chosen, reason = "inline", f"about {seconds:.0f} s of work, less than it takes to start processes"
    elif searching:
        chosen, reason = "processes", f"trials side by side on {available} cores"
    else:
        chosen, reason = "processes", f"{n_trials} trials to train on {available} cores"
    if chosen == "inline":
        # On a GPU the CPU threads only feed it.
        return Plan(
            executor="inline", workers=1, threads=1 if device == "cpu" else available, device=device, reason=reason
        )
    count = workers or max(1, min(available, n_trials))
    return Plan(executor="processes", workers=count, threads=1, device=device, reason=reason)


def warm(device: str) -> None:
    """Start what takes long to start, where worker processes are likely."""
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        from etude.execution import processes

        processes.warm()


def make(plan: Plan, setup: Setup) -> Executor:
    """Start the executor that the plan names."""
    if plan.executor == "inline":
        from etude.execution.inline import Inline

        return Inline(setup, threads=plan.threads)
    from etude.execution.processes import Processes

    return Processes(setup, workers=plan.workers, threads=plan.threads)

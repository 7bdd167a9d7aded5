"""Built-in tasks, one file each. None of them imports torch before it is made."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from etude.errors import SpecError, nearest
from etude.tasks.task import Task

# A module has SUMMARY, FACTS, DEFAULTS and task(). FACTS has the numbers of examples ("train", "val") and "parameters",
# tested against the real thing; "download_mb", where there is something to download; and "epoch_s", where it was measured:
# what an epoch of the default study costs with its evaluation, in seconds of one thread, rounded. Measured with PyTorch 2.13
# on an AMD EPYC with AVX2 whose cores were busy (a quiet machine takes less), the downloaded sets with random images.
BUILT_IN = ("mnist", "mnist-mlp", "digits", "diabetes", "charlm", "quadratic", "fashion-mnist", "cifar10")


def check_name(name: str) -> str:
    """Return ``name`` if a built-in task has it; else raise `SpecError` with the nearest one."""
    if name not in BUILT_IN:
        raise SpecError(f"study.task: no built-in task is named {name!r}{nearest(name, BUILT_IN)}")
    return name


def module(name: str) -> Any:
    """Return the module of a built-in task."""
    return importlib.import_module(f"etude.tasks.{check_name(name).replace('-', '_')}")


def defaults(name: str) -> dict[str, Any]:
    """Return a fresh copy of the task's default study, by field."""
    made: dict[str, Any] = copy.deepcopy(module(name).DEFAULTS)
    return made


def make(name: str, options: Mapping[str, Any]) -> Task:
    """Make a built-in task with its data. Raises `SpecError` for an option that it does not have."""
    factory = module(name).task
    known = inspect.signature(factory).parameters
    for option in options:
        if option not in known:
            has = nearest(option, known) if known else "; it has no options"
            raise SpecError(f"study.task_options: task {name!r} has no option {option!r}{has}")
    made: Task = factory(**options)
    return made

"""etude: which learning rate does this model want, why, and how sure are we?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from etude import errors
    from etude.comparison import Comparison, compare
    from etude.result import Result, judge
    from etude.spec.expectation import Expectation
    from etude.spec.objective import Objective, maximize, minimize
    from etude.spec.recipe import Recipe
    from etude.spec.study import Study
    from etude.tasks import metrics
    from etude.tasks.data import Resident
    from etude.tasks.stream import Stream
    from etude.tasks.task import Task

_HOME = {
    "Comparison": "etude.comparison",
    "Expectation": "etude.spec.expectation",
    "Objective": "etude.spec.objective",
    "Recipe": "etude.spec.recipe",
    "Resident": "etude.tasks.data",
    "Result": "etude.result",
    "Stream": "etude.tasks.stream",
    "Study": "etude.spec.study",
    "Task": "etude.tasks.task",
    "compare": "etude.comparison",
    "errors": "etude",
    "judge": "etude.result",
    "maximize": "etude.spec.objective",
    "metrics": "etude.tasks",
    "minimize": "etude.spec.objective",
}

__all__ = [
    "Comparison",
    "Expectation",
    "Objective",
    "Recipe",
    "Resident",
    "Result",
    "Stream",
    "Study",
    "Task",
    "compare",
    "errors",
    "judge",
    "maximize",
    "metrics",
    "minimize",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'etude' has no attribute {name!r}")
    home = _HOME[name]
    if name in ("errors", "metrics"):
        return importlib.import_module(f"{home}.{name}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

"""A result's records as data frames. Columns have their types also where there are no rows.

``horizon`` is a column of `evaluations` and `steps` only where trials of one rate and seed differ by it. pandas is imported when
a frame is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from etude.store import StoredTrial

if TYPE_CHECKING:
    import pandas as pd

    from etude.result import Result

Array = NDArray[Any]


def trials(result: Result) -> pd.DataFrame:
    """Return a row a trial; ``score`` is its objective at the horizon, NaN where it has none."""
    all_trials = result.stored.trials
    judged = {trial.id for trial in result.judged}
    said = {(one["lr"], one["seed"]): one for one in result.analysis["trials"]}
    read = [said.get((trial.lr, trial.seed)) if trial.id in judged else None for trial in all_trials]
    return _frame(
        {
            "lr": _typed([t.lr for t in all_trials], "float64"),
            "seed": _typed([t.seed for t in all_trials], "int64"),
            "horizon": _typed([t.horizon for t in all_trials], "float64"),
            "status": _typed([t.status for t in all_trials], "str"),
            "reason": _typed([result.reason(t) for t in all_trials], "str"),
            "dynamics": _typed([None if one is None else one["dynamics"] for one in read], "str"),
            "score": _typed([None if one is None else one["score"] for one in read], "float64"),
            "step": _typed([t.step for t in all_trials], "int64"),
            "end_step": _typed([t.end_step for t in all_trials], "int64"),
            "wall_s": _typed([t.wall_s for t in all_trials], "float64"),
        }
    )


def evaluations(result: Result) -> pd.DataFrame:
    """Return a row an evaluation, and where a trial diverged between two one more, without numbers, at that step."""
    return _frame(evaluation_columns(result))


def evaluation_columns(result: Result) -> dict[str, Array]:
    """Return the columns of `evaluations`, each (rows,)."""
    all_trials = result.stored.trials
    parts = [result.columns(trial) for trial in all_trials]
    extra = [
        trial.diverged is not None and not (len(part) and part.steps[-1] >= trial.diverged)
        for trial, part in zip(all_trials, parts, strict=True)
    ]

    def column(pick: Callable[[int], tuple[Array, Any]], dtype: str) -> Array:
        """Join what ``pick`` returns for each trial: its values, and the one of the row at which it diverged."""
        joined: list[Array] = [np.empty(0, dtype)]
        for i in range(len(parts)):
            values, last = pick(i)
            joined.append(np.append(values, last) if extra[i] else values)
        return np.concatenate(joined).astype(dtype)

    def numbers(named: Sequence[Mapping[str, Array]], name: str) -> Array:
        return column(lambda i: (named[i].get(name, np.full(len(parts[i]), math.nan)), math.nan), "float64")

    names = sorted({name for part in parts for name in part.metrics})
    with_error = sorted({name for part in parts for name in part.errors})
    made = _keys(all_trials, [len(part) + more for part, more in zip(parts, extra, strict=True)])
    made["step"] = column(lambda i: (parts[i].steps, all_trials[i].diverged), "int64")
    made["epoch"] = column(lambda i: (parts[i].epochs, result.ended(all_trials[i])), "float64")
    made["train_loss"] = column(lambda i: (parts[i].train_loss, math.nan), "float64")
    made |= {name: numbers([part.metrics for part in parts], name) for name in names}
    made |= {f"{name}_se": numbers([part.errors for part in parts], name) for name in with_error}
    if result.unit != "epoch":
        made["epoch"] = np.full(len(made["epoch"]), math.nan)
    return made if result.unit else {name: values for name, values in made.items() if name not in ("step", "epoch")}


def steps(result: Result) -> pd.DataFrame:
    """Return a row a step: loss, gradient norm and update-to-weight ratio, as they were recorded (float32)."""
    history = result.history
    with_history = [trial for trial in result.stored.trials if trial.id in history]
    counts = [len(history[trial.id]["loss"]) for trial in with_history]
    made = _keys(with_history, counts)
    made["step"] = np.concatenate([np.empty(0, "int64"), *(history[trial.id]["step"] for trial in with_history)])
    for name in ("loss", "grad_norm", "update_ratio"):
        parts = [
            history[trial.id].get(name, np.full(count, math.nan, "float32"))
            for trial, count in zip(with_history, counts, strict=True)
        ]
        made[name] = np.concatenate([np.empty(0, "float32"), *parts]).astype("float32")
    return _frame(made)


def rates(result: Result) -> pd.DataFrame:
    """Return a row a rate: verdict, grade, reason, and its evidence, flat."""
    said = result.analysis["rates"]
    made = {
        "lr": _typed([rate["lr"] for rate in said], "float64"),
        "verdict": _typed([rate["verdict"] for rate in said], "str"),
        "grade": _typed([rate["grade"] for rate in said], "str"),
        "reason": _typed([rate["reason"] for rate in said], "str"),
    }
    for name, dtype in _evidence(said).items():
        made[name] = _typed([rate["evidence"].get(name) for rate in said], dtype)
    return _frame(made)


def _evidence(said: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the names of the evidence and their types, which say what an absent value is."""
    from etude.analysis.reading import RateEvidence

    types = {"float": "float64", "int": "int64", "bool": "bool", "str": "str", "int | None": "float64"}
    types |= {"float | None": "float64", "str | None": "str"}
    names = dict.fromkeys(name for rate in said for name in rate["evidence"])
    known = {field.name: types.get(str(field.type), "object") for field in _fields(RateEvidence)}
    return {
        name: known.get(name, "object") for name in (names or known) if name not in ("lr", "verdict", "grade", "reason")
    }


def _fields(cls: Any) -> tuple[Any, ...]:
    import dataclasses

    return dataclasses.fields(cls)


def _frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(dict(columns))


def _typed(values: Sequence[Any], dtype: str) -> pd.Series:
    import pandas as pd

    if dtype == "str":  # a missing text stays missing, also where pandas would write 'None'
        made = pd.Series(list(values), dtype=object)
        return (
            made.astype("str") if int(pd.__version__.split(".")[0]) >= 3 else made
        )  # 3 has a type of its own for text
    return pd.Series([math.nan if value is None and dtype == "float64" else value for value in values], dtype=dtype)


def _keys(of: Sequence[StoredTrial], counts: Sequence[int]) -> dict[str, Array]:
    """Return the columns that say whose a row is."""
    made: dict[str, Array] = {
        "lr": np.repeat(np.array([trial.lr for trial in of], "float64"), counts),
        "seed": np.repeat(np.array([trial.seed for trial in of], "int64"), counts),
    }
    if any(trial.horizon is not None for trial in of):
        horizon = [math.nan if trial.horizon is None else trial.horizon for trial in of]
        made["horizon"] = np.repeat(np.array(horizon, "float64"), counts)
    return made

"""A folder of TensorBoard logs as a table: a sub-folder a trial, its rate and seed from hparams or from its name.

The package tensorboard is an extra (``pip install 'etude[tensorboard]'``), imported when a folder is read.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.errors import DataError
from etude.notation import format_rate

if TYPE_CHECKING:
    import pandas as pd

RATES, SEEDS = ("lr", "learning_rate", "learning-rate", "base_lr", "eta"), ("seed", "random_seed")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TRAIN, _VALIDATION = ("train", "training"), ("val", "valid", "validation", "eval")


def read(folder: Path) -> pd.DataFrame:
    """Return a row a (trial, step) with the scalars that are training losses or validation metrics.

    Raises `DataError` when tensorboard is not installed, or nothing in the folder is a trial.
    """
    import pandas as pd

    if (folder / "study.sqlite").exists():
        raise DataError(f"{folder}: this is a run of etude's own; `etude show {folder}` judges it")
    with_events = sorted({file.parent for file in folder.rglob("*tfevents*") if file.is_file()})
    if not with_events:
        raise DataError(f"{folder}: expected TensorBoard logs, found no file of events in it")
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        raise DataError(
            f"{folder}: reading TensorBoard logs needs tensorboard; pip install 'etude[tensorboard]'"
        ) from None
    scalars: dict[Path, list[tuple[str, int, float]]] = {}
    hparams: dict[Path, dict[str, float]] = {}
    for run in with_events:
        events = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        trial, prefix = _trial_of(run, folder)
        found = _hparams(events)
        if found:  # add_hparams writes into a folder of its own, below that of the curves
            owner = run.parent if run.parent in with_events else trial
            hparams[owner] = {**hparams.get(owner, {}), **found}
            if owner != trial:
                continue
        for tag, step, value in _scalars(events):
            column = column_of(f"{prefix}{tag}")
            if column is not None:
                scalars.setdefault(trial, []).append((column, step, value))
    if not scalars:
        raise DataError(f"{folder}: expected scalars such as train_loss or val_accuracy in the logs, found none")
    records: dict[tuple[float, float, int], dict[str, float]] = {}
    owners: dict[tuple[float, float], Path] = {}
    for trial, values in scalars.items():
        named = {"seed": 0.0, **_from_name(trial, folder), **hparams.get(trial, {})}
        if "lr" not in named:
            raise DataError(
                f"{trial}: no learning rate in its hparams or its name; call the folder lr=1e-3,seed=0 or the like"
            )
        key = named["lr"], named["seed"]
        other = owners.setdefault(key, trial)
        if other != trial:
            raise DataError(
                f"{folder}: {other.relative_to(folder)} and {trial.relative_to(folder)} are both lr "
                f"{format_rate(key[0])}, seed {key[1]:g}; name the seed of each"
            )
        for column, step, value in values:
            records.setdefault((*key, step), {})[column] = value
    keys = pd.DataFrame(list(records), columns=["lr", "seed", "step"])
    return pd.concat([keys, pd.DataFrame(list(records.values()))], axis=1)


def column_of(tag: str) -> str | None:
    """Return the column that a tag belongs to: ``loss/train`` is ``train_loss``, ``Validation/acc`` is ``val_acc``.

    None for what is neither a training loss nor a validation metric.
    """
    words = [word for word in re.split(r"[/_\s.]+", tag.strip().lower()) if word not in ("", "epoch")]
    rest = "_".join(word for word in words if word not in _TRAIN + _VALIDATION)
    if any(word in _VALIDATION for word in words) and rest:
        return f"val_{rest}"
    return "train_loss" if rest == "loss" else None


def _trial_of(run: Path, folder: Path) -> tuple[Path, str]:
    """Return a trial's folder; Keras keeps ``train`` and ``validation`` below it."""
    if run != folder and run.name.lower() in _TRAIN + _VALIDATION:
        return run.parent, f"{run.name.lower()}/"
    return run, ""


def _from_name(trial: Path, folder: Path) -> dict[str, float]:
    """Read ``lr=1e-3,seed=0``, ``lr_0.01-seed_2`` or ``lr1e-3/seed0`` off the path below the folder."""
    text = "/".join(trial.relative_to(folder).parts) or trial.name
    found: dict[str, float] = {}
    for field, names in (("lr", RATES), ("seed", SEEDS)):
        for name in names:
            match = re.search(rf"(?<![a-z]){name}[=_:-]?({_NUMBER})", text, re.IGNORECASE)
            if match is not None and field not in found:
                found[field] = float(match[1])
    return found


def _hparams(events: Any) -> dict[str, float]:
    from tensorboard.plugins.hparams import plugin_data_pb2

    try:
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    except KeyError:
        return {}
    given = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    found: dict[str, float] = {}
    for field, names in (("lr", RATES), ("seed", SEEDS)):
        for name in names:
            if name in given and field not in found:
                with contextlib.suppress(ValueError):  # some loggers write numbers as text
                    found[field] = float(given[name].number_value or given[name].string_value or 0.0)
    return found


def _scalars(events: Any) -> Iterator[tuple[str, int, float]]:
    tags = events.Tags()
    for tag in tags["scalars"]:
        for event in events.Scalars(tag):
            yield tag, event.step, event.value
    for tag in tags["tensors"]:  # as TensorFlow 2 writes scalars
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
            from tensorboard.util import tensor_util

            for event in events.Tensors(tag):
                yield tag, event.step, float(tensor_util.make_ndarray(event.tensor_proto))

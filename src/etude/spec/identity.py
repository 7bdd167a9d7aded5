"""What makes two studies the same: task, recipe, data; not rates, seeds or epochs (they extend), nor the objective (it reads)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etude import tasks
from etude.errors import MismatchError
from etude.spec import function
from etude.spec.recipe import complete
from etude.spec.study import Study, canonical
from etude.tasks.task import Task

Fingerprint = tuple[str, float]  # digest of the initial weights, first loss
FIRST_LOSS_TOLERANCE = 1e-4
# Between devices, or in bfloat16: on an H100 the first loss of the MNIST net was off by 0.4e-3 in bfloat16; convolutions in
# TF32 keep 10 bits of their inputs.
COARSE_TOLERANCE = 1e-2
# Where the data come from does not matter as long as they are the same; the rest follows from what is compared.
NOT_COMPARED = ("task.options", "task.chosen_on_test_set", "data.notes", "steps_per_epoch")


def identify(
    study: Study, task: Task, steps_per_epoch: int, *, digests: Mapping[str, str | None],
    optimizer: Mapping[str, Any] | None = None, notes: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Return the identity as JSON-able values; ``task`` is the study's, made, with the holdout taken.

    ``digests`` are those of the data by split, ``optimizer`` describes one that a function makes, and ``notes`` say what a
    reader should know of the data.
    """
    built_in = isinstance(study.task, str)
    on_test = getattr(tasks.module(study.task), "CHOOSES_ON_TEST_SET", None) if built_in and not study.holdout else None
    made: dict[str, Any] = {
        "task": {
            "name": study.task_name,
            "built_in": built_in,
            "options": study.task_options,
            "metrics": sorted(task.metrics),
            "chosen_on_test_set": on_test,
        },
        "recipe": study.recipe.to_dict(),
        "data": {
            "train": {"examples": task.train.examples, "digest": digests["train"]},
            "val": {"examples": task.val.examples, "digest": digests["val"]},
            "holdout": study.holdout,
            "notes": list(notes),
        },
        "evaluate_every": study.evaluate_every,
        "steps_per_epoch": steps_per_epoch,
    }
    if not isinstance(study.recipe.schedule, str):
        made["recipe"]["schedule_digest"] = function.digest(study.recipe.schedule, steps_per_epoch)
    if optimizer is not None:
        made["recipe"]["optimizer_made"] = dict(optimizer)
    parsed: dict[str, Any] = json.loads(canonical(made))
    return parsed


def identify_loop(study: Study, steps_per_epoch: int) -> dict[str, Any]:
    """Return the identity of a study that its owner trains: its name and all that ``task_options`` say of the training."""
    made = {
        "task": {"name": study.name, "built_in": False, "chosen_on_test_set": None},
        "task_options": study.task_options,
        "loop": {"steps_per_epoch": steps_per_epoch},
        "steps_per_epoch": steps_per_epoch,
    }
    parsed: dict[str, Any] = json.loads(canonical(made))
    return parsed


def check_same(directory: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `MismatchError`, naming all that differs, when the directory holds another study."""
    kinds = ["a loop of your own" if "loop" in one else f"the task {one['task']['name']!r}" for one in (stored, asked)]
    if ("loop" in stored) != ("loop" in asked):
        raise MismatchError(
            f"{directory}: it holds another study: {kinds[0]} there, and {kinds[1]} here; choose another directory"
        )
    was, now = _completed(stored), _completed(asked)
    if was.get("recipe", {}).get("schedule") != now.get("recipe", {}).get("schedule"):
        for recipe in (was["recipe"], now["recipe"]):  # of two schedules the options are no further news
            recipe.pop("schedule_options", None)
            recipe.pop("schedule_digest", None)
    differences = [
        f"{name} is {_brief(there)} there and {_brief(here)} here" for name, there, here in _differing("", was, now)
    ]
    if differences:
        another = "directory" if "loop" in asked else "--out"
        raise MismatchError(
            f"{directory}: it holds another study: {'; '.join(differences)}; choose another {another}, or ask for the same"
        )


def check_fingerprints(
    directory: Path, stored: Mapping[int, Fingerprint], asked: Mapping[int, Fingerprint], *, coarse: bool = False
) -> None:
    """Raise `MismatchError` for a seed that starts from other weights or with another first loss than it did.

    ``coarse`` where the loss was computed otherwise: on another device, or in bfloat16.
    """
    tolerance = COARSE_TOLERANCE if coarse else FIRST_LOSS_TOLERANCE
    for seed, (weights, first_loss) in asked.items():
        if seed not in stored:
            continue
        known_weights, known_loss = stored[seed]
        if weights != known_weights:
            raise MismatchError(
                f"{directory}: it holds another study: with seed {seed} the model starts from other weights "
                "(an edited model, or another version of torch); choose another --out"
            )
        both_broken = not math.isfinite(first_loss) and not math.isfinite(known_loss)
        if not both_broken and not abs(first_loss - known_loss) <= tolerance * max(1.0, abs(known_loss)):
            raise MismatchError(
                f"{directory}: it holds another study: with seed {seed} the first loss was {known_loss:.6g} and is now "
                f"{first_loss:.6g} (an edited model, loss or preprocessing); choose another --out"
            )


def _completed(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {**identity, "recipe": complete(identity.get("recipe") or {})}


def _differing(prefix: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in sorted({*was, *now}):
            if f"{prefix}{key}" not in NOT_COMPARED:
                yield from _differing(f"{prefix}{key}.", was.get(key), now.get(key))
    elif canonical(was) != canonical(now):
        yield prefix.removesuffix("."), was, now


def _brief(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else canonical(value)
    return text if len(text) <= 40 else text[:37] + "…"

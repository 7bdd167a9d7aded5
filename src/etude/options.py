"""From what was typed to a study: the study that was named, options laid over it, the task of a run from its file.

Every field of a study that can be an option is one; a test holds `OPTIONS` against the specification. Trains and prints nothing.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import commands
from etude.errors import SpecError, nearest

if TYPE_CHECKING:
    from etude.result import Result
    from etude.spec.study import Study

# Option of the command line -> field of a Study ("recipe.x": of its Recipe).
OPTIONS = {
    "lrs": "lrs", "seeds": "seeds", "epochs": "epochs", "evaluate_every": "evaluate_every", "holdout": "holdout",
    "objective": "objective", "task_options": "task_options", "optimizer": "recipe.optimizer",
    "optimizer_options": "recipe.optimizer_options", "schedule": "recipe.schedule",
    "schedule_options": "recipe.schedule_options", "warmup": "recipe.warmup", "batch_size": "recipe.batch_size",
    "weight_decay": "recipe.weight_decay", "accumulate": "recipe.accumulate", "clip_norm": "recipe.clip_norm",
    "precision": "recipe.precision", "average": "recipe.average", "average_decay": "recipe.average_decay",
    "average_start": "recipe.average_start", "select": "select", "keep": "keep",
}  # fmt: skip


def read_study(text: str, given: dict[str, Any]) -> Study:
    """Read the study that was named; a file takes ``task_options`` out of what was given, because it may make its task."""
    from etude import tasks
    from etude.spec import files
    from etude.spec.study import Study
    from etude.store import DATABASE

    if files.names_file(text):
        options = given.pop("task_options", None)
        return files.read(text, None if options is None else pairs(options, "--task-options"))
    if text in tasks.BUILT_IN or (os.sep not in text and nearest(text, tasks.BUILT_IN).startswith("; did")):
        return Study.default(text)  # which offers the nearest
    name, colon, variable = text.partition(":")
    near = [
        f"{name}{end}" for end in (f".py{colon}{variable}", ".toml") if Path(f"{name}{end.partition(':')[0]}").is_file()
    ]
    said = f"; did you mean {near[0]}?" if near else ""
    if Path(text, DATABASE).is_file():
        said = f"; a run goes on with: {commands.resume(text)}"
    raise SpecError(
        f"study: expected a built-in task ({', '.join(tasks.BUILT_IN)}) or a file that ends in .py or .toml, got {text!r}{said}"
    )


def begun_study(directory: Path, file: str | None, lr: float | None) -> Study:
    """Make the study of a run anew; ``file`` has its task where that is the user's own code."""
    from etude.result import Result
    from etude.spec.study import Study

    stored = Result.load(directory)
    table = {**stored.fields, "epochs": stored.horizon}
    if file is not None:
        table |= task_of(file, stored)
    elif stored.is_own_loop or not stored.is_known_by_name:
        command = shlex.join(["etude", "range-test", "FILE", "--from", str(directory), "--lr", f"{lr:g}"])
        raise SpecError(f"{directory}: its task or recipe is Python code of your own; name its file: {command}")
    return Study(**table)


def task_of(file: str, stored: Result) -> dict[str, Any]:
    """Take the task from its file; the rest is as the run has it, where options may have been laid over the file."""
    from etude.spec import files

    made = files.read(file, stored.study["task_options"] or None)
    taken = {"task": made.task, "task_options": made.task_options, "source": made.source}
    if made.to_dict()["recipe"] == stored.study["recipe"]:
        taken["recipe"] = made.recipe
    return taken


def whose_code(stored: Result, given: dict[str, str | None]) -> str:
    """Say how a run goes on whose task is no built-in one."""
    what = "recipe" if stored.stored.identity["task"]["built_in"] else f"task {stored.study['task']!r}"
    said = f"{stored.directory}: its {what} is Python code of your own"
    source = stored.study.get("source")
    if not source:
        return f"{said}; run your script again, study.run({str(stored.directory)!r}) goes on where it stopped"
    return f"{said}; name its file: {commands.resume(stored.directory, source, **given)}"


def with_options(study: Study, given: dict[str, Any]) -> Study:
    """Lay options over a study."""
    from etude.spec.recipe import Recipe
    from etude.spec.study import merge_recipe

    changes: dict[str, Any] = {}
    recipe: dict[str, Any] = {}
    for name, value in given.items():
        where, _, field = OPTIONS[name].rpartition(".")
        parsed = pairs(value, f"--{name.replace('_', '-')}") if name.endswith("_options") else value
        (recipe if where else changes)[field] = parsed
    if recipe:
        import dataclasses

        usual = {field.name: getattr(study.recipe, field.name) for field in dataclasses.fields(Recipe)}
        changed = Recipe(**merge_recipe(usual, recipe))
        if changed != study.recipe:
            changes |= {"recipe": changed, "expect": {}}  # what was expected speaks of another recipe
    return study.replace(**changes) if changes else study


def pairs(text: str, option: str) -> dict[str, Any]:
    """Read ``momentum=0.9,nesterov=true``."""
    pairs: dict[str, Any] = {}
    # A comma separates where a name and an equals sign follow: betas=[0.9,0.99] is one option.
    for part in filter(None, (part.strip() for part in re.split(r",(?=\s*\w+\s*=)", text))):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise SpecError(f"{option}: expected NAME=VALUE,…, got {part!r}")
        try:
            pairs[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            pairs[name.strip()] = value.strip()
    return pairs

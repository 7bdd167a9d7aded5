"""The commands that are offered, as they are typed: how a run goes on, what to train next, and how it was made."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.notation import format_rate
from etude.store import UNFINISHED

if TYPE_CHECKING:
    from etude.result import Result


GO_ON = "the search has not ended"


def of_process() -> str:
    """Return the command that started this process, as `as_typed` writes it."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)  # there is one after ``python -m``
    return as_typed(sys.argv, spec.name if spec is not None and [spec.origin] == sys.argv[:1] else "")


def as_typed(argv: Sequence[str], module: str = "") -> str:
    """Write a command as it can be typed again: without the folder of a program, and with the Python that a script needs.

    ``module`` is what Python was asked for with ``-m``, if it was. Nothing where there is no command: in a notebook, at a prompt.
    """
    program, *words = argv or ("",)
    path = Path(program)
    if program in ("", "-c", "-m") or path.stem.endswith("kernel_launcher"):
        return ""
    if module or path.name == "__main__.py":
        head = ["python", "-m", module.removesuffix(".__main__") or path.parent.name]
    elif path.suffix == ".py":
        head = ["python", path.name if path.is_absolute() else program]
    else:
        head = [path.name.removesuffix(".exe")]
    return shlex.join([*head, *words])


def judge(source: Any, objective: str | None, margin: float | None, **columns: str) -> str:
    """Return ``etude judge FILE`` with what else was asked for; nothing for a data frame, which has no file."""
    if not isinstance(source, str | Path):
        return ""
    words = ["etude", "judge", str(source), *(["--objective", objective] if objective else [])]
    words += [] if margin is None else ["--margin", f"{margin:g}"]
    for column, name in columns.items():
        words += [] if name == column else [f"--{column}", name]
    return shlex.join(words)


def resume(directory: Path | str | None, study: str = "", **options: object) -> str:
    """Return ``etude resume RUN``, with the ``study`` file where its task is in one, and the options that are not None."""
    words = ["etude", "resume", str(directory), *(["--study", study] if study else [])]
    for name, value in options.items():
        words += [f"--{name}", str(value)] if value is not None else []
    return shlex.join(words)


def next_command(result: Result, next_run: Mapping[str, Any]) -> str:
    """Return the command that trains the next run, or the call where only Python knows the task."""
    lrs = ",".join(format_rate(lr) for lr in next_run["lrs"])
    if next_run["why"] == GO_ON and not (result.is_known_by_name or result.study.get("source", "")):
        return f"study.find({str(result.directory)!r})"
    seeds = list(result.search.search.seeds) if result.search is not None else sorted(result.study["seeds"])
    more = max(0, (next_run["seeds"] or 0) - len(seeds))
    seeds += range(max(seeds) + 1, max(seeds) + 1 + more)
    if result.searched and lrs:  # not all the rates and seeds that may be used: these alone
        more = next_run["seeds"] or 1
        seeds = seeds[:more]
    wanted = str(len(seeds)) if seeds == list(range(len(seeds))) else ",".join(map(str, seeds))
    by_name, source = result.is_known_by_name, result.study.get("source", "")
    if by_name or source:
        return resume(result.directory, "" if by_name else source, lrs=lrs or None, seeds=wanted if more else None)
    method, more_said = "run", ""
    if result.is_own_loop:
        steps = result.steps_per_epoch
        method, more_said = "missing", f", steps_per_epoch={steps}" if steps != 1 else ""
    changes = ([f"lrs=[{lrs}]"] if lrs else []) + ([f"seeds={wanted!r}"] if more else [])
    study = f"study.replace({', '.join(changes)})" if changes else "study"
    return f"{study}.{method}({str(result.directory)!r}{more_said})"


def next_reason(result: Result, next_run: Mapping[str, Any]) -> str:
    """Say why the next run would teach something; where there is no command also what to train."""
    why: str = next_run["why"]
    if result.imported is None:
        return why
    lrs, seeds = [format_rate(lr) for lr in next_run["lrs"]], next_run["seeds"]
    if lrs:
        return f"train the rate{'s' * (len(lrs) > 1)} {', '.join(lrs)}: {why}"
    if seeds:
        return f"train more seeds, {seeds} in all: {why}"
    unfinished = sum(count for status, count in result.counts.items() if status in UNFINISHED)
    return f"train the {unfinished} trial{'s' * (unfinished != 1)} that end{'s' * (unfinished == 1)} before the others to the end"

"""The commands that are offered, as they are typed: how a run goes on, and what to train next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude.notation import format_rate
from etude.store import UNFINISHED

if TYPE_CHECKING:
    from etude.result import Result


GO_ON = "the search has not ended"


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

"""Several runs side by side: what they differ in, and what the analysis says of them. Neither torch nor NumPy at import."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import store
from etude.errors import SpecError
from etude.result import Result
from etude.spec.objective import Objective, parse_objective
from etude.spec.recipe import complete

if TYPE_CHECKING:
    from etude.analysis.compare import PairReading, Run, RunReading
    from etude.analysis.scale import Scale

JSON_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Runs that share an objective: ``runs`` as they stand, ``pairs`` of each against the first, ``differences`` in words."""

    results: tuple[Result, ...] = field(repr=False)
    objective: Mapping[str, Any]
    runs: tuple[RunReading, ...]
    pairs: tuple[PairReading, ...]
    differences: tuple[str, ...]
    scale: Scale = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """What the runs are called: their folders' names, or their paths where these are alike."""
        return tuple(run.name for run in self.runs)

    def plot(self, ax: Any = None) -> Any:
        """Draw the runs on one Matplotlib axes and return it."""
        from etude.present import figures

        return figures.plot_comparison(self, ax)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-able values, format 1: what ``etude compare --json`` prints."""
        made: dict[str, Any] = store.plain(
            {
                "format": JSON_FORMAT,
                "objective": dict(self.objective),
                "runs": [{**_with_sensitivity(run), "directory": str(result.directory)}
                         for run, result in zip(self.runs, self.results, strict=True)],
                "pairs": [dataclasses.asdict(pair) for pair in self.pairs],
                "differences": list(self.differences),
            }
        )  # fmt: skip
        return made


def compare(runs: Sequence[Result | str | Path], objective: Objective | str | None = None) -> Comparison:
    """Compare runs, each given as a result or a run directory, the others against the first.

    ``objective`` reads them all anew. Raises `SpecError` for fewer than two runs, one given twice, objectives that differ,
    and a metric that was not recorded; `StoreError` for a directory without a sound run.
    """
    if isinstance(runs, str | Path | Result) or len(runs) < 2:
        got = 1 if isinstance(runs, str | Path | Result) else len(runs)
        raise SpecError(f"compare: expected two runs or more, got {got}; name them: etude compare runs/a runs/b")
    wanted = None
    if objective is not None:
        wanted = dataclasses.asdict(parse_objective(objective) if isinstance(objective, str) else objective)
    results = tuple(_read(run, wanted) for run in runs)
    names = _names(results)
    decides = [(result.objective["metric"], result.objective["direction"]) for result in results]
    if len(set(decides)) > 1:
        said = ", ".join(f"{name} by {way[:3]}:{metric}" for name, (metric, way) in zip(names, decides, strict=True))
        raise SpecError(f"compare: expected one objective, got {said}; name one for all with --objective")
    from etude.analysis.compare import compare as judge

    metric, direction = decides[0]
    made = judge(
        [_run(name, result) for name, result in zip(names, results, strict=True)], direction=direction, metric=metric
    )
    return Comparison(
        results=results,
        objective={"metric": metric, "direction": direction},
        runs=made.runs,
        pairs=made.pairs,
        differences=tuple(_differences(names, results)),
        scale=made.scale,
    )


def _read(run: Result | str | Path, objective: Mapping[str, Any] | None) -> Result:
    if not isinstance(run, Result):
        return Result.load(run, objective)
    if objective is None or dict(run.objective) == dict(objective):
        return run
    recorded = {name for trial in run.stored.trials for e in trial.evaluations for name in e.metrics}
    if objective["metric"] not in {*recorded, "train_loss"}:
        raise SpecError(f"compare: no metric {objective['metric']!r} was recorded in {run.directory}")
    return dataclasses.replace(run, objective=objective)


def _names(results: Sequence[Result]) -> tuple[str, ...]:
    # Curves from elsewhere have no directory, and go by their file's name.
    paths = [(result.directory or Path(result.study["name"])).absolute() for result in results]
    twice = next((result.directory for result, path in zip(results, paths, strict=True) if paths.count(path) > 1), None)
    if twice is not None:
        raise SpecError(f"compare: expected different runs, got {twice} twice")
    count = Counter(path.name for path in paths)
    return tuple(
        path.name if count[path.name] == 1 else str(result.directory or result.study["name"])
        for path, result in zip(paths, results, strict=True)
    )


def _run(name: str, result: Result) -> Run:
    """Take from a result what the comparison needs."""
    from etude.analysis.compare import Run

    said, answer = result.analysis, result.recommendation
    lost = {(t.lr, t.seed) for t in result.judged if t.status in ("diverged", "failed")}
    scores: dict[float, dict[int, float]] = {}
    for trial in said["trials"]:
        learned = trial["dynamics"] not in ("stalled", "collapsed") and (trial["lr"], trial["seed"]) not in lost
        if learned and trial["score"] is not None and math.isfinite(trial["score"]):
            scores.setdefault(trial["lr"], {})[trial["seed"]] = trial["score"]
    response, sensitivity = said.get("response") or {}, said.get("sensitivity") or {}
    value = sensitivity.get("value")
    return Run(
        name=name,
        scores=scores,
        lr=answer.lr,
        estimate=answer.estimate.get("value"),
        standard_error=answer.estimate.get("standard_error"),
        interval=answer.optimum_interval,
        interval_open=tuple(said["recommendation"].get("interval_open") or ()),
        plateau_decades=(response.get("plateau") or {}).get("decades"),
        sensitivity=None if value is None else (value, sensitivity.get("low"), sensitivity.get("high")),
        margin=said["margin"],
        data=_digest(result, "val") or "",
    )


def _digest(result: Result, which: str) -> str | None:
    data = result.stored.identity.get("data") or {}
    digest: str | None = (data.get(which) or {}).get("digest")
    return digest


def _differences(names: Sequence[str], results: Sequence[Result]) -> Iterator[str]:
    """Say in what the runs differ besides their scores; none of it is refused."""
    fields: dict[str, list[Any]] = {
        "task": [result.study.get("task") for result in results],
        "epochs": [result.horizon for result in results],
    }
    recipes = [complete(result.study.get("recipe") or {}) for result in results]
    for key in sorted({key for recipe in recipes for key in recipe}):
        fields[f"recipe.{key}"] = [recipe.get(key) for recipe in recipes]
    if any(result.is_own_loop for result in results):  # what the caller says of the training is all that is known of it
        options = [result.study.get("task_options") or {} for result in results]
        for key in sorted({key for one in options for key in one}):
            fields[f"task_options.{key}"] = [one.get(key) for one in options]
    for what, values in fields.items():
        if any(value != values[0] for value in values):
            said = ", ".join(f"{name} {_text(value)}" for name, value in zip(names, values, strict=True))
            yield f"{what}: {said}"
    digests = [_digest(result, "val") for result in results]
    other = [
        name for name, digest in zip(names[1:], digests[1:], strict=True) if digest is None or digest != digests[0]
    ]
    if other:
        yield f"validation data: not known to be those of {names[0]} for {', '.join(other)}, so nothing is paired by seed"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_text(item)}" for key, item in value.items()) or "none"
    return "none" if value is None else str(value)


def _with_sensitivity(run: RunReading) -> dict[str, Any]:
    made = dataclasses.asdict(run)
    if run.sensitivity is not None:
        made["sensitivity"] = dict(zip(("value", "low", "high"), run.sensitivity, strict=True))
    return made

"""A Result: the records of a run directory, and what the analysis says of them. Neither torch nor NumPy at import.

Verdicts are stored by the runner with the version of the analysis that made them; where they are stale (another version,
newer results, another objective) they are made anew here, in memory.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import store
from etude.errors import SpecError, nearest
from etude.store import Stored, StoredTrial

if TYPE_CHECKING:
    import matplotlib.axes
    import pandas as pd

ANALYSIS_VERSION = "2"  # pinned to etude.analysis.VERSION by a test, so that reading needs no NumPy
JSON_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """The rate to train with, or None and the ``reason``; ``next_command`` is the one run that would teach most."""

    lr: float | None
    optimum_interval: tuple[float, float] | None
    bracket: tuple[float, float] | None
    within_margin: tuple[float, ...]
    edge: str | None
    provisional: bool
    provisional_reason: str | None
    estimate: Mapping[str, Any]
    reason: str
    conclusion: str
    next_command: str | None
    next_reason: str | None


@dataclass(frozen=True)
class Result:
    """What a person holds of a run: `trials`, `rates`, `evaluations` (data frames), `recommendation`, `plot`, `to_dict`."""

    directory: Path
    stored: Stored = field(repr=False)
    objective: Mapping[str, Any]

    @classmethod
    def load(cls, directory: str | Path, objective: Mapping[str, Any] | None = None) -> Result:
        """Read a run directory. ``objective`` (metric, direction, margin) reads it anew; nothing is trained.

        Raises `StoreError` when there is no sound run, `SpecError` for a metric that was not recorded.
        """
        directory = Path(directory)
        stored = store.read(directory)
        result = cls(directory, stored, objective or stored.study["objective"])
        known = {name for trial in stored.trials for e in trial.evaluations for name in e.metrics} | {"train_loss"}
        if known != {"train_loss"} and result.objective["metric"] not in known:
            metric = result.objective["metric"]
            raise SpecError(f"study.objective: no metric {metric!r} was recorded{nearest(metric, known)}")
        return result

    @property
    def study(self) -> Mapping[str, Any]:
        """The study as stored: task, recipe, lrs, seeds, epochs, …"""
        return self.stored.study

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return int(self.stored.identity["steps_per_epoch"])

    @cached_property
    def horizon(self) -> float:
        """The largest number of epochs that all rates were asked for.

        With a schedule that depends on it, the largest one that all rates have trials of, else that most of them have.
        """
        of_rate: dict[float, set[float]] = {}
        for trial in self.stored.trials:
            of_rate.setdefault(trial.lr, set()).add(trial.epochs if trial.horizon is None else trial.horizon)
        if not of_rate:
            return float(self.study["epochs"])
        if all(trial.horizon is None for trial in self.stored.trials):
            return min(max(epochs) for epochs in of_rate.values())
        every = set.union(*of_rate.values())
        return max(every, key=lambda epochs: (sum(epochs in has for has in of_rate.values()), epochs))

    @cached_property
    def judged(self) -> tuple[StoredTrial, ...]:
        """The trials that are judged: all, or with a schedule that depends on the horizon those of this horizon."""
        return tuple(t for t in self.stored.trials if t.horizon is None or t.horizon == self.horizon)

    @cached_property
    def analysis(self) -> Mapping[str, Any]:
        """What the analysis says, as JSON-able values (see `etude.analysis.values.Analysis`)."""
        if self.stored.analysis is not None and dict(self.objective) == self.stored.study["objective"]:
            revision, version, analysis = self.stored.analysis
            if revision == self.stored.revision and version == ANALYSIS_VERSION:
                return analysis
        return self.analyse()

    def analyse(self) -> Mapping[str, Any]:
        """Judge anew, from the records."""
        from dataclasses import asdict

        from etude.analysis import analyse
        from etude.engine.history import step_of

        made = analyse(
            self._curves(),
            metric=self.objective["metric"],
            direction=self.objective["direction"],
            margin=self.objective["margin"],
            horizon=self.horizon,
            horizon_step=step_of(self.horizon, self.steps_per_epoch),
            expected={float(lr): what for lr, what in self.study["expect"].items()},
        )
        plain: Mapping[str, Any] = store.plain(asdict(made))
        return plain

    def _curves(self) -> list[Any]:
        import numpy as np

        from etude.analysis import Curve

        steps = store.read_steps(self.directory)
        curves = []
        for trial in self.judged:
            evaluations = trial.evaluations
            names = sorted({name for e in evaluations for name in e.metrics} | {self.objective["metric"]})
            nan = math.nan
            metrics = {n: np.array([e.metrics.get(n, nan) for e in evaluations], float) for n in names}
            metrics["train_loss"] = np.array(
                [nan if e.train_loss is None else e.train_loss for e in evaluations], float
            )
            errors = {n: np.array([e.standard_errors.get(n, nan) for e in evaluations], float) for n in metrics}
            loss = np.frombuffer(steps.get(trial.id, {}).get("loss", b""), "<f4").astype(float)
            curves.append(
                Curve(
                    lr=trial.lr,
                    seed=trial.seed,
                    status=trial.status,
                    steps=np.array([e.step for e in evaluations], int),
                    epochs=np.array([e.epoch for e in evaluations], float),
                    metrics=metrics,
                    errors=errors,
                    loss=loss,
                    end_step=trial.end_step,
                    diverged_step=trial.diverged,
                    failure=trial.failure,
                )
            )
        return curves

    @cached_property
    def recommendation(self) -> Recommended:
        """The answer."""
        made = self.analysis["recommendation"]
        next_run = made["next_run"]
        interval, bracket = made["optimum_interval"], made["bracket"]
        return Recommended(
            lr=made["lr"],
            optimum_interval=None if interval is None else (interval[0], interval[1]),
            bracket=None if bracket is None else (bracket[0], bracket[1]),
            within_margin=tuple(made["within_margin"]),
            edge=made["edge"],
            provisional=made["provisional"],
            provisional_reason=made["provisional_reason"],
            estimate=made["estimate"],
            reason=made["reason"],
            conclusion=made["conclusion"],
            next_command=None if next_run is None else self._command(next_run),
            next_reason=None if next_run is None else next_run["why"],
        )

    def _command(self, next_run: Mapping[str, Any]) -> str:
        from etude.notation import format_rate

        lrs = ",".join(format_rate(lr) for lr in next_run["lrs"])
        seeds = sorted(self.study["seeds"])
        more = max(0, (next_run["seeds"] or 0) - len(seeds))
        seeds += range(seeds[-1] + 1, seeds[-1] + 1 + more)
        wanted = str(len(seeds)) if seeds == list(range(len(seeds))) else ",".join(map(str, seeds))
        if self.stored.identity["task"]["built_in"]:
            words = ["etude", "resume", str(self.directory)]
            words += ["--lrs", lrs] if lrs else []
            words += ["--seeds", wanted] if more else []
            return shlex.join(words)
        changes = ([f"lrs=[{lrs}]"] if lrs else []) + ([f"seeds={wanted!r}"] if more else [])
        study = f"study.replace({', '.join(changes)})" if changes else "study"
        return f"{study}.run({str(self.directory)!r})"

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many trials have each status."""
        counts: dict[str, int] = {}
        for trial in self.stored.trials:
            counts[trial.status] = counts.get(trial.status, 0) + 1
        return counts

    @property
    def complete(self) -> bool:
        """Whether no trial is left to train."""
        return not set(self.counts) & {"pending", "running", "paused"}

    @property
    def chosen_on_test_set(self) -> str | None:
        """Name the test data that the rates are chosen on, where that is so; None where held-out data choose."""
        said: str | None = self.stored.identity["task"]["chosen_on_test_set"]
        return said

    @property
    def trials(self) -> pd.DataFrame:
        """A row a trial."""
        import pandas as pd

        return pd.DataFrame(
            [{key: value for key, value in t.items() if key != "evaluations"} for t in self.to_dict()["trials"]]
        )

    @property
    def evaluations(self) -> pd.DataFrame:
        """A row an evaluation, a column a metric."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"lr": t.lr, "seed": t.seed, "step": e.step, "epoch": e.epoch, "train_loss": e.train_loss, **e.metrics}
                for t in self.stored.trials
                for e in t.evaluations
            ]
        )

    @property
    def rates(self) -> pd.DataFrame:
        """A row a rate: verdict, grade, reason, and the evidence."""
        import pandas as pd

        rows = [
            {"lr": r["lr"], "verdict": r["verdict"], "grade": r["grade"], "reason": r["reason"],
             **{k: v for k, v in r["evidence"].items() if k not in ("verdict", "grade")}}
            for r in self.analysis["rates"]
        ]  # fmt: skip
        return pd.DataFrame(rows)

    def plot(self, figure: str = "curves", ax: Any = None) -> matplotlib.axes.Axes | Any:
        """Draw a figure, ``curves`` or ``rates``, on Matplotlib axes (``curves`` takes two) and return them."""
        from etude.present import figures

        return figures.plot(self, figure, ax)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values, format 1: what ``etude show --json`` prints."""
        dynamics = {(t["lr"], t["seed"]): t["dynamics"] for t in self.analysis["trials"]}
        objective = {
            **self.objective,
            "margin": self.analysis["margin"],
            "margin_source": self.analysis["margin_source"],
        }
        answer = self.recommendation
        made: dict[str, Any] = store.plain(
            {
                "format": JSON_FORMAT,
                "study": {**self.study, "horizon": self.horizon, "objective": objective},
                "trials": [
                    {
                        "lr": t.lr, "seed": t.seed, "horizon": t.horizon, "status": t.status, "reason": reason_of(t),
                        "dynamics": dynamics.get((t.lr, t.seed)) if t in self.judged else None,
                        "step": t.step, "end_step": t.end_step, "wall_s": t.wall_s,
                        "evaluations": [_evaluation(e) for e in t.evaluations],
                        "tests": [{"step": e.step, "metrics": e.metrics, "standard_errors": e.standard_errors} for e in t.tests],
                    }
                    for t in self.stored.trials
                ],
                "rates": [
                    {key: rate[key] for key in ("lr", "verdict", "grade", "reason", "evidence", "n_trials", "expected")}
                    for rate in self.analysis["rates"]
                ],
                "recommendation": {
                    key: getattr(answer, key)
                    for key in (
                        "lr", "optimum_interval", "bracket", "within_margin", "edge", "provisional", "provisional_reason",
                        "estimate", "reason", "conclusion", "next_command",
                    )
                },
                "environment": self.stored.environments[-1] if self.stored.environments else {},
            }
        )  # fmt: skip
        return made


def reason_of(trial: StoredTrial) -> str | None:
    """Say in words why a trial has the status it has, where there is something to say."""
    if trial.failure is not None:
        return trial.failure
    if trial.diverged is not None:
        return f"the loss stopped being finite at step {trial.diverged}"
    if trial.status in ("running", "paused", "pending"):
        return f"step {trial.step} of {trial.end_step}"
    return None


def _evaluation(e: store.StoredEvaluation) -> dict[str, Any]:
    return {
        "step": e.step,
        "epoch": e.epoch,
        "train_loss": e.train_loss,
        "metrics": e.metrics,
        "standard_errors": e.standard_errors,
    }

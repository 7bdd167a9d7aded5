"""A Result: records from a run directory or from elsewhere, and what the analysis says. Neither torch nor NumPy at import.

Verdicts are stored by the runner with the version of the analysis that made them; where they are stale (another version,
newer results, another objective) they are made anew here, in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etude import store
from etude.errors import SpecError, nearest
from etude.searched import Searched
from etude.store import Stored, StoredTrial

if TYPE_CHECKING:
    import matplotlib.axes
    import pandas as pd
    import torch

    from etude.analysis.ranging import RangeTest
    from etude.columns import Columns
    from etude.importers import Imported
    from etude.spec.objective import Objective
    from etude.spec.study import Study

ANALYSIS_VERSION = "10"  # pinned to etude.analysis.VERSION by a test, so that reading needs no NumPy
JSON_FORMAT = 1
READINGS = (
    "noise",
    "response",
    "sensitivity",
    "seed_plan",
    "second_opinion",
    "binned",
    "summary",
)  # as the analysis has them
ADAMW_DECAY = 0.01  # of torch.optim.AdamW where the recipe does not say; a test holds it against the class


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """The rate to train with, or None and the ``reason``; ``next_command`` is the one run that would teach most.

    ``optimum_interval`` holds the best rate with 95 %; an end that ``interval_open`` names (low, high) is only the end of the
    rates tried. For curves from elsewhere there is no command: ``next_reason`` says which rates or seeds to train.
    """

    lr: float | None
    optimum_interval: tuple[float, float] | None
    interval_open: tuple[str, ...]
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
    """What a person holds of a study: `recommendation`, `plot`, `to_dict`; `trials`, `rates`, `evaluations` and `steps`
    are data frames.

    ``directory`` is None for curves from elsewhere, which have ``imported`` instead.
    """

    directory: Path | None
    stored: Stored = field(repr=False)
    objective: Mapping[str, Any]
    imported: Imported | None = field(default=None, repr=False)
    made_by: Study | None = field(default=None, repr=False, compare=False)  # the study itself, where it is at hand

    @classmethod
    def load(
        cls, directory: str | Path, objective: Mapping[str, Any] | None = None, *, made_by: Study | None = None
    ) -> Result:
        """Read a run directory. ``objective`` (metric, direction, margin) reads it anew; nothing is trained.

        Raises `StoreError` when there is no sound run, `SpecError` for a metric that was not recorded.
        """
        directory = Path(directory)
        stored = store.read(directory)
        result = cls(directory, stored, objective or stored.study["objective"], made_by=made_by)
        known = {name for trial in stored.trials for e in trial.evaluations for name in e.metrics} | {"train_loss"}
        if known != {"train_loss"} and result.objective["metric"] not in known:
            metric = result.objective["metric"]
            raise SpecError(f"study.objective: no metric {metric!r} was recorded{nearest(metric, known)}")
        return result

    @classmethod
    def of(cls, imported: Imported) -> Result:
        """Hold curves that were trained elsewhere."""
        return cls(None, imported.stored, imported.stored.study["objective"], imported)

    @property
    def study(self) -> Mapping[str, Any]:
        """The study as stored: task, recipe, lrs, seeds, epochs, …"""
        return self.stored.study

    @property
    def fields(self) -> dict[str, Any]:
        """The study's own fields, of which a `etude.Study` can be made: without what is stored beside them."""
        return {name: what for name, what in self.study.items() if name not in ("search", "schedule_samples")}

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; raises `SpecError` for curves from elsewhere, where that is not known."""
        if self.imported is not None:
            raise SpecError("result.steps_per_epoch: not known of curves that were trained elsewhere")
        return int(self.stored.identity["steps_per_epoch"])

    @property
    def is_own_loop(self) -> bool:
        """Whether its trials were trained by a loop of the caller's own, through ``study.missing``."""
        return "loop" in self.stored.identity

    @property
    def searched(self) -> bool:
        """Whether a search chose what was trained, so that trials short of the horizon were paused on purpose."""
        return "search" in self.study

    @property
    def unit(self) -> str:
        """What the horizon is counted in: ``epoch``, ``step``, or nothing where only final values are known."""
        return "epoch" if self.imported is None else self.imported.unit

    @cached_property
    def horizon_step(self) -> int:
        """The step that the horizon ends with."""
        if self.imported is not None:
            ends = self.imported.ends
            return ends[self.horizon] if self.horizon in ends else ends[None]
        from etude.engine.history import step_of

        return step_of(self.horizon, self.steps_per_epoch)

    @property
    def notes(self) -> tuple[str, ...]:
        """What cannot be told from the records, and what else the analysis has to say."""
        of_data = self.stored.identity.get("data", {}).get("notes", ())
        imported = () if self.imported is None else self.imported.notes
        return (*of_data, *imported, *self.analysis.get("notes", ()))

    @cached_property
    def horizon(self) -> float:
        """The largest number of epochs (of ``unit``) that all rates were asked for; of a search, that of its study.

        With a schedule that depends on it, the largest one that all rates have trials of, else that most of them have. A
        search has the study's, short of which it pauses most rates.
        """
        if self.searched:
            return float(self.study["epochs"])
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
        """The trials that are judged: all, or with a schedule that depends on the horizon those of this horizon.

        A rate of a search that has none of this horizon is judged by its longest ones, as if they had been paused there.
        """
        horizons: dict[float, float] = {}
        if self.searched:
            for t in self.stored.trials:
                if t.horizon is not None and t.horizon <= self.horizon:
                    horizons[t.lr] = max(t.horizon, horizons.get(t.lr, 0.0))
        return tuple(t for t in self.stored.trials if t.horizon in (None, horizons.get(t.lr, self.horizon)))

    def is_paused(self, trial: StoredTrial) -> bool:
        """Whether a search left a trial short of the horizon, where it says less than its score would."""
        return (
            self.searched
            and trial.step < self.horizon_step
            and trial.status in ("completed", "paused", "running", "pending")
        )

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
        from etude.analysis import analyse

        made = analyse(
            self._curves(),
            metric=self.objective["metric"],
            direction=self.objective["direction"],
            margin=self.objective["margin"],
            horizon=self.horizon,
            horizon_step=self.horizon_step,
            unit=self.unit,
            second=self._second(),
            weight_decay=self._weight_decay(),
            steps_per_epoch=None if self.imported is not None else self.steps_per_epoch,
            expected={float(lr): what for lr, what in self.study["expect"].items()},
            select=self.study.get("select", "last"),
            searched=self.searched,
        )
        plain: Mapping[str, Any] = store.plain(made)
        return plain

    def _second(self) -> tuple[str, str] | None:
        """Choose the metric for a second opinion: the loss beside another objective, the accuracy beside the loss."""
        known = {name for trial in self.judged for e in trial.evaluations[-1:] for name in e.metrics}
        for metric, direction in (("val_loss", "minimize"), ("val_accuracy", "maximize")):
            if metric in known and metric != self.objective["metric"]:
                return metric, direction
        return None

    def _weight_decay(self) -> float | None:
        """Return the weight decay of an optimizer that decouples it from the gradient, so that it acts as η·λ; else None."""
        recipe = self.study.get("recipe") or {}
        if self.imported is not None or recipe.get("optimizer") != "adamw":
            return None
        said = recipe.get("weight_decay")
        if said is None:
            said = (recipe.get("optimizer_options") or {}).get("weight_decay", ADAMW_DECAY)
        return float(said)

    def _curves(self) -> list[Any]:
        import numpy as np

        from etude.analysis import Curve
        from etude.columns import Columns

        metric = self.objective["metric"]
        none = np.empty(0)
        # A loss that no trial has is left out: an array of NaN is no curve to tell dynamics from.
        logged = self.imported is not None or self.is_own_loop  # by somebody else, who may have left things out
        has_loss = not logged or any(np.isfinite(self.columns(t).train_loss).any() for t in self.judged)
        curves = []
        for trial in self.judged:
            columns = Columns.of(trial.evaluations)
            if logged:  # a gap in the objective is a missing evaluation
                decides = {metric: np.full(len(columns), math.nan), **columns.metrics, "train_loss": columns.train_loss}
                columns = columns.take(np.isfinite(decides[metric]))
            unknown = np.full(len(columns), math.nan)
            metrics = {metric: unknown, **columns.metrics}
            if has_loss:
                metrics["train_loss"] = columns.train_loss
            curves.append(
                Curve(
                    lr=trial.lr,
                    seed=trial.seed,
                    status="paused" if self.is_paused(trial) else trial.status,
                    steps=columns.steps,
                    epochs=columns.epochs,
                    metrics=metrics,
                    errors={name: columns.errors.get(name, unknown) for name in metrics},
                    loss=np.asarray(self.history.get(trial.id, {}).get("loss", none), float),
                    end_step=max(trial.end_step, self.horizon_step) if self.searched else trial.end_step,
                    diverged_step=trial.diverged if self.imported is None else self.ended(trial),
                    diverged_unit="step" if self.imported is None else self.unit,
                    failure=trial.failure,
                )
            )
        return curves

    @cached_property
    def history(self) -> Mapping[int, Mapping[str, Any]]:
        """What was recorded by step, by trial id, in arrays (T,): ``step``, ``loss``, ``grad_norm``, ``update_ratio``.

        Of curves from elsewhere only the loss is known, if that; a loop of one's own has NaN for the others.
        """
        import numpy as np

        if self.imported is not None:
            return {
                trial: {"step": np.arange(1, len(loss) + 1), "loss": loss}
                for trial, loss in self.imported.losses.items()
            }
        assert self.directory is not None
        return {
            trial: {name: np.frombuffer(part, "<i8" if name == "step" else "<f4") for name, part in of.items()}
            for trial, of in store.read_steps(self.directory).items()
        }

    def columns(self, trial: StoredTrial) -> Columns:
        """Return a trial's evaluations as arrays."""
        from etude.columns import Columns

        return Columns.of(trial.evaluations)

    def reason(self, trial: StoredTrial) -> str | None:
        """Say why a trial has the status it has, where there is something to say."""
        if self.imported is None:
            return reason_of(trial)
        if trial.diverged is not None:
            return (
                f"not finite from {self.unit} {self.ended(trial):g} on"
                if self.unit
                else "its final value is not finite"
            )
        if trial.status in store.UNFINISHED:
            places = self.columns(trial).epochs
            return f"ends at {self.unit} {places[-1] if len(places) else trial.step:g} of {trial.epochs:g}"
        return None

    def ended(self, trial: StoredTrial) -> float | None:
        """Return the place (in ``unit``) at which a trial diverged, or None."""
        if trial.diverged is None:
            return None
        if self.imported is not None:
            return self.imported.ended[trial.id]
        return trial.diverged / self.steps_per_epoch

    @cached_property
    def range_test(self) -> RangeTest | None:
        """The last range test of the run, None where there was none."""
        from etude.analysis.ranging import RangeTest

        return None if self.stored.range_test is None else RangeTest.from_dict(self.stored.range_test)

    @cached_property
    def recommendation(self) -> Recommended:
        """The answer."""
        from etude import commands

        made = self.analysis["recommendation"]
        next_run = made["next_run"]
        if self.search is not None and self.search.ended is None:
            next_run = {"why": commands.GO_ON, "lrs": (), "seeds": None}
        elif self.search is not None and self.search.ignores_rate:
            next_run = None
        interval, bracket = made["optimum_interval"], made["bracket"]
        return Recommended(
            lr=made["lr"],
            optimum_interval=None if interval is None else (interval[0], interval[1]),
            interval_open=tuple(made["interval_open"]),
            bracket=None if bracket is None else (bracket[0], bracket[1]),
            within_margin=tuple(made["within_margin"]),
            edge=made["edge"],
            provisional=made["provisional"],
            provisional_reason=made["provisional_reason"],
            estimate=made["estimate"],
            reason=made["reason"],
            conclusion=made["conclusion"],
            next_command=None
            if next_run is None or self.imported is not None
            else commands.next_command(self, next_run),
            next_reason=None if next_run is None else commands.next_reason(self, next_run),
        )

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many trials have each status."""
        counts: dict[str, int] = {}
        for trial in self.stored.trials:
            counts[trial.status] = counts.get(trial.status, 0) + 1
        return counts

    @property
    def complete(self) -> bool:
        """Whether no trial is left to train; a search that has ended leaves those that it paused."""
        search = self.search
        if search is None:
            return not set(self.counts) & store.UNFINISHED
        waited_for = (t for t in self.stored.trials if t.status in store.UNFINISHED and not search.may_rest(t))
        return search.ended is not None and not any(waited_for)

    @cached_property
    def search(self) -> Searched | None:
        """What the search was, spent and said; None where nobody has searched."""
        return Searched.of(self.stored)

    @property
    def is_known_by_name(self) -> bool:
        """Whether task and recipe can be made anew from what is stored: a built-in task, optimizer and schedule by name."""
        identity = self.stored.identity
        functions = {"optimizer_made", "schedule_digest"} & {*identity.get("recipe", {})}
        return bool(identity["task"]["built_in"]) and not functions

    @property
    def chosen_on_test_set(self) -> str | None:
        """Name the test data that the rates are chosen on, where that is so; None where held-out data choose."""
        said: str | None = self.stored.identity.get("task", {}).get("chosen_on_test_set")
        return said

    @property
    def trials(self) -> pd.DataFrame:
        """A row a trial: status, dynamics, score at the horizon."""
        from etude import frames

        return frames.trials(self)

    @property
    def evaluations(self) -> pd.DataFrame:
        """A row an evaluation: lr, seed, step, epoch, train_loss, a column a metric, and ``<metric>_se`` for its error.

        A diverged trial ends with a row at the step where its loss stopped being finite, without it. For curves from
        elsewhere ``epoch`` is NaN where it is not known; final values alone have neither step nor epoch.
        """
        from etude import frames

        return frames.evaluations(self)

    @property
    def steps(self) -> pd.DataFrame:
        """A row a step of a trial: loss, gradient norm, update-to-weight ratio."""
        from etude import frames

        return frames.steps(self)

    @property
    def rates(self) -> pd.DataFrame:
        """A row a rate: verdict, grade, reason, and the evidence."""
        from etude import frames

        return frames.rates(self)

    def model(self, *, lr: float, seed: int | None = None, study: Study | None = None) -> torch.nn.Module:
        """Return the trained module of a trial, on the CPU and in evaluation mode: what was evaluated last, or best.

        ``seed`` may be left out where there is one. A run that was read from a directory and whose task is code of your own
        needs the ``study`` that trained it: the module is made by its task, and gets the stored weights.

        Raises `SpecError` for a trial that there is not or that has no weights (yet, or any more), `StoreError` where they
        cannot be read.
        """
        from etude.engine import restore

        if self.directory is None or self.is_own_loop:
            raise SpecError(
                "result.model: these curves were trained by other code than etude's, and their weights are not here"
            )
        trial = self._trial(lr, seed)
        made_by = study or self.made_by
        if made_by is None:
            if not self.is_known_by_name:
                raise SpecError(
                    f"result.model: the task {self.study['task']!r} or its recipe is code of your own; "
                    "give the study that trained it: "
                    f"result.model(lr={lr:g}, seed={trial.seed}, study=study)"
                )
            from etude.spec.study import Study

            made_by = Study(**{**self.fields, "lrs": [lr], "expect": {}})
        return restore.trained(made_by, trial, store.read_checkpoint(self.directory, trial))

    def _trial(self, lr: float, seed: int | None) -> StoredTrial:
        from etude.notation import format_rate

        of_rate = [trial for trial in self.judged if trial.lr == lr]
        if not of_rate:
            rates = ", ".join(format_rate(known) for known in sorted({trial.lr for trial in self.judged}))
            raise SpecError(f"result.model: no trial has the rate {lr:g}; the rates are {rates}")
        seeds = sorted(trial.seed for trial in of_rate)
        if seed is None and len(seeds) > 1:
            raise SpecError(
                f"result.model: rate {lr:g} has several seeds ({', '.join(map(str, seeds))}); say which: seed="
            )
        found = [trial for trial in of_rate if seed in (None, trial.seed)]
        if not found:
            raise SpecError(f"result.model: rate {lr:g} has no seed {seed}; it has {', '.join(map(str, seeds))}")
        if found[0].checkpoint is None:
            why = "its weights were not kept" if found[0].step else "it has not been trained"
            raise SpecError(f"result.model: rate {lr:g}, seed {found[0].seed}: {why} ({found[0].status})")
        return found[0]

    def plot(self, figure: str = "curves", ax: Any = None, **options: Any) -> matplotlib.axes.Axes | Any:
        """Draw a figure on Matplotlib axes (``curves`` and ``stability`` take two) and return them: ``curves``, ``rates``,
        ``verdicts``, ``stability``, ``schedule``, ``range-test``.

        Options of ``curves``: ``x`` ("epoch" or "step"), ``xscale`` ("linear" or "log"), ``yscale`` ("auto", "linear" or
        "log"), ``smooth`` (of an exponential moving average, 0 to less than 1; the raw line stays, faint). Raises `SpecError`
        for a figure or an option that there is not, and for a figure that the result has not.
        """
        from etude.present import figures

        return figures.plot(self, figure, ax, **options)

    def report(self, path: str | Path | None = None, format: str = "html") -> Path:
        """Write the report, ``html`` or ``md`` (`etude.present.report.write`), and return its file."""
        from etude.present import report

        return report.write(self, path, format)

    def _repr_html_(self) -> str:
        """Show the result in a notebook."""
        from etude.present import page

        return page.fragment(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values, format 1: what ``etude show --json`` prints."""
        from etude import baselines

        dynamics = {(t["lr"], t["seed"]): t["dynamics"] for t in self.analysis["trials"]}
        judged = {t.id for t in self.judged}
        objective = {
            **self.objective,
            "margin": self.analysis["margin"],
            "margin_source": self.analysis["margin_source"],
        }
        answer = self.recommendation
        study = {name: what for name, what in self.study.items() if name != "search"}
        made: dict[str, Any] = store.plain(
            {
                "format": JSON_FORMAT,
                "study": {**study, "horizon": self.horizon, "unit": self.unit, "objective": objective},
                "trials": [
                    {
                        "lr": t.lr, "seed": t.seed, "horizon": t.horizon, "status": t.status, "reason": self.reason(t),
                        "dynamics": dynamics.get((t.lr, t.seed)) if t.id in judged else None,
                        "step": t.step, "end_step": t.end_step, "wall_s": t.wall_s,
                        "evaluations": [_evaluation(e, self.unit) for e in t.evaluations],
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
                        "lr", "optimum_interval", "interval_open",
                        "bracket", "within_margin", "edge", "provisional", "provisional_reason",
                        "estimate", "reason", "conclusion", "next_command", "next_reason",
                    )
                },
                **{name: self.analysis[name] for name in READINGS},
                "search": None if self.search is None else self.search.to_dict(),
                "baselines": [vars(one) for one in baselines.read(self)],
                "notes": list(self.notes),
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
    if trial.status in store.UNFINISHED:
        return f"step {trial.step} of {trial.end_step}"
    return None


def _evaluation(e: store.StoredEvaluation, unit: str) -> dict[str, Any]:
    return {
        "step": e.step if unit else None,
        "epoch": e.epoch if unit == "epoch" else None,
        "train_loss": e.train_loss,
        "metrics": e.metrics,
        "standard_errors": e.standard_errors,
    }


def judge(
    source: Any, objective: str | Objective | None = None, *, lr: str = "lr", seed: str = "seed", step: str = "step",
    epoch: str = "epoch", margin: float | None = None,
) -> Result:  # fmt: skip
    """Judge curves that were trained elsewhere: a result as a run has one, without training.

    ``source`` is a CSV (plain or gzipped), a Parquet file, a folder of TensorBoard logs or a pandas data frame, with a
    row an evaluation: the rate, and any of seed, step or epoch, ``train_loss``, ``val_*``; ``lr`` to ``epoch`` say what
    the columns are called. ``objective`` is what decides (``val_loss``, ``max:val_f1``); if not said ``val_accuracy``,
    else ``val_loss``, else the first ``val_*`` whose direction is known, else ``train_loss``.

    Raises `DataError` for what cannot be read or is malformed, `SpecError` for a column or an objective that is not
    there, or whose direction is not known.
    """
    from etude import commands, importers

    names = importers.Names(lr=lr, seed=seed, step=step, epoch=epoch)
    read = importers.arrange(importers.read_table(source, objective, margin, names))
    asked = None if objective is None else str(objective)
    command = commands.judge(source, asked, read.objective.margin, **vars(names))
    return Result.of(replace(read, command=command))

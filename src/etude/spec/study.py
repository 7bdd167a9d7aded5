"""A study: a task, a recipe, an objective, and the learning rates, seeds and epochs to try."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from etude import tasks
from etude.errors import SpecError
from etude.notation import format_rate
from etude.spec.expectation import Expectation, parse_expectations
from etude.spec.objective import Objective, maximize, minimize, parse_objective
from etude.spec.rates import Rates, Seeds, parse_rates, parse_seeds
from etude.spec.recipe import Recipe
from etude.spec.schedule import parse_schedule
from etude.spec.trial import Trial
from etude.spec.value import number, value
from etude.tasks.task import Task

if TYPE_CHECKING:
    from etude.analysis.ranging import RangeTest
    from etude.loop import LiveTrial
    from etude.result import Result


MOST_EPOCHS = 100_000_000  # more is a slip of the keyboard


def _task(got: object) -> object:
    if got is None or isinstance(got, Task):
        return got
    if isinstance(got, str):
        return tasks.check_name(got)
    raise SpecError(f"study.task: expected an etude.Task or the name of a built-in one, got {type(got).__name__}")


def _recipe(got: object) -> object:
    return Recipe(**got) if isinstance(got, Mapping) else got


def _objective(got: object) -> object:
    if isinstance(got, str):
        return parse_objective(got)
    if isinstance(got, Mapping):
        if "direction" in got:
            return Objective(**got)
        if not isinstance(got.get("metric"), str):
            raise SpecError(f"study.objective: expected a metric's name, got {got.get('metric')!r}")
        rest = {name: what for name, what in got.items() if name != "metric"}
        return dataclasses.replace(parse_objective(got["metric"]), **rest)
    return got


def _lrs(got: object) -> object:
    return got if got == () else parse_rates(got)  # none are named


def _epochs(got: object) -> float:
    epochs = number("study.epochs", got)
    if epochs > MOST_EPOCHS:
        raise SpecError(f"study.epochs: expected at most {MOST_EPOCHS:,}, got {got}")
    return epochs


def _holdout(got: object) -> object:
    if (got == 0 and not isinstance(got, bool)) or (isinstance(got, str) and got.strip("0 ") == "" and got.strip()):
        return 0
    return int(number("study.holdout", got, whole=True))


def _one_of(field: str, known: tuple[str, ...]) -> Callable[[object], object]:
    def check(got: object) -> object:
        if not isinstance(got, str) or got not in known:
            raise SpecError(f"study.{field}: expected one of {', '.join(known)}, got {got!r}")
        return got

    return check


@value("study")
class Study:
    """What to train and what to try.

    ``lrs`` and ``seeds`` take what a person writes (`parse_rates`, `parse_seeds`); ``seeds=3`` means 0, 1, 2. Rates are what
    `run` and `missing` train; `find` needs none.
    ``epochs`` is the horizon and ``evaluate_every`` the distance between evaluations, both in epochs and both may be
    fractions. ``holdout`` keeps that many training examples for choosing; the validation data become the test set.
    ``select`` says which evaluation is a trial's score: the ``last`` one up to the horizon, or the ``best``. ``keep`` says
    whose weights stay on disk once all is trained: of ``all`` trials (which can then be extended), of those at the
    recommended rate (``best``), or of ``none``.
    Without a ``task`` the training loop is the caller's own (`missing`): ``name`` is then required, and ``task_options``
    hold whatever identifies the training (model, data, optimizer, …), so that another one is not mixed with it.
    Raises `SpecError` for anything that cannot be.
    """

    task: Annotated[Any, BeforeValidator(_task)] = None
    task_options: dict[str, Any] = Field(default_factory=dict)
    name: str = ""
    recipe: Annotated[Recipe, BeforeValidator(_recipe)] = Field(default_factory=Recipe)
    objective: Annotated[Objective | None, BeforeValidator(_objective)] = None
    lrs: Annotated[Rates, BeforeValidator(_lrs)] = ()
    seeds: Annotated[Seeds, BeforeValidator(parse_seeds)] = (0,)
    epochs: Annotated[float, BeforeValidator(_epochs)]
    evaluate_every: Annotated[float, BeforeValidator(lambda got: number("study.evaluate_every", got))] = 1.0
    holdout: Annotated[int, BeforeValidator(_holdout)] = 0
    select: Annotated[Literal["last", "best"], BeforeValidator(_one_of("select", ("last", "best")))] = "last"
    keep: Annotated[Literal["all", "best", "none"], BeforeValidator(_one_of("keep", ("all", "best", "none")))] = "all"
    expect: Annotated[dict[float, Expectation], BeforeValidator(parse_expectations)] = Field(default_factory=dict)
    source: str = dataclasses.field(default="", compare=False)  # the file it was read from, as it was typed

    def __post_init__(self) -> None:
        if self.task is None:
            self._check_own_loop()
        if isinstance(self.task, Task) and self.task.makes_batches:
            made, size = self.task.batch_size, self.recipe.batch_size
            if size not in (Recipe().batch_size, made):  # the usual size is what nobody said
                raise SpecError(
                    f"study.recipe.batch_size: the training data come in batches of their own ({made or 'varying'}), got {size}; "
                    "leave it out"
                )
            object.__setattr__(self, "recipe", dataclasses.replace(self.recipe, batch_size=made))
        elif self.recipe.batch_size is None:
            raise SpecError(
                "study.recipe.batch_size: expected a number of examples, got None, which is for data that come in batches"
            )
        if self.recipe.average != "none" and self.recipe.average_start >= self.epochs:
            raise SpecError(
                f"study.recipe.average_start: expected fewer than the study's {self.epochs:g} epochs, got "
                f"{self.recipe.average_start:g}, so nothing would be averaged"
            )
        if isinstance(self.task, Task) and self.task_options and not self.source:
            raise SpecError("study.task_options: they belong to built-in tasks; give them to your own Task directly")
        object.__setattr__(self, "name", self.name or self.task_name or "")
        if (
            not self.name.strip()
            or self.name.startswith(".")
            or {"/", "\0"} & {*self.name}
            or len(self.name.encode()) > 200
        ):
            raise SpecError(f"study.name: expected a name fit for a folder, got {self.name!r}")
        for lr in self.expect:
            if lr not in self.lrs:
                rates = ", ".join(map(format_rate, self.lrs))
                raise SpecError(f"study.expect: {format_rate(lr)} is none of the study's rates ({rates})")
        if self.objective is None:
            object.__setattr__(self, "objective", self._usual_objective())

    def _check_own_loop(self) -> None:
        """Refuse what only a task makes sense of."""
        if not self.name:
            raise SpecError("study.task is missing: give one, or a name where the training loop is your own")
        unread = {"recipe": Recipe(), "evaluate_every": 1.0, "holdout": 0}
        for field, usual in unread.items():
            if getattr(self, field) != usual:
                raise SpecError(
                    f"study.{field}: it speaks of a task, and without one the training loop is your own; "
                    "say what identifies the training in task_options={'optimizer': …}"
                )
        for name, option in self.task_options.items():
            try:
                json.dumps(option, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise SpecError(
                    f"study.task_options[{name!r}]: expected text, finite numbers, lists or tables of them: {error}"
                ) from None

    def _usual_objective(self) -> Objective:
        if self.task is None:
            return minimize("val_loss")
        if isinstance(self.task, str):
            return parse_objective(tasks.defaults(self.task)["objective"])
        return maximize("val_accuracy") if "accuracy" in self.task.metrics else minimize("val_loss")

    @classmethod
    def default(cls, task: str) -> Study:
        """The study that a built-in task is known for; ``Study.default("mnist")`` is the reference study."""
        return cls(task=task, **tasks.defaults(tasks.check_name(task)))

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Study:
        """Make a study from the keys of a study file; a built-in task's own study fills in what is not said."""
        given = dict(table)
        if "task" not in given:
            raise SpecError("study.task is missing: expected the name of a built-in task")
        if isinstance(given["task"], str):
            usual = tasks.defaults(tasks.check_name(given["task"]))
            if "lrs" in given:
                usual.pop("expect", None)  # it speaks of the default rates
            if isinstance(given.get("recipe"), Mapping):
                given["recipe"] = merge_recipe(usual["recipe"], given["recipe"])
            given = {**usual, **given}
        return cls(**given)

    @classmethod
    def from_toml(cls, path: str | Path) -> Study:
        """Read a study file. Raises `SpecError`, with the line, for a syntax error."""
        from etude.spec import files

        return files.read_toml(Path(path))

    @classmethod
    def from_file(cls, path: str | Path) -> Study:
        """Read a TOML file, or run a Python file that has a ``study``; ``my_study.py:other`` names another variable.

        A study that nobody named is named as its file is. What a Python file prints goes to standard error, and the
        process is left as it was (see `etude.spec.script`). Raises `SpecError` for all that is wrong with the file.
        """
        import warnings

        from etude.spec import files

        with warnings.catch_warnings():
            return files.read(str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the study as JSON-able values, for the store; a Task of one's own appears by its name.

        Without a task there is no recipe either: nothing is known of how the caller's own loop trains.
        """
        assert self.objective is not None
        return {
            "name": self.name,
            "task": self.task_name,
            "task_options": self.task_options,
            "recipe": {} if self.task is None else self.recipe.to_dict(),
            "objective": dataclasses.asdict(self.objective),
            "lrs": list(self.lrs),
            "seeds": list(self.seeds),
            "epochs": self.epochs,
            "evaluate_every": self.evaluate_every,
            "holdout": self.holdout,
            "select": self.select,
            "keep": self.keep,
            "expect": {repr(lr): what.to_dict() for lr, what in self.expect.items()},
            "source": self.source,
        }

    @property
    def task_name(self) -> str | None:
        """The built-in task's name, or that of the caller's own Task; None where the loop is the caller's own."""
        return self.task if self.task is None or isinstance(self.task, str) else str(self.task.name)

    def replace(self, **changes: Any) -> Study:
        """Return a copy with some fields changed; with other rates, what was expected stays for those still tried."""
        if "task" in changes and self.source:
            changes = {"source": "", "task_options": {}, **changes}
        elif "task_options" in changes and self.source and not isinstance(self.task, str):
            raise SpecError(f"study.task_options: the task was made with them; change them in {self.source}")
        if "lrs" in changes and "expect" not in changes:
            lrs = parse_rates(changes["lrs"])
            changes["expect"] = {lr: what for lr, what in self.expect.items() if lr in lrs}
        return dataclasses.replace(self, **changes)

    def joined(self, stored: Mapping[str, Any]) -> Study:
        """Return the study with what a run directory already has: rates and seeds are joined, the longer horizon is kept."""
        return self.replace(
            lrs=sorted({*self.lrs, *stored["lrs"]}),
            seeds=sorted({*self.seeds, *stored["seeds"]}),
            epochs=max(self.epochs, stored["epochs"]) if {*stored["lrs"]} <= {*self.lrs} else stored["epochs"],
            expect=self.expect or stored["expect"],
        )

    def trials(self) -> list[Trial]:
        """All trials of the study, seed by seed, lowest rate first. Raises `SpecError` where it names no rates."""
        if not self.lrs:
            raise SpecError(
                'study.lrs is missing: expected the rates to train, such as lrs="1e-4..1e-1/4"; or let etude choose: find'
            )
        return [self.trial(lr, seed, self.epochs) for seed in self.seeds for lr in self.lrs]

    def trial(self, lr: float, seed: int, epochs: float) -> Trial:
        """Return the trial that trains ``epochs`` at a rate with a seed."""
        # Whether a loop of the caller's own has a schedule is not known, so other epochs are other trials.
        fixed = self.task is not None and not self.recipe.depends_on_horizon
        return Trial(lr=lr, seed=seed, horizon=None if fixed else epochs)

    def place(self, directory: str | Path | None = None) -> Path:
        """Return the run directory, ``runs/NAME`` if it is not said."""
        return Path("runs") / self.name if directory is None else Path(directory)

    def make_task(self) -> Task:
        """Return the task with its data: a built-in one is made here (torch is imported), then the holdout is taken."""
        if self.task is None:
            raise SpecError(
                f"study.task: {self.name!r} has none, so etude cannot train it; give a task, or train with your own loop: "
                "for trial in study.missing(DIRECTORY)"
            )
        task = tasks.make(self.task, self.task_options) if isinstance(self.task, str) else self.task
        return task.with_holdout(self.holdout) if self.holdout else task

    def run(
        self,
        directory: str | Path | None = None,
        *,
        executor: str = "auto",
        workers: int | None = None,
        device: str = "auto",
        on_event: Callable[[Any], None] | None = None,
    ) -> Result:
        """Train what is missing in the run directory (``runs/NAME``) and return the result.

        While it trains a notebook shows a live table. ``on_event``, if there is one, is called with each event (`etude.events`)
        instead.

        Raises `MismatchError` when the directory holds another study, `InUseError` when another process writes to it.
        """
        if self.task is None:
            self.make_task()  # says so, before torch is imported
        from etude import runner
        from etude.present import notebook
        from etude.spec import script

        if script.running():
            raise SpecError(
                'study.run: it is called while etude reads the file; put it under if __name__ == "__main__":'
            )
        with script.importable(self.source), notebook.listening(on_event) as listen:
            return runner.run(self, directory, executor=executor, workers=workers, device=device, on_event=listen)

    def find(
        self,
        directory: str | Path | None = None,
        *,
        budget: object = None,
        trials: float | None = None,
        cost: float | None = None,
        lrs: object = None,
        seeds: object = None,
        searcher: str | None = None,
        baselines: bool = False,
        executor: str = "auto",
        workers: int | None = None,
        device: str = "auto",
        on_event: Callable[[Any], None] | None = None,
    ) -> Result:
        """Search for the rate in the run directory (``runs/NAME``), or go on with that, and return the result.

        One of ``budget`` (wall time: ``"20m"``), ``trials`` (so many trials' worth of steps) and ``cost`` (a share of a full
        grid of 13 rates × 3 seeds) says what all calls together may spend; if none is said, what the directory's search has,
        else a quarter of the grid. ``lrs`` is a range, ``"1e-5..1"``; if not said the one that the optimizer is known for.
        ``seeds`` are those that may be used; if not said the study's, and further ones up to ten. The study's own rates are
        not looked at. With ``baselines``, Prodigy and schedule-free AdamW are trained beside, at a cost of their own, so that the
        result can say what tuning bought. A notebook shows a live table, or ``on_event`` is called, as for `run`.

        Raises `SpecError` for a budget that cannot be or buys less than two trials and for a baseline whose package is missing,
        and what `run` raises.
        """
        from etude.spec.budget import parse_budget

        asked = (budget, trials, cost)
        parsed = None if asked == (None, None, None) else parse_budget(*asked)
        if self.task is None:
            self.make_task()  # says so, before torch is imported
        from etude import baselines as beside
        from etude import finding
        from etude.present import notebook
        from etude.spec import script

        if script.running():
            raise SpecError(
                'study.find: it is called while etude reads the file; put it under if __name__ == "__main__":'
            )
        place = self.place(directory)
        how: dict[str, Any] = {"executor": executor, "workers": workers, "device": device}
        with script.importable(self.source):
            if baselines:
                beside.check(self, place)
            with notebook.listening(on_event) as listen:
                found = finding.find(
                    self, place, budget=parsed, lrs=lrs, seeds=seeds, searcher=searcher, on_event=listen, **how
                )
            assert found is not None  # only a dry run gives none
            for method in beside.METHODS if baselines else ():
                assert found.search is not None
                with notebook.listening(on_event) as listen:
                    beside.train(method, self, place, found.search.search.seeds, on_event=listen, **how)
        return found

    def missing(self, directory: str | Path | None = None, *, steps_per_epoch: int = 1) -> Iterator[LiveTrial]:
        """Give the trials that the run directory (``runs/NAME``) lacks, seed by seed, to a training loop of one's own.

        The body of the ``for`` trains at ``trial.lr`` with ``trial.seed`` and calls ``trial.log``; see `etude.loop`. The
        directory is locked until the loop ends, breaks or raises. A trial that was cut off is given again from its start.
        ``steps_per_epoch`` relates steps to epochs; if not said a step is an epoch.

        Raises `SpecError` for a study with a task and for a trial whose body ends short of the horizon, `MismatchError`
        when the directory holds another study, `InUseError` when another process writes to it.
        """
        from etude import loop

        return loop.missing(self, directory, steps_per_epoch)

    def range_test(
        self, directory: str | Path | None = None, *, lrs: object = None, seeds: object = None,
        steps: int | None = None, from_lr: float | None = None, device: str = "auto",
        on_begin: Callable[[int, int], None] | None = None,
    ) -> RangeTest:  # fmt: skip
        """Make a range test and keep it in the run directory (``runs/NAME``), beside its trials: no trial, and no verdict's.

        The rate rises from step to step through ``lrs`` (``"1e-7..10"``), for each of the ``seeds`` (3), on the batches
        that the seed's trials see; without the recipe's schedule and warmup. ``steps`` for each seed are 100, but at most a
        quarter of the horizon's. With ``from_lr`` the tests begin at the checkpoints of the directory's trials at that rate.
        ``on_begin`` is told how many seeds and steps there will be. Nothing of the caller's is changed.

        Raises `SpecError` for an optimizer that finds its own rate and for checkpoints that there are not, `MismatchError`
        when the directory holds another study, `TrainingError` when the task's code raises.
        """
        if self.task is None:
            self.make_task()  # says so, before torch is imported
        from etude import ranging
        from etude.spec import script

        if script.running():
            raise SpecError(
                'study.range_test: it is called while etude reads the file; put it under if __name__ == "__main__":'
            )
        with script.importable(self.source):
            return ranging.range_test(
                self, directory, lrs=lrs, seeds=seeds, steps=steps, from_lr=from_lr, device=device, on_begin=on_begin
            )

    def result(self, directory: str | Path | None = None) -> Result:
        """Read what the run directory (``runs/NAME``) holds by now, by this study's objective; nothing is trained."""
        from etude.result import Result

        assert self.objective is not None
        return Result.load(self.place(directory), dataclasses.asdict(self.objective))


def merge_recipe(usual: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a given recipe over a task's usual one; another optimizer or schedule drops the usual one's options."""
    merged = {**usual, **given}
    if (
        "optimizer" in given
        and str(given["optimizer"]).lower() != usual["optimizer"]
        and "optimizer_options" not in given
    ):
        merged.pop("optimizer_options", None)
    if (
        "schedule" in given
        and parse_schedule(given["schedule"]) != usual.get("schedule", "constant")
        and "schedule_options" not in given
    ):
        merged.pop("schedule_options", None)
    return merged


def canonical(table: Any) -> str:
    """One JSON text for equal values, for comparing and storing."""
    return json.dumps(table, sort_keys=True, ensure_ascii=False, allow_nan=False, default=str)

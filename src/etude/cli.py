"""The command line: thin. Takes options, calls the runner or reads a run, prints. Heavy imports happen where they are used."""

from __future__ import annotations

import gc
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from etude.errors import EtudeError, Interrupted, SpecError, StoreError
from etude.options import OPTIONS, begun_study, read_study, task_of, whose_code, with_options

if TYPE_CHECKING:
    from rich.console import Console

    from etude.result import Result
    from etude.spec.study import Study

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Which learning rate does this model want, why, and how sure are we?",
)

NOT_SEARCHED = {"lrs", "seeds"}  # of these a search makes its own

Lrs = Annotated[str | None, typer.Option(help="Learning rates: 1e-4,1e-3,1e-2 or LOW..HIGH/COUNT, log-spaced.")]
Seeds = Annotated[str | None, typer.Option(help="How many seeds (3 means 0, 1, 2), or 10..14, or 0,7.")]
Epochs = Annotated[str | None, typer.Option(help="Epochs to train; a fraction is allowed.")]
EvaluateEvery = Annotated[str | None, typer.Option(help="Epochs between evaluations.")]
BatchSize = Annotated[str | None, typer.Option(help="Examples in a batch.")]
Optimizer = Annotated[str | None, typer.Option(help="A class of torch.optim: adam, adamw, sgd, …")]
OptimizerOptions = Annotated[str | None, typer.Option(help="momentum=0.9,nesterov=true")]
Schedule = Annotated[
    str | None,
    typer.Option(help="constant, linear, cosine, one-cycle, step, exponential or wsd; the study's rate is the peak."),
]
ScheduleOptions = Annotated[str | None, typer.Option(help="every=2,factor=0.5 of step; decay=0.1 of wsd; …")]
Warmup = Annotated[str | None, typer.Option(help="Epochs, '500 steps', or '5%' of the horizon, linear to the peak.")]
WeightDecay = Annotated[str | None, typer.Option(help="The optimizer's weight decay.")]
Accumulate = Annotated[str | None, typer.Option(help="Batches whose gradients make one optimizer step.")]
ClipNorm = Annotated[str | None, typer.Option(help="Bound on the gradient's norm over all parameters.")]
Precision = Annotated[str | None, typer.Option(help="float32, or bf16 for autocast to bfloat16.")]
Average = Annotated[str | None, typer.Option(help="Weights that are evaluated: none (the last), ema or swa.")]
AverageDecay = Annotated[str | None, typer.Option(help="What a step leaves of the ema.")]
AverageStart = Annotated[str | None, typer.Option(help="Epochs after which averaging begins.")]
Select = Annotated[str | None, typer.Option(help="A trial's score: its last evaluation, or its best.")]
Keep = Annotated[
    str | None, typer.Option(help="Whose weights stay on disk: all, best (the recommended rate's) or none.")
]
Holdout = Annotated[
    str | None, typer.Option(help="Training examples kept for choosing; the test set waits for the end.")
]
TaskOptions = Annotated[str | None, typer.Option(help="Options of the task, such as root=DIR for mnist.")]
ObjectiveOption = Annotated[str | None, typer.Option(help="What decides: val_loss, max:val_f1, …")]
ExecutorOption = Annotated[str, typer.Option("--executor", help="auto, inline or processes.")]
Workers = Annotated[int | None, typer.Option(help="Worker processes; one a core if not said.")]
Device = Annotated[str, typer.Option(help="auto (CUDA when there is one), cpu or cuda.")]
Out = Annotated[Path | None, typer.Option(help="The run directory; runs/NAME if not said.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell trials, steps, time and disk; train nothing.")]
StudyArgument = Annotated[
    str | None,
    typer.Argument(metavar="[STUDY]", help="A built-in task, or a .py or .toml file; the reference study if not said."),
]
StudyFile = Annotated[
    str | None,
    typer.Option("--study", metavar="FILE", help="The file with the run's task, where that is your own code."),
]
Run = Annotated[
    Path | None, typer.Argument(metavar="[RUN]", help="A run directory; the latest under runs/ if not said.")
]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"etude {version('etude')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print etude's version.")
    ] = False,
) -> None:
    """Take what holds for all commands."""


@app.command()
def run(
    study: StudyArgument = None,
    lrs: Lrs = None, seeds: Seeds = None, epochs: Epochs = None, batch_size: BatchSize = None, optimizer: Optimizer = None,
    optimizer_options: OptimizerOptions = None, schedule: Schedule = None,
    schedule_options: ScheduleOptions = None, warmup: Warmup = None, holdout: Holdout = None,
    evaluate_every: EvaluateEvery = None, objective: ObjectiveOption = None, task_options: TaskOptions = None,
    weight_decay: WeightDecay = None, accumulate: Accumulate = None, clip_norm: ClipNorm = None,
    precision: Precision = None, average: Average = None, average_decay: AverageDecay = None,
    average_start: AverageStart = None, select: Select = None, keep: Keep = None,
    executor: ExecutorOption = "auto", workers: Workers = None, device: Device = "auto", out: Out = None,
    quiet: Quiet = False, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Train a study: what is missing of it in the run directory, and nothing else."""
    given = {name: value for name, value in locals().items() if name in OPTIONS and value is not None}
    made = with_options(read_study(study or "mnist", given), given)
    _carry_out(made, out, executor, workers, device, quiet, dry_run)


@app.command("range-test")
def range_test(
    study: StudyArgument = None,
    lrs: Annotated[
        str, typer.Option(metavar="LOW..HIGH", help="Where the rate begins and ends.")
    ] = "1e-7..10",
    seeds: Seeds = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps for each seed; 100 if not said, or a quarter of the horizon's.")
    ] = None,
    begun: Annotated[
        Path | None, typer.Option("--from", metavar="RUN", help="Begin at this run's checkpoints of the rate --lr.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="The rate of the trials to begin from, with --from.")] = None,
    epochs: Epochs = None, batch_size: BatchSize = None, optimizer: Optimizer = None,
    optimizer_options: OptimizerOptions = None, schedule: Schedule = None, schedule_options: ScheduleOptions = None,
    warmup: Warmup = None, holdout: Holdout = None, task_options: TaskOptions = None, weight_decay: WeightDecay = None,
    accumulate: Accumulate = None, clip_norm: ClipNorm = None, precision: Precision = None, device: Device = "auto",
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the range test as JSON.")] = False,
) -> None:  # fmt: skip
    """Raise the rate step by step until all is lost: what every known rule picks, and which rates are worth a look."""
    given = {name: value for name, value in locals().items() if name in OPTIONS and value is not None}
    given = {name: value for name, value in given.items() if name not in ("lrs", "seeds")}  # they are the test's own
    if (begun is None) != (lr is None):
        raise SpecError("range-test: --from RUN and --lr RATE go together: they name the trials to begin from")
    if begun is not None and out is not None:
        raise SpecError("range-test: with --from the test is kept in that run; leave --out out")
    made = read_study(study or "mnist", given) if begun is None else begun_study(begun, study, lr)
    _tell_range_test(with_options(made, given), begun or out, lrs, seeds, steps, lr, device, as_json)


@app.command()
def find(
    study: StudyArgument = None,
    budget: Annotated[str | None, typer.Option(help="Wall time for all of the search: 20m, 1h30m, 90s.")] = None,
    trials: Annotated[str | None, typer.Option(help="Instead: so many trials' worth of steps.")] = None,
    cost: Annotated[
        str | None, typer.Option(help="Instead: a share of a grid of 13 rates × 3 seeds; 0.25 if nothing is said.")
    ] = None,
    lrs: Annotated[
        str | None, typer.Option(metavar="LOW..HIGH", help="Where to look; if not said, by the optimizer.")
    ] = None,
    searcher: Annotated[str | None, typer.Option(help="Who decides: adaptive, grid, random, halving or optuna.")] = None,
    seeds: Annotated[str | None, typer.Option(help="The seeds that may be used; ten if not said.")] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Train Prodigy and schedule-free AdamW beside, to tell what tuning bought.")
    ] = False,
    epochs: Epochs = None, batch_size: BatchSize = None, optimizer: Optimizer = None,
    optimizer_options: OptimizerOptions = None, schedule: Schedule = None,
    schedule_options: ScheduleOptions = None, warmup: Warmup = None, holdout: Holdout = None,
    evaluate_every: EvaluateEvery = None, objective: ObjectiveOption = None, task_options: TaskOptions = None,
    weight_decay: WeightDecay = None, accumulate: Accumulate = None, clip_norm: ClipNorm = None,
    precision: Precision = None, average: Average = None, average_decay: AverageDecay = None,
    average_start: AverageStart = None, select: Select = None, keep: Keep = None,
    executor: ExecutorOption = "auto", workers: Workers = None, device: Device = "auto", out: Out = None,
    quiet: Quiet = False, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Search for the learning rate within a budget; the same command again goes on, a larger budget further."""
    given = {
        name: value
        for name, value in locals().items()
        if name in OPTIONS and name not in NOT_SEARCHED and value is not None
    }
    began_s = time.monotonic()  # what is imported from here on takes time that is limited, too
    from etude.spec.budget import parse_budget

    asked = None if budget is None and trials is None and cost is None else parse_budget(budget, trials, cost)
    made = with_options(read_study(study or "mnist", given), given)
    _search(
        made,
        out,
        executor,
        workers,
        device,
        quiet,
        dry_run,
        baselines,
        budget=asked,
        lrs=lrs,
        seeds=seeds,
        searcher=searcher,
        began_s=began_s,
    )


@app.command()
def resume(
    run: Run = None, study: StudyFile = None, lrs: Lrs = None, seeds: Seeds = None, epochs: Epochs = None,
    executor: ExecutorOption = "auto", workers: Workers = None, device: Device = "auto",
    quiet: Quiet = False, dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Go on with a run or a search; --lrs, --seeds and --epochs extend it."""
    from etude.notation import time_text
    from etude.result import Result
    from etude.spec.rates import parse_rates, parse_seeds
    from etude.spec.study import Study

    directory = _latest(run)
    stored = Result.load(directory)
    if stored.is_own_loop:
        raise SpecError(
            f"{directory}: its training loop is your own; run your script again, study.missing({str(directory)!r}) gives "
            "the trials that are left"
        )
    table = {**stored.fields, "epochs": stored.horizon}
    if study is not None:
        table |= task_of(study, stored)
    elif not stored.is_known_by_name:
        raise SpecError(whose_code(stored, {"lrs": lrs, "seeds": seeds, "epochs": epochs}))
    asked = any(given is not None for given in (lrs, seeds, epochs))
    extended = asked or not stored.stored.trials
    if stored.search is not None:
        # Not all rates that it looked at are worth more seeds or epochs: those are that it carried to the end.
        table |= {"lrs": sorted({t.lr for t in stored.judged if t.status == "completed"}), "expect": {}}
        if not asked and stored.search.ended is None:
            table.pop("lrs")
            _search(Study(**table), directory, executor, workers, device, quiet, dry_run)
            return
    if lrs is not None:
        table["lrs"] = sorted({*([] if stored.searched else table["lrs"]), *parse_rates(lrs)})
    if seeds is not None:
        table["seeds"] = sorted({*([] if stored.searched else table["seeds"]), *parse_seeds(seeds)})
    if epochs is not None:
        table["epochs"] = epochs
    longer = Study(**table)
    if longer.epochs < stored.horizon and not longer.recipe.depends_on_horizon:  # else they are trials of their own
        raise SpecError(
            f"resume: --epochs extends a run, and the trials of {directory} go to {time_text(stored.horizon, 'epoch')}: expected "
            f"that or more, got {longer.epochs:g}"
        )
    _carry_out(longer, directory, executor, workers, device, quiet, dry_run, "both" if extended else "unfinished")


@app.command()
def show(
    run: Run = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, format 1.")] = False,
    objective: ObjectiveOption = None,
) -> None:
    """Print what a run says: verdicts, evidence, recommendation."""
    _tell(_load(run, objective), as_json)


@app.command()
def plot(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]…", help="A run directory, the latest if not said; for compare several."),
    ] = None,
    figure: Annotated[
        str,
        typer.Option(
            help="Which figure: curves, rates, verdicts, stability, schedule, range-test, or compare (of several runs)."
        ),
    ] = "curves",
    x: Annotated[
        str | None, typer.Option("--x", help="Of curves: by epoch, or by step, with the loss of each.")
    ] = None,
    xscale: Annotated[str | None, typer.Option(help="Of curves: linear or log.")] = None,
    yscale: Annotated[str | None, typer.Option(help="Of curves: auto, linear or log.")] = None,
    smooth: Annotated[
        float | None,
        typer.Option(help="Of curves: how much a moving average keeps, 0 to less than 1; the raw line stays."),
    ] = None,
    format: Annotated[str | None, typer.Option(help="png, svg or pdf; png if not said.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file; figures/FIGURE.FORMAT in the (first) run if not said.")
    ] = None,
    objective: ObjectiveOption = None,
) -> None:
    """Draw a figure of a run, or of several runs beside each other."""
    from etude.present import figures
    from etude.store import FIGURES

    if out is not None and format is not None and out.suffix.lower() != f".{format.lower()}":
        raise SpecError(f"plot: --format says {format} and --out {out.name}; leave one of them out")
    named = runs or [_latest(None)]
    path = out or named[0] / FIGURES / f"{figure}.{format or 'png'}"
    options = {"x": x, "xscale": xscale, "yscale": yscale, "smooth": smooth}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if len(named) > 1 and figure != "compare":
        raise SpecError(f"plot: figure {figure!r} shows one run, got {len(named)}; --figure compare shows several")
    if len(named) > 1:
        from etude.comparison import compare

        figures.check_options(figure, given)
        print(figures.save_comparison(compare(named, objective), path))
        return
    print(figures.save(_load(named[0], objective), figure, path, **given))


@app.command()
def report(
    run: Run = None,
    format: Annotated[
        str, typer.Option(help="html, one file that holds everything; or md, with its pictures beside it.")
    ] = "html",
    out: Annotated[Path | None, typer.Option(help="The file; report.html (report.md) in the run if not said.")] = None,
    objective: ObjectiveOption = None,
) -> None:
    """Write a run up as an article with pictures."""
    gc.disable()  # thousands of artists, in use until the process ends: looking for garbage among them is 8 % of its time
    from etude.present import report as reports

    print(reports.write(_load(run, objective), out, format, fork=True))


@app.command()
def judge(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A CSV, gzipped CSV or Parquet file, or a folder of TensorBoard logs."),
    ],
    objective: ObjectiveOption = None,
    margin: Annotated[float | None, typer.Option(help="The practical difference δ, in the metric's unit.")] = None,
    lr: Annotated[str, typer.Option(metavar="COLUMN", help="The learning rate's column.")] = "lr",
    seed: Annotated[str, typer.Option(metavar="COLUMN", help="The seed's column.")] = "seed",
    step: Annotated[str, typer.Option(metavar="COLUMN", help="The step's column.")] = "step",
    epoch: Annotated[str, typer.Option(metavar="COLUMN", help="The epoch's column.")] = "epoch",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON, format 1.")] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for the figures and the report; none if not said.")] = None,
    format: Annotated[str, typer.Option(help="The figures' format: png, svg or pdf.")] = "png",
) -> None:
    """Judge curves that were trained elsewhere: the same table, JSON, figures and report, without training."""
    from etude import result as results

    made = results.judge(source, objective, lr=lr, seed=seed, step=step, epoch=epoch, margin=margin)
    if out is not None:
        from etude.present import figures

        pictures = [figures.save(made, name, out / f"{name}.{format}") for name in figures.names(made)]
        written = made.report(out / "report.html")
    _tell(made, as_json)
    if out is not None and not as_json:
        for picture in pictures:
            print(f"Picture: {picture}")
        print(f"Report: {written}")


@app.command()
def export(
    run: Run = None,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="csv, parquet or json.")] = "csv",
    out: Annotated[Path | None, typer.Option(help="The folder to write to; the current one if not said.")] = None,
) -> None:
    """Write a run's tables: trials, evaluations, rates and steps as CSV or Parquet, or the result as JSON."""
    from etude import export as exporting
    from etude.result import Result

    for path in exporting.export(Result.load(_latest(run)), to, out or Path()):
        print(path)


@app.command()
def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN RUN…", help="Run directories; the others are held against the first."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON, format 1.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The picture; figures/compare.png in the first run if not said (none with --json)."),
    ] = None,
    objective: ObjectiveOption = None,
) -> None:
    """Compare runs: best against best, what the seeds bear, and their responses in one picture."""
    from etude.comparison import compare
    from etude.store import FIGURES

    made = compare(runs or [], objective)
    if as_json and out is None:
        picture = None
    else:
        from etude.present import figures

        first = made.results[0].directory
        assert first is not None  # they were named by their directories
        picture = figures.save_comparison(made, out or first / FIGURES / "compare.png")
    if as_json:
        print(json.dumps(made.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
        return
    from rich.console import Console

    from etude.present.terminal import print_comparison

    print_comparison(Console(), made)
    print(f"Picture: {picture}")


@app.command("list")
def list_runs(
    root: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
) -> None:
    """List the runs there are, the latest first."""
    from etude import store
    from etude.present.terminal import trial_rows

    found = store.runs(root)
    if not found:
        print(f"There are no runs under {root}.")
    for directory in found:
        try:
            stored = store.read(directory)
        except StoreError as error:
            print(error)
            continue
        study = stored.study
        what = f"{study['task']}, {study['recipe']['optimizer']}" if study["recipe"] else f"{study['name']}, own loop"
        rates = f"{len(study['lrs'])} rate{'s' * (len(study['lrs']) != 1)}"
        print(f"{directory}  {what}, {rates}, {trial_rows(stored.trials) or 'no trials'}")


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The file to write; study.py if not said.")] = Path(
        "study.py"
    ),
) -> None:
    """Write a study of your own to start from: it runs as it is, and says where your model and data go."""
    from etude.spec import files

    files.write_starter(file)
    print(f"Wrote {file}. It runs as it is:\n  {shlex.join(['etude', 'run', str(file)])}")


@app.command("tasks")
def list_tasks() -> None:
    """List the built-in tasks."""
    from etude import tasks

    width = max(map(len, tasks.BUILT_IN))
    for name in tasks.BUILT_IN:
        module = tasks.module(name)
        facts = module.FACTS
        print(f"{name:{width}}  {module.SUMMARY}")
        said = (
            f"{facts['train']:,} training and {facts['val']:,} validation examples, {facts['parameters']:,} parameters"
        )
        if "epoch_s" in facts:
            seconds = facts["epoch_s"]
            said += f"; about {seconds} s an epoch on one core" if seconds >= 1 else "; less than a second an epoch"
        if "download_mb" in facts:
            said += f"; downloads {facts['download_mb']} MB, once"
        print(f"{'':{width}}  {said}")


@app.command()
def doctor(
    executor: ExecutorOption = "auto", workers: Workers = None, device: Device = "auto",
) -> None:  # fmt: skip
    """Tell versions, cores, devices, and how a study would be carried out here."""
    import platform

    import numpy as np
    import torch

    import etude
    from etude.execution import plan, worker

    plan.check(executor, workers)
    chosen = plan.choose(executor, workers, plan.choose_device(device), n_trials=3, seconds=60.0)
    cuda = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none"
    print(
        f"etude     {etude.__version__}, Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}"
    )
    print(f"machine   {platform.platform()}, {plan.cores()} cores, {torch.backends.cpu.get_cpu_capability()}")
    print(f"CUDA      {cuda}")
    print(f"executor  {chosen}: {chosen.reason} (for a study of three trials of some seconds)")
    print(f"allocator {'glibc, kept quiet in worker processes' if worker.quiet_allocator() else 'left as it is'}")


def _tell_range_test(
    study: Study, out: Path | None, lrs: str, seeds: str | None, steps: int | None, lr: float | None, device: str,
    as_json: bool,
) -> None:  # fmt: skip
    from rich.console import Console

    from etude.present import figures
    from etude.present.terminal import print_range_test
    from etude.result import Result
    from etude.store import FIGURES, plain

    def on_begin(n_seeds: int, n_steps: int) -> None:
        if not as_json:
            print(f"etude: range test of {study.name}, {n_seeds} seed{'s' * (n_seeds != 1)} × {n_steps} steps, {lrs}")

    directory = study.place(out)
    made = study.range_test(directory, lrs=lrs, seeds=seeds, steps=steps, from_lr=lr, device=device, on_begin=on_begin)
    picture = figures.save(Result.load(directory), "range-test", directory / FIGURES / "range-test.png")
    if as_json:
        print(json.dumps(plain(made.to_dict()), indent=1, allow_nan=False))
        return
    print_range_test(Console(), made)
    print(f"Picture: {picture}")


def _search(
    study: Study, out: Path | None, executor: str, workers: int | None, device: str, quiet: bool, dry_run: bool,
    beside: bool = False, **asked: Any,
) -> None:  # fmt: skip
    from rich.console import Console

    from etude import baselines, finding
    from etude.events import Estimated
    from etude.present.progress import Progress, baselines_line
    from etude.result import Result
    from etude.spec import script

    console = Console()
    directory = study.place(out)
    if beside:
        baselines.check(study, directory)
    try:
        with Progress(console, quiet and not dry_run) as progress, script.importable(study.source):

            def tell(event: Any) -> None:
                progress(event)
                if beside and isinstance(event, Estimated) and not progress.quiet:
                    trials = baselines.left(study, directory, event.search.seeds)
                    console.print(baselines_line(event, trials), highlight=False, markup=False, soft_wrap=True)

            result = finding.find(
                study,
                directory,
                executor=executor,
                workers=workers,
                device=device,
                on_event=tell,
                dry_run=dry_run,
                **asked,
            )
    except Interrupted:
        if not quiet:
            so_far = Result.load(directory).recommendation
            console.print(f"So far: {so_far.conclusion}", highlight=False, markup=False, soft_wrap=True)
        raise
    if result is None:
        return
    if beside:
        assert result.search is not None
        try:
            for method in baselines.METHODS:
                with Progress(console, quiet) as progress, script.importable(study.source):
                    baselines.train(
                        method, study, directory, result.search.search.seeds, executor=executor, workers=workers,
                        device=device, on_event=progress,
                    )  # fmt: skip
        except EtudeError:
            if not quiet:
                _print_result(result)  # the search's answer is not lost
            raise
    _finish(console, result, quiet)


def _carry_out(
    study: Study, out: Path | None, executor: str, workers: int | None, device: str, quiet: bool, dry_run: bool,
    carry: Literal["study", "unfinished", "both"] = "study",
) -> None:  # fmt: skip
    from rich.console import Console

    from etude import runner
    from etude.notation import duration
    from etude.present.progress import Progress
    from etude.spec import script

    if dry_run:
        with script.importable(study.source):
            seen = runner.estimate(study, out, executor=executor, workers=workers, device=device, carry=carry)
        kept = f", of which {_megabytes(seen.kept_bytes)} stay" if seen.kept_bytes < seen.disk_bytes else ""
        print(
            f"{seen.trials} trials to train ({seen.complete_trials} complete), {seen.steps:,} steps, about "
            f"{duration(seen.seconds)} ({seen.plan}), {_megabytes(seen.disk_bytes)} on disk{kept}."
        )
        return
    console = Console()
    with Progress(console, quiet) as progress, script.importable(study.source):
        result = runner.run(
            study, out, executor=executor, workers=workers, device=device, on_event=progress, carry=carry
        )
    _finish(console, result, quiet)


def _finish(console: Console, result: Result, quiet: bool) -> None:
    """Print what a run says, draw its curves, write its report."""
    if not quiet:
        console.print()
        _print_result(result)
    from etude.present import figures
    from etude.store import FIGURES

    assert result.directory is not None  # it was just written
    picture = figures.save(result, "curves", result.directory / FIGURES / "curves.png")
    written = result.report()
    if not quiet:
        print(f"Picture: {picture}")
        print(f"Report: {written}")
    if result.counts.get("failed"):
        raise typer.Exit(1)


def _megabytes(n_bytes: int) -> str:
    return f"{max(1, round(n_bytes / 1e6)):,} MB"


def _tell(result: Result, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False, allow_nan=False))
    else:
        _print_result(result)


def _print_result(result: Result) -> None:
    from rich.console import Console

    from etude.present.terminal import print_result

    print_result(Console(), result)


def _load(run: Path | None, objective: str | None) -> Result:
    from etude.result import Result

    if objective is None:
        return Result.load(_latest(run))
    import dataclasses

    from etude.spec.objective import parse_objective

    return Result.load(_latest(run), dataclasses.asdict(parse_objective(objective)))


def _latest(run: Path | None) -> Path:
    from etude import store

    if run is not None:
        return run
    found = store.runs(Path("runs"))
    if not found:
        raise StoreError("there are no runs under runs/; name a run directory, or make one with `etude run`")
    return found[0]


def main() -> None:
    """Run the command line; errors of etude's own are one line, and their class gives the exit status."""
    # typer's click, whether it brings its own or uses the package of that name.
    click_error = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no ± still gets its table
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if not sys.argv[1:]:
            status = SpecError.exit_status
        if status == Interrupted.exit_status:  # as typer tells of Ctrl-C, some versions of it
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else 0)
    except EtudeError as error:
        _fail(" ".join(str(error).split()), error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped", Interrupted.exit_status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        if not isinstance(error, click_error):
            raise
        _fail(" ".join(error.format_message().split()), SpecError.exit_status)  # type: ignore[attr-defined]


def _fail(message: str, status: int) -> None:
    print(f"etude: {message}", file=sys.stderr)
    sys.exit(status)

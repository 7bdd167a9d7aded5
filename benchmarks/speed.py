"""How fast etude trains the reference study here, against the loop of `tutorial.py`, and where the time goes.

Whole processes, one at a time, alternating; the report is Markdown. Torch is imported only after they have run: pages of
it that this process had mapped too would count half in their proportional memory.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from etude import store

TUTORIAL = Path(__file__).with_name("tutorial.py")
LRS = ("1e-4", "1e-3", "1e-2")
SAMPLE_S = 0.3
LIMIT_S = 3600.0  # a process that takes longer is killed
MIB = 1 << 20

# Multiply-adds of the reference CNN for one image, forward: outputs × inputs of each, by layer.
FIRST_LAYER = 28 * 28 * 16 * 9
OTHER_LAYERS = 14 * 14 * 32 * (16 * 9) + (32 * 7 * 7) * 128 + 128 * 10
# A multiply-add is two operations. The gradient by the weights costs as much again, and so does the one by the inputs,
# which the first layer does not need: 453e6 (it would be 468e6 with it). ReLU, pooling, Adam and evaluations are left out.
STEP_FLOP = 64 * 2 * (2 * FIRST_LAYER + 3 * OTHER_LAYERS)


@dataclass
class Usage:
    """What a whole process took: seconds, and its tree's peak memory. PSS divides shared pages, RSS counts them again.

    ``others`` is the share of the machine that was busy just before.
    """

    others: float
    wall_s: float = 0.0
    pss_mib: float = 0.0
    rss_mib: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """An `etude run`, and what its store says of it; ``trained_s`` is the sum over its trials."""

    usage: Usage
    trials: int
    steps: int
    trained_s: float
    executor: str
    workers: int

    @property
    def utilisation(self) -> float:
        """The share of the workers' time, from the start of the command to its end, that went into slices of trials."""
        return self.trained_s / (self.workers * self.usage.wall_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="pairs of whole runs")
    parser.add_argument("--epochs", type=float, default=5.0, help="epochs of each trial in them")
    parser.add_argument("--quick", action="store_true", help="very little of everything: does this script work?")
    parser.add_argument("--out", type=Path, help="also write the report to this file")
    options = parser.parse_args()
    repeats, epochs = (1, 0.05) if options.quick else (options.repeats, options.epochs)
    with tempfile.TemporaryDirectory(prefix="etude-speed-") as folder:
        if not options.quick:
            warm_up(Path(folder))
        pairs = compare(Path(folder), repeats, epochs)
        growth = grow(Path(folder), *(((1, 2), 0.01) if options.quick else ((1, 3, 9, 27), 0.1)))
    others = max(run.others for run in [*(tutorial for tutorial, _ in pairs), *(run.usage for _, run in pairs)])
    sgemm_gflops = measure_sgemm(cores())
    with_s, without_s = measure_history(60 if options.quick else 1500)
    sections = [
        f"# Speed\n\n{machine()}. Just before the runs of the first table others kept up to {others:.0%} of it busy.",
        report_pairs(pairs, epochs),
        report_memory(pairs),
        report_flops(pairs, sgemm_gflops),
        report_history(with_s, without_s),
        report_growth(growth, [run for _, run in pairs]),
    ]
    report = "\n\n".join(sections) + "\n"
    print(report)
    if options.out is not None:
        options.out.write_text(report, encoding="utf-8")


def warm_up(folder: Path) -> None:
    """Fill the disk's, Python's and Matplotlib's caches for what comes."""
    tell("warming up")
    run_tutorial(["1e-3"], 0.001)
    run_etude(folder / "warm-up", LRS[:2], 0.001)


def compare(folder: Path, repeats: int, epochs: float) -> list[tuple[Usage, Run]]:
    """Run the tutorial and etude in turn."""
    pairs = []
    for i in range(1, repeats + 1):
        tell(f"pair {i} of {repeats}: the tutorial's loop, {epochs:g} epochs")
        tutorial = run_tutorial(LRS, epochs)
        tell(f"pair {i} of {repeats}: {tutorial.wall_s:.1f} s; now etude")
        run = run_etude(folder / f"pair{i}", LRS, epochs)
        tell(f"pair {i} of {repeats}: {run.usage.wall_s:.1f} s")
        pairs.append((tutorial, run))
    return pairs


def grow(folder: Path, counts: Iterable[int], epochs: float) -> list[Run]:
    """Run studies of more and more short trials."""
    runs = []
    for count in counts:
        tell(f"{count} trials of {epochs:g} epochs")
        lrs = ["1e-3"] if count == 1 else [f"1e-4..1e-2/{count}"]
        runs.append(run_etude(folder / f"trials{count}", lrs, epochs))
    return runs


def run_tutorial(lrs: Sequence[str], epochs: float) -> Usage:
    command = [str(TUTORIAL), "--lrs", ",".join(lrs), "--epochs", f"{epochs:g}"]
    return measure(command)


def run_etude(out: Path, lrs: Sequence[str], epochs: float) -> Run:
    options = ["--lrs", ",".join(lrs), "--epochs", f"{epochs:g}", "--out", str(out), "--device", "cpu", "--quiet"]
    usage = measure(["-m", "etude", "run", "mnist", *options])
    stored = store.read(out)
    return Run(
        usage=usage,
        trials=len(stored.trials),
        steps=sum(trial.step for trial in stored.trials),
        trained_s=sum(trial.wall_s for trial in stored.trials),
        executor=stored.environments[-1]["executor"],
        workers=stored.environments[-1]["workers"],
    )


def measure(arguments: Sequence[str]) -> Usage:
    """Run Python with ``arguments`` to the end. Raises `SystemExit` where it fails or has to be killed."""
    usage, done = Usage(others=psutil.cpu_percent(interval=0.5) / 100), threading.Event()
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=sys.stderr, start_new_session=True)
    watcher = threading.Thread(target=watch, args=(process.pid, usage, done))
    watcher.start()
    try:
        status = process.wait()
        usage.wall_s = time.perf_counter() - began
    finally:
        done.set()
        watcher.join()
        kill(process.pid)  # with all that it may have left behind
        process.wait()
    if status:
        raise SystemExit(f"speed: {' '.join(arguments)} ended with status {status} after {usage.wall_s:.0f} s")
    return usage


def watch(pid: int, usage: Usage, done: threading.Event) -> None:
    """Note the peak memory of a process and its descendants until ``done``, at the cost of 2 % of a core at most."""
    began, pause_s = time.perf_counter(), SAMPLE_S
    while not done.wait(pause_s):
        before = time.perf_counter()
        if before - began > LIMIT_S:
            kill(pid)
        pss_mib, rss_mib = tree_memory(pid)
        usage.pss_mib, usage.rss_mib = max(usage.pss_mib, pss_mib), max(usage.rss_mib, rss_mib)
        pause_s = max(SAMPLE_S, 50 * (time.perf_counter() - before))


def tree_memory(pid: int) -> tuple[float, float]:
    """Return PSS (0 where the system has none) and RSS, summed over a process and its descendants, in MiB."""
    pss = rss = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                memory = process.memory_full_info()
                pss += getattr(memory, "pss", 0)
                rss += memory.rss
    return pss / MIB, rss / MIB


def kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def measure_sgemm(processes: int) -> float:
    """Return the mean GFLOP/s of single-threaded processes that multiply matrices side by side."""
    tell(f"matrix products in {processes} processes")
    context = multiprocessing.get_context("spawn")
    together: Callable[[float], int] = context.Barrier(processes).wait
    with context.Pool(processes, initializer=together, initargs=(60.0,)) as pool:
        rates = pool.map_async(sgemm, range(processes), chunksize=1).get(timeout=120)
    return sum(rates) / processes


def sgemm(_: int, size: int = 1024, seconds: float = 2.0) -> float:
    """Return the best GFLOP/s of a float32 matrix product in one thread."""
    import torch

    torch.set_num_threads(1)
    left, right, product = (torch.rand(size, size) for _ in range(3))
    best_s, end = math.inf, time.perf_counter() + seconds
    while (before := time.perf_counter()) < end:
        torch.mm(left, right, out=product)
        best_s = min(best_s, time.perf_counter() - before)
    return 2 * size**3 / best_s / 1e9


def measure_history(steps: int) -> tuple[list[float], list[float]]:
    """Return seconds of single steps with the gradient and update norms, and without them.

    In this process, one thread, channels last, as a worker trains. Two steps with, two without, in one session, so that
    neither the machine's drift nor the memory's layout comes between them.
    """
    from etude.execution import worker

    tell(f"the history's cost: {steps} steps, two with, two without")
    worker.quiet_allocator()

    import torch

    from etude.engine.norms import UpdateMeter
    from etude.engine.session import Session, Setup
    from etude.spec.study import Study

    class Switched(UpdateMeter):
        on = True

        def before(self) -> None:
            if self.on:
                super().before()

        def after(self) -> tuple[float, float]:
            return super().after() if self.on else (math.nan, math.nan)

    times: tuple[list[float], list[float]] = ([], [])

    class Timed(Session):
        def _train_step(self, *arguments: Any) -> None:
            assert isinstance(self.meter, Switched)
            self.meter.on = self.step // 2 % 2 == 0
            began = time.perf_counter()
            super()._train_step(*arguments)
            times[0 if self.meter.on else 1].append(time.perf_counter() - began)

    torch.set_num_threads(1)
    study = Study.default("mnist").replace(lrs=1e-3)
    setup = Setup(task=study.make_task(), recipe=study.recipe, channels_last=True)
    session = Timed.open(setup, study.trials()[0])
    session.meter = Switched(list(session.model.parameters()))
    session.run(100)  # it evaluates first, and warms up
    for column in times:
        column.clear()
    session.run(100 + steps)
    return times


def machine() -> str:
    import torch

    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {cores()} cores, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"


def cores() -> int:
    from etude.execution import plan

    return plan.cores()


def report_pairs(pairs: Sequence[tuple[Usage, Run]], epochs: float) -> str:
    ratios = [tutorial.wall_s / run.usage.wall_s for tutorial, run in pairs]
    rows = [
        (str(i), f"{tutorial.wall_s:.1f}", f"{run.usage.wall_s:.1f}", f"{ratio:.2f}")
        for i, ((tutorial, run), ratio) in enumerate(zip(pairs, ratios, strict=True), 1)
    ]
    return (
        f"## The reference study, {len(LRS)} rates × {epochs:g} epochs, whole processes\n\n"
        f"{table(('pair', 'tutorial, s', 'etude, s', 'ratio'), rows)}\n\n"
        f"Ratio: median {median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})."
    )


def report_memory(pairs: Sequence[tuple[Usage, Run]]) -> str:
    rows = [
        (name, f"{max(usage.pss_mib for usage in usages):.0f}", f"{max(usage.rss_mib for usage in usages):.0f}")
        for name, usages in by_name(pairs).items()
    ]
    header = ("", "PSS, MiB", "RSS, MiB")
    return (
        f"## Peak memory of all processes together\n\n{table(header, rows)}\n\n"
        "RSS counts a shared page once for each process that has it; PSS counts it once."
    )


def by_name(pairs: Sequence[tuple[Usage, Run]]) -> dict[str, list[Usage]]:
    return {"tutorial": [usage for usage, _ in pairs], "etude": [run.usage for _, run in pairs]}


def report_flops(pairs: Sequence[tuple[Usage, Run]], sgemm_gflops: float) -> str:
    steps = pairs[0][1].steps
    rows = []
    for name, usages in by_name(pairs).items():
        achieved = STEP_FLOP * steps / median(usage.wall_s for usage in usages) / cores() / 1e9
        rows.append((name, f"{achieved:.1f}", f"{achieved / sgemm_gflops:.1%}"))
    return (
        "## Share of the machine's own rate\n\n"
        f"Single-threaded SGEMM (1024 × 1024) in {cores()} processes side by side: {sgemm_gflops:.1f} GFLOP/s a core. "
        f"{steps:,} steps of {STEP_FLOP / 1e6:.0f} MFLOP over the median wall time, start and evaluations included:\n\n"
        f"{table(('', 'GFLOP/s a core', 'of SGEMM'), rows)}"
    )


def report_history(with_s: Sequence[float], without_s: Sequence[float]) -> str:
    shares = [one / other - 1 for one, other in zip(quantiles(with_s, n=4), quantiles(without_s, n=4), strict=True)]
    return (
        "## The history's cost: gradient norm and update ratio at each step\n\n"
        f"One thread, channels last, {len(with_s) + len(without_s)} steps: {median(with_s) * 1e3:.2f} ms a step with them, "
        f"{median(without_s) * 1e3:.2f} ms without: {shares[1]:+.1%} (quartiles {shares[0]:+.1%} and {shares[2]:+.1%})."
    )


def report_growth(growth: Sequence[Run], studies: Sequence[Run]) -> str:
    rows = [
        (
            f"{run.trials} × {run.steps / run.trials:,.0f} steps",
            f"{run.executor} × {run.workers}",
            f"{run.usage.wall_s:.1f}",
            f"{run.usage.wall_s / run.trials:.2f}",
            f"{run.utilisation:.1%}",
        )
        for run in [*growth, *studies]
    ]
    return (
        "## More trials, and the workers' time\n\n"
        f"{table(('trials', 'executor', 'wall, s', 'a trial, s', 'utilisation'), rows)}\n\n"
        "Utilisation: the trials' own seconds over workers × wall; starting, switching, storing, waiting and drawing are the rest."
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def tell(what: str) -> None:
    print(f"speed: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

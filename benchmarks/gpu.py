"""How a CUDA device is used best: trials one after another, side by side in processes, or on the CPU.

Six trials (three rates, two seeds) of each task, from the call to the result, each way in a process of its own. A few
minutes on a machine with a GPU: ``python benchmarks/gpu.py``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch

from etude import Study

WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("GPU, inline", {"device": "cuda", "executor": "inline"}),
    ("GPU, 6 processes", {"device": "cuda", "executor": "processes", "workers": 6}),
    ("CPU, 6 processes", {"device": "cpu", "executor": "processes", "workers": 6}),
)
EPOCHS = {"mnist": 1.0, "charlm": 1.0, "digits": 10.0}


def study_of(name: str) -> Study:
    """Return six trials of a built-in task."""
    return Study.default(name).replace(
        lrs=(1e-4, 1e-3, 1e-2), seeds=(0, 1), epochs=EPOCHS[name], evaluate_every=EPOCHS[name]
    )


def whole(name: str, way: dict[str, Any]) -> float:
    """Return the seconds that a study takes."""
    study = study_of(name)
    with tempfile.TemporaryDirectory() as directory:
        began = time.perf_counter()
        result = study.run(directory, **way)
        seconds = time.perf_counter() - began
    broken = [trial.failure for trial in result.stored.trials if trial.status == "failed"]
    assert not broken, broken
    return seconds


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=EPOCHS, default=[*EPOCHS])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, way = json.loads(options.one)
        print(whole(name, way))
        return
    print(torch.cuda.get_device_name(), torch.__version__, file=sys.stderr)
    print("| task | " + " | ".join(way for way, _ in WAYS) + " |\n|---|" + "---|" * len(WAYS))
    for name in options.tasks:
        seconds = [asked(name, way) for _, way in WAYS]
        print(f"| {name} | " + " | ".join(f"{s:.1f} s ({seconds[0] / s:.2f})" for s in seconds) + " |", flush=True)


def asked(name: str, way: dict[str, Any]) -> float:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps([name, way])]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout)


if __name__ == "__main__":
    main()

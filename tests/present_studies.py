"""Studies of every kind that a report must be readable of, made once and read only."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

import etude
import fabricate
from etude.result import Result

DENSE = [float(f"{lr:.3g}") for lr in np.logspace(-5, 0.3, 40)]
HOSTILE = """<script>alert("1") & 'quotes' | $x$ [a](b)"""


def one_rate(directory):
    return fabricate.trained(directory, [1e-2], 1, 100, 5)


def one_epoch(directory):
    return fabricate.trained(directory, [1e-3, 1e-2], 2, 20, 1)


def many(directory):
    return fabricate.trained(directory, DENSE, 10, 60, 6)


def all_diverged(directory):
    return fabricate.trained(directory, [1.0, 10.0], 2, 100, 5)


def nothing_yet(directory):
    return fabricate.trained(directory, [1e-3, 1e-2], 2, 100, 5, until=0)


def still_running(directory):
    return fabricate.trained(directory, [1e-3, 1e-2, 1e-1], 2, 100, 5, until=0.6)


def failed(directory):
    return fabricate.trained(directory, [1e-3, 1e-2, 1e-1], 2, 100, 5, failure=f"ValueError: {HOSTILE}</script>")


def regression(directory):
    return fabricate.trained(directory, [1e-4, 1e-3, 1e-2, 1e-1], 3, 100, 10, metric="val_loss")


def hostile(directory):
    return fabricate.trained(directory, [1e-3, 1e-2, 1e-1], 2, 100, 5, name=HOSTILE)


def searched(directory):
    return fabricate.searched(directory, {1e-4: [0.1], 1e-3: [0.25], 1e-2: [1.0, 1.0], 3e-2: [1.0], 1.0: [1.0]})


def curves(final=False):
    losses = {1e-4: [3, 2.9, 2.8, 2.7], 1e-3: [3, 1.5, 1.0, 0.5], 1e-2: [3, 2, 2.2, 1.6], 1e-1: [3, 9, np.nan, np.nan]}
    rows = [
        {"lr": lr, "seed": seed, "epoch": i, "train_loss": v, "val_loss": v * (1 + 0.01 * seed)}
        for lr, values in losses.items() for seed in range(2) for i, v in enumerate(values)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame[frame.epoch == 3].drop(columns=["epoch", "train_loss"]) if final else frame


def own_loop(directory):
    study = etude.Study(name="bowl", lrs=[0.1, 1, 3], seeds=2, epochs=3)
    for trial in study.missing(directory):
        for epoch in range(4):
            trial.log(
                epoch=epoch, val_loss=1 / (1 + epoch * trial.lr) + 0.01 * trial.seed if trial.lr < 3 else 9.0**epoch
            )
    return study.result(directory)


MADE = {
    "one rate": one_rate, "one epoch": one_epoch, "forty rates, ten seeds": many, "all diverged": all_diverged,
    "nothing trained yet": nothing_yet, "still running": still_running, "failed trials": failed, "regression": regression,
    "a hostile name": hostile, "a search": searched, "an own loop": own_loop,
    "judged curves": lambda _: etude.judge(curves()), "final values alone": lambda _: etude.judge(curves(final=True)),
}  # fmt: skip
UNSTORED = ("judged curves", "final values alone")


@functools.cache
def made(name: str) -> Result:
    """Return the study of the name, made once."""
    folder = _place(name)
    with _alone(name):
        if not (folder / "made").exists() or name in UNSTORED:
            result = MADE[name](folder)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "made").touch()
            return result
    return Result.load(folder)


def page_of(name: str) -> Path:
    """Return the report of a study, rendered once."""
    result, path = made(name), _place(name).with_suffix(".html")
    with _alone(name):
        return path if path.exists() else result.report(path)


def _place(name: str) -> Path:
    """Return the study's folder; all workers of a run of the tests share it, because making studies takes most of their time."""
    return Path(os.environ["ETUDE_TEST_STUDIES"]) / name.replace(" ", "-").replace(",", "")


def _alone(name: str) -> FileLock:
    return FileLock(_place(name).with_suffix(".lock"))


__all__ = ["HOSTILE", "MADE", "made", "page_of"]

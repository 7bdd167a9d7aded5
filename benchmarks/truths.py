"""The truths that searchers are held against: dense grids of rates and seeds, trained to the end, kept as tidy CSVs.

Five tasks (``digits``, ``diabetes``, ``mnist-mlp``, the reference CNN at two epochs, ``charlm``), each under SGD with momentum 0.9
and under Adam at a constant rate. The small ones have 26 rates over five decades and five seeds, ``mnist-mlp`` 26 rates and three
seeds, the two long ones 13 rates over four decades and three seeds. Every trial is evaluated 8 to 16 times on its way, so
that what a searcher would have seen when it paused can be looked up.

    python benchmarks/truths.py            # hours of training in all; goes on where it stopped
    python benchmarks/truths.py digits     # the truths whose names begin so

The run directories are kept in the cache; the tables (the columns of ``etude judge``) go to ``benchmarks/truths/`` and stay there,
so that searchers can be replayed on them without training.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import etude
import fragment
from etude.spec.objective import parse_objective
from etude.spec.rates import parse_rates

FOLDER = Path(__file__).parent / "truths"
RECIPES = {"sgd": {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}}, "adam": {"optimizer": "adam"}}


@dataclass(frozen=True)
class Truth:
    """A dense grid: what is trained, at which rates under which optimizer, and how often it is evaluated on its way."""

    task: str
    epochs: float
    batch_size: int
    objective: str
    rates: dict[str, str]
    seeds: int
    evaluations: int

    def study(self, optimizer: str) -> etude.Study:
        """Make the study."""
        return etude.Study(
            task=self.task,
            recipe=etude.Recipe(**RECIPES[optimizer], batch_size=self.batch_size),  # type: ignore[arg-type]
            objective=parse_objective(self.objective),
            lrs=parse_rates(self.rates[optimizer]),
            seeds=tuple(range(self.seeds)),
            epochs=self.epochs,
            evaluate_every=self.epochs / self.evaluations,
        )


WIDE = {"sgd": "1e-4..1e1/26", "adam": "1e-5..1/26"}
TRUTHS = (
    Truth("diabetes", 20, 32, "val_loss", WIDE, 5, 16),
    Truth("digits", 10, 64, "val_accuracy", WIDE, 5, 16),
    Truth("mnist-mlp", 3, 64, "val_accuracy", WIDE, 3, 12),
    Truth("charlm", 8, 32, "val_loss", {"sgd": "1e-3..1e1/13", "adam": "1e-5..1e-1/13"}, 3, 16),
    Truth("mnist", 2, 64, "val_accuracy", {"sgd": "1e-4..1/13", "adam": "1e-5..1e-1/13"}, 3, 8),
)


def main() -> None:
    """Train what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of TASK-OPTIMIZER; all if not said")
    parser.add_argument("--runs", type=Path, default=fragment.cache() / "truths")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for truth in TRUTHS:
        for optimizer in RECIPES:
            name = f"{truth.task}-{optimizer}"
            if options.names and not any(name.startswith(begin) for begin in options.names):
                continue
            print(f"{name} …", flush=True)
            result = truth.study(optimizer).run(options.runs / name)
            # Compressed without a date, so that the same table is the same file.
            result.evaluations[columns(result)].to_csv(
                FOLDER / f"{name}.csv.gz", index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0}
            )


def columns(result: etude.Result) -> list[str]:
    """Return the columns that are kept: those that decide, beside the training loss."""
    wanted = ("lr", "seed", "epoch", "train_loss", "val_loss", "val_accuracy")
    return [name for name in wanted if name in result.evaluations]


if __name__ == "__main__":
    main()

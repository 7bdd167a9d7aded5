"""Range tests as other libraries make them, on etude's tasks: what they suggest, and what it costs.

The same model, loss, optimizer, batch size and data as the study's trials; all else are the libraries' own settings.
torch-lr-finder: from 1e-7, as its README has it, ``range_test(loader, end_lr=10, num_iter=100)``, the steepest gradient that
``plot`` suggests. Lightning: ``Tuner.lr_find``, 1e-8 to 1, 100 steps, ``suggestion()``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

import etude
from etude.engine.optimizers import make_optimizer


@dataclass(frozen=True)
class Suggestion:
    """A rate, NaN where the library had none to suggest, and the steps that were trained for it."""

    lr: float
    steps: int


def suggest(name: str, study: etude.Study, task: etude.Task, seed: int) -> Suggestion:
    """Run the range test of a library once; weights and batches are drawn from ``seed``."""
    quiet = io.StringIO()  # both draw progress bars
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        return PEERS[name](study, task)


def loader(study: etude.Study, task: etude.Task) -> DataLoader[Any]:
    """Return the training data as a shuffling loader."""
    data = task.train
    inputs = data.inputs if data.prepare is None else data.prepare(data.inputs)
    return DataLoader(TensorDataset(inputs, data.targets), batch_size=study.recipe.batch_size, shuffle=True)


def torch_lr_finder(study: etude.Study, task: etude.Task) -> Suggestion:
    """Return torch-lr-finder's suggestion."""
    import matplotlib as mpl
    from matplotlib import pyplot
    from torch_lr_finder import LRFinder

    mpl.use("Agg")
    model = task.model()
    optimizer = make_optimizer(study.recipe, list(model.parameters()), 1e-7)
    finder = LRFinder(model, optimizer, task.loss, device="cpu")
    finder.range_test(loader(study, task), end_lr=10, num_iter=100)
    # Without a gradient to take it returns the axes alone.
    suggested = finder.plot(ax=pyplot.figure().add_subplot())
    pyplot.close("all")
    return Suggestion(float(suggested[1]) if isinstance(suggested, tuple) else math.nan, len(finder.history["lr"]))


def lightning(study: etude.Study, task: etude.Task) -> Suggestion:
    """Return the suggestion of Lightning's tuner."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.tuner.tuning import Tuner

    loss: Any = task.loss  # none of the tasks takes its steps itself

    class Module(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = task.model(), 1e-3

        def training_step(self, batch: Any, _: int) -> Any:
            inputs, targets = batch
            return loss(self.model(inputs), targets)

        def configure_optimizers(self) -> Any:
            return make_optimizer(study.recipe, list(self.parameters()), self.lr)

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            default_root_dir=folder, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        found = Tuner(trainer).lr_find(Module(), train_dataloaders=loader(study, task))
    assert found is not None
    suggested = found.suggestion()
    return Suggestion(math.nan if suggested is None else float(suggested), len(found.results["lr"]))


PEERS = {"torch-lr-finder": torch_lr_finder, "Lightning": lightning}

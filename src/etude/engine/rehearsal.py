"""A dress rehearsal: a few steps of throw-away sessions, so that what cannot work is told before anything is stored."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass

import torch
from torch import nn

from etude import counted
from etude.engine import optimizers
from etude.engine.evaluate import evaluation_batch
from etude.engine.randomness import caller_undisturbed, seed_all
from etude.engine.session import Session, Setup
from etude.engine.state import weights_digest
from etude.errors import SpecError
from etude.spec.trial import Trial
from etude.tasks import probe
from etude.tasks.data import Data
from etude.tasks.stream import Stream
from etude.tasks.tree import Tree

CUT = 2  # the steps before and after the cut


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What was seen: seconds a step and an evaluation, in one thread on the CPU, and the size of a checkpoint.

    ``recorded`` are the names of what evaluations record.
    """

    step_s: float
    evaluation_s: float
    checkpoint_bytes: int
    recorded: frozenset[str]


def settle(setup: Setup) -> tuple[Setup, list[str]]:
    """Return the setup with its data held in memory where that can be, and what there is to say about the data.

    Raises `SpecError` for data that cannot be read, or that hold NaN.
    """
    notes: list[str] = []
    made: dict[str, Data | None] = {}
    with caller_undisturbed(torch.device(setup.device)):
        for split in ("train", "val", "test"):
            data = getattr(setup.task, split)
            settled = None if data is None else probe.settle(data, f"task.{split}")
            made[split] = None if settled is None else settled.data
            if settled is None:
                continue
            if settled.note:
                notes.append(f"task.{split}: {settled.note}.")
            if broken := probe.not_finite(settled.data):
                if setup.task.step is None and getattr(settled.data, "prepare", None) is None:
                    raise SpecError(f"task.{split}: {broken}; leave them out, or fill them in")
                notes.append(f"task.{split}: {broken}.")
    task = setup.task.with_data(made["train"], made["val"], made["test"])  # type: ignore[arg-type]
    return dataclasses.replace(setup, task=task), notes


def read(setup: Setup, trial: Trial) -> tuple[probe.Reading, list[str]]:
    """Read the first training batches, find out where a trial can be cut, and say so where it is not anywhere.

    Raises `SpecError` for a stream that ends before its length.
    """
    train: Data = setup.task.train
    device = torch.device(setup.device)
    notes: list[str] = []

    def reseed(batch: int | None) -> int:
        seed = counted.derive(
            *((counted.ORDER, trial.seed, 0) if batch is None else (counted.READ, trial.seed, 0, batch))
        )
        seed_all(seed, device)
        return seed

    with caller_undisturbed(device):
        if isinstance(train, Stream):
            probe.check_length(train, setup.batch_size)
        reading = probe.read_again(train, setup.batch_size, trial.seed, reseed, CUT)
    if isinstance(train, Stream):
        made = type(train.source).__name__
        notes.append(
            f"task.train: batches come from the {made} in its own order"
            + (", the same for all rates of a seed." if reading.same_order else "; two readings give different batches, so rates "
               "of a seed do not see the same data.")
        )  # fmt: skip
    elif not reading.same_order:
        notes.append(
            "task.train: reading examples twice gives different values, so rates of a seed do not see the same data."
        )
    if reading.resume != "exact":
        notes.append(
            f"resume: {reading.resume}. A trial that is stopped within "
            + (
                "an epoch goes on from where the epoch began."
                if reading.resume == "by epoch"
                else "its course starts again."
            )
        )
    return reading, notes


def check_factory(setup: Setup, trial: Trial) -> None:
    """Raise `SpecError` for a factory that returns one module twice, or an optimizer that ignores its rate."""
    device = torch.device(setup.device)
    with caller_undisturbed(device):
        models = []
        for _ in range(2):
            seed_all(counted.derive(counted.WEIGHTS, trial.seed), device)
            models.append(setup.task.model())
        for model in models:
            if not isinstance(model, nn.Module):
                raise SpecError(f"task.model: expected it to return a torch.nn.Module, got {type(model).__name__}")
        held = {parameter.data_ptr() for parameter in models[0].parameters() if parameter.numel()}
        if models[0] is models[1] or any(p.data_ptr() in held for p in models[1].parameters() if p.numel()):
            raise SpecError(
                "task.model: expected fresh weights from every call, got the same module (or parameters) twice; make the "
                f"module inside the function, or return copy.deepcopy of it ({optimizers.source_of(setup.task.model)})"
            )
        optimizers.check_obeys(setup.recipe, setup.task, models[1], trial.lr)


def describe_optimizer(setup: Setup, trial: Trial) -> dict[str, object] | None:
    """Return what tells another optimizer, where the recipe alone does not say it."""
    return optimizers.describe(setup.recipe, setup.task, Session.open(setup, trial).model)


def rehearse(setup: Setup, trial: Trial, batches: list[Tree]) -> Rehearsal:
    """Train on some batches at once, and half of them, stored, opened, and the rest; evaluate one batch of each data set.

    Raises what the task's code raises, and `SpecError` when the two ways do not end with the same weights: then the model
    or the loss keeps state where a checkpoint does not see it, and trials could not take turns.
    """
    threads = torch.get_num_threads()
    if setup.device == "cpu":
        torch.set_num_threads(1)
    half = len(batches) // 2
    try:
        session = Session.open(setup, trial)
        step_s = session.rehearse(batches)
        cut = Session.open(setup, trial)
        cut.rehearse(batches[:half])
        checkpoint = cut.checkpoint(verify=True)
        resumed = Session.open(setup, trial, checkpoint)
        resumed.rehearse(batches[half:])
        # On a GPU sums may differ in their last bits from run to run, whatever the model does.
        if setup.device == "cpu" and weights_digest(session.model) != weights_digest(resumed.model):
            raise SpecError(
                "task: two steps, stored, opened, and two more do not equal four steps: the model, its forward pass or the "
                "loss keeps state outside parameters and buffers (register it as a buffer), or an optimizer of one's own "
                "outside its state_dict"
            )
        _check_last_batch(setup, session.model)
        evaluation_s, recorded = _evaluate_a_batch(session, session.val, "val_")
        if setup.task.test is not None:
            _evaluate_a_batch(session, setup.task.test.to(session.device), "test_")
    finally:
        torch.set_num_threads(threads)
    return Rehearsal(
        step_s=step_s * setup.recipe.accumulate,
        evaluation_s=evaluation_s,
        checkpoint_bytes=len(checkpoint),
        recorded=frozenset({*recorded, *(f"train_{name}" for name in session.recorded)}),
    )


def _check_last_batch(setup: Setup, model: nn.Module) -> None:
    """Raise `SpecError` where an epoch ends with one example and the model has BatchNorm, which then has no variance."""
    train: Data = setup.task.train
    size, loader = setup.batch_size, getattr(train, "source", None)
    if isinstance(train, Stream):
        if train.batch_size is None or getattr(loader, "drop_last", True) or train.epoch is not None:
            return
        size = train.batch_size
    norms = [one for one in model.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    if train.examples is not None and size > 1 and train.examples % size == 1 and norms:
        raise SpecError(
            f"task.train: {train.examples:,} examples in batches of {size} leave a last batch of one, and "
            f"{type(norms[0]).__name__} needs two or more to train; choose another batch size, or leave one example out"
        )


def _evaluate_a_batch(session: Session, data: Data, prefix: str) -> tuple[float, set[str]]:
    """Evaluate the first batch; return the seconds that all of them would take, and the names that were recorded."""
    began = time.perf_counter()
    values, _ = session.evaluate(data, prefix, batches=1)
    seconds = time.perf_counter() - began
    size = evaluation_batch(session.setup.batch_size)
    n = data.examples
    known = data.known_batches(size) if isinstance(data, Stream) else n and math.ceil(n / min(n, size))
    return seconds * (known or 1), set(values)


def works_in_channels_last(setup: Setup, trial: Trial, batch: Tree) -> bool:
    """Whether the model trains in that layout; one that calls ``view`` after a convolution does not."""
    try:
        Session.open(setup, trial).rehearse([batch])
    except Exception:  # noqa: BLE001 - whatever it is, it is told if it also happens in the plain layout
        return False
    return True


def fingerprint(setup: Setup, trial: Trial) -> tuple[str, float]:
    """Return what tells an edited model, loss or preprocessing: the digest of the initial weights, and the first loss."""
    return Session.open(setup, trial).fingerprint()


def digests(setup: Setup, reproducible: bool) -> dict[str, str | None]:
    """Return by split what tells other data; None for training data that no two readings agree on."""
    found: dict[str, str | None] = {}
    device = torch.device(setup.device)
    for split in ("train", "val"):
        if split == "train" and not reproducible:
            found[split] = None
            continue
        with caller_undisturbed(device):
            seed_all(counted.derive(counted.READ), device)
            found[split] = getattr(setup.task, split).digest()
    return found

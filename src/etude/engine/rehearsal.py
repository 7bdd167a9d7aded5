"""A dress rehearsal: a few steps of throw-away sessions, so that what cannot work is told before anything is stored."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import IterableDataset

from etude import counted
from etude.engine import optimizers
from etude.engine.evaluate import evaluation_batch
from etude.engine.randomness import caller_undisturbed, seed_all
from etude.engine.session import Session, Setup
from etude.engine.state import weights_digest
from etude.errors import SpecError, source_of, words_of
from etude.spec.trial import Trial
from etude.tasks import probe, tree
from etude.tasks.data import Data, Resident
from etude.tasks.stream import Stream
from etude.tasks.tree import Tree

CUT = 2  # the steps before and after the cut
EVALUATED_S = 1.0
TIMED_S, TIMED = 0.3, 5  # how long, and how many, steps are timed: the first ones of a process are slow
NO_VARIANCE = "more than 1 value per channel"  # torch's words


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What was seen: seconds a step and an evaluation, in one thread on the CPU, and the size of a checkpoint.

    ``recorded`` are the names of what evaluations record; ``repeats`` says whether two runs of a trial give the same bits.
    """

    step_s: float
    evaluation_s: float
    checkpoint_bytes: int
    recorded: frozenset[str]
    repeats: bool


def settle(setup: Setup, trial: Trial) -> tuple[Setup, list[str]]:
    """Return the setup with its data held in memory where that can be, and what there is to say about the data.

    Raises `SpecError` for data that cannot be read, or that hold NaN of which the loss becomes NaN, too.
    """
    notes: list[str] = []
    made: dict[str, probe.Settled] = {}
    with caller_undisturbed(torch.device(setup.device)):
        for split in ("train", "val", "test"):
            if (data := getattr(setup.task, split)) is None:
                continue
            made[split] = settled = probe.settle(data, f"task.{split}", setup.batch_size)
            if settled.note:
                notes.append(f"task.{split}: {settled.note}.")
    test = made["test"].data if "test" in made else None
    setup = dataclasses.replace(setup, task=setup.task.with_data(made["train"].data, made["val"].data, test))
    for split, settled in made.items():
        if not settled.breach:
            continue
        if not _copes(Session.open(setup, trial), settled.broken, split):
            raise SpecError(f"task.{split}: {settled.breach}; leave them out, or fill them in")
        notes.append(f"task.{split}: {settled.breach}; the loss is finite all the same.")
    return setup, notes


def _copes(session: Session, batch: Tree, split: str) -> bool:
    """Whether the loss of a batch with NaN is finite, as it is where the loss leaves out targets that are missing."""
    if split == "train":
        return math.isfinite(session.loss_of(tree.to_device(batch, session.device)))
    one = Stream([tree.to_device(batch, session.device)])
    return math.isfinite(session.evaluate(one, f"{split}_")[0].get(f"{split}_loss", 0.0))


def read(setup: Setup, trial: Trial) -> tuple[probe.Reading, list[str]]:
    """Read the first training batches, find out where a trial can be cut, and say so where it is not anywhere.

    Raises `SpecError` for batches that hold NaN of which the loss becomes NaN, too.
    """
    train = setup.data[0]
    device = torch.device(setup.device)
    notes: list[str] = []

    def reseed(batch: int | None) -> int:
        seed = counted.derive(
            *((counted.ORDER, trial.seed, 0) if batch is None else (counted.READ, trial.seed, 0, batch))
        )
        seed_all(seed, device)
        return seed

    with caller_undisturbed(device):
        reading = probe.read_again(train, setup.batch_size, trial.seed, reseed, CUT)
    for i, batch in enumerate(reading.batches):
        if not tree.is_finite(batch) and not _copes(Session.open(setup, trial), batch, "train"):
            raise SpecError(f"task.train: batch {i} holds NaN or infinite values; leave them out, or fill them in")
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
                f"module inside the function, or return copy.deepcopy of it ({source_of(setup.task.model)})"
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
    try:
        _check_last_batch(setup, trial, batches[0])
        session = Session.open(setup, trial)
        step_s = session.rehearse(batches)
        checkpoint, repeats = _check_law(setup, trial, batches, weights_digest(session.model))
        step_s = _timed(session, batches[-1], step_s)
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
        repeats=repeats,
    )


def _check_law(setup: Setup, trial: Trial, batches: list[Tree], uncut: str) -> tuple[bytes, bool]:
    """Check that stopping changes no bit of the weights, of which ``uncut`` is the digest.

    Return the checkpoint between the two halves, and whether the same steps give the same bits again. On a GPU they need
    not, whatever the model does: only where they do is a trial that was stopped held against them.
    """
    half = len(batches) // 2

    def stopped() -> tuple[bytes, str]:
        session = Session.open(setup, trial)
        session.rehearse(batches[:half])
        checkpoint = session.checkpoint(verify=True)
        resumed = Session.open(setup, trial, checkpoint)
        resumed.rehearse(batches[half:])
        return checkpoint, weights_digest(resumed.model)

    def again() -> str:
        session = Session.open(setup, trial)
        session.rehearse(batches)
        return weights_digest(session.model)

    checkpoint, cut = stopped()
    if cut == uncut:
        return checkpoint, True
    # Two runs may be alike by chance: they are asked twice.
    if setup.device != "cpu" and not (again() == uncut == again() and stopped()[1] == cut):
        return checkpoint, False
    raise SpecError(
        "task: two steps, stored, opened, and two more do not equal four steps: the model, its forward pass or the "
        "loss keeps state outside parameters and buffers (register it as a buffer), or an optimizer of one's own "
        "outside its state_dict"
    )


def _timed(session: Session, batch: Tree, step_s: float) -> float:
    """Return the median seconds of a step, ``step_s`` among them."""
    seen = [step_s]
    while sum(seen) < TIMED_S and len(seen) < TIMED:
        seen.append(session.rehearse([batch]))
    return statistics.median(seen)


def _check_last_batch(setup: Setup, trial: Trial, batch: Tree) -> None:
    """Raise `SpecError` where an epoch ends with one example, on which the model does not train: with BatchNorm, say."""
    train: Data = setup.task.train
    sizes: tuple[int, int] | None = None
    if not isinstance(train, Stream):
        sizes = (train.examples or 0, setup.batch_size)
    elif isinstance(train.source, IterableDataset):
        sizes = None if train.examples is None else (train.examples, setup.batch_size)
    else:
        sizes = train.counted
    if sizes is None or sizes[1] == 1 or sizes[0] % sizes[1] != 1:
        return
    try:
        Session.open(setup, trial).rehearse([tree.map_tensors(batch, lambda column: column[:1])])
    except Exception as error:
        if isinstance(train, Stream) and NO_VARIANCE not in str(error):
            return  # a collate_fn of the user's own may make something else of one example
        n, size = sizes
        raise SpecError(
            f"task.train: {n:,} examples in batches of {size} leave a last batch of one, on which the model does not train "
            f"({words_of(error)}); choose another batch size, or leave one example out"
        ) from error


def _evaluate_a_batch(session: Session, data: Data, prefix: str) -> tuple[float, set[str]]:
    """Evaluate the first batch; return the seconds that all of them would take, and the names that were recorded.

    Then as many as a second allows, since the later ones may be unlike the first.
    """
    session.evaluate(data, prefix, batches=1)  # the first one is slow
    began = time.perf_counter()
    session.evaluate(data, prefix, batches=1)
    seconds = time.perf_counter() - began
    values, _ = session.evaluate(data, prefix, seconds=EVALUATED_S)
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


def digests(setup: Setup, reproducible: bool) -> tuple[dict[str, str | None], list[str]]:
    """Return by split what tells other data, None for data that no two readings agree on; and what there is to say."""
    found: dict[str, str | None] = {}
    notes: list[str] = []
    device = torch.device(setup.device)

    def digest(data: Data) -> str:
        with caller_undisturbed(device):
            seed_all(counted.derive(counted.READ), device)
            return data.digest()

    for split in ("train", "val"):
        data: Data = getattr(setup.task, split)
        found[split] = digest(data) if split == "val" or reproducible else None
        if found[split] is None or isinstance(data, Resident) or found[split] == digest(data):
            continue
        found[split] = None
        if split == "val":
            notes.append("task.val: reading twice gives different values, so two evaluations of one model differ.")
    return found, notes

"""From rows to trials: which rows are evaluations, where a trial diverged, which ones end before the others.

A run that diverged leaves empty cells, nan or inf at places where others have numbers, until its end; a gap that closes
again is only a missing evaluation. N rows, K trials, P places, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from etude.columns import Columns
from etude.errors import DataError
from etude.importers.table import Floats, Ints, Table, look_alike
from etude.notation import format_rate
from etude.spec.objective import Objective
from etude.store import Stored, StoredTrial

Mask = NDArray[np.bool_]
MEANT = 1 / 3  # of the trials: where more than this share ends is where they were meant to end
REACHED = 0.75  # of the trials: where ends are scattered, all are judged where so many had got to
DENSE = 2  # a training loss by step has at least so many values for each evaluation
FINAL_VALUES = (
    "Only final values are known: what the curves did on the way (dynamics), and whether more training would change "
    "the answer, cannot be told."
)
NOT_FINITE = (
    "A trial whose rows end before the others' is read as unfinished. One that stopped because its loss was no longer finite is "
    "read as diverged if its last row says nan or inf."
)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Trials from elsewhere, as a run directory would have them, and what the table could not say (``notes``).

    ``unit`` is what the places of evaluations are counted in: ``epoch``, ``step``, or nothing where only final values are
    known. ``ends`` has the last step asked for, by horizon; ``losses`` the training loss by step (T,) and ``ended`` the
    place where a trial diverged, by trial id. ``command`` is what judges the file again, where there is one.
    """

    stored: Stored
    objective: Objective
    unit: str
    ends: Mapping[float | None, int]
    losses: Mapping[int, Floats]
    ended: Mapping[int, float]
    notes: tuple[str, ...] = ()
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The table sorted by trial and step, each array (N,), a row a cell; ``starts`` (K,) are the trials' first rows."""

    lr: Floats
    seed: Ints
    horizon: Floats
    step: Ints
    epoch: Floats
    values: Mapping[str, Floats]
    errors: Mapping[str, Floats]
    starts: Ints

    @property
    def trial_of(self) -> Ints:
        return np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=len(self.step)))

    def slices(self) -> list[slice]:
        ends = [*self.starts[1:].tolist(), len(self.step)]
        return [slice(a, b) for a, b in zip(self.starts.tolist(), ends, strict=True)]


def arrange(table: Table) -> Imported:
    """Read the trials off a table. The order of its rows does not matter.

    Raises `DataError` where two rows hold the same cell, or where the objective was never a number.
    """
    step, epoch, unit = _places(table)
    rows = _sorted(table, step, epoch)
    metric = table.objective.metric
    metrics = [name for name in rows.values if name != "train_loss"]
    finite = {name: np.isfinite(values) for name, values in rows.values.items()}
    something = np.logical_or.reduce(list(finite.values()))
    if something.any() and not finite[metric].any():
        raise DataError(f"{table.source}: column {metric!r} has no number in it, so it cannot decide")
    seen = _Places(rows.step)
    recorded = np.logical_or.reduce([~np.isnan(rows.values[name]) for name in metrics or ["train_loss"]])
    evaluation = seen.anywhere(recorded) & something
    losses = [name for name in dict.fromkeys((metric, "train_loss", "val_loss")) if name in rows.values]
    diverged = _first_diverged(rows, seen, losses, finite, something)
    if not _increases(rows, evaluation):
        unit, rows = "step", replace(rows, epoch=rows.step.astype(float))  # epochs too coarse to tell evaluations apart
    last = np.maximum.reduceat(np.where(finite[metric], np.arange(len(rows.step)), -1), rows.starts)
    ends, scattered = _ends(rows, diverged, last)
    train_loss = rows.values.get("train_loss", np.full(len(rows.step), np.nan))
    history = ~evaluation & np.isfinite(train_loss) if metrics else np.zeros(len(evaluation), bool)
    trials, by_step, ended = [], {}, {}
    for k, part in enumerate(rows.slices()):
        first, row = part.start, int(diverged[k])
        horizon = None if math.isnan(rows.horizon[first]) else float(rows.horizon[first])
        end, place = ends[horizon]
        is_lost = row >= 0
        kept = np.flatnonzero(evaluation[part]) + first
        kept = kept[rows.step[kept] <= rows.step[row]] if is_lost else kept
        filled = _with_history(train_loss[part], history[part], kept - first)
        if table.step is not None and metrics:
            dense = _dense(rows.step[part], train_loss[part], len(kept))
            if dense is not None:
                by_step[k] = dense
        reached = int(rows.step[row]) if is_lost else int(rows.step[last[k] if last[k] >= 0 else part.stop - 1])
        complete = last[k] >= 0 and reached >= end
        if is_lost:
            ended[k] = float(rows.epoch[row])
        trials.append(
            StoredTrial(
                id=k, lr=float(rows.lr[first]), seed=int(rows.seed[first]), horizon=horizon, epochs=place, ends=(end,),
                step=reached, wall_s=math.nan, checkpoint=None, diverged=reached if is_lost else None, failure=None,
                traceback=None, status="diverged" if is_lost else "completed" if complete else "paused",
                evaluations=Columns(
                    steps=rows.step[kept], epochs=rows.epoch[kept], train_loss=filled,
                    metrics={name: rows.values[name][kept] for name in metrics},
                    errors={name: values[kept] for name, values in rows.errors.items()},
                ),
            )
        )  # fmt: skip
    return Imported(
        stored=_stored(table, tuple(trials), unit),
        objective=table.objective,
        unit=unit,
        ends={horizon: end for horizon, (end, _) in ends.items()},
        losses=by_step,
        ended=ended,
        notes=tuple(_notes(trials, unit, scattered)),
    )


def _places(table: Table) -> tuple[Ints, Floats, str]:
    """Return a whole step and an epoch for each row, and the unit in which a person counts."""
    step, epoch = table.step, table.epoch
    if step is None and epoch is None:
        one = np.ones(len(table.lr))
        return one.astype(np.int64), one, ""
    if step is None:
        assert epoch is not None
        if (epoch == np.floor(epoch)).all():
            return epoch.astype(np.int64), epoch, "epoch"
        known, place = np.unique(epoch, return_inverse=True)
        return place.astype(np.int64) + int(known[0] > 0), epoch, "epoch"  # step 0 is before training
    if epoch is None:
        return step, step.astype(float), "step"
    both = np.isfinite(epoch) & (epoch > 0) & (step > 0)
    if not both.any():
        return step, step.astype(float), "step"
    ratio = float(np.median(step[both] / epoch[both]))
    return step, np.where(np.isfinite(epoch), epoch, step / ratio), "epoch"


def _sorted(table: Table, step: Ints, epoch: Floats) -> _Rows:
    horizon = np.full(len(step), np.nan) if table.horizon is None else table.horizon
    order = np.lexsort((step, horizon, table.seed, table.lr))
    lr, seed, horizon, step = table.lr[order], table.seed[order], horizon[order], step[order]
    same = (np.diff(lr) == 0) & (np.diff(seed) == 0)
    same &= (np.diff(horizon) == 0) | (np.isnan(horizon[1:]) & np.isnan(horizon[:-1]))
    again = same & (np.diff(step) == 0)
    cells = np.flatnonzero(np.append(True, ~again))
    values = {name: of_rows[order] for name, of_rows in table.values.items()}
    errors = {name: of_rows[order] for name, of_rows in table.errors.items()}
    if again.any():  # rows that complete each other are one: loggers write training and validation apart
        _refuse_twice(table, order, cells, values)
        values = {name: np.fmax.reduceat(of_rows, cells) for name, of_rows in values.items()}
        errors = {name: np.fmax.reduceat(of_rows, cells) for name, of_rows in errors.items()}
    return _Rows(
        lr=lr[cells], seed=seed[cells], horizon=horizon[cells], step=step[cells], epoch=epoch[order][cells],
        values=values, errors=errors, starts=np.flatnonzero(np.append(True, ~same)[cells]),
    )  # fmt: skip


def _refuse_twice(table: Table, order: Ints, cells: Ints, values: Mapping[str, Floats]) -> None:
    """Raise where a cell has two values of one column, naming the cell and its rows."""
    for name, of_rows in values.items():
        counts = np.add.reduceat((~np.isnan(of_rows)).astype(int), cells)
        if (counts > 1).any():
            cell = int(np.argmax(counts > 1))
            within = order[cells[cell] : cells[cell + 1] if cell + 1 < len(cells) else len(order)]
            row = int(within[0])
            where = f"lr {format_rate(float(table.lr[row]))}"
            where += f", seed {table.seed[row]}" if table.has_seed else ""
            where += f", step {table.step[row]}" if table.step is not None else ""
            where += f", epoch {table.epoch[row]:g}" if table.step is None and table.epoch is not None else ""
            listed = ", ".join(str(one + 1) for one in sorted(within)[:3]) + (", …" if len(within) > 3 else "")
            raise DataError(
                f"{table.source}: {where} has {counts[cell]} values of {name!r} (rows {listed}); expected one"
                f"{_missing_key(table)}"
            )


def _missing_key(table: Table) -> str:
    """Say which column may tell the rows of a cell apart."""
    absent = [] if table.has_seed else ["seed"]
    absent += ["step", "epoch"] if table.step is None and table.epoch is None else []
    for field in absent:
        like = look_alike(field, table.unread)
        if like is not None:
            return f"; did you mean --{field} {like}?"
    return f"; name what tells them apart: {' or '.join(f'--{field} COLUMN' for field in absent)}" if absent else ""


class _Places:
    """Steps at which something was recorded for any trial."""

    def __init__(self, step: Ints) -> None:
        known, self._place = np.unique(step, return_inverse=True)
        self._count = len(known)

    def anywhere(self, mask: Mask) -> Mask:
        """Return the rows (N,) at a step where the mask holds for some trial."""
        seen = np.zeros(self._count, bool)
        seen[self._place[mask]] = True
        return seen[self._place]


def _first_diverged(rows: _Rows, seen: _Places, losses: list[str], finite: Mapping[str, Mask], something: Mask) -> Ints:
    """Return the row (K,) from which a trial's objective or loss is never finite again, -1 where it ends finite."""
    n = len(rows.step)
    index, trial = np.arange(n), rows.trial_of
    found = np.full(len(rows.starts), n)
    for name in losses:
        due = seen.anywhere(finite[name]) | np.isinf(rows.values[name]) | ~something
        last_good = np.maximum.reduceat(np.where(finite[name], index, -1), rows.starts)
        lost = due & ~finite[name] & (index > last_good[trial])
        if name != "train_loss" and "train_loss" in finite:  # a trial that was never evaluated, and trains on
            silent = np.logical_and.reduceat(np.isnan(rows.values[name]), rows.starts)
            trained = np.maximum.reduceat(np.where(something, index, -1), rows.starts)
            silent &= (trained >= 0) & finite["train_loss"][trained]
            lost &= ~silent[trial]
        found = np.minimum(found, np.minimum.reduceat(np.where(lost, index, n), rows.starts))
    return np.where(found == n, -1, found)


def _increases(rows: _Rows, evaluation: Mask) -> bool:
    """Whether epochs rise from evaluation to evaluation in every trial."""
    at = np.flatnonzero(evaluation)
    same = np.diff(rows.trial_of[at]) == 0
    return bool((np.diff(rows.epoch[at])[same] > 0).all())


def _notes(trials: Sequence[StoredTrial], unit: str, scattered: bool) -> Iterator[str]:
    """Yield what the rows cannot say, and how they were read where they could be read in another way."""
    if not unit:
        yield FINAL_VALUES
        return
    if scattered:
        places = sorted({trial.epochs for trial in trials})
        reached = sum(trial.step >= trial.ends[0] for trial in trials)
        yield (
            f"The trials end at different {unit}s, as with early stopping, so they are judged where most of them got to: "
            f"{reached} of {len(trials)} to {unit} {' or '.join(f'{place:g}' for place in places)}. What came later is not scored."
        )
    if any(trial.status == "paused" for trial in trials):
        yield NOT_FINITE


def _ends(rows: _Rows, diverged: Ints, last: Ints) -> tuple[dict[float | None, tuple[int, float]], bool]:
    """Return, by horizon, the step and place at which trials are judged, and whether their ends are scattered.

    That is where trials were meant to end: the furthest step at which more than `MEANT` of them do, so that many that were
    given up early do not end the study for the others. Where each ends elsewhere, as with early stopping, it is the furthest
    step that `REACHED` of them got to.
    """
    found: dict[float | None, tuple[int, float]] = {}
    scattered = False
    of_trial = rows.horizon[rows.starts]
    slices = rows.slices()
    for horizon in dict.fromkeys(None if math.isnan(h) else float(h) for h in of_trial):
        mine = np.flatnonzero(np.isnan(of_trial) if horizon is None else of_trial == horizon)
        ended = last[mine][(diverged[mine] < 0) & (last[mine] >= 0)]
        if not len(ended):
            ended = np.array([slices[k].stop - 1 for k in mine])
            row = ended[np.argmax(rows.step[ended])]
        else:
            steps, counts = np.unique(rows.step[ended], return_counts=True)
            meant = steps[counts > MEANT * len(ended)]
            scattered |= not len(meant)
            reached = counts[::-1].cumsum()[::-1] >= REACHED * len(ended)
            end = meant.max() if len(meant) else steps[reached].max()
            row = ended[np.argmax(rows.step[ended] == end)]
        found[horizon] = int(rows.step[row]), float(rows.epoch[row])
    return found, scattered


def _with_history(train_loss: Floats, history: Mask, kept: Ints) -> Floats:
    """Return the training loss (E,) at evaluations, where it is not recorded the mean over the steps since the last one."""
    made = train_loss[kept]
    if not history.any() or not len(kept) or not np.isnan(made).any():
        return made
    segments = np.append(0, kept[:-1] + 1)
    upto = int(kept[-1]) + 1
    sums = np.add.reduceat(np.where(history, train_loss, 0.0)[:upto], segments)
    counts = np.add.reduceat(history[:upto].astype(int), segments)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.isnan(made), sums / np.where(counts > 0, counts, np.nan), made)


def _dense(step: Ints, train_loss: Floats, evaluations: int) -> Floats | None:
    """Return the training loss by step (T,), where each step from 1 on has one and evaluations are much rarer."""
    with_loss = np.isfinite(train_loss) & (step > 0)
    found = step[with_loss]
    if len(found) < DENSE * max(1, evaluations) or not (found == np.arange(1, len(found) + 1)).all():
        return None
    return train_loss[with_loss]


def _stored(table: Table, trials: tuple[StoredTrial, ...], unit: str) -> Stored:
    objective = table.objective
    longest = max(trial.epochs for trial in trials)
    return Stored(
        study={
            "name": table.name,
            "task": None,
            "recipe": {},
            "lrs": sorted({trial.lr for trial in trials}),
            "seeds": sorted({trial.seed for trial in trials}),
            "epochs": longest if unit == "epoch" else None,
            "expect": {},
            "objective": {"metric": objective.metric, "direction": objective.direction, "margin": objective.margin},
        },
        identity={},
        created=0.0,
        revision=0,
        live=False,
        environments=(),
        seeds={},
        trials=trials,
    )

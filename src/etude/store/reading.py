"""Reads run directories: any number of readers, at any time, also while one writes. Runs no code, opens no checkpoint."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import sqlite3
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from etude.errors import StoreError
from etude.spec.trial import Trial

DATABASE, CHECKPOINTS, FIGURES, LOCK = "study.sqlite", "checkpoints", "figures", "lock"
FORMAT = 2
UNFINISHED = frozenset({"pending", "running", "paused"})  # the statuses of a trial that is still to train


@dataclass(frozen=True, kw_only=True)
class StoredEvaluation:
    """One evaluation as stored; see `etude.engine.history.Evaluation`."""

    step: int
    epoch: float
    train_loss: float | None
    metrics: dict[str, float]
    standard_errors: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class StoredTrial:
    """A trial and how far it got. ``ends`` are the steps that its epochs, as asked for over time, end with."""

    id: int
    lr: float
    seed: int
    horizon: float | None
    epochs: float
    ends: tuple[int, ...]
    step: int
    wall_s: float
    checkpoint: str | None
    diverged: int | None
    failure: str | None
    traceback: str | None
    status: str
    evaluations: Sequence[StoredEvaluation] = ()
    tests: tuple[StoredEvaluation, ...] = ()

    @property
    def trial(self) -> Trial:
        """What it is a trial of."""
        return Trial(lr=self.lr, seed=self.seed, horizon=self.horizon)

    @property
    def end_step(self) -> int:
        """The last step asked for."""
        return self.ends[-1]


@dataclass(frozen=True, kw_only=True)
class StoredDecision:
    """What a searcher decided: its requests, or none, which ends the search.

    Each has ``lr``, ``seed``, ``horizon``, ``epochs`` and ``why``, and the steps ``from_step`` (where the trial was) and
    ``until_step``.
    """

    why: str
    requests: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """All that a run directory holds, but for checkpoints and the history by step."""

    study: dict[str, Any]
    identity: dict[str, Any]
    created: float
    revision: int
    live: bool
    environments: tuple[dict[str, Any], ...]
    seeds: dict[int, tuple[str, float]]
    trials: tuple[StoredTrial, ...]
    decisions: tuple[StoredDecision, ...] = ()
    searched_s: float = 0.0  # how long searches have taken, each until its last commit
    range_test: dict[str, Any] | None = field(default=None, repr=False)
    analysis: tuple[int, str, dict[str, Any]] | None = field(default=None, repr=False)


class EmptyError(StoreError):
    """There is no study yet."""


def exists(directory: Path) -> bool:
    """Whether the directory holds a study (and is not just about to)."""
    database = directory / DATABASE
    try:
        return database.is_file() and database.stat().st_size > 0
    except OSError:
        return False


def read_if_any(directory: Path) -> Stored | None:
    """Read a run directory; None where no study has been stored yet (a crash may have cut the first transaction off)."""
    try:
        return read(directory) if exists(directory) else None
    except EmptyError:
        return None


def read(directory: Path) -> Stored:
    """Read a run directory as it is now; another process may be writing to it.

    Raises `StoreError` when there is none, or when its database is truncated, corrupt, or of a newer format.
    """
    with _reading(directory) as db:
        row = db.execute("SELECT study, identity, created, revision, writer FROM study").fetchone()
        live = _is_live(row[4])
        evaluations = _by_trial(
            db.execute(
                "SELECT trial, step, epoch, train_loss, metrics, standard_errors FROM evaluations ORDER BY trial, step"
            )
        )
        tests = _by_trial(
            db.execute("SELECT trial, step, 0, NULL, metrics, standard_errors FROM tests ORDER BY trial, step")
        )
        trials = []
        for one in db.execute(
            "SELECT id, lr, seed, horizon, epochs, ends, step, wall_s, checkpoint, diverged, failure, traceback FROM trials"
            " ORDER BY lr, seed, horizon"
        ):
            ends = tuple(json.loads(one[5]))
            begun = one[0] in evaluations or one[6] > 0
            trials.append(
                StoredTrial(
                    id=one[0], lr=one[1], seed=one[2], horizon=one[3], epochs=one[4], ends=ends, step=one[6],
                    wall_s=one[7], checkpoint=one[8], diverged=one[9], failure=one[10], traceback=one[11],
                    status=_status(one[10], one[9], one[6], ends[-1], begun, live),
                    evaluations=tuple(evaluations.get(one[0], ())), tests=tuple(tests.get(one[0], ())),
                )
            )  # fmt: skip
        analysis = db.execute("SELECT revision, version, analysis FROM analysis").fetchone()
        decisions, range_test, searched_s = [], None, 0.0
        if db.execute("PRAGMA user_version").fetchone()[0] >= 2:  # written before there were searches: none
            decisions = db.execute("SELECT why, requests FROM decisions ORDER BY id").fetchall()
            range_test = db.execute("SELECT range_test FROM range_tests ORDER BY id DESC LIMIT 1").fetchone()
            searched_s = db.execute("SELECT total(stored - started) FROM sessions WHERE search").fetchone()[0]
        return Stored(
            study=json.loads(row[0]),
            identity=json.loads(row[1]),
            created=row[2],
            revision=row[3],
            live=live,
            environments=tuple(json.loads(e) for (e,) in db.execute("SELECT environment FROM sessions ORDER BY id")),
            seeds={seed: (weights, _number(loss)) for seed, weights, loss in db.execute("SELECT * FROM seeds")},
            trials=tuple(trials),
            decisions=tuple(StoredDecision(why=why, requests=tuple(json.loads(of))) for why, of in decisions),
            searched_s=searched_s,
            range_test=None if range_test is None else json.loads(range_test[0]),
            analysis=None if analysis is None else (analysis[0], analysis[1], json.loads(analysis[2])),
        )


def read_steps(directory: Path) -> dict[int, dict[str, bytes]]:
    """Return, by trial id, ``loss``, ``grad_norm`` and ``update_ratio`` by step, as little-endian float32.

    ``step`` (little-endian int64) says which steps: all from 1 on, or for a loop of one's own those that it logged.
    """
    parts: dict[int, dict[str, list[bytes]]] = {}
    with _reading(directory) as db:
        for trial, first, last, *arrays in db.execute(
            "SELECT trial, first_step, last_step, loss, grad_norm, update_ratio FROM history ORDER BY trial, first_step"
        ):
            columns = parts.setdefault(trial, {"step": [], "loss": [], "grad_norm": [], "update_ratio": []})
            for column, part in zip(columns.values(), (_counted(first, last), *arrays), strict=True):
                column.append(part)
    return {trial: {name: b"".join(arrays) for name, arrays in columns.items()} for trial, columns in parts.items()}


def read_checkpoint(directory: Path, trial: StoredTrial) -> bytes:
    """Return a trial's last checkpoint as it is stored, unread. Raises `StoreError`, naming a file that is gone."""
    path = directory / CHECKPOINTS / str(trial.checkpoint)
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(
            f"{path}: the checkpoint cannot be read: {error.strerror}; restore it, or run into another directory"
        ) from None


def _counted(first: int, last: int) -> bytes:
    """Return the steps (first, last] as little-endian int64."""
    steps = array("q", range(first + 1, last + 1))
    if sys.byteorder == "big":
        steps.byteswap()
    return steps.tobytes()


def runs(root: Path) -> list[Path]:
    """Return the run directories below ``root``, the one written to last first."""
    if not root.is_dir():
        return []
    found = [folder for folder in root.iterdir() if exists(folder)]
    return sorted(found, key=lambda folder: (folder / DATABASE).stat().st_mtime, reverse=True)


@contextlib.contextmanager
def _reading(directory: Path) -> Iterator[sqlite3.Connection]:
    database = directory / DATABASE
    nothing = f"{directory}: there is no run in it (no {DATABASE}); `etude list` shows the runs there are"
    if not exists(directory):
        raise EmptyError(nothing)
    try:
        # rw, so that a transaction which a crash cut off can be rolled back; nothing else is written.
        mode = "rw" if os.access(database, os.W_OK) and os.access(directory, os.W_OK) else "ro"
        db = sqlite3.connect(f"{database.absolute().as_uri()}?mode={mode}", uri=True, timeout=30, isolation_level=None)
    except sqlite3.Error as error:
        raise StoreError(f"{database}: cannot be opened: {error}") from None
    try:
        db.execute("BEGIN")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise StoreError(
                f"{database}: written by a newer etude (format {version}, this one reads {FORMAT}); upgrade etude"
            )
        if version == 0:
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise EmptyError(nothing)
            raise StoreError(f"{database}: expected a database of etude's, got another one")
        pages, size = (db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
        if database.stat().st_size < pages * size:
            raise StoreError(f"{database}: the file is truncated; restore it from a copy")
        yield db
    except sqlite3.Error as error:
        raise StoreError(f"{database}: not a sound database ({error}); restore it from a copy") from None
    except (json.JSONDecodeError, IndexError, TypeError, KeyError) as error:
        raise StoreError(f"{database}: not a sound database of etude's ({error!r}); restore it from a copy") from None
    finally:
        db.close()


def _status(failure: str | None, diverged: int | None, step: int, end: int, begun: bool, live: bool) -> str:
    if failure is not None:
        return "failed"
    if diverged is not None:
        return "diverged"
    if step >= end:
        return "completed"
    if not begun:
        return "pending"
    return "running" if live else "paused"


def _is_live(writer: str | None) -> bool:
    if writer is None:
        return False
    who = json.loads(writer)
    if who["host"] != socket.gethostname():
        return False
    try:
        os.kill(who["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _by_trial(rows: Iterable[Any]) -> dict[int, list[StoredEvaluation]]:
    found: dict[int, list[StoredEvaluation]] = {}
    for trial, step, epoch, train_loss, metrics, errors in rows:
        found.setdefault(trial, []).append(
            StoredEvaluation(
                step=step,
                epoch=epoch,
                train_loss=None if step == 0 and train_loss is None else _number(train_loss),
                metrics={name: _number(value) for name, value in json.loads(metrics).items()},
                standard_errors=json.loads(errors),
            )
        )
    return found


def _number(stored: float | None) -> float:
    return math.nan if stored is None else stored


def finite(value: float | None) -> float | None:
    """Return the value, or None for NaN and infinities, which JSON and SQLite do not have."""
    return value if value is not None and math.isfinite(value) else None


def plain(value: Any) -> Any:
    """Return the value as JSON knows it: NaN and infinities as null, tuples as lists, dataclasses as tables."""
    if isinstance(value, float):
        return finite(value)
    if value is None or isinstance(value, str | int):
        return value
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value

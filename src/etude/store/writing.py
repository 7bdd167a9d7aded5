"""The one writer of a run directory, its lock, its schema, and the commit protocol."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from etude.errors import DiskError, InUseError, StoreError
from etude.store.reading import (
    CHECKPOINTS,
    DATABASE,
    FIGURES,
    FORMAT,
    LOCK,
    StoredTrial,
    exists,
    finite,
    plain,
    read_checkpoint,
    read_if_any,
)

if TYPE_CHECKING:
    from etude.engine.history import History

Wanted = tuple[float, int, float | None, float, int]  # lr, seed, horizon, epochs, end step
OURS = {DATABASE, f"{DATABASE}-journal", CHECKPOINTS, FIGURES, LOCK, "report.html"}
# Statements that bring a database from format N to N + 1.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    0: (
        "CREATE TABLE study (id INTEGER PRIMARY KEY CHECK (id = 1), study TEXT NOT NULL, identity TEXT NOT NULL,"
        " created REAL NOT NULL, revision INTEGER NOT NULL, writer TEXT)",
        "CREATE TABLE sessions (id INTEGER PRIMARY KEY, started REAL NOT NULL, environment TEXT NOT NULL)",
        "CREATE TABLE seeds (seed INTEGER PRIMARY KEY, weights TEXT NOT NULL, first_loss REAL)",
        "CREATE TABLE trials (id INTEGER PRIMARY KEY, lr REAL NOT NULL, seed INTEGER NOT NULL, horizon REAL,"
        " epochs REAL NOT NULL, ends TEXT NOT NULL, step INTEGER NOT NULL DEFAULT 0, wall_s REAL NOT NULL DEFAULT 0,"
        " checkpoint TEXT, diverged INTEGER, failure TEXT, traceback TEXT)",
        "CREATE UNIQUE INDEX one_trial ON trials (lr, seed, ifnull(horizon, -1))",
        "CREATE TABLE history (trial INTEGER NOT NULL REFERENCES trials (id), first_step INTEGER NOT NULL,"
        " last_step INTEGER NOT NULL, loss BLOB NOT NULL, grad_norm BLOB NOT NULL, update_ratio BLOB NOT NULL,"
        " PRIMARY KEY (trial, first_step))",
        "CREATE TABLE evaluations (trial INTEGER NOT NULL REFERENCES trials (id), step INTEGER NOT NULL,"
        " epoch REAL NOT NULL, train_loss REAL, metrics TEXT NOT NULL, standard_errors TEXT NOT NULL,"
        " PRIMARY KEY (trial, step))",
        "CREATE TABLE tests (trial INTEGER NOT NULL REFERENCES trials (id), step INTEGER NOT NULL,"
        " metrics TEXT NOT NULL, standard_errors TEXT NOT NULL, PRIMARY KEY (trial, step))",
        "CREATE TABLE analysis (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL,"
        " version TEXT NOT NULL, analysis TEXT NOT NULL)",
    ),
    1: (
        "ALTER TABLE sessions ADD COLUMN stored REAL",
        "ALTER TABLE sessions ADD COLUMN search INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE decisions (id INTEGER PRIMARY KEY, why TEXT NOT NULL, requests TEXT NOT NULL)",
        "CREATE TABLE range_tests (id INTEGER PRIMARY KEY, range_test TEXT NOT NULL)",
    ),
}


class Writer:
    """The one that writes to a run directory, from `__enter__` (takes the lock) to `__exit__`.

    Raises `InUseError` when another process holds the lock, `StoreError` for a place that cannot be a run directory, and
    `DiskError` when a write is refused; what was committed before stays. A directory that was made here and received
    nothing is removed again.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = filelock.FileLock(directory / LOCK, timeout=0)
        self._made: list[Path] = []
        self._had_lock = True
        self._db: sqlite3.Connection | None = None
        self._session: int | None = None

    def __enter__(self) -> Writer:
        _check_place(self.directory)
        self._had_lock = (self.directory / LOCK).exists()
        read_if_any(self.directory)  # what is no sound database of ours is not written to
        try:
            for folder in [*reversed(self.directory.parents), self.directory]:
                if not folder.exists():
                    folder.mkdir()
                    self._made.append(folder)
            self._lock.acquire()
        except filelock.Timeout:
            raise InUseError(
                f"{self.directory}: another process is writing to it; wait for it to end, or choose another --out"
            ) from None
        except OSError as error:
            self._remove_made()
            raise StoreError(f"{self.directory}: cannot be written: {error.strerror or error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        stored = self._db is not None or exists(self.directory)
        if self._db is not None:
            with contextlib.suppress(StoreError, sqlite3.Error), self._transaction() as db:
                db.execute("UPDATE study SET writer = NULL")
            self._db.close()
            self._db = None
        self._lock.release()
        if not stored:
            if not self._had_lock:
                (self.directory / LOCK).unlink(missing_ok=True)
            self._remove_made()

    def begin(
        self, study: Mapping[str, Any], identity: Mapping[str, Any], environment: Mapping[str, Any],
        seeds: Mapping[int, tuple[str, float]], trials: Iterable[Wanted] = (), *, search_began: float | None = None,
    ) -> None:  # fmt: skip
        """Store the study, new or as it now reads, and the trials that are wanted; sweep orphaned files.

        From here on the run is said to be written by this process. A search says when it began (``time.time()``), because
        its time is limited.
        """
        self._connect()
        with self._transaction() as db:  # one transaction: a study is there with its schema, or not at all
            for number in range(db.execute("PRAGMA user_version").fetchone()[0], FORMAT):
                for statement in MIGRATIONS[number]:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number + 1}")
            fresh = db.execute("SELECT count(*) FROM study").fetchone()[0] == 0
            if fresh:
                db.execute(
                    "INSERT INTO study VALUES (1, ?, ?, ?, 0, NULL)", (_json(study), _json(identity), time.time())
                )
            writer = _json({"pid": os.getpid(), "host": socket.gethostname()})
            db.execute("UPDATE study SET study = ?, writer = ?, revision = revision + 1", (_json(study), writer))
            self._session = db.execute(
                "INSERT INTO sessions (started, environment, search) VALUES (?, ?, ?)",
                (search_began or time.time(), _json(environment), search_began is not None),
            ).lastrowid
            _know(db, seeds)
            _want(db, trials)
        self._sweep()

    def request(self, trials: Iterable[Wanted]) -> None:
        """Store that trials are wanted; those known are extended, or tried again where they failed."""
        with self._transaction() as db:
            _want(db, trials)

    def commit(self, trial: StoredTrial, folder: str, history: History, checkpoint: bytes) -> str:
        """Store a slice: its checkpoint as ``checkpoints/FOLDER/STEP.pt``, then history, evaluations and the reference.

        Returns the checkpoint's name.
        """
        name = f"{folder}/{history.last_step}.pt"
        path = self.directory / CHECKPOINTS / name
        self._write_file(path, checkpoint)
        try:
            with self._transaction() as db:
                before = db.execute("SELECT step, checkpoint FROM trials WHERE id = ?", (trial.id,)).fetchone()
                if before[0] != history.first_step:
                    raise StoreError(
                        f"{self.directory}: trial {folder} is at step {before[0]}, not {history.first_step}"
                    )
                _insert(db, trial, history, name)
                db.execute("UPDATE study SET revision = revision + 1")
        except StoreError:
            if name != trial.checkpoint:  # a slice without a step has written its own checkpoint again
                path.unlink(missing_ok=True)
            raise
        if before[1] is not None and before[1] != name:
            (self.directory / CHECKPOINTS / before[1]).unlink(missing_ok=True)
        return name

    def record(self, trial: StoredTrial, histories: Iterable[History]) -> None:
        """Store what a loop without checkpoints logged, in one transaction; steps between two histories were not logged."""
        with self._transaction() as db:
            for history in histories:
                _insert(db, trial, history, None)
            db.execute("UPDATE study SET revision = revision + 1")

    def restart(self, trial: StoredTrial) -> None:
        """Forget what a trial without checkpoints has recorded, because it is trained again from its start."""
        with self._transaction() as db:
            for table in ("history", "evaluations", "tests"):
                db.execute(f"DELETE FROM {table} WHERE trial = ?", (trial.id,))
            db.execute(
                "UPDATE trials SET step = 0, wall_s = 0, diverged = NULL, failure = NULL, traceback = NULL WHERE id = ?",
                (trial.id,),
            )
            db.execute("UPDATE study SET revision = revision + 1")

    def fail(self, trial: StoredTrial, reason: str, traceback: str | None) -> None:
        """Store that a trial's code raised; what it had reached stays."""
        with self._transaction() as db:
            db.execute("UPDATE trials SET failure = ?, traceback = ? WHERE id = ?", (reason, traceback, trial.id))
            db.execute("UPDATE study SET revision = revision + 1")

    def save_test(self, trial: StoredTrial, metrics: Mapping[str, float], errors: Mapping[str, float]) -> None:
        """Store the test metrics of a trial at the step it has reached."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO tests VALUES (?, ?, ?, ?)",
                (trial.id, trial.step, _json(metrics), _json(errors)),
            )
            db.execute("UPDATE study SET revision = revision + 1")

    def save_analysis(self, version: str, analysis: Mapping[str, Any]) -> None:
        """Store what the analysis says of the present revision."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO analysis SELECT 1, revision, ?, ? FROM study", (version, _json(analysis))
            )

    def decide(
        self, why: str, requests: Iterable[Mapping[str, Any]], trials: Iterable[Wanted] = (), *,
        study: Mapping[str, Any] | None = None, seeds: Mapping[int, tuple[str, float]] | None = None,
    ) -> None:  # fmt: skip
        """Store what a searcher decided and what is wanted for it, in one transaction: trials, the ``study`` as it reads
        with them, and new ``seeds``.
        """
        with self._transaction() as db:
            db.execute("INSERT INTO decisions (why, requests) VALUES (?, ?)", (why, _json(list(requests))))
            _know(db, seeds or {})
            _want(db, trials)
            if study is not None:
                db.execute("UPDATE study SET study = ?", (_json(study),))
            db.execute("UPDATE study SET revision = revision + 1")

    def save_range_test(self, range_test: Mapping[str, Any]) -> None:
        """Store a range test; the last one counts."""
        with self._transaction() as db:
            db.execute("INSERT INTO range_tests (range_test) VALUES (?)", (_json(range_test),))
            db.execute("UPDATE study SET revision = revision + 1")

    def let_go(self, trials: Iterable[StoredTrial]) -> None:
        """Remove the weights of trials; they can then be read and judged, but not carried on."""
        gone = [trial for trial in trials if trial.checkpoint is not None]
        if not gone:
            return
        with self._transaction() as db:
            db.executemany("UPDATE trials SET checkpoint = NULL WHERE id = ?", [(trial.id,) for trial in gone])
        self._sweep()

    def load_checkpoint(self, trial: StoredTrial) -> bytes | None:
        """Return the trial's last checkpoint, None before the first. Raises `StoreError`, naming a file that is gone."""
        return None if trial.checkpoint is None else read_checkpoint(self.directory, trial)

    def _connect(self) -> None:
        try:
            self._db = sqlite3.connect(self.directory / DATABASE, isolation_level=None, timeout=60)
            self._db.execute("PRAGMA journal_mode = DELETE")
            self._db.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise StoreError(f"{self.directory / DATABASE}: cannot be written: {error}") from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._db is not None, "begin() comes first"
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            if self._session is not None:  # so that the time a search has taken survives a crash
                db.execute("UPDATE sessions SET stored = ? WHERE id = ?", (time.time(), self._session))
            db.execute("COMMIT")
        except BaseException as error:
            if db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._refused(error) from error
            raise

    def _refused(self, error: Exception) -> DiskError:
        reason = getattr(error, "strerror", None) or str(error)
        return DiskError(
            f"{self.directory}: writing stopped: {reason}; what was stored before stays readable, "
            "make room and run the same command again"
        )

    def _write_file(self, path: Path, content: bytes) -> None:
        partial = path.with_suffix(".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            for folder in (path.parent, path.parent.parent):
                _sync_folder(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise self._refused(error) from error

    def _sweep(self) -> None:
        assert self._db is not None
        named = {name for (name,) in self._db.execute("SELECT checkpoint FROM trials WHERE checkpoint IS NOT NULL")}
        root = self.directory / CHECKPOINTS
        for path in root.glob("*/*") if root.is_dir() else ():
            if path.is_file() and path.relative_to(root).as_posix() not in named:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # other files are in it
                    path.parent.rmdir()

    def _remove_made(self) -> None:
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):
                shutil.rmtree(folder) if folder == self.directory else folder.rmdir()
        self._made = []


def _insert(db: sqlite3.Connection, trial: StoredTrial, history: History, checkpoint: str | None) -> None:
    if history.last_step > history.first_step:
        arrays = (history.loss, history.grad_norm, history.update_ratio)
        db.execute(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)",
            (trial.id, history.first_step, history.last_step, *(a.astype("<f4").tobytes() for a in arrays)),
        )
    db.executemany(
        "INSERT INTO evaluations VALUES (?, ?, ?, ?, ?, ?)",
        [
            (trial.id, e.step, e.epoch, finite(e.train_loss), _json(e.metrics), _json(e.standard_errors))
            for e in history.evaluations
        ],
    )
    db.execute(
        "UPDATE trials SET step = ?, wall_s = wall_s + ?, checkpoint = ?, diverged = ? WHERE id = ?",
        (history.last_step, history.wall_s, checkpoint, history.diverged, trial.id),
    )


def _know(db: sqlite3.Connection, seeds: Mapping[int, tuple[str, float]]) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO seeds VALUES (?, ?, ?)",
        [(seed, weights, finite(loss)) for seed, (weights, loss) in seeds.items()],
    )


def _want(db: sqlite3.Connection, trials: Iterable[Wanted]) -> None:
    for lr, seed, horizon, epochs, end_step in trials:
        known = db.execute(
            "SELECT id, epochs, ends, step FROM trials WHERE lr = ? AND seed = ? AND horizon IS ?", (lr, seed, horizon)
        ).fetchone()
        if known is None:
            db.execute(
                "INSERT INTO trials (lr, seed, horizon, epochs, ends) VALUES (?, ?, ?, ?, ?)",
                (lr, seed, horizon, epochs, _json([end_step])),
            )
            continue
        # An end before the last one is where a search pauses the trial; one that it has passed would not be evaluated.
        ends = {*json.loads(known[2]), *([end_step] if end_step > known[3] else [])}
        db.execute(
            "UPDATE trials SET epochs = ?, ends = ?, failure = NULL, traceback = NULL WHERE id = ?",
            (max(epochs, known[1]), _json(sorted(ends)), known[0]),
        )


def _check_place(directory: Path) -> None:
    try:
        is_folder = directory.is_dir()
        if directory.exists() and not is_folder:
            raise StoreError(f"{directory}: expected a directory to write to, got a file; choose another --out")
        strange = sorted(path.name for path in directory.iterdir() if path.name not in OURS) if is_folder else []
    except OSError as error:
        raise StoreError(f"{directory}: cannot be read: {error.strerror}; choose another --out") from None
    if strange and not exists(directory):
        raise StoreError(
            f"{directory}: expected an empty directory or a run, got one with other things in it ({strange[0]}, …); "
            "choose another --out"
        )


def _json(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, sort_keys=True)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""What can go wrong, drawn as one tree.

    EtudeError
    ├── SpecError           what was asked for cannot be done as it is written   exit 2
    │   └── MismatchError   the run directory holds another study
    ├── DataError           a data file is missing, or not what it should be     exit 2
    ├── StoreError          a run directory cannot be read or written            exit 2
    │   ├── InUseError      another process is writing to it
    │   └── DiskError       a full disk; what was stored before stays            exit 1
    ├── TrainingError       the trials' own code fails                           exit 1
    └── Interrupted         Ctrl-C; the state is kept                            exit 130

A message is one line: what was expected, what was got, what to do.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from pathlib import Path


class EtudeError(Exception):
    """Root of the errors that etude raises on purpose."""

    exit_status = 2


class SpecError(EtudeError):
    """A study, recipe, objective or option that cannot be."""


class MismatchError(SpecError):
    """The run directory holds a study with another identity (task, recipe or data)."""


class DataError(EtudeError):
    """A data file is missing, truncated, corrupt, or of another shape than expected."""


class StoreError(EtudeError):
    """A run directory that cannot be read or written."""


class InUseError(StoreError):
    """Another process holds the run directory's lock."""


class DiskError(StoreError):
    """The disk refused a write; everything committed before stays readable."""

    exit_status = 1


class TrainingError(EtudeError):
    """The first trials all failed alike, so the study was stopped."""

    exit_status = 1


class Interrupted(EtudeError):  # noqa: N818 - it is not an error of anybody's
    """Ctrl-C: what was trained is stored, and the message carries the command that goes on."""

    exit_status = 130


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'adam'?"``, or the known names when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"


def place_of(error: BaseException) -> str:
    """Return the innermost place in the user's own code that ``error`` passed through (``study.py, line 12``), or nothing."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_library(frame.filename)]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else ""


def _is_library(path: str) -> bool:
    parts = Path(path).parts
    return (
        path.startswith("<frozen")
        or "site-packages" in parts
        or "torch" in parts
        or _PACKAGE in path
        or _STDLIB in path
    )


_PACKAGE = str(Path(__file__).parent)
_STDLIB = str(Path(difflib.__file__).parent)

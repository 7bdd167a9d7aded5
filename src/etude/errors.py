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
import inspect
import os
import re
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any


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
    frames = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
    # A DataLoader's worker sends its traceback as text, which is further in.
    frames += [(path, int(line)) for path, line in _FRAME.findall(str(error))] if _RELAYED in str(error) else []
    own = [(path, line) for path, line in frames if not _is_library(path)]
    return f"{own[-1][0]}, line {own[-1][1]}" if own else ""


def place_within(frame: FrameType | None, file: str) -> str:
    """Return the innermost place in the user's own code from ``frame`` outwards to a function of ``file``, or nothing."""
    while frame is not None and frame.f_code.co_filename != file:
        if not _is_library(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}, line {frame.f_lineno}"
        frame = frame.f_back
    return ""


def words_of(error: BaseException, *, noted: bool = True) -> str:
    """Return what ``error`` says, in one line with its class and, if ``noted``, with the notes that it has."""
    text, notes = str(error).strip(), getattr(error, "__notes__", ()) if noted else ()
    said = (
        text.splitlines()[-1]
        if _RELAYED in text
        else f"{type(error).__name__}: {text}"
        if text
        else type(error).__name__
    )
    return " ".join("; ".join([said.strip().rstrip("."), *notes]).split()) if notes else " ".join(said.split())


def source_of(function: Any) -> str:
    """Return where a function or class is written, ``study.py, line 12``; its name where that cannot be told."""
    function = inspect.unwrap(getattr(function, "func", function))
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    if isinstance(function, type):
        try:
            return f"{inspect.getsourcefile(function)}, line {inspect.getsourcelines(function)[1]}"
        except (OSError, TypeError):
            return function.__name__
    if code is None or _is_library(code.co_filename):
        return getattr(function, "__name__", type(function).__name__)
    return f"{code.co_filename}, line {code.co_firstlineno}"


def _is_library(path: str) -> bool:
    parts = Path(path).parts
    return (
        path.startswith("<frozen")
        or "site-packages" in parts
        or "dist-packages" in parts
        or path.startswith((_PACKAGE, _STDLIB))
    )


_PACKAGE = str(Path(__file__).parent) + os.sep
_STDLIB = str(Path(difflib.__file__).parent) + os.sep
_RELAYED = "Original Traceback (most recent call last):"
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in ')

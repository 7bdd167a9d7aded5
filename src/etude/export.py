"""A result's tables as files: CSV or Parquet, one a table, or the result as JSON. Whole, or not at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from etude.errors import DataError, DiskError, SpecError, nearest
from etude.result import Result

if TYPE_CHECKING:
    import pandas as pd

TABLES = ("trials", "evaluations", "rates", "steps")
FORMATS = ("csv", "parquet", "json")


def export(result: Result, to: str, folder: Path) -> list[Path]:
    """Write ``trials``, ``evaluations``, ``rates`` and ``steps`` (csv, parquet), or ``result.json``; return the files.

    All files are written under temporary names first and then renamed. Raises `SpecError` for a format there is not,
    `DataError` where Parquet needs a package, and `DiskError` when a file cannot be written; then none is left behind.
    """
    if to not in FORMATS:
        raise SpecError(f"export: no format is named {to!r}{nearest(to, FORMATS)}")
    writers: dict[str, Callable[[Path], None]] = {}
    if to == "json":
        text = json.dumps(result.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        writers["result.json"] = lambda path: _write_text(path, f"{text}\n")
    else:
        write = _write_csv if to == "csv" else _write_parquet
        for name in TABLES:
            writers[f"{name}.{to}"] = partial(write, getattr(result, name))
    partials = {name: folder / f".{name}.partial" for name in writers}
    current = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, writer in writers.items():
            current = folder / name
            if current.is_dir():  # found out before anything is replaced
                raise IsADirectoryError(0, "there is a folder of that name")
            writer(partials[name])
        for name, path in partials.items():
            current = folder / name
            path.replace(current)
    except OSError as error:
        raise DiskError(f"{current}: cannot be written: {error.strerror or error}") from None
    finally:
        for path in partials.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return [folder / name for name in writers]


def write_whole(path: Path, write: Callable[[Path], object], what: str) -> Path:
    """Have ``write`` make a file under a temporary name, then rename it. Raises `DiskError`, which names ``what`` it is."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise DiskError(f"{path}: {what} cannot be written: {error.strerror or error}") from None
    finally:  # after Ctrl-C, too
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, lineterminator="\n")


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    try:
        frame.to_parquet(path, index=False)
    except ImportError:
        raise DataError("export: writing Parquet needs pyarrow; pip install 'etude[parquet]'") from None

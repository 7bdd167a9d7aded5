"""A table of curves, read and checked: every mistake in it is one line that names the column and the row.

Rows are counted from 1 below the header. N rows. Imports pandas where it is used.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from etude.errors import DataError, SpecError, nearest
from etude.spec.objective import Objective, parse_objective

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PARQUET, GZIP = b"PAR1", b"\x1f\x8b"
# What other tools call these columns; they are offered, not taken.
ALIASES = {
    "lr": ("learning_rate", "learningrate", "learning rate", "base_lr", "max_lr", "eta", "rate"),
    "seed": ("random_seed", "rng_seed", "run", "trial", "repeat", "replicate"),
    "step": ("global_step", "steps", "iteration", "iter", "_step", "update"),
    "epoch": ("epochs",),
}
NAN_WORDS = ("", "nan", "+nan", "-nan")


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the columns are called in the table."""

    lr: str = "lr"
    seed: str = "seed"
    step: str = "step"
    epoch: str = "epoch"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows as they came, each array (N,). ``values`` has ``train_loss`` and the metrics, ``errors`` their standard errors.

    ``seed`` is 0 everywhere where the table has none (``has_seed`` is false); ``horizon`` tells trials of different
    lengths apart where etude exported them so. ``source`` names the table in messages, ``name`` in results;
    ``unread`` are columns that were left alone.
    """

    source: str
    name: str
    lr: Floats
    seed: Ints
    has_seed: bool
    step: Ints | None
    epoch: Floats | None
    horizon: Floats | None
    values: Mapping[str, Floats]
    errors: Mapping[str, Floats]
    objective: Objective
    unread: tuple[str, ...] = ()


def read_table(source: Any, objective: str | Objective | None, margin: float | None, names: Names) -> Table:
    """Read a file, a folder of TensorBoard logs or a data frame.

    Raises `DataError` for what cannot be read or is malformed, `SpecError` for a column or an objective that is not
    there, or whose direction is not known.
    """
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return _check(source, "the data frame", "data frame", objective, margin, names)
    if not isinstance(source, str | Path):
        raise SpecError(f"judge: expected a path or a pandas data frame, got {type(source).__name__}")
    path = Path(source)
    if path.is_dir():
        from etude.importers import logs

        frame, names = logs.read(path), Names()
    else:
        frame = _read_file(path)
    name = path.resolve().name
    for ending in (".gz", ".csv", ".parquet", ".pq", ".tsv", ".txt"):
        name = name.removesuffix(ending)
    return _check(frame, str(path), name or str(path), objective, margin, names)


def _read_file(path: Path) -> pd.DataFrame:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not magic:
        raise DataError(f"{path}: the file is empty")
    if magic == PARQUET or path.suffix in (".parquet", ".pq"):
        return _read_parquet(path)
    return _read_csv(path, zipped=magic.startswith(GZIP) or path.suffix == ".gz")


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs pyarrow; pip install 'etude[parquet]'") from None
    except (ValueError, OSError, RuntimeError, NotImplementedError, KeyError) as error:
        raise DataError(f"{path}: not a sound Parquet file ({_first_line(error)})") from None


def _read_csv(path: Path, zipped: bool) -> pd.DataFrame:
    import pandas as pd

    with _csv_errors(path, zipped):
        with _text(path, zipped) as file:
            header, separator = _header(file)
        if not header:
            raise DataError(f"{path}: the file is empty")
        names = [name.strip() for name in header]
        again = {name for name in names if names.count(name) > 1}
        for i, name in enumerate(names):
            if name in again and name:
                raise DataError(f"{path}: two columns are called {name!r}")
            names[i] = name or f"column {i + 1}"
        exact: dict[str, Any] = {}
        if tuple(int(part) for part in pd.__version__.split(".")[:2]) < (3, 1):
            exact["float_precision"] = "round_trip"  # later it is the only way floats are read
        with warnings.catch_warnings():
            # A row longer than the header would lose its last values with no more than a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(
                path, compression="gzip" if zipped else None, encoding="utf-8-sig", sep=separator, header=0, names=names,
                index_col=False, skipinitialspace=True, low_memory=False, na_values=["NAN", "Nan"], **exact,
            )  # fmt: skip
            return frame


@contextlib.contextmanager
def _csv_errors(path: Path, zipped: bool) -> Iterator[None]:
    import pandas as pd

    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a sound gzip file ({_first_line(error)})") from None
    except UnicodeDecodeError:
        what = "the gzipped file" if zipped else "the file"
        raise DataError(f"{path}: expected a CSV in UTF-8; {what} is something else") from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, csv.Error) as error:
        said = _first_line(error).removeprefix("Error tokenizing data. C error: ")
        if "does not match length of data" in said:
            said = "a row has more cells than the header names; give each column a name"
        raise DataError(f"{path}: not a sound CSV: {said[0].lower()}{said[1:]}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _text(path: Path, zipped: bool) -> TextIO:
    if zipped:
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open("r", encoding="utf-8-sig", newline="")


def _header(file: TextIO) -> tuple[list[str], str]:
    """Return the names in the first line that is not blank, and what separates them."""
    line = next((line for line in file if line.strip()), "")
    separator = max(",\t;", key=line.count)
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), []), separator


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _check(
    frame: pd.DataFrame, source: str, name: str, objective: str | Objective | None, margin: float | None, names: Names
) -> Table:
    """Turn a data frame into a `Table`, or say in one line what is wrong with it."""
    frame = _without_index(frame)
    columns = [str(column) for column in frame.columns]
    frame = frame.set_axis(columns, axis=1)
    again = next((column for column in columns if columns.count(column) > 1), None)
    if again is not None:
        raise DataError(f"{source}: two columns are called {again!r}")
    if not columns:
        raise DataError(f"{source}: there are no columns")
    if names.lr not in columns:
        raise DataError(f"{source}: no column {names.lr!r}{_near(names.lr, 'lr', columns)}; say --lr COLUMN")
    for field in ("seed", "step", "epoch"):
        asked = getattr(names, field)
        if asked != field and asked not in columns:
            raise DataError(f"{source}: no column {asked!r}{_near(asked, field, columns)}")
    if not len(frame):
        raise DataError(f"{source}: there are no rows below the header")
    keys = {names.lr, names.seed, names.step, names.epoch, "horizon"}
    candidates = [column for column in columns if column not in keys]
    metrics = [column for column in candidates if column.startswith("val_")]
    metrics = [m for m in metrics if not (m.endswith("_se") and m.removesuffix("_se") in metrics)]
    metrics += [column for column in candidates if column == "train_loss"]
    chosen = _objective(objective, margin, metrics, candidates, source)
    if chosen.metric not in metrics:
        metrics.append(chosen.metric)
    errors = [metric for metric in metrics if f"{metric}_se" in candidates]
    read = _Reader(frame, source)
    used = keys | {*metrics} | {f"{metric}_se" for metric in errors}
    return Table(
        source=source,
        name=name,
        lr=read.rates(names.lr),
        seed=read.whole(names.seed, least=None) if names.seed in columns else np.zeros(len(frame), np.int64),
        has_seed=names.seed in columns,
        step=read.whole(names.step, least=0) if names.step in columns and frame[names.step].notna().any() else None,
        epoch=read.places(names.epoch, names.step) if names.epoch in columns else None,
        horizon=read.horizons() if "horizon" in columns and frame["horizon"].notna().any() else None,
        values={metric: read.numbers(metric) for metric in metrics},
        errors={metric: read.numbers(f"{metric}_se") for metric in errors},
        objective=chosen,
        unread=tuple(column for column in columns if column not in used),
    )


def _without_index(frame: pd.DataFrame) -> pd.DataFrame:
    """Make columns of a named index, such as groupby leaves."""
    named = [level for level in frame.index.names if level is not None and level not in frame.columns]
    return frame.reset_index(level=named) if named else frame


def _near(asked: str, field: str, columns: Sequence[str]) -> str:
    lower = {column.lower(): column for column in reversed(columns)}
    for alias in (asked.lower(), field, *ALIASES[field]):
        if alias in lower:
            return f"; did you mean {lower[alias]!r}?"
    return _nearest(asked, columns)


def _nearest(asked: str, columns: Sequence[str]) -> str:
    said = nearest(asked, columns)
    if "did you mean" in said or len(columns) <= 8:
        return said
    return f"; known: {', '.join(sorted(columns)[:8])} and {len(columns) - 8} more"


def look_alike(field: str, columns: Iterable[str]) -> str | None:
    """Return a column that may be the ``field`` by another name."""
    lower = {column.lower(): column for column in columns}
    return next((lower[alias] for alias in (field, *ALIASES[field]) if alias in lower), None)


def _objective(
    asked: str | Objective | None, margin: float | None, metrics: Sequence[str], candidates: Sequence[str], source: str
) -> Objective:
    if asked is None:
        made = _default_objective(metrics, candidates, source)
    else:
        metric = asked.metric if isinstance(asked, Objective) else _metric_of(asked)
        if metric not in candidates:
            raise SpecError(f"study.objective: {source} has no column {metric!r}{_nearest(metric, candidates)}")
        made = asked if isinstance(asked, Objective) else parse_objective(asked)
    return made if margin is None else Objective(metric=made.metric, direction=made.direction, margin=margin)


def _metric_of(text: str) -> str:
    direction, colon, metric = text.strip().partition(":")
    return metric if colon and direction in ("max", "min", "maximize", "minimize") else text.strip()


def _default_objective(metrics: Sequence[str], candidates: Sequence[str], source: str) -> Objective:
    if not metrics:
        known = f"; its other columns are {', '.join(sorted(candidates)[:8])}" if candidates else ""
        raise DataError(f"{source}: expected a column train_loss or val_… to judge by{known}")
    first = [metric for metric in ("val_accuracy", "val_loss") if metric in metrics]
    rest = [metric for metric in metrics if metric.startswith("val_")] + ["train_loss"] * ("train_loss" in metrics)
    for metric in first + rest:
        with contextlib.suppress(SpecError):
            return parse_objective(metric)
    return parse_objective(rest[0])  # says that the direction is not known, and how to write it


class _Reader:
    """Takes columns out of a data frame as arrays of numbers."""

    def __init__(self, frame: pd.DataFrame, source: str) -> None:
        self.frame, self.source = frame, source

    def numbers(self, column: str) -> Floats:
        import pandas as pd

        series = self.frame[column]
        plain = pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series)
        if plain and not pd.api.types.is_complex_dtype(series):
            return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
        words = series.astype(object)
        read = pd.to_numeric(words, errors="coerce") if not pd.api.types.is_bool_dtype(series) else words
        made = np.full(len(series), np.nan)
        if pd.api.types.is_numeric_dtype(read) and not pd.api.types.is_complex_dtype(read):
            made = np.asarray(read.to_numpy(dtype=np.float64, na_value=np.nan))
        suspect = np.flatnonzero(np.isnan(made) & np.asarray(series.notna()))
        for row in suspect:
            got = words.iloc[int(row)]
            if str(got).strip().lower() not in NAN_WORDS:
                self._wrong(column, int(row), "a number", got)
        return made

    def rates(self, column: str) -> Floats:
        made = self.numbers(column)
        self._all(np.isfinite(made) & (made > 0), column, "a positive, finite rate")
        return made

    def whole(self, column: str, least: int | None) -> Ints:
        import pandas as pd

        series = self.frame[column]
        what = "a whole number" if least is None else f"a whole number from {least} on"
        if pd.api.types.is_integer_dtype(series) and not series.isna().any():
            self._all((series < 2**63).to_numpy(), column, what)  # a larger one would wrap
            whole = np.asarray(series.to_numpy(dtype=np.int64))
        else:
            made = self.numbers(column)
            self._all(np.isfinite(made) & (np.floor(made) == made) & (np.abs(made) < 2**63), column, what)
            whole = made.astype(np.int64)
        if least is not None:
            self._all(whole >= least, column, what)
        return whole

    def horizons(self) -> Floats:
        """Return the horizons that tell trials apart; partly empty ones would mix them."""
        made = self.numbers("horizon")
        self._all(np.isfinite(made) & (made > 0), "horizon", "a positive number in every row, or in none")
        return made

    def places(self, column: str, step: str) -> Floats | None:
        """Return the epochs, or None where the column is empty; without steps every row needs one."""
        made = self.numbers(column)
        if np.isnan(made).all():
            return None
        has_step = step in self.frame.columns and self.frame[step].notna().any()
        sound = np.isfinite(made) & (made >= 0)
        self._all(sound | np.isnan(made) if has_step else sound, column, "an epoch from 0 on")
        return made

    def _all(self, sound: NDArray[np.bool_], column: str, what: str) -> None:
        if not sound.all():
            row = int(np.argmin(sound))
            self._wrong(column, row, what, self.frame[column].iloc[row])

    def _wrong(self, column: str, row: int, what: str, got: object) -> None:
        said = repr(got) if isinstance(got, str) else str(got)
        said = "nothing" if said.lower() in ("nan", "none", "<na>", "nat") else said
        raise DataError(
            f"{self.source}: column {column!r}, row {row + 1}: expected {what}, got "
            f"{said if len(said) <= 60 else said[:57] + '…'}"
        )

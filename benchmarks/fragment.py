"""What the validation scripts share: a Markdown fragment and a CSV table written side by side, and a cache for slow parts.

The cache lies outside the repository. What depends on the analysis is kept under a digest of its source, so that another
analysis never reads what this one said.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import etude.analysis
from etude.analysis.values import Response

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "validation"


def cache() -> Path:
    """Return the folder where slow parts are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etude-validation"


def analysis_digest() -> str:
    """Return a short digest of the source of the analysis that is being validated."""
    hashed = hashlib.blake2b(digest_size=6)
    for path in sorted(Path(etude.analysis.__file__).parent.glob("*.py")):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()


def write(name: str, lines: Iterable[str], rows: Sequence[Mapping[str, Any]], pages: Path = PAGES) -> None:
    """Write ``NAME.md`` and, where there are rows, ``NAME.csv``."""
    pages.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    (pages / f"{name}.md").write_text(text, encoding="utf-8")
    if rows:
        write_csv(pages / f"{name}.csv", rows)
    print(text)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys; floats with six significant digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float | np.floating) else v for k, v in row.items()})


def holds(response: Response, lr: float) -> bool | None:
    """Return whether the interval holds a rate, an open end all that lies beyond it; None where there is no interval."""
    if response.optimum_interval is None:
        return None
    low, high = response.optimum_interval
    near = 1.01  # ends are written with three digits
    return ("low" in response.open or low <= lr * near) and ("high" in response.open or lr <= high * near)


def claims(pairs: Iterable[tuple[bool, str]]) -> list[str]:
    """Return a list that says of each claim whether it held."""
    return [f"- **{'held' if held else 'refuted'}**: {text}" for held, text in pairs]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a Markdown table."""
    return [
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def publish(lines: Iterable[str], out: Path | None) -> None:
    """Print a page, and write it where ``out`` says so."""
    text = "\n".join(lines) + "\n"
    print(text)
    if out:
        out.write_text(text, encoding="utf-8")


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979, Scand. J. Statist. 6), in the order given."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(np.argsort(p)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def p_text(p: float) -> str:
    """Write a p-value: ``0.034``, ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"

"""The report as a file: one HTML page that holds everything, or Markdown with its pictures beside it. Whole, or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from etude.errors import SpecError, nearest
from etude.export import write_whole
from etude.present import article, figures, page
from etude.present.axes import Look, Words
from etude.present.beside import beside
from etude.result import Result

FORMATS = ("html", "md")
NAME = "report"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the Markdown report, and its file beside it."""

    name: str
    words: Words
    file: str


def write(result: Result, path: str | Path | None = None, format: str = "html", *, fork: bool = False) -> Path:
    """Write the report of a result, and return its file; ``report.html`` (``report.md``) in the run if no ``path`` is given.

    The pictures of a Markdown report lie in a folder ``NAME_figures`` beside it, as PNG. ``fork`` has half of the figures drawn
    by another process: for programs that do nothing else at the time (`etude.present.beside`). Raises `SpecError` for a format that
    there is not and where there is no run directory to write to, `DiskError` when it cannot be written.
    """
    if format not in FORMATS:
        raise SpecError(f"report: no format is named {format!r}{nearest(format, FORMATS)}")
    if path is None:
        if result.directory is None:
            raise SpecError("report: these curves have no run directory; say where to write the report")
        path = result.directory / f"{NAME}.{format}"
    path = Path(path)
    if path.is_dir():
        raise SpecError(f"report: expected a file to write, got the folder {path}")
    text = page.render(result, fork=fork) if format == "html" else _markdown(result, path, fork=fork)
    return write_whole(path, lambda part: part.write_text(text, encoding="utf-8"), "the report")


def _markdown(result: Result, path: Path, *, fork: bool) -> str:
    folder = path.with_name(f"{path.stem}_figures")
    names = page.which(result)

    def saved(names: list[str]) -> dict[str, Path]:
        return {name: figures.save(result, name, folder / f"{name}.png", look=Look(heading=False)) for name in names}

    others = beside(lambda: saved(names[1::2]), fork=fork)
    files = saved(names[::2]) | others()
    pictures = [
        Picture(name=name, words=figures.FIGURES[name].words(result), file=f"{folder.name}/{files[name].name}")
        for name in names
    ]
    made = article.article(result)
    environment = page.environment()
    environment.filters |= {"cell": _cell, "alt": _alt, "item": _item, "text": _text}
    text = environment.get_template("report.md").render(
        article=made, figures=pictures, gap_unit=page.gap_unit(made.readings)
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _text(text: str) -> str:
    """Write a text so that nothing in it is markup: names are a person's, and may hold anything."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(text.split())).replace("<", "&lt;")
    text = re.sub(r"([\\`*_\[\]$~])", r"\\\1", text)
    return re.sub(r"^([#>+-]|\d+(?=[.)] ))", _not_a_list, text)


def _not_a_list(found: re.Match[str]) -> str:
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"


def _cell(text: str) -> str:
    """Write a text into a cell of a table, where a bar would end it."""
    return _text(text).replace("|", "\\|")


def _alt(text: str) -> str:
    return _text(text.replace("[", "(").replace("]", ")"))


def _item(text: str) -> str:
    """Write a numbered line as an item of a list."""
    return _text(re.sub(r"^\d+\. ", "", text))

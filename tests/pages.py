"""Reads commands and code out of pages and carries them out, so that no page says what does not work.

A block is marked in its page by a comment on the line before it, which readers do not see:

    <!-- run -->                                   commands (``$ …`` in a console block) or Python, as they stand
    <!-- run, with "epochs=1" for "epochs=20" -->  the same with less to train; several of them are joined by "and"
    <!-- file mine.py -->                          what a reader is told to save under this name

The blocks of a page are carried out from top to bottom in one folder; its Python blocks share their names, as in a session.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import programs

ROOT = Path(__file__).parent.parent
_MARKED = re.compile(r"<!-- (run|file)(.*?) -->\n+```(\w+)[^\n]*\n(.*?)```", re.DOTALL)
_CUT = "— what was printed before does not count —"
_CHANGE = re.compile(r'"([^"]*)" for "([^"]*)"')


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block that is carried out: its language, its text (with the changes that its mark names), the file it is kept in."""

    language: str
    text: str
    file: str | None = None


def blocks(text: str, language: str) -> list[str]:
    """All blocks of a language, marked or not."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def marked(text: str) -> Iterator[Block]:
    """The blocks that a page marks, from top to bottom. Raises `ValueError` for a change of what is not there."""
    for what, how, language, body in _MARKED.findall(text):
        for new, old in _CHANGE.findall(how):
            if old not in body:
                raise ValueError(f"{old!r}, which is to be changed, is not in the block {body!r}")
            body = body.replace(old, new)
        name = how.split(", with ")[0].strip()
        yield Block(language=language, text=body, file=name if what == "file" else None)


def commands(text: str) -> list[str]:
    """The commands of a console block: the lines after ``$``."""
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def words(command: str) -> list[str]:
    """What Python is to be given for ``etude …`` and ``python …``."""
    first, *rest = shlex.split(command, comments=True)
    if first == "etude":
        return ["-m", "etude", *rest]
    if first == "python":
        return rest
    raise ValueError(f"{command}: a page's commands begin with etude or python")


def carry_out(text: str, folder: Path, etude: Callable[..., Any] | None = None) -> list[str]:
    """Carry out a page in ``folder`` and return what it printed. Raises `AssertionError` with what failed.

    With ``etude`` (the fixture ``etude_command``) the commands of that name run in this process, which saves their start.

    Python blocks with nothing else between them are one script, and one entry of what was printed; so is each command.
    """
    said: list[str] = []
    earlier, script = "", ""  # the page's Python: what was run, whose names later blocks use, and what is gathered
    for block in [*marked(text), Block(language="end", text="")]:
        if block.language == "python" and block.file is None:
            script += block.text
            continue
        if script:
            (folder / "page.py").write_text(f"{earlier}\nprint({_CUT!r})\n{script}", encoding="utf-8")
            said.append(_carried(["page.py"], folder).rpartition(_CUT + "\n")[2])
            earlier, script = earlier + script, ""
        if block.file is not None:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            assert commands(block.text), f"no command in {block.text!r}"
            said += [_command(command, folder, etude) for command in commands(block.text)]
        else:
            assert block.language == "end", f"{block.language} is marked to be run"
    return said


def _command(command: str, folder: Path, etude: Callable[..., Any] | None) -> str:
    first, *rest = shlex.split(command, comments=True)
    if etude is None or first != "etude":
        return _carried(words(command), folder)
    done = etude(*rest)
    assert done.status == 0, f"{command}\n{done.err}"
    return str(done.out)


def _carried(command: list[str], folder: Path) -> str:
    done = programs.run(*command, cwd=folder, one_core=True)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    return done.stdout

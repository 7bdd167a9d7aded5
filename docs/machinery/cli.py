"""Writes the page of the command line from the commands themselves, when the site is built (a hook of MkDocs)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from etude.cli import app

PAGE = "reference/cli.md"
HEAD = """\
# Command line

STUDY is the name of a built-in task (its default study) or a study file; none means the reference study. RUN is a run
directory; none means the latest one under `runs/`.

The exit status is 0, or 1 where trials failed, 2 where what was asked for cannot be done as it is written, 130 after Ctrl-C.
An error is one line on the standard error stream. In brackets: what is taken if you say nothing.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page to the site."""
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    """Return the page: a section a command, with its usage and a table of its options."""
    group: Any = typer.main.get_command(app)
    return "\n".join([HEAD, *(line for name in group.commands for line in _section(name, group.commands[name]))])


def _section(name: str, command: Any) -> Iterator[str]:
    given = [parameter for parameter in command.params if not parameter.hidden and "--help" not in parameter.opts]
    arguments = [parameter for parameter in given if parameter.param_type_name == "argument"]
    options = [parameter for parameter in given if parameter.param_type_name == "option"]
    words = ["etude", name, *(["[OPTIONS]"] if options else []), *map(_metavar, arguments)]
    yield f"## etude {name} {{ #{name} }}\n"
    yield f"```text\n{' '.join(words)}\n```\n"
    yield f"{command.help}\n"
    if given:
        yield "| | what it is |"
        yield "|---|---|"
    for parameter in arguments:
        yield f"| `{_metavar(parameter).strip('[]')}` | {_cell(parameter.help)} |"
    for parameter in options:
        value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
        longest, *others = sorted(parameter.opts, key=len, reverse=True)
        names = ", ".join([f"`{longest}{value}`", *(f"`{one}`" for one in others)])
        usual = parameter.default if isinstance(parameter.default, str) else None
        yield f"| {names} | {_cell(parameter.help)}{f' (`{usual}`)' if usual else ''} |"
    yield ""


def _metavar(argument: Any) -> str:
    return str(argument.metavar or f"[{argument.name.upper()}]")


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")

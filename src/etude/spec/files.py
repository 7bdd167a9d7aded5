"""Studies in files: a Python file with a `Study`, a TOML file with a study's fields, whose task may be somebody's own function."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from etude.errors import SpecError
from etude.spec.script import Code, beside, check_name, offer
from etude.spec.study import Study
from etude.tasks.task import Task

PYTHON = re.compile(r"(.+\.py)(?::(.*))?", re.DOTALL)  # my_study.py, my_study.py:other
MODULE = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):(.*)", re.DOTALL)  # my_module:make_task


def names_file(text: str) -> bool:
    """Whether the text is the name of a study file, whether or not it is there."""
    return text.endswith(".toml") or PYTHON.fullmatch(text) is not None


def read(source: str, task_options: Mapping[str, Any] | None = None) -> Study:
    """Read ``my_study.py``, ``my_study.py:other`` or ``study.toml``; ``task_options`` take the place of the file's own.

    Raises `SpecError` for what cannot be read or run, and for what is no study.
    """
    if source.endswith(".toml"):
        return read_toml(Path(source), task_options)
    parts = PYTHON.fullmatch(source)
    if parts is None:
        raise SpecError(f"study: expected a file that ends in .py or .toml, got {source!r}")
    file, name = parts[1], parts[2] if parts[2] is not None else "study"
    path = Path(file)
    code = Code(source=source, file=file, folders=(path.resolve().parent,))
    module = code.run(path)
    study = _study(code, module, name)
    changes: dict[str, Any] = {"source": source}
    if _is_unnamed(study):
        changes["name"] = path.stem if name == "study" else f"{path.stem}-{name}"
    if task_options is not None:
        if not isinstance(study.task, str):
            raise SpecError(
                f"study.task_options: {file} has made its task already; change it there, or write a TOML file with "
                f'task = "{file}:FUNCTION" and task_options'
            )
        changes["task_options"] = dict(task_options)
    return study.replace(**changes)


def read_toml(path: Path, task_options: Mapping[str, Any] | None = None) -> Study:
    """Read a TOML file. ``task = "my_task.py:make_task"`` or ``"my_module:make_task"`` is called with ``task_options``.

    Raises `SpecError`, with the line, for a syntax error.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(f"{path}: cannot be read: {reason}{beside(path)}") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not valid TOML: {_with_line(error, text)}") from None
    try:
        if "source" in table:
            raise SpecError("study.source: it is the file's own name, and is not said in it")
        table.setdefault("name", path.stem)
        if task_options is not None:
            table["task_options"] = dict(task_options)
        task = table.get("task")
        if isinstance(task, str) and (":" in task or task.endswith(".py")):
            table["task"] = _task(path, task, table.get("task_options", {}))
        return Study.from_dict({**table, "source": str(path)})
    except SpecError as error:
        raise SpecError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error.__cause__


def write_starter(path: Path) -> None:
    """Write the starter, `etude.starter`, to a new file. Raises `SpecError` for one that is there or cannot be written."""
    if path.suffix != ".py":
        raise SpecError(f"init: expected a file that ends in .py, got {str(path)!r}")
    check_name(path, str(path))
    text = Path(__file__).parents[1].joinpath("starter.py").read_bytes()
    try:
        with path.open("xb") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                path.unlink(missing_ok=True)
                raise
    except FileExistsError:
        raise SpecError(f"{path}: it is there already, and stays as it is; name another file, or run it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"{path}: cannot be written: {reason}") from None


def _study(code: Code, module: ModuleType, name: str) -> Study:
    """Return the study that a variable is, or that its function makes."""
    variables = vars(module)
    if name not in variables or not name.isidentifier():
        studies = [other for other, thing in variables.items() if isinstance(thing, Study)]
        if studies:
            has = f"; it has {', '.join(studies)}: name one with {code.file}:{studies[0]}"
        elif name == "study":
            has = '; end it with study = etude.Study(task=…, lrs="1e-4..1e-1/4", epochs=5)'
        else:
            has = offer(name, _public(module), "")
        raise SpecError(f"{code.file}: no study is named {name!r} in it{has}")
    got, made = variables[name], ""
    if callable(got) and not isinstance(got, Study | Task):
        got, made = code.call(got, name, {}), "()"
    if isinstance(got, Study):
        return got
    what = f"{code.file}: expected {name}{made} to be an etude.Study"
    if isinstance(got, Task):
        task = "task" if name == "study" else f"{name}{made}"
        raise SpecError(
            f"{what}, got an etude.Task; {'call it task, and ' if name == 'study' else ''}wrap it: "
            f'study = etude.Study(task={task}, lrs="1e-4..1e-1/4", epochs=5)'
        )
    raise SpecError(f"{what}, or a function that returns one; got {type(got).__name__}")


def _is_unnamed(study: Study) -> bool:
    """Whether nobody gave the study, or its task, a name."""
    if isinstance(study.task, str):
        return study.name == study.task
    usual = ("task", getattr(getattr(study.task, "model", None), "__name__", ""))
    return study.task is not None and study.name == study.task_name and study.name in usual


def _task(toml: Path, text: str, options: Any) -> Task:
    """Make the task that a TOML file names: of a file beside it, or of a module that can be imported."""
    if not isinstance(options, Mapping):
        raise SpecError(f"study.task_options: expected a table, got {type(options).__name__}")
    try:
        json.dumps(options)
    except TypeError as error:
        raise SpecError(f"study.task_options: expected text, numbers, lists and tables: {error}") from None
    source, folder = str(toml), toml.resolve().parent
    if parts := PYTHON.fullmatch(text):
        path, name = folder / parts[1], parts[2] if parts[2] is not None else "task"
        file = str(toml.parent / parts[1])
        code = Code(source=source, file=file, folders=(*dict.fromkeys((path.resolve().parent, folder, Path.cwd())),))
        module = code.run(path)
    elif parts := MODULE.fullmatch(text):
        name = parts[2]
        code = Code(source=source, file=source, folders=(*dict.fromkeys((folder, Path.cwd())),))
        found = code.load(parts[1])
        if found is None:
            near = [one.stem for where in code.folders for one in where.glob("*.py")]
            raise SpecError(
                f"study.task: there is no module {parts[1]!r} beside the file, in the working directory or where Python "
                f"looks for modules{offer(parts[1], near, '')}"
            )
        module = found
    else:
        raise SpecError(
            f'study.task: expected a built-in task, "my_task.py:make_task" or "my_module:make_task", got {text!r}'
        )
    if name not in vars(module):
        raise SpecError(
            f"study.task: {text.rpartition(':')[0] or text} has no {name!r}{offer(name, _public(module), '')}"
        )
    got, made = vars(module)[name], ""
    if callable(got) and not isinstance(got, Task | Study):
        got, made = code.call(got, name, options), "()"
    elif isinstance(got, Task) and options:
        raise SpecError(f"study.task_options: {name} is a finished etude.Task; name a function that takes them")
    if not isinstance(got, Task):
        raise SpecError(f"study.task: expected {name}{made} to be an etude.Task, got {type(got).__name__}")
    return got


def _public(module: ModuleType) -> list[str]:
    """What a person may have meant: names of the module's own functions, tasks and studies."""
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(thing, Task | Study) or (callable(thing) and getattr(thing, "__module__", "") == module.__name__)
        )
    ]


def _with_line(error: tomllib.TOMLDecodeError, text: str) -> str:
    words = str(error)
    if "(at line " not in words:
        return words
    number_text = words.rpartition("(at line ")[2].split(",")[0]
    lines = text.splitlines()
    line = int(number_text)
    return f"{words}: {lines[line - 1].strip()}" if 0 < line <= len(lines) else words

"""Runs a person's Python, of a study file or of a module that one names, and leaves the process as it was.

While it runs, ``sys.path`` begins with its folder, as for a script; what it prints goes to standard error, because
standard output is for results. Afterwards ``sys.path``, ``sys.argv``, the working directory and the standard streams are
as before. Modules that it imported stay imported; those from its folder are imported anew when the next file is read.

The file's own module has its stem for a name (so what stands under ``if __name__ == "__main__"`` is not run), is run from
its text (no ``__pycache__``), and goes to worker processes by value, as a script does. Modules beside it are imported there
again, by name: `importable` has their folder on the path while a study runs.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from etude.errors import EtudeError, SpecError, nearest

# Files below these are nobody's own, even where they lie below the person's folder.
ELSEWHERE = (Path(__file__).parents[1], Path(sysconfig.get_paths()["stdlib"]))
INSTALLED = frozenset({"site-packages", "dist-packages"})
LONGEST = 400  # characters of an error's words

_running: ContextVar[bool] = ContextVar("running", default=False)
_paths: dict[str, tuple[str, ...]] = {}  # source -> what its code has on sys.path
_brought: dict[str, ModuleType] = {}  # modules that were imported from a file's folder


@dataclass(frozen=True, kw_only=True)
class Code:
    """A person's code and where it lives: ``source`` as it was typed, ``file`` as messages name it, ``folders`` to import from."""

    source: str
    file: str
    folders: tuple[Path, ...]

    def run(self, path: Path) -> ModuleType:
        """Run a file's text as a module of its own. Raises `SpecError` for whatever goes wrong, with the file's own line."""
        text = _text(path, self.file)
        check_name(path, self.file)
        try:
            code = compile(text, str(path.resolve()), "exec", dont_inherit=True)
        except SyntaxError as error:
            line = f", line {error.lineno}" if error.lineno else ""
            shown = f": {error.text.strip()}" if error.text and error.text.strip() else ""
            raise SpecError(f"{self.file}{line}: not valid Python: {_one_line(error.msg)}{shown}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise SpecError(f"{self.file}: not valid Python: {_one_line(str(error))}") from None
        self._begin()
        name = path.stem.replace(".", "_")
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        callers = sys.modules.get(name)
        sys.modules[name] = module  # dataclasses and pickle look a class's module up
        try:
            with self.running(hint=f"; `python {self.file}` shows the whole traceback"):
                exec(code, vars(module))
        except BaseException:
            _replace(name, callers)
            raise
        if callers is None:
            _by_value(module)
        else:  # what is another module's name is pickled by value anyhow
            _replace(name, callers)
        return module

    def load(self, name: str) -> ModuleType | None:
        """Import a module by name; None where there is none. Raises `SpecError` for what it raises."""
        self._begin()
        with self.running():
            try:
                return importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name and f"{name}.".startswith(f"{error.name}."):
                    return None
                raise

    def _begin(self) -> None:
        _forget()
        importlib.invalidate_caches()  # a file may be younger than the last look into its folder
        _paths[self.source] = tuple(map(str, self.folders))

    def call(self, function: Callable[..., Any], name: str, options: Mapping[str, Any]) -> Any:
        """Call a function of theirs. Raises `SpecError` for an option that it does not take, and for whatever it raises."""
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            signature = None  # built in: it has none, so it is left to complain itself
        if signature is not None:
            known = signature.parameters.values()
            takes = [p.name for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
            for option in options:
                if option not in takes and not any(p.kind is p.VAR_KEYWORD for p in known):
                    has = nearest(option, takes) if takes else "; it takes none"
                    raise SpecError(f"{self.file}: study.task_options: {name}() takes no option {option!r}{has}")
            needs = [
                p.name
                for p in known
                if p.default is p.empty and p.name not in options and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            ]
            if needs:
                raise SpecError(
                    f"{self.file}: {name}() needs {', '.join(map(repr, needs))}: expected a function that can be called "
                    f"with {', '.join(options) or 'nothing'}; give its arguments defaults, or values in a TOML file's task_options"
                )
        with self.running():
            return function(**options)

    @contextlib.contextmanager
    def running(self, hint: str = "") -> Iterator[None]:
        """Have the person's code run in its surroundings; whatever it raises but Ctrl-C becomes a `SpecError` of one line."""
        token = _running.set(True)
        argv, directory = sys.argv, Path.cwd()
        sys.argv = [self.file]
        try:
            with _on_path(self.source, _paths[self.source]), _streams():
                yield
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a file may raise anything, and exit
            self._refuse(error, hint)
        finally:
            sys.argv = argv
            os.chdir(directory)
            _running.reset(token)

    def _refuse(self, error: BaseException, hint: str) -> NoReturn:
        try:
            words = _one_line(str(error))
        except Exception:  # noqa: BLE001 - an exception whose own words fail
            words = ""
        kind = type(error).__name__
        place = self._place(error)
        if isinstance(error, EtudeError):
            raise SpecError(f"{self.file}: {words.removeprefix(f'{self.file}: ')}{place}") from error
        if isinstance(error, SystemExit):
            raise SpecError(
                f"{self.file}: it calls sys.exit({words}){place}; a study file is read to its end: "
                'put that under if __name__ == "__main__":'
            ) from error
        if isinstance(error, SyntaxError):  # its words have the place
            place = ""
        raise SpecError(f"{self.file}: {kind}{f': {words}' if words else ''}{place}{hint}") from error

    def _place(self, error: BaseException) -> str:
        """Name the innermost line of the person's own that led to the error."""
        here, trace = "", error.__traceback__
        while trace is not None:
            path = Path(trace.tb_frame.f_code.co_filename)
            if self._owns(path):
                here = f" ({_short(path)}, line {trace.tb_lineno})"
            trace = trace.tb_next
        return here

    def _owns(self, path: Path) -> bool:
        return (
            any(path.is_relative_to(folder) for folder in self.folders)
            and not any(path.is_relative_to(folder) for folder in ELSEWHERE)
            and not INSTALLED & {*path.parts}
        )


def running() -> bool:
    """Whether a study file is being read, here and now."""
    return _running.get()


@contextlib.contextmanager
def importable(source: str) -> Iterator[None]:
    """Have on ``sys.path``, while it lasts, what ``source`` had: for imports inside its functions, here and in workers."""
    with _on_path(source, _paths[source]) if source in _paths else contextlib.nullcontext():
        yield


def check_name(path: Path, file: str) -> None:
    """Raise `SpecError` for a study file whose name would hide a module that it, or what it imports, may need."""
    name = path.stem
    origin = None
    if name not in sys.stdlib_module_names and name.isidentifier():
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            origin = Path(spec.origin) if spec is not None and spec.origin else None
    hides = origin is not None and origin != path.resolve() and bool(INSTALLED & {*origin.parts})
    if hides or name in sys.stdlib_module_names or name in ("etude", "__main__"):
        raise SpecError(f"{file}: a study file of this name hides the module {name!r}; give it another name")


def _text(path: Path, file: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror or error}{beside(path)}") from None
    except ValueError as error:  # a null character in the path
        raise SpecError(f"{file!r}: cannot be read: {error}") from None


def beside(path: Path) -> str:
    """Offer the study files that lie where one was looked for and is not."""
    try:
        if path.exists() or not path.parent.is_dir():
            return ""
        names = [one.name for one in path.parent.iterdir() if one.suffix in (".py", ".toml")]
    except (OSError, ValueError):
        return ""
    return offer(path.name, names, "; there is no Python or TOML file in that folder: `etude init` writes one")


def offer(word: str, known: list[str], none: str) -> str:
    """Offer the nearest of ``known``, or name them where they are few, or say ``none`` where there is none."""
    if not known:
        return none
    said = nearest(word, known)
    return said if said.startswith("; did") or len(known) <= 8 else ""


@contextlib.contextmanager
def _on_path(source: str, paths: tuple[str, ...]) -> Iterator[None]:
    path, before, modules = sys.path, list(sys.path), {*sys.modules}
    sys.path[:0] = paths
    try:
        yield
    finally:
        # What the file itself put there is part of its surroundings.
        _paths[source] = tuple(dict.fromkeys(one for one in sys.path if one in paths or one not in before))
        sys.path = path
        sys.path[:] = before
        for name in {*sys.modules} - modules:
            if _lies_in(sys.modules.get(name.partition(".")[0]), source):
                _brought[name] = sys.modules[name]


def _lies_in(module: ModuleType | None, source: str) -> bool:
    """Whether a top-level module was found on the path that ``source`` had."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    found = Path(file).parent if getattr(module, "__path__", None) is None else Path(file).parent.parent
    return any(found == Path(one).absolute() for one in _paths[source])


def _forget() -> None:
    """Forget what files read earlier brought from their folders: two folders may each have a module of the same name."""
    import cloudpickle

    for name, module in _brought.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]
        if name in cloudpickle.list_registry_pickle_by_value():
            cloudpickle.unregister_pickle_by_value(module)
    _brought.clear()


def _by_value(module: ModuleType) -> None:
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)
    _brought[module.__name__] = module


def _replace(name: str, module: ModuleType | None) -> None:
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module


class _Unread(io.TextIOBase):
    """Standard input that nobody types into."""

    def readline(self, *_: object) -> str:  # type: ignore[override]
        raise EOFError("it reads from standard input, and nobody is there to type")

    read = readline

    def readable(self) -> bool:
        return True


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """Send what is printed to standard error; without a terminal, reading input is an error and does not wait."""
    stdin = sys.stdin
    if stdin is None or stdin.closed or not stdin.isatty():
        sys.stdin = _Unread()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdin = stdin


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

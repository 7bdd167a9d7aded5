"""Python programs, each in a process of its own that begins with the large packages imported.

To import torch and what the first optimizer wants takes five seconds of a core, and the suite starts dozens of programs
that train. Here one process imports what etude depends on, but nothing of etude, and forks for each program: a process
that can be looked at and killed like any, and that makes etude's own imports itself. What is to be said of a first import
or of another hash seed is said of a program that is ``fresh``.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

FORKS = sys.platform == "linux"  # elsewhere torch does not bear it, and every program is fresh
LARGE = (
    "torch._dynamo", "torch.utils.data", "pandas", "scipy.optimize", "scipy.stats", "sklearn.datasets",
    "matplotlib.figure", "matplotlib.backends.backend_agg", "pydantic", "rich.progress", "rich.table", "typer.main",
)  # fmt: skip


class Program:
    """``python WORDS`` under way in ``cwd``, in a session of its own; WORDS are a script, ``-c CODE`` or ``-m MODULE``, and more.

    With ``one_core`` it has one core, as is fair where two processes test on two; etude starts no workers then by itself.
    """

    def __init__(
        self, *words: object, cwd: Path, env: dict[str, str] | None = None, one_core: bool = False, fresh: bool = False
    ) -> None:
        self.args = [sys.executable, *map(str, words)]
        self.returncode: int | None = None
        self._files = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - gone with the program
        self._popen = self._status = None
        env = {**os.environ} if env is None else env
        if fresh or not FORKS:
            out, err = self._files
            self._popen = subprocess.Popen(
                self.args, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
            self.pid = self._popen.pid
            return
        self._status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told = {"words": self.args[1:], "cwd": str(cwd), "env": env, "core": _core() if one_core else None}
        with theirs:
            handed = [*(file.fileno() for file in self._files), theirs.fileno()]
            socket.send_fds(_server(), [json.dumps(told).encode()], handed)
        self.pid = self._answer(None)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal. Raises `subprocess.TimeoutExpired` if there is none in so many seconds."""
        if self.returncode is None:
            self.returncode = self._popen.wait(timeout) if self._popen else self._answer(timeout)
        return self.returncode

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait_for(self, text: str, *, times: int = 1, timeout: float = 200) -> None:
        """Wait until it has written ``text`` to standard output so many times. Raises `AssertionError` if it does not."""
        until = time.monotonic() + timeout
        while self.stdout.count(text) < times:
            assert self.poll() is None, self.stderr
            assert time.monotonic() < until, self.stdout
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill -9 it and all that it has started, if it runs."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)

    @property
    def stdout(self) -> str:
        """What it has written to standard output up to now."""
        return _read(self._files[0].fileno())

    @property
    def stderr(self) -> str:
        """What it has written to standard error up to now."""
        return _read(self._files[1].fileno())

    def _answer(self, timeout: float | None) -> int:
        self._status.settimeout(timeout)
        try:
            return int(self._status.recv(64))
        except (TimeoutError, BlockingIOError):
            raise subprocess.TimeoutExpired(self.args, timeout) from None


def run(*words: object, cwd: Path, timeout: float = 280, **options: object) -> Program:
    """Carry a program out, to its end. Raises `subprocess.TimeoutExpired`, with the program killed."""
    program = Program(*words, cwd=cwd, **options)
    try:
        program.wait(timeout)
    finally:
        program.kill()
    return program


def _read(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode()  # the place where the program writes on is left alone


def _core() -> int:
    """A core of this process's, another one for each of the processes that test side by side."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % len(cores)]


@functools.cache
def _server() -> socket.socket:
    """The process that forks, which ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        served = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    atexit.register(lambda: (ours.close(), served.wait()))
    return ours


def _serve(control: socket.socket) -> Callable[[], object]:
    """Import, then fork whenever asked; return, in the fork, what it is to do."""
    for name in LARGE:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        told, files, _, _ = socket.recv_fds(control, 1 << 20, 3)
        if not told:
            sys.exit()
        if not os.fork():
            break
        for file in files:
            os.close(file)
    # This one waits for the program, so that the server need not.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control.close()
    if pid := os.fork():
        with socket.socket(fileno=files[2]) as status:
            status.send(str(pid).encode())
            status.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
        os._exit(0)
    return functools.partial(_become, files, **json.loads(told))


def _become(files: list[int], *, words: list[str], cwd: str, env: dict[str, str], core: int | None) -> None:
    """Do what ``python WORDS`` does."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if core is not None:
        os.sched_setaffinity(0, {core})
    os.dup2(files[0], 1)
    os.dup2(files[1], 2)
    for file in files:
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path.pop(0)  # where this file is
    if words[0] == "-P":
        words = words[1:]
    else:
        sys.path.insert(0, {"-m": cwd, "-c": ""}.get(words[0], str(Path(words[0]).absolute().parent)))
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if words[0] == "-c":
        sys.argv, name, code = ["-c", *words[2:]], "<string>", words[1]
    else:
        sys.argv, name, code = words, words[0], Path(words[0]).read_bytes()
        main.__file__ = str(Path(name).absolute())
    exec(compile(code, name, "exec"), main.__dict__)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))()

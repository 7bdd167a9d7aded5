"""Work in a forked process: the same as without it, whatever becomes of that process."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from etude.present import beside as module
from etude.present.beside import beside

HERE = os.getpid()
forks = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no fork that can be trusted")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    monkeypatch.setattr(module, "cores", lambda: 2)


@forks
def test_it_is_done_by_another_process_meanwhile():
    wait = beside(lambda: (os.getpid(), time.monotonic()), fork=True)
    time.sleep(0.5)
    here = time.monotonic()
    there, at = wait()
    assert there != HERE
    assert at < here


@pytest.mark.parametrize(("cores", "fork"), [(2, False), (1, True)])
def test_without_a_second_core_or_not_asked_for_it_is_done_here(monkeypatch, cores, fork):
    monkeypatch.setattr(module, "cores", lambda: cores)
    assert beside(os.getpid, fork=fork)() == HERE


@forks
def test_an_error_of_the_other_process_is_raised_here():
    def fails() -> None:
        raise ValueError(f"it failed {'here' if os.getpid() == HERE else 'there'}")

    with pytest.raises(ValueError, match="it failed here"):
        beside(fails, fork=True)()


@forks
def test_what_a_killed_process_did_not_make_is_made_here():
    def dies() -> int:
        if os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        return 7

    assert beside(dies, fork=True)() == 7


@forks
def test_what_a_killed_process_sent_half_of_is_made_here():
    def dies() -> str:
        if os.getpid() != HERE:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return "7" * 1_000_000

    wait = beside(dies, fork=True)
    time.sleep(0.6)  # nobody reads, and the pipe is full
    assert wait() == "7" * 1_000_000


@forks
def test_an_interrupt_is_not_told_twice(capfd):
    def interrupted() -> bool:
        if os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGINT)
        return os.getpid() == HERE

    assert beside(interrupted, fork=True)() is False
    assert capfd.readouterr().err == ""

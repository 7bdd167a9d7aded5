"""A program that is forked begins as one that is fresh."""

import signal

import pytest

import programs

SAYS = (
    "import os, sys; print(sys.argv, sys.path[0], __name__, globals().get('__file__'), os.getcwd(), os.environ['WHO'])"
)


@pytest.mark.parametrize(
    "words", [["say.py", "a b"], ["-c", SAYS, "a"], ["-m", "say", "a"], ["-P", "-m", "json.tool", "-h"]]
)
def test_it_is_told_the_same_and_ends_alike(tmp_path, words):
    (tmp_path / "say.py").write_text(f"{SAYS}\nsys.exit('enough')\n")
    env = {"PATH": "", "WHO": "me"}
    fresh, forked = (programs.run(*words, cwd=tmp_path, env=env, fresh=fresh) for fresh in (True, False))
    assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)


def test_it_fails_as_any_with_its_line_and_can_be_killed(tmp_path):
    failed = programs.run("-c", "1 / 0", cwd=tmp_path)
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")
    program = programs.Program("-c", "import time; print('here', flush=True); time.sleep(99)", cwd=tmp_path)
    program.wait_for("here\n")
    assert program.poll() is None
    program.kill()
    assert program.wait(10) == program.poll() == -signal.SIGKILL

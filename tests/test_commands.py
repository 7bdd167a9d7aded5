"""How a command is written, so that it can be typed again elsewhere."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from etude import commands

JUDGE = {"lr": "lr", "seed": "seed", "step": "step", "epoch": "epoch"}


@pytest.mark.parametrize(
    ("argv", "module", "typed"),
    [
        (["/home/me/.venv/bin/etude", "run", "digits"], "", "etude run digits"),
        (["etude.exe", "run", "a b"], "", "etude run 'a b'"),
        (["/home/me/src/etude/__main__.py", "run", "digits"], "", "python -m etude run digits"),
        (["/home/me/src/etude/__main__.py", "run", "digits"], "etude.__main__", "python -m etude run digits"),
        (["/home/me/mine/train.py", "--fast"], "mine.train", "python -m mine.train --fast"),
        (["make.py"], "", "python make.py"),
        (["scripts/make.py", "1"], "", "python scripts/make.py 1"),
        (["/home/me/make.py"], "", "python make.py"),
        (["python", "-m", "etude", "run"], "", "python -m etude run"),
        (["/lib/ipykernel_launcher.py", "-f", "/run/kernel.json"], "ipykernel_launcher", ""),
        (["-c"], "", ""),
        ([""], "", ""),
        ([], "", ""),
    ],
)
def test_a_command_is_written_as_it_can_be_typed(argv, module, typed):
    assert commands.as_typed(argv, module) == typed
    assert commands.as_typed(shlex.split(typed)) == typed


@pytest.mark.parametrize(
    ("words", "typed"), [(["mine.py", "1"], "python mine.py 1"), (["-m", "mine", "1"], "python -m mine 1")]
)
def test_a_process_knows_how_it_was_started(tmp_path, words, typed):
    (tmp_path / "mine.py").write_text("from etude import commands\nprint(commands.of_process())\n")
    said = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == f"{typed}\n"


def test_a_judged_file_is_judged_again_with_what_was_asked():
    assert commands.judge("my curves.csv", None, None, **JUDGE) == "etude judge 'my curves.csv'"
    asked = commands.judge("a.csv", "max:val_f1", 0.01, **JUDGE | {"lr": "rate"})
    assert asked == "etude judge a.csv --objective max:val_f1 --margin 0.01 --lr rate"
    assert commands.judge({"lr": [1e-3]}, None, None, **JUDGE) == ""

"""A study of one's own on the command line: run, go on, extend; shown without its code; and the starter."""

import json
import os
import re
import shlex
import signal
import sys
import textwrap
import time
from pathlib import Path

import pytest

import programs
from etude import store

pytestmark = pytest.mark.usefixtures("undrawn")

STUDY = """
    import etude, torch
    from pathlib import Path
    from torch import nn

    with Path("marks").open("a") as file:
        file.write("x")
    print("a line of the file's own")

    def model():
        return nn.Linear(1, 1)

    x = torch.arange(8.0).reshape(8, 1) / 8

    def make_task(width=1.0):
        return etude.Task(model=model, train=(x, width * x), val=(x, width * x), loss=nn.MSELoss())

    study = etude.Study(task=make_task(), recipe={"batch_size": 4, "optimizer": "sgd"}, lrs=[1e-2, 1e-1], epochs=2)
"""
INLINE = ("--executor", "inline")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A study file in the working directory, and how often it was run."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(STUDY))
    return path


def marks(tmp_path):
    path = tmp_path / "marks"
    return len(path.read_text()) if path.exists() else 0


def records(directory):
    steps = store.read_steps(directory)
    return {(t.lr, t.seed): (steps[t.id], t.evaluations) for t in store.read(directory).trials}


def process(*words, cwd, **options):
    """Run ``etude WORDS`` in a process of its own, as the installed command does: without the working directory on the path."""
    return programs.run("-P", "-m", "etude", *words, cwd=cwd, **options)


def test_a_python_file_is_run_and_goes_on_and_the_tables_are_alone_on_standard_output(etude_command, mine, tmp_path):
    said = etude_command("run", "mine.py", *INLINE)
    assert (said.status, said.err) == (0, "a line of the file's own\n")
    assert said.out.startswith("etude: training mine, 2 trials into runs/mine")
    assert "a line of the file's own" not in said.out
    assert "etude resume runs/mine --study mine.py --lrs " in said.out
    before = records(tmp_path / "runs" / "mine")
    assert etude_command("run", "mine.py", *INLINE).out.startswith("runs/mine is complete")
    assert records(tmp_path / "runs" / "mine") == before


def test_options_are_laid_over_a_python_file(etude_command, mine, tmp_path):
    said = etude_command(
        "run", "mine.py:study", *INLINE, "--lrs", "0.5", "--seeds", "2", "--epochs", "3", "--optimizer", "adam",
        "--batch-size", "8", "--evaluate-every", "0.5", "--holdout", "0", "--out", "elsewhere", "--quiet",
    )  # fmt: skip
    assert (said.status, said.out) == (0, "")
    study = store.read(tmp_path / "elsewhere").study
    assert (study["lrs"], study["seeds"], study["epochs"], study["evaluate_every"]) == ([0.5], [0, 1], 3, 0.5)
    assert (study["recipe"]["optimizer"], study["recipe"]["batch_size"]) == ("adam", 8)
    assert study["source"] == "mine.py:study"


def test_what_is_shown_of_a_run_runs_no_code_and_needs_no_file(etude_command, mine, tmp_path):
    assert etude_command("run", "mine.py", *INLINE, "--quiet").status == 0
    assert etude_command("run", "mine.py", *INLINE, "--quiet", "--out", "runs/other", "--lrs", "0.2").status == 0
    assert marks(tmp_path) == 2
    for gone in (False, True):
        if gone:
            mine.unlink()
        assert etude_command("show", "runs/mine").status == 0
        told = json.loads(etude_command("show", "runs/mine", "--json").out)
        assert told["study"]["source"] == "mine.py"
        assert etude_command("plot", "runs/mine", "--figure", "rates").status == 0
        assert etude_command("export", "runs/mine", "--out", "tables").status == 0
        assert etude_command("compare", "runs/mine", "runs/other").status == 0
        assert "model, sgd, 2 rates" in etude_command("list").out
        assert etude_command("resume", "runs/mine").status == 2
    assert marks(tmp_path) == 2


def test_the_command_that_is_offered_next_can_be_run_as_it_is_printed(etude_command, mine, tmp_path):
    mine.rename(tmp_path / "my study.py")
    etude_command("run", "my study.py", *INLINE, "--quiet")
    (command,) = [line.strip() for line in etude_command("show").out.splitlines() if line.startswith("  etude ")]
    said = etude_command(*shlex.split(command)[1:], *INLINE)
    assert said.status == 0
    assert said.out.startswith("etude: going on with my study")


def test_resume_asks_for_the_file_in_the_words_that_work(etude_command, mine, tmp_path):
    etude_command("run", "mine.py", *INLINE, "--quiet", "--optimizer", "adam", "--epochs", "3")
    said = etude_command("resume", "runs/mine", "--lrs", "1e-3,1", "--epochs", "4")
    assert (said.status, said.out) == (2, "")
    command = re.search(r"name its file: (etude resume .*)\n", said.err)[1]
    assert command == "etude resume runs/mine --study mine.py --lrs 1e-3,1 --epochs 4"
    assert etude_command(*shlex.split(command)[1:], *INLINE, "--quiet").status == 0
    stored = store.read(tmp_path / "runs" / "mine")
    assert [(t.lr, t.epochs, t.status) for t in stored.trials] == [(lr, 4, "completed") for lr in (1e-3, 1e-2, 1e-1, 1)]
    assert stored.study["recipe"]["optimizer"] == "adam"  # the option's, not the file's


def test_resume_with_another_task_is_refused(etude_command, mine, tmp_path):
    etude_command("run", "mine.py", *INLINE, "--quiet")
    before = records(tmp_path / "runs" / "mine")
    mine.write_text(mine.read_text().replace("nn.Linear(1, 1)", "nn.Linear(1, 1, bias=False)"))
    said = etude_command("resume", "--study", "mine.py", "--epochs", "3", *INLINE)
    assert said.status == 2
    assert "it holds another study" in said.err
    assert records(tmp_path / "runs" / "mine") == before


def test_a_toml_file_with_a_task_of_ones_own_runs_and_goes_on_with_the_options_it_had(etude_command, mine, tmp_path):
    (tmp_path / "s.toml").write_text('task = "mine.py:make_task"\nlrs = [0.1]\nepochs = 2\nrecipe = {batch_size = 4}\n')
    said = etude_command("run", "s.toml", "--task-options", "width=2.5", *INLINE)
    assert said.status == 0
    assert store.read(tmp_path / "runs" / "s").study["task_options"] == {"width": 2.5}
    said = etude_command("resume", "--study", "s.toml", "--epochs", "3", *INLINE)
    assert said.status == 0, said.err
    assert "etude: going on with s, 1 trial" in said.out
    assert "it holds another study" in etude_command("run", "s.toml", "--task-options", "width=3", *INLINE).err


def test_a_dry_run_of_a_file_stores_nothing(etude_command, mine, tmp_path):
    said = etude_command("run", "mine.py", "--dry-run", *INLINE)
    assert said.status == 0
    assert said.out.startswith("2 trials to train (0 complete), 8 steps")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "mine"), "got 'mine'; did you mean mine.py?"),
        (("run", "mine:other"), "got 'mine:other'; did you mean mine.py:other?"),
        (
            ("run", "mine.py:other"),
            "mine.py: no study is named 'other' in it; it has study: name one with mine.py:study",
        ),
        (("run", "min.py"), "min.py: cannot be read: No such file or directory; did you mean 'mine.py'?"),
        (("run", "mine.py", "--task-options", "width=2"), "study.task_options: mine.py has made its task already"),
        (("run", "mine.py", "--lrs", "fast"), "study.lrs: expected a positive, finite number, got 'fast'"),
        (("run", "mine.py", "--out", "mine.py"), "mine.py"),
        (("run", "folder"), "got 'folder'"),
        (("resume", "--study", "mine.py"), "there are no runs under runs/"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(etude_command, mine, tmp_path, words, said):
    (tmp_path / "folder").mkdir()
    answer = etude_command(*words, *INLINE)
    assert (answer.status, answer.out) == (2, "")
    line = answer.err.removeprefix("a line of the file's own\n")
    assert line.count("\n") == 1
    assert line.startswith("etude: ")
    assert said in line
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.py", "marks", "folder"}


def test_a_run_directory_that_is_named_to_run_is_told_how_it_goes_on(etude_command, digits_run):
    assert "a run goes on with: etude resume runs/digits" in etude_command("run", "runs/digits").err


# Real processes


def test_a_file_that_fails_is_one_line_and_no_run_directory_in_a_process_of_its_own(tmp_path):
    broken = {
        "name": ("1 / 0\n", "etude: broken.py: ZeroDivisionError: division by zero (broken.py, line 1); "),
        "exit": ("import os, sys\nsys.exit(0)\n", "etude: broken.py: it calls sys.exit(0) (broken.py, line 2); "),
        "stdin": ("x = open(0).readline()\ninput()\n", "etude: broken.py: EOFError: it reads from standard input"),
        "recursion": ("def f(): return [f()]\nf()\n", "etude: broken.py: RecursionError: "),
    }
    for text, said in broken.values():
        (tmp_path / "broken.py").write_text(text)
        done = process("run", "broken.py", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(said), done.stderr
        assert done.stderr.count("\n") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["broken.py"]


def test_ctrl_c_while_the_file_is_read_stops_with_130_and_leaves_nothing(tmp_path):
    (tmp_path / "slow.py").write_text("import time\nopen('begun', 'w').close()\ntime.sleep(60)\n")
    running = programs.Program("-P", "-m", "etude", "run", "slow.py", cwd=tmp_path)
    wait_for((tmp_path / "begun").exists)
    os.kill(running.pid, signal.SIGINT)
    assert running.wait(timeout=60) == 130
    assert running.stderr.strip() == "etude: stopped"
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_while_it_trains_names_the_command_that_goes_on_and_it_does(tmp_path):
    """With workers, a module beside the file that is imported late, and a folder that is not the working directory."""
    folder = tmp_path / "deep er"
    folder.mkdir()
    text = textwrap.dedent(STUDY).replace("epochs=2", "epochs=3000, evaluate_every=1000")
    text = text.replace("    return nn.Linear(1, 1)", "    import nets\n    return nets.Net()")
    (folder / "mine.py").write_text(text)
    (folder / "nets.py").write_text(
        "from torch import nn\n\nclass Net(nn.Linear):\n  def __init__(self): super().__init__(1, 1)\n"
    )
    words = ["run", "deep er/mine.py", "--executor", "processes", "--workers", "2", "--out", "runs/it"]
    running = programs.Program("-P", "-m", "etude", *words, cwd=tmp_path)
    wait_for(
        lambda: store.exists(tmp_path / "runs/it") and any(t.step for t in store.read(tmp_path / "runs/it").trials)
    )
    os.kill(running.pid, signal.SIGINT)
    if running.wait(timeout=120) == 0:
        pytest.skip("it was done before it could be stopped")
    assert running.returncode == 130
    command = running.stderr.splitlines()[-1].partition("To go on: ")[2]
    assert command == "etude resume runs/it --study 'deep er/mine.py' --executor processes --workers 2"
    done = process(*shlex.split(command)[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {t.status for t in store.read(tmp_path / "runs/it").trials} == {"completed"}
    assert not list(tmp_path.rglob("mine*.pyc"))


def wait_for(condition):
    until = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


# The starter


def test_the_starter_is_written_and_runs_as_it_is_all_the_way(tmp_path):
    told = process("init", cwd=tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout == "Wrote study.py. It runs as it is:\n  etude run study.py\n"
    assert [path.name for path in tmp_path.iterdir()] == ["study.py"]
    ran = process(*shlex.split(told.stdout.splitlines()[-1])[1:], cwd=tmp_path, one_core=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("etude: training study, 10 trials into runs/study")
    assert "Train at 1e-2: " in ran.stdout
    assert (tmp_path / "runs/study/figures/curves.png").is_file()
    (command,) = [line.strip() for line in ran.stdout.splitlines() if line.startswith("  etude ")]
    on = process(*shlex.split(command)[1:], cwd=tmp_path, one_core=True)
    assert on.returncode == 0, on.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"study.py", "runs"}


def test_the_starter_says_where_everything_goes():
    text = Path(sys.modules["etude"].__file__).with_name("starter.py").read_text()
    for word in ("model=", "train=", "val=", "loss=", "metrics=", "recipe=", "objective=", "lrs=", "seeds=", "epochs="):
        assert word in text


def test_init_overwrites_nothing_and_takes_another_name(etude_command, tmp_path):
    assert "etude run 'my own.py'" in etude_command("init", "my own.py").out
    (tmp_path / "study.py").write_text("mine")
    said = etude_command("init")
    assert (said.status, said.out) == (2, "")
    assert said.err == "etude: study.py: it is there already, and stays as it is; name another file, or run it\n"
    assert (tmp_path / "study.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("study", "expected a file that ends in .py, got 'study'"),
        ("study.toml", "expected a file that ends in .py"),
        ("none/study.py", "none/study.py: cannot be written: No such file or directory"),
        ("x" * 300 + ".py", "cannot be written: File name too long"),
        ("random.py", "hides the module 'random'"),
    ],
)
def test_init_says_what_it_cannot_write_and_leaves_nothing(etude_command, tmp_path, name, said):
    answer = etude_command("init", name)
    assert (answer.status, answer.out) == (2, "")
    assert said in answer.err
    assert not list(tmp_path.iterdir())

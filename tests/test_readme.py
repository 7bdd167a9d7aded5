"""The README's commands and code do what it says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import programs
from pages import ROOT, blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_commands_run_as_they_stand(tmp_path):
    commands = [line.removeprefix("$ ") for block in blocks(README, "console") for line in block.splitlines()]
    assert commands[0] == "make demo"
    ours = [command for command in commands if command.startswith("etude ")]
    assert len(ours) >= 5
    for command in ours:
        words = shlex.split(command)
        if words == ["etude", "run"]:  # the reference study, but a fiftieth of an epoch of it
            words += ["--epochs", "0.02"]
        done = programs.run("-m", *words, cwd=tmp_path, one_core=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stderr == ""
    assert (tmp_path / "runs/mnist/figures/curves.png").stat().st_size > 10_000
    assert (tmp_path / "runs/digits/figures/rates.png").stat().st_size > 10_000


def test_the_example_runs(tmp_path):
    (code,) = blocks(README, "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 15
    script = tmp_path / "example.py"
    script.write_text(code)
    done = programs.run(script, cwd=tmp_path, one_core=True)
    assert done.returncode == 0, done.stderr
    assert re.match(r"Train at \S+: it reaches [\d.]+ % validation accuracy in 5 epochs", done.stdout)


def test_the_study_file_is_read(tmp_path):
    (text,) = blocks(README, "toml")
    path = tmp_path / "study.toml"
    path.write_text(text)
    done = programs.run("-m", "etude", "run", path, "--dry-run", cwd=tmp_path, one_core=True)
    assert done.returncode == 0, done.stderr
    assert "21 trials to train (0 complete)" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


@pytest.mark.skipif(not os.environ.get("CI") and not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_wheel_installs_elsewhere_and_runs(tmp_path):
    def run(*command):
        environment = {
            name: value for name, value in os.environ.items() if name != "PYTHONPATH"
        }  # which may lead to ROOT
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    # A fresh environment that borrows the dependencies, but has etude from the wheel alone.
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", venv)
    site = next(Path(p) for p in sys.path if p.endswith("site-packages"))
    (next(venv.glob("lib/python*/site-packages")) / "borrowed.pth").write_text(str(site) + "\n")
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--force-reinstall", "-q", wheel)
    assert str(venv) in run(python, "-c", "import etude; print(etude.__file__)")
    assert next(venv.glob("lib/python*/site-packages/etude/py.typed")).exists()
    said = run(venv / "bin" / "etude", "run", "mnist", "--epochs", "0.01", "--lrs", "1e-3", "--out", "run")
    assert "LR=0.001 | Epoch 0.009595: Loss=" in said

"""Every example runs as it stands, in an empty folder, and says what it promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
# What a script prints at the end; an example that is not here must still run without a word on stderr.
SAYS = {"own_loop.py": r"Train at \S+: it reaches 9\d\.\d % validation accuracy in 8 epochs; "}
WITHOUT_TORCH = {"own_loop.py"}


def run(script, folder):
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__'); print('torch' in sys.modules)"
    return subprocess.run(
        [sys.executable, "-c", code, str(script)], cwd=folder, capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_the_example_runs(name, tmp_path):
    done = run(EXAMPLES / name, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert re.search(SAYS.get(name, ""), done.stdout), done.stdout
    if name in WITHOUT_TORCH:
        assert done.stdout.splitlines()[-1] == "False"


def test_the_own_loop_trains_nothing_the_second_time(tmp_path):
    first = run(EXAMPLES / "own_loop.py", tmp_path)
    database = tmp_path / "runs/numpy-mlp/study.sqlite"
    before = database.read_bytes()
    again = run(EXAMPLES / "own_loop.py", tmp_path)
    assert again.stdout == first.stdout
    assert database.read_bytes() == before


def test_the_own_loop_of_the_documentation_runs_without_torch(tmp_path):
    text = (ROOT / "docs/howto/own-loop.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    script = tmp_path / "line.py"
    script.write_text(code)
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    said, torch = done.stdout.splitlines()
    assert re.match(r"Train at \S+: it reaches 0\.2\d+ validation loss in 10 epochs; ", said)
    assert torch == "False"

"""Every example runs in an empty folder and says what it promises: own loops and one study as scripts, the others in small."""

import ast
import importlib.util
import json
import os
import re
from pathlib import Path

import pytest

import programs

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))
LOOP = "own_loop.py"  # is run as it stands
NAMED = {"tabular_regression.py": {"torchmetrics"}}  # packages that an example's text does not import

# Two rates in the middle, one seed, one epoch.
IN_SMALL = """
import json, sys, etude
study = etude.Study.from_file(sys.argv[1])
middle = len(study.lrs) // 2
small = study.replace(lrs=study.lrs[middle - 1 : middle + 1], seeds=1, epochs=1)
result = small.run("run", executor="inline")
evaluations = result.evaluations[["step", "val_loss"]]
print(json.dumps({"name": study.name, "rates": len(study.lrs), "seeds": len(study.seeds),
                  "statuses": list(result.trials["status"]), "evaluations": evaluations.to_dict("list")}))
"""


def run_script(script, folder):
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__'); print('torch' in sys.modules)"
    return programs.run("-c", code, script, cwd=folder, env={**os.environ, "MPLBACKEND": "agg"}, fresh=True)


def imported(name):
    """The packages that an example imports."""
    found = set(NAMED.get(name, ()))
    for node in ast.walk(ast.parse((EXAMPLES / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.partition(".")[0])
    return found


def need(name):
    """Skip, but not where all is to be tested, when a package that the example wants is not installed."""
    missing = sorted(package for package in imported(name) if importlib.util.find_spec(package) is None)
    if missing:
        assert not os.environ.get("CI"), f"{name} needs {', '.join(missing)}"
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.mark.parametrize("name", [name for name in NAMES if name != LOOP])
def test_the_study_learns_in_small(name, tmp_path):
    need(name)
    done = programs.run("-c", IN_SMALL, EXAMPLES / name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert said["name"] == Path(name).stem.replace("_", "-")
    assert said["rates"] >= 5
    assert said["seeds"] >= 2
    assert said["statuses"] == ["completed", "completed"]
    by_step = {}
    for step, loss in zip(said["evaluations"]["step"], said["evaluations"]["val_loss"], strict=True):
        by_step.setdefault(step, []).append(loss)
    assert min(by_step[max(by_step)]) < 0.99 * min(by_step[0])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_example_is_run_from_the_command_line(etude_command, tmp_path):
    said = etude_command("run", EXAMPLES / "fine_tuning.py", "--lrs", "0.1", "--seeds", "1", "--epochs", "1")
    assert said.status == 0, said.err
    assert "fine-tuning: adamw, batch 20, gradient norm up to 1" in said.out
    assert (tmp_path / "runs/fine-tuning/study.sqlite").exists()


def test_the_documentation_lists_all_of_them():
    listed = re.findall(r"^\| \[?`(\w+\.py)`", (ROOT / "docs/examples.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == NAMES


def test_the_own_loop_runs_without_torch_and_trains_nothing_the_second_time(tmp_path):
    first = run_script(EXAMPLES / LOOP, tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert re.search(r"Train at \S+: it reaches 9\d\.\d % validation accuracy in 8 epochs; ", first.stdout), (
        first.stdout
    )
    *said, torch = first.stdout.splitlines()
    assert torch == "False"
    database = tmp_path / "runs/numpy-mlp/study.sqlite"
    before = database.read_bytes()
    again = programs.run(EXAMPLES / LOOP, cwd=tmp_path)
    assert again.stdout.splitlines() == said
    assert database.read_bytes() == before


def test_the_own_loop_of_the_documentation_runs_without_torch(tmp_path):
    text = (ROOT / "docs/howto/own-loop.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    script = tmp_path / "line.py"
    script.write_text(code)
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr
    said, torch = done.stdout.splitlines()
    assert re.match(r"Train at \S+: it reaches 0\.2\d+ validation loss in 10 epochs; ", said)
    assert torch == "False"

"""Runs side by side: the command on two small real runs, the names, what is refused and what is only said."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import etude
import fabricate
import programs
from conftest import trained
from etude.errors import SpecError, StoreError
from etude.present.terminal import print_comparison


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two finished runs of digits for one epoch, seeds and validation data in common, of two optimizers."""
    root = tmp_path_factory.mktemp("pair")
    common = {"lrs": "1e-3,1e-2,1e-1", "seeds": 3, "epochs": 1}
    trained(root / "adam", "digits", **common)
    trained(root / "sgd", "digits", **common, recipe={"optimizer": "sgd"})
    return root


def test_two_runs_are_compared(etude_command, pair):
    said = etude_command("compare", pair / "adam", pair / "sgd")
    assert said.status == 0
    assert said.err == ""
    assert "2 runs, decided by the largest val_accuracy" in said.out
    assert "They differ in recipe.optimizer: adam adam, sgd sgd." in said.out
    assert "paired over 3 seeds" in said.out
    picture = pair / "adam" / "figures" / "compare.png"
    assert f"Picture: {picture}" in said.out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_is_the_comparison_and_draws_nothing_unasked(etude_command, pair, tmp_path):
    said = json.loads(etude_command("compare", pair / "adam", pair / "sgd", "--json").out)
    assert said == etude.compare([pair / "adam", pair / "sgd"]).to_dict()
    assert said["format"] == 1
    assert said["objective"] == {"metric": "val_accuracy", "direction": "maximize"}
    assert [run["name"] for run in said["runs"]] == ["adam", "sgd"]
    (reading,) = said["pairs"]
    low, high = reading["interval"]
    assert low < reading["difference"] < high
    assert reading["outcome"] in ("better", "worse", "no difference told", "within the margin")
    assert etude_command("compare", pair / "adam", pair / "sgd", "--json", "--out", "both.svg").status == 0
    assert "learning rate" in (tmp_path / "both.svg").read_text()


def test_the_difference_is_what_the_scores_say(pair):
    made = etude.compare([pair / "adam", pair / "sgd"])
    adam, sgd = made.results
    want = sgd.recommendation.estimate["value"] - adam.recommendation.estimate["value"]
    assert made.pairs[0].difference == pytest.approx(want)
    assert made.pairs[0].difference < 0
    assert made.pairs[0].paired


def test_an_objective_reads_all_anew(etude_command, pair):
    said = etude_command("compare", pair / "adam", pair / "sgd", "--objective", "val_loss", "--json")
    assert json.loads(said.out)["objective"] == {"metric": "val_loss", "direction": "minimize"}
    made = etude.compare(etude.compare([pair / "adam", pair / "sgd"]).results, "val_loss")
    assert made.objective == json.loads(said.out)["objective"]
    assert made.to_dict() == json.loads(said.out)


def test_what_cannot_be_compared_is_refused_in_one_line(etude_command, pair, tmp_path):
    for words, complaint in (
        ((), "expected two runs or more, got 0"),
        ((pair / "adam",), "expected two runs or more, got 1; name them: etude compare runs/a runs/b"),
        ((pair / "adam", pair / "adam"), "expected different runs, got"),
        ((pair / "adam", tmp_path / "nothing"), "there is no run in it"),
        ((pair / "adam", pair / "sgd", "--objective", "max:val_f1"), "no metric 'val_f1' was recorded"),
        ((pair / "adam", pair / "sgd", "--out", "both.gif"), "expected a file that ends in .png, .svg or .pdf"),
    ):
        said = etude_command("compare", *words)
        assert (said.status, said.out) == (2, "")
        assert complaint in said.err
        assert said.err.count("\n") == 1


def test_objectives_that_differ_are_refused_by_name():
    one = fabricate.result({1e-3: [0.9, 0.8]}, name="a")
    other = fabricate.result({1e-3: [0.9, 0.8]}, name="b", metric="val_loss", direction="minimize")
    with pytest.raises(
        SpecError, match="got a by max:val_accuracy, b by min:val_loss; name one for all with --objective"
    ):
        etude.compare([one, other])
    with pytest.raises(SpecError, match="no metric 'val_f1' was recorded"):
        etude.compare([one, fabricate.result({1e-3: [0.9]}, name="b")], etude.maximize("val_f1"))
    with pytest.raises(SpecError, match="two runs or more, got 1"):
        etude.compare(one)
    with pytest.raises(StoreError):
        etude.compare(["nowhere", "nothing"])


def test_other_horizons_recipes_and_data_are_said():
    one = fabricate.result({1e-3: [0.9, 0.8]}, name="a")
    other = fabricate.result({1e-3: [0.9, 0.8]}, name="b", epochs=7, digest="w", recipe={"optimizer": "sgd"})
    made = etude.compare([one, other])
    assert made.differences == (
        "epochs: a 5, b 7",
        "recipe.optimizer: a adam, b sgd",
        "validation data: not known to be those of a for b, so nothing is paired by seed",
    )
    assert not made.pairs[0].paired


def test_runs_of_one_name_are_called_by_their_paths():
    made = etude.compare([fabricate.result({1e-3: [0.9, 0.8]}, name=f"{where}/run") for where in ("x", "y")])
    assert made.names == (str(Path("runs/x/run")), str(Path("runs/y/run")))


def test_what_was_lost_is_no_score():
    one = fabricate.result({1e-3: [0.9, 0.8], 1e-2: ["collapsed", "diverged"]}, name="a")
    made = etude.compare([one, fabricate.result({1e-3: [0.9, 0.7]}, name="b")])
    assert [run.n_rates for run in made.runs] == [1, 1]


def test_a_full_table_fits_eighty_columns():
    told = fabricate.curve(
        [1e-4, 1e-2], lambda x: 0.9, 0.01, optimum_interval=[6.3e-4, 1.6e-3], plateau=fabricate.plateau(6e-4, 2e-3)
    )
    runs = [
        fabricate.result(
            {3.16e-2: [0.891, 0.902]},
            name=name,
            response=told,
            sensitivity={"value": 0.0123, "low": 0.01, "high": 0.015},
        )
        for name in ("mnist-adam", "mnist-sgd")
    ]
    console = Console(file=io.StringIO(), width=80)
    print_comparison(console, etude.compare(runs))
    lines = console.file.getvalue().splitlines()
    (header,) = [line for line in lines if line.startswith("run")]
    (row,) = [line for line in lines if line.startswith("mnist-sgd ")]
    assert header.split() == ["run", "rate", "accuracy", "seeds", "optimum,", "95", "%", "plateau", "sensitivity"]
    assert row.split()[-4:] == ["6.3e-4..1.6e-3", "0.5", "dec", "1.2"]


@pytest.mark.parametrize("columns", ["80", "40"])
def test_the_output_is_whole_when_piped(pair, columns, tmp_path):
    done = programs.run(
        "-m", "etude", "compare", pair / "adam", pair / "sgd", "--out", "c.png", cwd=tmp_path,
        env={"PATH": "", "COLUMNS": columns, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert all(len(line) <= int(columns) for line in lines if "─" in line)
    assert any(line.startswith("sgd") for line in lines)


def test_comparing_imports_neither_torch_nor_pandas(pair):
    code = "import sys; from etude.cli import main; import atexit; atexit.register(lambda: print([m for m in ('torch', 'pandas') if m in sys.modules])); main()"  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", pair / "adam", pair / "sgd", "--json"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"

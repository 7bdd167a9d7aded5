from __future__ import annotations

import json
import math
import sys

import pandas as pd
import pytest

import etude
from etude import export
from etude.errors import DataError, DiskError, SpecError

TABLES = ("trials", "evaluations", "rates", "steps")


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_the_tables_are_the_data_frames(etude_command, bowl_run, tmp_path, to):
    said = etude_command("export", bowl_run, "--to", to, "--out", "tables")
    assert (said.status, said.err) == (0, "")
    assert said.out.splitlines() == [f"tables/{name}.{to}" for name in TABLES]
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {f"{name}.{to}" for name in TABLES}
    result = etude.Result.load(bowl_run)
    for name in TABLES:
        path = tmp_path / "tables" / f"{name}.{to}"
        read = pd.read_csv(path) if to == "csv" else pd.read_parquet(path)
        pd.testing.assert_frame_equal(read, getattr(result, name), check_dtype=to == "parquet", check_exact=to != "csv")


def test_json_is_what_show_prints(etude_command, bowl_run, tmp_path):
    said = etude_command("export", bowl_run, "--to", "json")
    assert said.out == "result.json\n"
    assert json.loads((tmp_path / "result.json").read_text()) == json.loads(
        etude_command("show", bowl_run, "--json").out
    )


def test_the_latest_run_goes_to_the_current_folder_as_csv(etude_command, bowl_run, tmp_path):
    assert etude_command("export").out.splitlines() == [f"{name}.csv" for name in TABLES]
    assert (tmp_path / "evaluations.csv").exists()


@pytest.mark.parametrize("to", ["csv", "parquet"])
@pytest.mark.parametrize("run", ["digits_run", "bowl_run"])
def test_what_was_exported_is_judged_as_the_run_is(etude_command, request, tmp_path, run, to):
    directory = request.getfixturevalue(run)
    shown = json.loads(etude_command("show", directory, "--json").out)
    etude_command("export", directory, "--to", to)
    objective = f"{shown['study']['objective']['direction']}:{shown['study']['objective']['metric']}"
    judged = json.loads(etude_command("judge", f"evaluations.{to}", "--objective", objective, "--json").out)
    assert {r["verdict"] for r in shown["rates"]} > {"good"}
    for key in ("lr", "verdict", "grade", "n_trials"):
        assert [r[key] for r in judged["rates"]] == [r[key] for r in shown["rates"]]
    for key in ("lr", "seed", "status", "step", "evaluations"):
        assert [t[key] for t in judged["trials"]] == [t[key] for t in shown["trials"]]
    for key in ("mean", "mean_error", "gap", "n_diverged", "diverged_step"):
        assert [r["evidence"][key] for r in judged["rates"]] == [r["evidence"][key] for r in shown["rates"]]
    for key in ("lr", "within_margin", "edge", "estimate"):
        assert judged["recommendation"][key] == shown["recommendation"][key]


def test_a_trial_that_diverged_between_evaluations_ends_with_a_row_without_numbers(tmp_path):
    study = etude.Study.default("quadratic").replace(lrs=[0.1, 1e10], epochs=40, evaluate_every=20)
    result = study.run(tmp_path / "run", executor="inline")
    (lost,) = [trial for trial in result.stored.trials if trial.status == "diverged"]
    assert lost.evaluations[-1].step < lost.diverged
    frame = result.evaluations
    last = frame[frame["lr"] == lost.lr].iloc[-1]
    assert last["step"] == lost.diverged
    assert last["epoch"] == pytest.approx(lost.diverged / result.steps_per_epoch)
    assert math.isnan(last["train_loss"])
    assert math.isnan(last["val_loss"])
    judged = etude.judge(frame)
    assert [t.status for t in judged.stored.trials] == ["completed", "diverged"]
    assert judged.stored.trials[1].diverged == lost.diverged
    assert judged.rates[["lr", "verdict"]].equals(result.rates[["lr", "verdict"]])


def test_trials_of_several_horizons_survive(tmp_path):
    study = etude.Study.default("quadratic").replace(
        lrs=[0.1, 1], epochs=10, recipe=etude.Recipe(optimizer="sgd", batch_size=10, schedule="linear")
    )
    study.run(tmp_path / "run", executor="inline")
    study.replace(epochs=20).run(tmp_path / "run", executor="inline")
    result = etude.Result.load(tmp_path / "run")
    assert set(result.evaluations["horizon"]) == {10, 20}
    judged = etude.judge(result.evaluations, "val_loss")
    assert judged.horizon == result.horizon == 20
    assert [(t.lr, t.horizon, t.status) for t in judged.stored.trials] == [
        (t.lr, t.horizon, t.status) for t in result.stored.trials
    ]
    assert judged.rates[["lr", "verdict", "mean"]].equals(result.rates[["lr", "verdict", "mean"]])


def test_a_format_there_is_not_is_one_line(etude_command, bowl_run):
    said = etude_command("export", bowl_run, "--to", "cvs")
    assert (said.status, said.out) == (2, "")
    assert said.err == "etude: export: no format is named 'cvs'; did you mean 'csv'?\n"
    with pytest.raises(SpecError, match="no format is named 'xlsx'"):
        export.export(etude.Result.load(bowl_run), "xlsx", bowl_run)


def test_no_file_is_replaced_unless_all_can_be(finished_bowl, tmp_path):
    result = etude.Result.load(finished_bowl)
    (tmp_path / "trials.csv").write_text("before")
    (tmp_path / "steps.csv").mkdir()
    with pytest.raises(DiskError, match=r"steps.csv: cannot be written: there is a folder of that name"):
        export.export(result, "csv", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"trials.csv", "steps.csv"}
    assert (tmp_path / "trials.csv").read_text() == "before"


def test_parquet_without_its_engine_says_what_to_install(finished_bowl, tmp_path, monkeypatch):
    for name in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"needs pyarrow; pip install 'etude\[parquet\]'"):
        export.export(etude.Result.load(finished_bowl), "parquet", tmp_path)
    assert list(tmp_path.iterdir()) == []

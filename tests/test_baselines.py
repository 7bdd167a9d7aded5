"""Baselines: how they train, when they are refused, and what is said of what tuning bought."""

from __future__ import annotations

import json
import sys

import pytest

import etude
from etude import baselines
from etude.analysis.compare import Run, compare
from etude.baselines import METHODS
from etude.errors import SpecError
from etude.result import Result
from etude.spec.recipe import Recipe

PRODIGY, SCHEDULE_FREE = METHODS
FIND = (
    "find", "quadratic", "--trials", "3", "--seeds", "3", "--epochs", "60", "--executor", "inline", "--lrs", "1e-2..1",
    "--searcher", "grid",
)  # fmt: skip


def test_what_is_not_the_optimizers_own_is_trained_alike():
    adamw = Recipe(optimizer="adamw", batch_size=32, clip_norm=1.0, precision="bf16", schedule="cosine", warmup="5%")
    made = PRODIGY.recipe(adamw)
    assert (made.batch_size, made.clip_norm, made.precision, made.schedule, made.warmup) == (
        32,
        1.0,
        "bf16",
        "cosine",
        "5%",
    )
    assert (made.optimizer, made.weight_decay, made.optimizer_options) == ("prodigy", 0.01, {"safeguard_warmup": True})
    free = SCHEDULE_FREE.recipe(adamw)
    assert (free.optimizer, free.weight_decay, free.schedule, free.warmup) == (
        "adamwschedulefree",
        0.01,
        "constant",
        "5%",
    )
    sgd = Recipe(optimizer="sgd", optimizer_options={"momentum": 0.9}, weight_decay=5e-4, average="ema")
    assert (PRODIGY.recipe(sgd).weight_decay, PRODIGY.recipe(sgd).average) == (None, "ema")
    assert (SCHEDULE_FREE.recipe(sgd).optimizer_options, SCHEDULE_FREE.recipe(sgd).average) == ({}, "none")
    assert PRODIGY.recipe(Recipe(optimizer="adamw", weight_decay=0.2)).weight_decay == 0.2


def test_a_search_with_baselines_says_what_tuning_bought_and_stays_the_latest_run(etude_command, tmp_path):
    said = etude_command(*FIND, "--baselines", "--dry-run")
    assert "Beside it, not of the budget: Prodigy and schedule-free AdamW, 6 trials' worth of steps, about " in said.out
    assert not (tmp_path / "runs").exists()

    said = etude_command(*FIND, "--baselines")
    assert said.status == 0, said.err
    names = ["quadratic", "quadratic.prodigy", "quadratic.schedule-free"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == names
    result = Result.load(tmp_path / "runs" / "quadratic")
    found = baselines.read(result)
    assert [one.name for one in found] == ["Prodigy", "schedule-free AdamW"]
    assert [one.n_seeds for one in found] == [3, 3]
    for one in found:
        assert one.sentence in said.out
        assert one.estimate - result.recommendation.estimate["value"] == pytest.approx(one.bought)
    assert etude_command("show").out.startswith("quadratic: ")
    shown = json.loads(etude_command("show", "--json").out)["baselines"]
    assert [(one["name"], one["bought"], one["lr"]) for one in shown] == [
        (one.name, one.bought, one.lr) for one in found
    ]
    assert json.loads(etude_command("show", "runs/quadratic.prodigy", "--json").out)["baselines"] == []

    again = etude_command(*FIND, "--baselines")
    assert "Prodigy and schedule-free AdamW are trained already." in again.out
    assert again.out.count("is complete: nothing is left to train.") == 2


def test_python_has_baselines_too(tmp_path):
    seen = []
    recipe = Recipe(optimizer="sgd", batch_size=10)
    study = etude.Study(task="quadratic", seeds=1, epochs=60, recipe=recipe)
    result = study.find(tmp_path / "bowl", trials=4, baselines=True, executor="inline", on_event=seen.append)
    found = baselines.read(result)
    assert [(one.name, one.n_seeds) for one in found] == [("Prodigy", 3), ("schedule-free AdamW", 3)]
    report = result.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(one.sentence.partition(",")[0] in report for one in found)
    assert sum(type(event).__name__ == "Estimated" for event in seen) == 1
    again = study.find(tmp_path / "bowl", trials=4, baselines=True, executor="inline")
    assert [one.estimate for one in baselines.read(again)] == [one.estimate for one in found]


def test_a_missing_package_is_told_to_python_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(SpecError, match="Prodigy comes from prodigyopt, which is not installed"):
        etude.Study(task="quadratic", epochs=60).find(tmp_path / "bowl", trials=4, baselines=True)
    assert not (tmp_path / "bowl").exists()


def test_a_missing_package_is_told_before_anything_is_trained(etude_command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    said = etude_command(*FIND, "--baselines")
    assert said.status == 2
    assert said.err == (
        "etude: baselines: Prodigy comes from prodigyopt, which is not installed; pip install 'etude[optimizers]'\n"
    )
    assert not (tmp_path / "runs").exists()


def test_another_run_in_the_place_of_a_baseline_is_refused(etude_command, bowl_run):
    bowl_run.rename(bowl_run.with_name("quadratic.prodigy"))
    said = etude_command(*FIND, "--baselines")
    assert said.status == 2
    assert "runs/quadratic.prodigy holds another run, and Prodigy would be trained there" in said.err
    assert not bowl_run.exists()


def test_a_folder_with_a_baselines_name_is_none(bowl_run, finished_digits):
    bowl_run.with_name("quadratic.schedule-free").symlink_to(finished_digits)
    (bowl_run.with_name("quadratic.prodigy")).mkdir()
    (bowl_run.with_name("quadratic.prodigy") / "study.sqlite").write_bytes(b"no database" * 100)
    (unreadable,) = baselines.read(Result.load(bowl_run))
    assert unreadable.bought is None
    assert "so what tuning bought is not known" in unreadable.sentence


LOWER, HIGHER = (0.979, 0.981, 0.977), (0.986, 0.988, 0.9835)


@pytest.mark.parametrize(
    ("theirs", "ours", "margin", "said"),
    [
        (LOWER, HIGHER, 1e-3, "98.6 %: tuning bought 0.683 points (95 %: +0.612 to +0.755 points)."),
        (HIGHER, LOWER, 1e-3, "97.9 %: tuning lost 0.683 points against it (95 %: -0.755 to -0.612 points)."),
        (LOWER, (0.9791, 0.9811, 0.9772), 0.01, "97.9 %: tuning bought nothing that counts (95 %: "),
        (LOWER, (0.981, 0.979, 0.983), 1e-3, "98.1 %: whether tuning bought anything is not told (95 %: "),
        (LOWER, (0.982,), 1e-3, "0.3 points better; whether by more than chance is not known (one seed of run)."),
    ],
)  # fmt: skip
def test_what_tuning_bought_is_said_no_surer_than_the_seeds_bear(theirs, ours, margin, said):
    made = compare(
        [
            Run(name=name, scores={lr: dict(enumerate(scores))}, lr=lr, data="same", margin=margin)
            for name, lr, scores in (("beside", 1.0, theirs), ("run", 1e-3, ours))
        ],
        direction="maximize",
        metric="val_accuracy",
    )
    sentence = baselines._sentence(PRODIGY, made)
    assert sentence.startswith("Prodigy, which has no rate to choose, reaches 9")
    assert "; the recommended rate, 1e-3, is expected to reach 9" in sentence
    assert said in sentence

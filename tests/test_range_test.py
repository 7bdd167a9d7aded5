"""The range test from the command line and in Python: kept in a run, drawn, repeated from a checkpoint; and for a search."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import matplotlib
import pytest
import torch
from matplotlib.figure import Figure

import etude
from etude import store
from etude.analysis.ranging import RangeTest
from etude.engine.session import Setup
from etude.errors import MismatchError, SpecError, TrainingError
from etude.present import figures
from etude.ranging import bracket
from etude.result import Result
from etude.spec.study import Study


def test_it_prints_every_rule_and_is_kept_in_a_run_of_its_own(etude_command, tmp_path):
    said = etude_command("range-test", "digits", "--seeds", 2, "--steps", 60)
    assert said.status == 0, said.err
    for rule in ("steepest", "torch-lr-finder", "Lightning", "fastai valley", "fastai slide", "fastai minimum/10"):
        assert rule in said.out
    for words in ("2 seeds × 60 steps", "Bracket: ", "trials to the horizon", "not which rate is best at the end"):
        assert words in said.out
    run = tmp_path / "runs" / "digits"
    assert (run / "figures" / "range-test.png").stat().st_size > 10_000
    result = Result.load(run)
    assert (result.range_test.seeds, len(result.range_test.lrs)) == ((0, 1), 60)
    assert result.stored.trials == ()
    result.plot("rates", Figure().subplots())
    for words in (("show",), ("list",)):
        assert etude_command(*words).status == 0, words
    # An ordinary run directory: training goes into it, and the test stays.
    assert etude_command("run", "digits", "--lrs", "1e-2", "--seeds", 1, "--epochs", 1, "--quiet").status == 0
    assert Result.load(run).range_test.picks == result.range_test.picks


def test_a_run_that_has_trials_keeps_them_and_its_verdicts(digits_run, etude_command):
    before = Result.load(digits_run)
    said = etude_command("range-test", "digits", "--epochs", 2, "--seeds", 2, "--json")
    made = json.loads(said.out)
    after = Result.load(digits_run)
    assert made["seeds"] == [0, 1]
    assert made == store.plain(after.range_test.to_dict())
    assert after.stored.trials == before.stored.trials
    assert after.study == before.study
    assert after.stored.analysis[0] == after.stored.revision
    assert after.analysis == before.analysis


def test_from_checkpoints_of_a_rate(digits_run, etude_command):
    said = etude_command("range-test", "--from", digits_run, "--lr", "1e-2", "--steps", 20)
    assert said.status == 0, said.err
    test = Result.load(digits_run).range_test
    assert (test.seeds, test.from_steps, test.from_lr) == ((0, 1), (42, 42), 1e-2)
    assert test.losses[0][0] < 1.0  # it has learned already
    for words, expected in (
        (("--from", digits_run), "go together"),
        (("--from", digits_run, "--lr", "0.3"), "no trial at rate 0.3; its rates are 1e-4, 1e-2, 1"),
        (("--from", digits_run, "--lr", "1e-2", "--seeds", "7,8"), "got none of seed 7, 8; seeds 0, 1 have"),
        (("--from", digits_run, "--lr", "1e-2", "--out", "x"), "leave --out out"),
        (("--from", digits_run, "--lr", "1e-2", "--batch-size", "32"), "batch_size"),
    ):
        said = etude_command("range-test", *words)
        assert said.status == 2
        assert expected in said.err
        assert said.err.count("\n") == 1


@pytest.mark.parametrize(("words", "expected"), [
    (("--lrs", "1e-5..1/9"), "LOW..HIGH"),
    (("--lrs", "1..1e-5"), "LOW < HIGH"),
    (("--steps", "3"), "at least 10 a seed, got 3"),
    (("--optimizer", "rprop"), "choose another optimizer"),
])  # fmt: skip
def test_what_cannot_be_is_one_line_and_leaves_nothing(words, expected, etude_command, tmp_path):
    said = etude_command("range-test", "quadratic", *words)
    assert said.status == 2
    assert expected in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_in_python_it_returns_what_it_keeps(tiny_task, tmp_path):
    study = Study(task=tiny_task, recipe=etude.Recipe(batch_size=16), lrs=[1e-3], epochs=100)
    begun = []
    test = study.range_test(tmp_path / "run", seeds=[4, 5], lrs=(1e-4, 1.0), on_begin=lambda *what: begun.append(what))
    assert begun == [(2, 100)]
    assert test.lrs[[0, -1]].tolist() == pytest.approx([1e-4, 1.0])
    assert store.plain(study.result(tmp_path / "run").range_test.to_dict()) == store.plain(test.to_dict())
    with pytest.raises(MismatchError, match="batch_size"):
        study.replace(recipe=etude.Recipe(batch_size=32)).range_test(tmp_path / "run")
    with pytest.raises(SpecError, match="has none, so etude cannot train it"):
        Study(name="own", lrs=[1], epochs=1).range_test(tmp_path / "own")


def test_code_that_raises_at_a_high_rate_is_told(tiny_task, tmp_path):
    def step(model, batch):
        loss = (model(batch[0]) ** 2).mean()
        if loss > 1e3:
            raise ValueError("that is too much")
        return loss

    task = etude.Task(model=tiny_task.model, train=tiny_task.train, val=tiny_task.val, step=step)
    study = Study(
        task=task, recipe=etude.Recipe(optimizer="sgd"), objective="val_loss", lrs=[1e-3], epochs=100, name="raises"
    )
    with pytest.raises(TrainingError, match="while the rate rose: ValueError: that is too much"):
        study.range_test(tmp_path / "run", lrs=(1e-3, 1e6))
    assert not (tmp_path / "run").exists()


class Brittle(torch.nn.Linear):
    """Raises an error that cannot be sent from process to process, once its weights are large."""

    class TooLarge(ValueError):
        def __init__(self, most, weight):
            super().__init__(f"{weight:.1f} is more than {most}")

    def forward(self, x):
        weight = float(self.weight.detach().abs().max())
        if self.training and weight > 1:
            raise self.TooLarge(1, weight)
        return super().forward(x)


def brittle(tiny_task):
    task = dataclasses.replace(tiny_task, model=lambda: Brittle(4, 2))
    return Study(task=task, epochs=50, recipe=etude.Recipe(optimizer="sgd", batch_size=16))


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_rate_at_which_code_raises_is_the_upper_end_of_a_searchs_bracket(tiny_task, tmp_path, executor):
    result = brittle(tiny_task).find(tmp_path / "run", trials=4, executor=executor, workers=1)
    test = result.range_test
    assert test.bracket.explodes == test.lrs[len(test.losses[0]) - 1] < test.lrs[-1]
    assert re.search(r"; the task's code raised: TooLarge: .* is more than 1", test.bracket.reason)
    assert result.recommendation.lr is not None
    assert result.complete
    failed = [t for t in result.stored.trials if t.status == "failed"]
    assert all("TooLarge" in t.failure for t in failed)


def test_code_that_raises_at_once_leaves_no_bracket(tiny_task):
    study = brittle(tiny_task)
    setup = Setup(task=study.make_task(), recipe=study.recipe)
    broken = dataclasses.replace(setup, task=dataclasses.replace(setup.task, loss=lambda o, t: 1 / 0))
    with pytest.raises(TrainingError, match="raised at once: ZeroDivisionError: division by zero"):
        bracket(broken, study, 1e-6, 1.0, (0,))


def test_a_search_gets_a_bracket_for_a_small_part_of_its_budget():
    study = Study.default("digits")
    setup = Setup(task=study.make_task(), recipe=study.recipe)
    trial = setup.steps(study.epochs)
    test = bracket(setup, study, 1e-6, 1.0, study.seeds, budget_steps=10 * trial)
    assert isinstance(test, RangeTest)
    assert test.steps <= 0.3 * trial
    assert test.bracket.low < 2.5e-2 < test.bracket.high  # the best of the dense grid
    assert len(bracket(setup, study, 1e-6, 1.0, study.seeds, budget_steps=1000 * trial).lrs) == 61
    assert "10 is what it may cost" in bracket(setup, study.replace(epochs=2), 1e-6, 1.0, (0,))
    prodigy = Setup(task=setup.task, recipe=etude.Recipe(optimizer="prodigy"))
    assert "finds its own rate" in bracket(prodigy, study, 1e-6, 1.0, (0,))


def test_a_search_looks_first_where_the_test_of_its_directory_says(tmp_path):
    study = Study.default("quadratic").replace(epochs=40)
    found = study.range_test(tmp_path / "run", steps=50).bracket
    study.find(tmp_path / "run", trials=3, lrs=(1e-9, 1e6), executor="inline")
    first = store.read(tmp_path / "run").decisions[0].requests
    assert min(one["lr"] for one in first) >= 10 ** math.floor(math.log10(found.low))
    assert max(one["lr"] for one in first) <= 10 ** math.ceil(math.log10(found.high))


def test_the_figure_is_drawn_on_any_axes_and_refused_where_there_is_no_test(bowl_run, tmp_path):
    result = Result.load(bowl_run)
    assert "range-test" not in figures.names(result)
    with pytest.raises(SpecError, match="make one with etude range-test"):
        result.plot("range-test", Figure().subplots())
    for lrs, seeds in (("1e-7..10", 3), ("1e-9..1e-8", 1), ("1e10..1e12", 2), ("1e-3..100", 8)):
        Study.default("quadratic").range_test(bowl_run, lrs=lrs, seeds=seeds, steps=30)
        test = Result.load(bowl_run).range_test
        with matplotlib.rc_context(figures.STYLE):
            ax = Figure(figsize=(9, 6), layout="constrained").subplots()
            Result.load(bowl_run).plot("range-test", ax)
            curves, strip = ax.child_axes
            marks = [line.get_gid() for line in curves.lines]
            assert [f"seed-{seed}" in marks for seed in range(seeds)] == [True] * seeds
            assert marks.count("exploded") == sum(lr is not None for lr in test.bracket.exploded)
            drawn = [line.get_gid() for line in strip.lines if line.get_gid()]
            assert drawn == [f"pick-{pick.rule}" for pick in test.picks if pick.lr is not None]
            assert len(strip.get_yticklabels()) == len(test.picks)
            shaded = [patch for patch in curves.patches if patch.get_gid() == "bracket"]
            assert len(shaded) == (test.bracket.low is not None)
    figures.save(Result.load(bowl_run), "range-test", tmp_path / "last.svg")
    assert "range-test" in figures.names(Result.load(bowl_run))

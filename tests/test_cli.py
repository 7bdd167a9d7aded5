from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import filelock
import pytest

from etude import store, tasks
from etude.errors import Interrupted
from etude.events import Advanced
from etude.spec.recipe import Recipe
from etude.spec.study import Study
from etude.store import DATABASE, LOCK

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = ("run", "digits", "--lrs", "1e-3,1e-2", "--seeds", "1", "--epochs", "2", "--executor", "inline")
BOWL = ("run", "quadratic", "--executor", "inline")


def tree(root):
    """All files below ``root``, with what is in them."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


def records(directory):
    """What was recorded, by trial: (steps, evaluations)."""
    steps = store.read_steps(directory)
    return {(t.lr, t.seed, t.horizon): (steps.get(t.id), t.evaluations) for t in store.read(directory).trials}


def lines(text):
    return text.splitlines()


def refused(said, status=2):
    """Check that a command was refused in one line, and return it."""
    assert said.status == status, said
    assert said.out == ""
    assert len(lines(said.err)) == 1, said.err
    assert said.err.startswith("etude: ")
    return said.err


# Running


def test_a_run_prints_a_line_an_evaluation_verdicts_and_what_to_do_next(etude_command, tmp_path):
    said = etude_command(*SMALL)
    assert (said.status, said.err) == (0, "")
    first, *rest = lines(said.out)
    assert first.startswith("etude: training digits, 2 trials into runs/digits (inline")
    expected = [(0.001, 1), (0.001, 2), (0.01, 1), (0.01, 2)]
    trained = [re.fullmatch(r"LR=(\S+) \| Epoch (\d): Loss=\d\.\d{4}, Acc=[01]\.\d{4}", line) for line in rest[:4]]
    assert [(float(one[1]), int(one[2])) for one in trained] == expected
    assert "Train at 1e-2: " in said.out
    assert "etude resume runs/digits --lrs 0.1,1" in said.out
    assert lines(said.out)[-2:] == ["Picture: runs/digits/figures/curves.png", "Report: runs/digits/report.html"]
    assert {path.name for path in (tmp_path / "runs" / "digits").iterdir()} <= store.OURS


def test_lines_name_the_seed_when_there_are_several(etude_command):
    said = etude_command(*BOWL, "--lrs", "0.1", "--seeds", "2", "--epochs", "10")
    assert re.search(r"^LR=0\.1 \| seed 1 \| Epoch 10: Loss=\S+, Val loss=\S+$", said.out, re.MULTILINE)


def test_a_finished_run_says_so_and_trains_nothing(etude_command, tmp_path, digits_run):
    before = records(digits_run)
    said = etude_command(
        "run", "digits", "--lrs", "1e-4,1e-2,1", "--seeds", "2", "--epochs", "2", "--executor", "inline"
    )
    assert (said.status, said.err) == (0, "")
    assert lines(said.out)[0] == "runs/digits is complete: nothing is left to train."
    assert "LR=" not in said.out
    assert records(digits_run) == before
    assert etude_command("resume", "runs/digits", "--executor", "inline").out.startswith("runs/digits is complete")


def test_asking_for_less_of_a_finished_run_trains_nothing_and_takes_nothing_away(etude_command, digits_run):
    before = records(digits_run)
    said = etude_command("run", "digits", "--lrs", "1e-2", "--seeds", "1", "--epochs", "1", "--executor", "inline")
    assert (said.status, said.err) == (0, "")
    assert "is complete" in said.out
    assert records(digits_run) == before
    assert store.read(digits_run).study["lrs"] == [1e-4, 1e-2, 1.0]


def test_show_says_what_run_said(etude_command):
    ran = etude_command(*SMALL)
    shown = etude_command("show", "runs/digits")
    assert (shown.status, shown.err) == (0, "")
    assert shown.out in ran.out


def test_show_twice_prints_the_same(etude_command, digits_run):
    before = tree(digits_run)
    first, second = etude_command("show", "runs/digits"), etude_command("show")
    assert first == second
    assert first.out
    assert etude_command("show", "--json") == etude_command("show", "--json")
    assert tree(digits_run) == before


def test_verdicts_that_were_stored_are_those_made_anew(digits_run):
    from etude.result import Result

    result = Result.load(digits_run)
    assert result.analysis == result.analyse()


def test_quiet_prints_nothing(etude_command):
    said = etude_command(*SMALL, "--quiet")
    assert (said.status, said.out, said.err) == (0, "", "")
    assert etude_command("show").out


def test_a_study_file_is_run_by_its_name(etude_command, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'task = "quadratic"\nlrs = [0.1, 1.0]\nepochs = 20\n[expect]\n"0.1" = "too low"\n'
    )
    said = etude_command("run", "mine.toml", "--executor", "inline")
    assert (said.status, said.err) == (0, "")
    assert (tmp_path / "runs" / "mine" / DATABASE).is_file()
    assert re.search(r"0\.1 +too low +too low +agree", said.out)


def test_options_are_laid_over_a_study_file(etude_command, tmp_path):
    (tmp_path / "mine.toml").write_text('task = "quadratic"\nlrs = [0.1, 1.0]\nepochs = 20\nevaluate_every = 5\n')
    etude_command(
        "run", "mine.toml", "--executor", "inline", "--lrs", "0.5", "--seeds", "7,9", "--epochs", "4", "--batch-size", "5",
        "--optimizer", "SGD", "--optimizer-options", "momentum=0.5,nesterov=true", "--schedule", "cosine",
        "--evaluate-every", "2", "--objective", "min:val_loss", "--holdout", "3", "--out", "elsewhere",
    )  # fmt: skip
    study = store.read(tmp_path / "elsewhere").study
    usual = Recipe(optimizer="sgd", schedule="cosine").to_dict()
    said = {"optimizer_options": {"momentum": 0.5, "nesterov": True}, "batch_size": 5}
    assert study["recipe"] == {**usual, **said}
    assert (study["lrs"], study["seeds"], study["epochs"], study["evaluate_every"]) == ([0.5], [7, 9], 4.0, 2.0)
    assert (study["holdout"], study["name"]) == (3, "mine")
    assert study["objective"] == {"metric": "val_loss", "direction": "minimize", "margin": None}


def test_a_holdout_in_a_study_file_can_be_taken_back(etude_command, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'task = "quadratic"\nlrs = [0.1]\nepochs = 4\nholdout = 3\n[recipe]\nbatch_size = 5\n'
    )
    assert etude_command("run", "mine.toml", "--executor", "inline", "--holdout", "0").status == 0
    assert store.read(tmp_path / "runs" / "mine").study["holdout"] == 0


def test_a_dry_run_tells_what_a_run_would_take_and_stores_nothing(etude_command, tmp_path):
    said = etude_command(*SMALL, "--dry-run")
    assert (said.status, said.err) == (0, "")
    assert re.fullmatch(r"2 trials to train \(0 complete\), 84 steps, about .*\n", said.out)
    assert tree(tmp_path) == {}


def test_a_dry_run_of_an_extension_counts_what_is_missing(etude_command, tmp_path, digits_run):
    before = tree(tmp_path)
    said = etude_command("resume", "--epochs", "4", "--dry-run", "--executor", "inline")
    assert said.out.startswith("6 trials to train (0 complete), 252 steps")
    said = etude_command("resume", "--seeds", "3", "--dry-run", "--executor", "inline")
    assert said.out.startswith("3 trials to train (6 complete), 126 steps")
    assert tree(tmp_path) == before


# Going on, and extending


def interrupted(directory, study):
    """Train until the first slice is stored, then press Ctrl-C once."""
    pressed = []

    def on_event(event):
        if isinstance(event, Advanced) and not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="To go on: etude resume"):
        study.run(directory, executor="inline", on_event=on_event)


STUDY = Study.default("digits").replace(lrs=[1e-3, 1e-2], seeds=1, epochs=2)


def test_resume_ends_what_was_stopped_with_the_bits_of_a_run_that_was_not(etude_command, tmp_path):
    interrupted(tmp_path / "runs" / "cut", STUDY)
    assert re.search(r"^Not finished: 1 completed, 1 (paused|pending)\.$", etude_command("show").out, re.MULTILINE)
    said = etude_command("resume", "--executor", "inline")
    assert (said.status, said.err) == (0, "")
    assert lines(said.out)[0].startswith("etude: going on with digits, 1 trial into runs/cut")
    STUDY.run(tmp_path / "runs" / "whole", executor="inline")
    assert records(tmp_path / "runs" / "cut") == records(tmp_path / "runs" / "whole")


def test_more_rates_and_seeds_train_only_the_new_trials(etude_command, digits_run):
    before = records(digits_run)
    said = etude_command("resume", "--lrs", "1e-2,1e-3", "--seeds", "3", "--executor", "inline", "--quiet")
    assert (said.status, said.err) == (0, "")
    after = records(digits_run)
    assert len(after) == 4 * 3
    assert {key: after[key] for key in before} == before
    study = store.read(digits_run).study
    assert (study["lrs"], study["seeds"], study["epochs"]) == ([1e-4, 1e-3, 1e-2, 1.0], [0, 1, 2], 2.0)


def test_run_again_with_more_rates_says_how_many_are_new(etude_command, digits_run):
    before = records(digits_run)
    said = etude_command("run", "digits", "--lrs", "1e-2,0.1", "--seeds", "2", "--epochs", "2", "--executor", "inline")
    assert lines(said.out)[0].startswith("etude: going on with digits, 2 trials into runs/digits")
    assert {line.split(" | ")[0] for line in lines(said.out) if line.startswith("LR=")} == {"LR=0.1"}
    assert {key: value for key, value in records(digits_run).items() if key in before} == before


def test_more_epochs_train_only_the_new_epochs(etude_command, digits_run):
    before = records(digits_run)
    said = etude_command("resume", "--epochs", "3", "--executor", "inline")
    assert (said.status, said.err) == (0, "")
    assert {line.split("Epoch ")[1][0] for line in lines(said.out) if line.startswith("LR=")} == {"3"}
    after = records(digits_run)
    assert set(after) == set(before)
    for key, (steps, evaluations) in before.items():
        assert after[key][1][: len(evaluations)] == evaluations
        assert len(after[key][1]) == len(evaluations) + 1
        for name, column in steps.items():
            assert after[key][0][name][: len(column)] == column
            assert 2 * len(after[key][0][name]) == 3 * len(column)


def test_fewer_epochs_than_were_trained_are_refused(etude_command, digits_run):
    before = records(digits_run)
    said = etude_command("resume", "--epochs", "1")
    assert said.status == 2
    assert "the trials of runs/digits go to 2 epochs: expected that or more, got 1" in said.err
    assert said.err.count("\n") == 1
    assert records(digits_run) == before


def test_with_a_schedule_more_epochs_are_other_trials_and_that_is_said(etude_command, tmp_path):
    words = ("run", "digits", "--lrs", "1e-2", "--seeds", "1", "--schedule", "linear", "--executor", "inline")
    etude_command(*words, "--epochs", "1", "--quiet")
    before = records(tmp_path / "runs" / "digits")
    said = etude_command(*words, "--epochs", "2")
    assert said.status == 0
    assert "The linear schedule depends on the horizon: 2 epochs are other trials, trained from the start." in said.out
    assert "Also stored: 1 trial of another horizon." in said.out
    after = records(tmp_path / "runs" / "digits")
    assert set(after) == {(1e-2, 0, 1.0), (1e-2, 0, 2.0)}
    assert {key: after[key] for key in before} == before
    assert [line.split("Epoch ")[1][0] for line in lines(said.out) if line.startswith("LR=")] == ["1", "2"]


def test_a_dry_run_counts_no_trials_of_another_horizon_as_complete(etude_command, tmp_path):
    interrupted(tmp_path / "runs" / "cut", STUDY.replace(recipe={"schedule": "linear"}))
    said = etude_command("resume", "--epochs", "4", "--dry-run", "--executor", "inline")
    complete = int(re.search(r"\((-?\d+) complete\)", said.out)[1])
    assert complete >= 0


def test_resume_refuses_a_task_of_ones_own_and_says_what_to_do(etude_command, tmp_path):
    import torch
    from torch import nn

    import etude

    x = torch.arange(8.0).reshape(8, 1)
    task = etude.Task(model=lambda: nn.Linear(1, 1), train=(x, x), val=(x, x), loss=nn.MSELoss(), name="mine")
    etude.Study(task=task, recipe={"batch_size": 4}, lrs=[1e-3], epochs=1).run(
        tmp_path / "runs" / "mine", executor="inline"
    )
    assert "study.run('runs/mine')" in refused(etude_command("resume", "runs/mine"))
    assert etude_command("show", "runs/mine").status == 0


# What is told of a run


def keys_of(table, *names):
    assert set(names) <= set(table), set(names) - set(table)


def test_json_has_the_keys_that_are_promised(etude_command, digits_run):
    said = etude_command("show", "runs/digits", "--json")
    assert (said.status, said.err) == (0, "")

    def constant(name):
        raise AssertionError(f"{name} is no JSON")

    told = json.loads(said.out, parse_constant=constant)
    assert told["format"] == 1
    keys_of(told, "study", "trials", "rates", "recommendation", "environment")
    keys_of(told["study"], "name", "task", "recipe", "lrs", "seeds", "epochs", "objective")
    keys_of(told["study"]["objective"], "metric", "direction", "margin", "margin_source")
    assert len(told["trials"]) == 6
    for trial in told["trials"]:
        keys_of(trial, "lr", "seed", "status", "reason", "dynamics", "wall_s", "evaluations")
        assert [e["epoch"] for e in trial["evaluations"]] == [0, 1, 2]
        for e in trial["evaluations"]:
            keys_of(e, "step", "epoch", "train_loss", "metrics", "standard_errors")
            keys_of(e["metrics"], "val_loss", "val_accuracy")
    assert [rate["lr"] for rate in told["rates"]] == [1e-4, 1e-2, 1]
    for rate in told["rates"]:
        keys_of(rate, "lr", "verdict", "grade", "reason", "evidence", "n_trials", "expected")
    keys_of(
        told["recommendation"], "lr", "optimum_interval", "within_margin", "edge", "provisional", "estimate", "reason",
        "next_command",
    )  # fmt: skip
    assert told["recommendation"]["lr"] == 1e-2


def test_what_is_not_finite_is_null_in_json(etude_command, bowl_run):
    told = json.loads(etude_command("show", "--json").out)
    lost = next(trial for trial in told["trials"] if trial["lr"] == 10)
    assert lost["status"] == "diverged"
    assert lost["reason"].startswith("the loss stopped being finite at step")
    assert lost["evaluations"][-1]["metrics"]["val_loss"] is None


def test_verdicts_of_a_rate_that_never_moved_and_one_that_diverged(etude_command):
    said = etude_command(*BOWL, "--lrs", "1e-9,0.1,1,10", "--epochs", "40")
    assert (said.status, said.err) == (0, "")
    assert re.search(r"^ *1e-9 +too low ", said.out, re.MULTILINE)
    assert re.search(r"^ *1 +good ", said.out, re.MULTILINE)
    assert re.search(r"^ *10 +diverged +The loss stopped being finite at step \d+\.", said.out, re.MULTILINE)
    assert re.search(r"^LR=10\.0 \| the loss stopped being finite at step \d+$", said.out, re.MULTILINE)
    assert "Train at 1: " in said.out
    told = json.loads(etude_command("show", "--json").out)
    assert {t["lr"]: t["status"] for t in told["trials"]} == {
        1e-9: "completed",
        0.1: "completed",
        1: "completed",
        10: "diverged",
    }


def test_only_a_rate_that_never_moved_is_too_low(etude_command):
    said = etude_command(*BOWL, "--lrs", "1e-9", "--epochs", "20")
    assert said.status == 0
    assert re.search(r"^ *1e-9 +too low ", said.out, re.MULTILINE)
    assert "No rate can be recommended yet" in said.out


def test_nothing_but_diverged_rates_recommend_nothing_and_say_so(etude_command):
    said = etude_command(*BOWL, "--lrs", "10,100", "--epochs", "50")
    assert (said.status, said.err) == (0, "")
    assert "No rate can be recommended yet: both trials diverged" in said.out
    assert "--lrs 0.1,1" in said.out


def test_a_holdout_chooses_and_the_test_set_is_evaluated_once_for_the_recommended_rate(etude_command, tmp_path):
    words = (
        "run",
        "digits",
        "--lrs",
        "1e-3,1e-2",
        "--seeds",
        "2",
        "--epochs",
        "2",
        "--holdout",
        "300",
        "--executor",
        "inline",
    )
    said = etude_command(*words)
    told = [line for line in lines(said.out) if line.startswith("On the test set, once: rate 1e-2, seed ")]
    assert len(told) == 2
    assert all(re.search(r": test accuracy \d\d\.\d %, test loss \d\.\d+\.$", line) for line in told)
    tests = {(t.lr, t.seed): t.tests for t in store.read(tmp_path / "runs" / "digits").trials}
    assert {key: len(found) for key, found in tests.items()} == {(1e-3, 0): 0, (1e-3, 1): 0, (1e-2, 0): 1, (1e-2, 1): 1}
    again = etude_command(*words)
    assert [line for line in lines(again.out) if line.startswith("On the test set")] == told
    now = {(t.lr, t.seed): t.tests for t in store.read(tmp_path / "runs" / "digits").trials}
    assert repr(now) == repr(tests), "their training loss is NaN, which equals nothing"


def test_without_a_holdout_there_is_no_test_set(etude_command, digits_run):
    assert "test set" not in etude_command("show").out


def test_another_objective_reads_anew_and_trains_nothing(etude_command, digits_run):
    before = tree(digits_run)
    by_loss = etude_command("show", "--objective", "val_loss")
    assert (by_loss.status, by_loss.err) == (0, "")
    assert "decided by the smallest val_loss" in by_loss.out
    for objective in ("train_loss", "max:val_accuracy", "min:val_accuracy"):
        assert etude_command("show", "--json", "--objective", objective).status == 0
    assert tree(digits_run) == before


def test_an_objective_that_was_not_recorded_is_refused(etude_command, digits_run):
    assert "did you mean 'val_loss'" in refused(etude_command("show", "--objective", "min:val_los"))
    assert "write max:nope or min:nope" in refused(etude_command("show", "--objective", "nope"))


def test_an_objective_that_the_task_does_not_record_is_refused_before_training(etude_command, tmp_path):
    assert "no metric 'val_f1'" in refused(etude_command(*SMALL, "--objective", "val_f1"))
    assert tree(tmp_path) == {}


def test_an_objective_that_was_not_recorded_does_not_spoil_a_finished_run(etude_command, digits_run):
    words = ("run", "digits", "--lrs", "1e-4,1e-2,1", "--seeds", "2", "--epochs", "2", "--executor", "inline")
    refused(etude_command(*words, "--objective", "val_f1"))
    assert etude_command("show").status == 0


@pytest.mark.parametrize("word", ["[0.0, inf]", "[-inf, 1.0]"])
def test_an_open_range_that_is_expected_does_not_spoil_a_run(etude_command, tmp_path, word):
    (tmp_path / "mine.toml").write_text(
        f'task = "quadratic"\nlrs = [0.1]\nepochs = 4\n[expect."0.1"]\nval_loss = {word}\n'
    )
    said = etude_command("run", "mine.toml", "--executor", "inline")
    if said.status == 2:
        refused(said)
    else:
        assert said.status == 0
        assert etude_command("show").status == 0
        assert etude_command("resume", "--executor", "inline").status == 0


def test_another_objective_for_a_finished_run_trains_nothing_and_stays(etude_command, digits_run):
    before = records(digits_run)
    words = ("run", "digits", "--lrs", "1e-4,1e-2,1", "--seeds", "2", "--epochs", "2", "--executor", "inline")
    said = etude_command(*words, "--objective", "val_loss")
    assert "is complete" in said.out
    assert "decided by the smallest val_loss" in etude_command("show").out
    assert records(digits_run) == before


def test_the_command_that_is_offered_next_can_be_run_as_it_is_printed(etude_command, tmp_path):
    etude_command(*BOWL, "--lrs", "0.1,1", "--epochs", "3", "--out", "my run's", "--quiet")
    (command,) = [line.strip() for line in lines(etude_command("show", "my run's").out) if line.startswith("  etude ")]
    program, *words = shlex.split(command)
    assert program == "etude"
    said = etude_command(*words, "--executor", "inline")
    assert (said.status, said.err) == (0, "")
    assert "LR=10.0 | " in said.out


def test_a_run_that_was_cut_off_before_any_trial_can_be_shown_drawn_and_resumed(etude_command, bowl_run):
    db = sqlite3.connect(bowl_run / DATABASE)
    for table in ("tests", "evaluations", "history", "trials", "analysis"):
        db.execute(f"DELETE FROM {table}")
    db.commit()
    db.close()
    shown = etude_command("show")
    assert (shown.status, shown.err) == (0, "")
    assert "No rate can be recommended yet" in shown.out
    assert etude_command("show", "--json").status == 0
    assert etude_command("plot").status == 0
    assert etude_command("list").status == 0
    assert etude_command("resume", "--executor", "inline").status == 0
    assert len(store.read(bowl_run).trials) == 4


def test_a_rate_beyond_what_a_float_holds_is_refused_or_diverges(etude_command):
    said = etude_command(*BOWL, "--lrs", "0.1,1e39", "--epochs", "4", "--quiet")
    if said.status == 2:
        refused(said)
    else:
        assert said.status == 0
        assert [t.status for t in store.read(Path("runs/quadratic")).trials] == ["completed", "diverged"]


# Pictures and lists


@pytest.mark.parametrize(("format", "magic"), [("png", b"\x89PNG\r\n"), ("svg", b"<?xml"), ("pdf", b"%PDF-")])
def test_a_figure_is_drawn_in_each_format(etude_command, digits_run, format, magic):
    said = etude_command("plot", "runs/digits", "--format", format)
    path = f"runs/digits/figures/curves.{format}"
    assert (said.status, said.out, said.err) == (0, f"{path}\n", "")
    assert (digits_run / "figures" / f"curves.{format}").read_bytes().startswith(magic)


def test_curves_take_options_and_several_runs_are_compared(etude_command, digits_run, tmp_path):
    words = ("--x", "step", "--xscale", "log", "--yscale", "linear", "--smooth", "0.5", "--out", "a.svg")
    assert etude_command("plot", *words).out == "a.svg\n"
    assert 'id="raw:1e-4"' in (tmp_path / "a.svg").read_text()
    shutil.copytree(digits_run, tmp_path / "runs" / "other")
    said = etude_command("plot", "runs/digits", "runs/other", "--figure", "compare", "--format", "svg")
    assert (said.status, said.out) == (0, "runs/digits/figures/compare.svg\n")
    assert "other: " in (digits_run / "figures" / "compare.svg").read_text()


def test_a_figure_goes_where_it_is_sent(etude_command, digits_run, tmp_path):
    said = etude_command("plot", "--out", "paper/figure1.PDF")
    assert (said.status, said.out) == (0, "paper/figure1.PDF\n")
    assert (tmp_path / "paper" / "figure1.PDF").read_bytes().startswith(b"%PDF-")
    assert [path.name for path in (tmp_path / "paper").iterdir()] == ["figure1.PDF"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--figure", "curve"), "no figure is named 'curve'; did you mean 'curves'?"),
        (("--format", "gif"), "expected a file that ends in .png, .svg or .pdf, got 'curves.gif'"),
        (("--out", "figure"), "expected a file that ends in .png, .svg or .pdf"),
        (("--objective", "max:beauty"), "no metric 'beauty'"),
        (("--smooth", "2"), "smooth: expected a number from 0 to less than 1"),
        (("--figure", "rates", "--x", "step"), "figure 'rates' has no options, got x"),
        (
            ("--figure", "compare"),
            "figure 'compare' shows several runs; draw it with etude plot RUN RUN --figure compare",
        ),
        (("runs/digits", "runs/other"), "figure 'curves' shows one run, got 2; --figure compare shows several"),
        (("runs/digits", "runs/other", "--figure", "compare", "--smooth", "0"), "figure 'compare' has no options"),
        (("runs/digits", "runs/other", "--figure", "compare"), "runs/other: there is no run in it"),
    ],
)
def test_a_figure_that_cannot_be_is_refused(etude_command, digits_run, tmp_path, words, said):
    before = tree(tmp_path)
    assert said in refused(etude_command("plot", *words))
    assert tree(tmp_path) == before


def test_a_figure_that_cannot_be_written_is_one_line(etude_command, digits_run, tmp_path):
    (tmp_path / "file").write_text("")
    assert "the figure cannot be written" in refused(etude_command("plot", "--out", "file/figure.png"), status=1)


def test_list_has_a_line_a_run(etude_command, digits_run, bowl_run, tmp_path):
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / DATABASE).write_text("no database")
    (tmp_path / "runs" / "notes.txt").write_text("")
    said = etude_command("list")
    assert (said.status, said.err) == (0, "")
    assert len(lines(said.out)) == 3
    assert "runs/digits  digits, adam, 3 rates, 6 completed\n" in said.out
    assert "runs/quadratic  quadratic, sgd, 4 rates, 3 completed, 1 diverged\n" in said.out
    assert "runs/broken/study.sqlite: not a sound database" in said.out


def test_list_of_nothing_says_so(etude_command):
    assert etude_command("list").out == "There are no runs under runs.\n"
    assert etude_command("list", "elsewhere").out == "There are no runs under elsewhere.\n"


def test_tasks_lists_the_built_in_ones(etude_command):
    said = etude_command("tasks")
    assert (said.status, said.err) == (0, "")
    names = ["mnist", "mnist-mlp", "digits", "diabetes", "charlm", "quadratic", "fashion-mnist", "cifar10"]
    assert [line.split()[0] for line in lines(said.out)[::2]] == names
    assert (
        "60,000 training and 10,000 validation examples, 206,922 parameters; about 20 s an epoch on one core\n"
        in said.out
    )
    assert "; less than a second an epoch\n" in said.out
    assert "188,810 parameters; about 70 s an epoch on one core; downloads 170 MB, once\n" in said.out


def test_listing_the_tasks_reads_no_data_and_imports_nothing_heavy(tmp_path):
    code = "import sys; from etude.cli import list_tasks; list_tasks(); print(*{m.split('.')[0] for m in sys.modules})"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "ETUDE_CACHE": str(tmp_path)}
    )
    assert (said.returncode, said.stderr) == (0, "")
    imported = set(said.stdout.splitlines()[-1].split())
    assert not imported & {"torch", "numpy", "sklearn", "pooch", "requests", "pydoc_data"}
    assert not list(tmp_path.iterdir())


def test_doctor_tells_versions_and_how_a_study_would_be_carried_out(etude_command):
    import torch

    said = etude_command("doctor")
    assert (said.status, said.err) == (0, "")
    assert f"torch {torch.__version__}" in said.out
    assert re.search(r"^executor +(inline|processes)", said.out, re.MULTILINE)
    assert re.search(r"^executor +inline", etude_command("doctor", "--executor", "inline").out, re.MULTILINE)
    assert "workers: expected at least 1, got 0" in refused(etude_command("doctor", "--workers", "0"))


# What cannot be


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--lrs", "0"), "study.lrs: expected a positive, finite number, got '0'"),
        (("--lrs", "1e-3,-1e-3"), "study.lrs"),
        (("--lrs=-1e-3",), "study.lrs: expected a positive, finite number, got '-1e-3'"),
        (("--lrs", "nan"), "study.lrs"),
        (("--lrs", "1e-3,inf"), "study.lrs"),
        (("--lrs", "fast"), "study.lrs: expected a positive, finite number, got 'fast'"),
        (("--lrs", "1e-3,0.001"), "1e-3 stands there twice"),
        (("--lrs", ""), "expected at least one learning rate, got none"),
        (("--lrs", "1e-5..1e-1"), "write 1e-5..1e-1/9"),
        (("--lrs", "1e-5..1e-1/1"), "COUNT of 2 or more"),
        (("--lrs", "1e-308..1e308/1e400"), "study.lrs"),
        (("--lrs",), "--lrs"),
        (("--epochs", "0"), "study.epochs: expected a positive, finite number, got '0'"),
        (("--epochs=-1",), "study.epochs"),
        (("--epochs", "nan"), "study.epochs"),
        (("--epochs", "inf"), "study.epochs"),
        (("--epochs", ""), "study.epochs"),
        (("--epochs", "1e308"), "study.epochs"),
        (("--seeds", "0"), "study.seeds: expected a positive whole number, got '0'"),
        (("--seeds=-1",), "study.seeds"),
        (("--seeds", "1.5"), "study.seeds"),
        (("--seeds", "0,0"), "study.seeds: 0 stands there twice"),
        (("--batch-size", "0"), "study.recipe.batch_size: expected a positive whole number, got '0'"),
        (("--batch-size=-1",), "study.recipe.batch_size"),
        (("--batch-size", "2.5"), "study.recipe.batch_size"),
        (("--batch-size", "1298"), "study.recipe.batch_size: expected at most the 1,297 training examples, got 1,298"),
        (("--optimizer", "adamm"), "no optimizer is named 'adamm'; did you mean 'adam'?"),
        (("--optimizer-options", "momentum=0.9"), "Adam has no option 'momentum'"),
        (("--optimizer-options", "eps=-1"), "Adam refuses its options"),
        (("--optimizer-options", "betas=0.9"), "study.recipe"),
        (("--optimizer-options", "eps=small"), "study.recipe"),
        (("--optimizer-options", "momentum"), "--optimizer-options: expected NAME=VALUE,…, got 'momentum'"),
        (("--optimizer-options", "lr=0.1"), "'lr' is what the study varies"),
        (("--optimizer-options", "fused=true"), "fused=True is not sound on the CPU"),
        (("--schedule", "cosin"), "no schedule is named 'cosin'; did you mean 'cosine'?"),
        (("--holdout", "1297"), "study.holdout: expected fewer than the 1297 training examples, got 1297"),
        (("--holdout=-1",), "study.holdout"),
        (("--evaluate-every", "0"), "study.evaluate_every"),
        (("--objective", "beauty"), "study.objective"),
        (("--objective", "max:"), "study.objective"),
        (("--task-options", "root=."), "task 'digits' has no option 'root'"),
        (("--executor", "inlin"), "no executor is named 'inlin'; did you mean 'inline'?"),
        (("--workers", "0"), "workers: expected at least 1, got 0"),
        (("--workers", "two"), "--workers"),
        (("--device", "tpu"), "no device is named 'tpu'"),
        (("--no-such-option",), "No such option: --no-such-option"),
        (("another-word",), "another-word"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused_in_one_line_and_makes_no_file(etude_command, tmp_path, words, said):
    inline = () if words[0] == "--executor" else ("--executor", "inline")
    assert said in refused(etude_command("run", "digits", *inline, *words))
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "minst"), "no built-in task is named 'minst'; did you mean 'mnist'?"),
        (("run", "none.toml"), "none.toml: cannot be read: No such file"),
        (("run", "study.py"), "study.py: cannot be read: No such file or directory; there is no Python or TOML file"),
        (
            ("run", "some/path"),
            f"expected a built-in task ({', '.join(tasks.BUILT_IN)}) or a file that ends in .py or .toml",
        ),
        (("run", "mnist", "--task-options", "root=nowhere"), "train-images-idx3-ubyte: the file is missing"),
        (("run", "mnist", "--task-options", "root=2024"), "2024"),
        (("rum",), "No such command 'rum'"),
        (("show", "nowhere"), "nowhere: there is no run in it"),
        (("show", "x" * 300), "xxx"),
        (("resume", "nowhere"), "nowhere: there is no run in it"),
        (("plot", "nowhere"), "nowhere: there is no run in it"),
        (("show",), "there are no runs under runs/"),
        (("resume",), "there are no runs under runs/"),
        (("plot",), "there are no runs under runs/"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_told_in_one_line_and_makes_no_file(etude_command, tmp_path, words, said):
    assert said in refused(etude_command(*words))
    assert tree(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('task = "digits"\nepoch = 2', "no field is named 'epoch'; did you mean 'epochs'?"),
        ('task = "digits"\n[recipe]\nbatchsize = 2', "did you mean 'batch_size'?"),
        ('task = "digits"\nlrs = [1e-3', "not valid TOML"),
        ("lrs = [1e-3]", "study.task is missing"),
        ('task = "digits"\nname = "../outside"', "expected a name fit for a folder"),
    ],
)
def test_a_study_file_that_cannot_be_is_refused_in_one_line(etude_command, tmp_path, text, said):
    (tmp_path / "mine.toml").write_text(text)
    answer = refused(etude_command("run", "mine.toml", "--executor", "inline"))
    assert answer.startswith("etude: mine.toml: ")
    assert said in answer
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize("out", ["file", "file/run", "file/deeper/run", "full", "x" * 300, "new/" + "x" * 300])
def test_a_place_that_cannot_hold_a_run_is_refused_in_one_line(etude_command, tmp_path, out):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    before = tree(tmp_path)
    refused(etude_command(*SMALL, "--out", out))
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digits", "--optimizer", "sgd"), "recipe.optimizer is adam there and sgd here"),
        (("digits", "--batch-size", "32"), "recipe.batch_size is 64 there and 32 here"),
        (("digits", "--schedule", "cosine"), "recipe.schedule is constant there and cosine here"),
        (("digits", "--optimizer-options", "eps=1e-7"), "recipe.optimizer_options"),
        (("digits", "--holdout", "100"), "data.holdout is 0 there and 100 here"),
        (("digits", "--evaluate-every", "0.5"), "evaluate_every is 1.0 there and 0.5 here"),
        (("quadratic",), "task.name is digits there and quadratic here"),
    ],
)
def test_another_study_in_the_directory_is_refused_naming_what_differs(etude_command, digits_run, words, said):
    before = tree(digits_run)
    answer = refused(etude_command("run", *words, "--out", "runs/digits", "--executor", "inline"))
    assert "it holds another study" in answer
    assert said in answer
    assert tree(digits_run) == before


def test_a_run_that_is_in_use_is_refused_and_can_still_be_read(etude_command, digits_run):
    before = tree(digits_run)
    with filelock.FileLock(digits_run / LOCK):
        for words in (("run", "digits"), ("resume",)):
            assert "another process is writing to it" in refused(etude_command(*words, "--executor", "inline"))
        assert etude_command("show").status == 0
        assert etude_command("list").status == 0
    assert tree(digits_run) == before


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_store_is_refused_and_left_as_it_is(etude_command, digits_run, share):
    path = digits_run / DATABASE
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    before = tree(digits_run)
    for words in (
        ("run", "digits", "--executor", "inline"),
        ("resume", "--executor", "inline"),
        ("show",),
        ("plot",),
        ("show", "--json"),
    ):
        assert DATABASE in refused(etude_command(*words))
    assert tree(digits_run) == before


def test_a_store_of_a_newer_format_is_refused(etude_command, digits_run):
    db = sqlite3.connect(digits_run / DATABASE)
    db.execute(f"PRAGMA user_version = {store.FORMAT + 1}")
    db.close()
    assert "upgrade etude" in refused(etude_command("show"))


def test_a_trial_whose_checkpoint_is_gone_is_told_in_one_line(etude_command, digits_run):
    for path in (digits_run / "checkpoints").rglob("*.pt"):
        path.unlink()
    before = records(digits_run)
    said = etude_command("resume", "--epochs", "3", "--executor", "inline", "--quiet")
    assert "the checkpoint cannot be read" in refused(said)
    assert records(digits_run) == before
    assert etude_command("show").status == 0


def test_a_checkpoint_that_is_damaged_does_not_end_in_a_traceback(etude_command, digits_run):
    for path in (digits_run / "checkpoints").rglob("*.pt"):
        path.write_bytes(path.read_bytes()[:1000])
    before = {key: evaluations for key, (_, evaluations) in records(digits_run).items()}
    said = etude_command("resume", "--epochs", "3", "--executor", "inline", "--quiet")
    assert said.status in (1, 2)
    assert "a checkpoint cannot be read" in said.err
    assert len(lines(said.err)) == 1
    assert {key: evaluations for key, (_, evaluations) in records(digits_run).items()} == before


def test_options_that_are_not_finite_are_refused_or_survive_the_store(etude_command, tmp_path):
    words = (*BOWL, "--lrs", "0.1", "--epochs", "2", "--optimizer-options", "momentum=NaN", "--quiet")
    said = etude_command(*words)
    if said.status:
        refused(said)
        assert tree(tmp_path) == {}
    else:
        assert etude_command("resume", "--executor", "inline", "--quiet").status == 0


def test_the_version(etude_command):
    said = etude_command("--version")
    assert (said.status, said.out, said.err) == (0, f"etude {version('etude')}\n", "")
    assert etude_command("--version", "run").out == said.out


def test_help_is_printed_when_nothing_is_said(etude_command):
    said = etude_command()
    assert said.status in (0, 2)
    assert "Usage:" in said.out + said.err
    assert etude_command("--help").status == 0
    assert etude_command("run", "--help").status == 0


def test_every_option_of_every_command_has_a_help(etude_command):
    import typer.main

    from etude.cli import app

    for command in typer.main.get_command(app).commands.values():
        assert command.help
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{command.name} {parameter.name}"


# The process itself


def test_the_module_runs_as_a_program_and_a_reader_that_leaves_early_is_no_error(digits_run, tmp_path):
    script = f"{sys.executable} -m etude show runs/digits --json | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, 1, 141)


def test_output_that_is_no_utf_8_is_no_error(digits_run, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for words in (["show", "runs/digits"], ["tasks"], ["list"], ["show", "nowhere–"]):
        done = subprocess.run(
            [sys.executable, "-m", "etude", *words],
            cwd=tmp_path,
            capture_output=True,
            env=environment,
            encoding="utf-8",
        )
        assert "Traceback" not in done.stderr, words


def test_numbers_in_json_are_the_stored_ones(etude_command, digits_run):
    told = json.loads(etude_command("show", "--json").out)
    for trial, stored in zip(told["trials"], store.read(digits_run).trials, strict=True):
        assert (trial["lr"], trial["seed"], trial["wall_s"]) == (stored.lr, stored.seed, stored.wall_s)
        for one, evaluation in zip(trial["evaluations"], stored.evaluations, strict=True):
            assert one["metrics"] == evaluation.metrics
            assert one["train_loss"] == evaluation.train_loss
            assert all(math.isfinite(value) for value in one["metrics"].values())


def test_an_option_that_changes_nothing_keeps_what_was_expected(etude_command, tmp_path):
    (tmp_path / "e.toml").write_text('task = "quadratic"\nlrs = [0.1, 1]\nepochs = 20\nexpect = {"1" = ["good"]}\n')
    for words, kept in ((["--batch-size", "10"], True), (["--batch-size", "5"], False), (["--lrs", "0.1,2.5"], False)):
        said = etude_command("run", "e.toml", *words, "--executor", "inline", "--out", f"run{words[1]}")
        assert said.status == 0
        assert ("observed" in said.out) == kept


def test_a_format_that_the_files_name_contradicts_is_refused(etude_command, digits_run):
    said = etude_command("plot", str(digits_run), "--format", "svg", "--out", "x.png")
    assert "plot: --format says svg and --out x.png" in refused(said)

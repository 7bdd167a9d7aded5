"""A training loop of one's own: what it is given, what it may log, and that nothing is lost or mixed up on the way."""

import decimal
import json
import math
import signal
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import etude
import programs
from etude import loop, store
from etude.errors import InUseError, MismatchError, SpecError

pytestmark = pytest.mark.usefixtures("undrawn")

CURVATURES = np.array([1.0, 0.05])  # gradient descent diverges above a rate of 2
START = 12.525  # the loss at (5, 5)


def made(**changes):
    return etude.Study(**{"name": "bowl", "lrs": [0.1, 1], "seeds": 1, "epochs": 3, **changes})


def descend(trial, steps=10):
    """Train a noisy bowl for the trial's epochs, logging each of them."""
    rng = np.random.default_rng(trial.seed)
    w = np.full(2, 5.0)
    trial.log(epoch=0, val_loss=0.5 * CURVATURES @ w**2)
    for epoch in range(1, trial.epochs + 1):
        losses = []
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(steps):
                losses.append(0.5 * CURVATURES @ w**2)
                w = w - trial.lr * (CURVATURES * w + 0.3 * rng.normal(size=2))
            trial.log(epoch=epoch, train_loss=np.mean(losses), val_loss=0.5 * CURVATURES @ w**2)
        if trial.diverged:
            break


def descended(study, directory, **kwargs):
    """Train what is missing; return the rates and seeds that were."""
    given = []
    for trial in study.missing(directory, **kwargs):
        given.append((trial.lr, trial.seed))
        descend(trial)
    return given


def statuses(directory):
    return {(t.lr, t.seed, t.horizon): t.status for t in store.read(directory).trials}


def curves(directory):
    """What was recorded, but for the time it took."""
    return {(t.lr, t.seed, t.horizon): (t.step, t.diverged, t.evaluations) for t in store.read(directory).trials}


@pytest.fixture
def holding(tmp_path):
    """Give the only trial of a study, and keep the directory for as long as the test lasts."""
    held = []

    def give(steps_per_epoch=1, **changes):
        held.append(made(lrs=[0.1], **changes).missing(tmp_path / "run", steps_per_epoch=steps_per_epoch))
        return next(held[-1])

    yield give
    for given in held:
        given.close()


def test_the_verdicts_are_those_of_the_response(tmp_path):
    study = made(lrs=[1e-5, 1e-2, 0.1, 0.5, 1.9, 10, 100], seeds=3, epochs=20)
    given = descended(study, tmp_path / "run")
    assert given == [(lr, seed) for seed in (0, 1, 2) for lr in study.lrs]
    result = study.result(tmp_path / "run")
    verdicts = {rate["lr"]: rate["verdict"] for rate in result.analysis["rates"]}
    assert verdicts[1e-5] == verdicts[1e-2] == "too low"
    assert verdicts[100] == verdicts[10] == "diverged"
    assert verdicts[1.9] in ("too high", "unstable")
    assert verdicts[result.recommendation.lr] == "good"
    assert result.recommendation.lr in (0.1, 0.5)
    assert result.counts == {"completed": 15, "diverged": 6}
    assert result.stored.analysis is not None  # so that reading needs no analysis


def test_the_identical_loop_again_is_given_nothing_and_changes_nothing(tmp_path):
    study = made(seeds=2, task_options={"model": "bowl", "widths": [1, 2]})
    assert len(descended(study, tmp_path / "run")) == 4
    before = (tmp_path / "run" / store.DATABASE).read_bytes()
    assert descended(study, tmp_path / "run") == []
    assert descended(study.replace(lrs=[1]), tmp_path / "run") == []
    assert (tmp_path / "run" / store.DATABASE).read_bytes() == before


def test_more_rates_and_seeds_are_only_the_new_trials(tmp_path):
    descended(made(), tmp_path / "run")
    before = curves(tmp_path / "run")
    given = descended(made(lrs=[1, 1.5], seeds=2), tmp_path / "run")
    assert given == [(1.5, 0), (1, 1), (1.5, 1)]
    after = curves(tmp_path / "run")
    assert {key: after[key] for key in before} == before
    assert store.read(tmp_path / "run").study["lrs"] == [0.1, 1, 1.5]


def test_more_epochs_are_other_trials_and_the_old_ones_stay(tmp_path):
    descended(made(), tmp_path / "run")
    before = curves(tmp_path / "run")
    for trial in made(epochs=5).missing(tmp_path / "run"):
        assert trial.epochs == trial.steps == 5
        descend(trial)
    after = curves(tmp_path / "run")
    assert {key: after[key] for key in before} == before
    result = made().result(tmp_path / "run")
    assert result.horizon == 5
    assert len(result.judged) == 2
    assert len(result.stored.trials) == 4
    assert descended(made(), tmp_path / "run") == []


def test_break_leaves_the_trial_unfinished_and_the_lock_free(tmp_path):
    study = made(seeds=2)
    for trial in study.missing(tmp_path / "run"):
        if (trial.lr, trial.seed) == (1, 0):
            trial.log(epoch=0, val_loss=START)
            trial.log(epoch=1, val_loss=1.0)  # soon after the last one, so it waits
            break
        descend(trial)
    assert list(statuses(tmp_path / "run").values()) == ["completed", "pending", "paused", "pending"]
    (paused,) = (t for t in store.read(tmp_path / "run").trials if t.status == "paused")
    assert [e.step for e in paused.evaluations] == [0, 1]
    assert descended(study, tmp_path / "run") == [(1, 0), (0.1, 1), (1, 1)]
    descended(study, tmp_path / "whole")
    assert curves(tmp_path / "run") == curves(tmp_path / "whole")


def test_an_exception_in_the_body_goes_through_and_frees_the_lock(tmp_path):
    def train():
        for trial in made().missing(tmp_path / "run"):
            trial.log(epoch=1, val_loss=1 / (trial.lr - 0.1))

    with pytest.raises(ZeroDivisionError):
        train()
    assert set(statuses(tmp_path / "run").values()) == {"pending"}
    assert len(descended(made(), tmp_path / "run")) == 2


def test_kill_9_loses_the_trial_under_way_and_no_other(tmp_path):
    study = "etude.Study(name='bowl', lrs=[0.1, 1, 1.5], seeds=1, epochs=3)"
    script = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import etude
        from test_loop import descend
        for trial in {study}.missing("run"):
            if trial.lr == 1:
                trial.log(step=1, train_loss=9.0)
                trial.log(step=1, val_loss=9.0)
                trial.log(step=2, val_loss=8.0)
                print("in the middle", flush=True)
                time.sleep(60)
            descend(trial)
        """
    process = programs.Program("-c", textwrap.dedent(script), cwd=tmp_path)
    process.wait_for("in the middle\n")
    assert statuses(tmp_path / "run")[1, 0, 3] == "running"
    with pytest.raises(InUseError, match="another process is writing to it"):
        next(made(lrs=[0.1, 1, 1.5]).missing(tmp_path / "run"))
    process.kill()
    assert process.wait(timeout=10) == -signal.SIGKILL
    assert list(statuses(tmp_path / "run").values()) == ["completed", "paused", "pending"]
    assert descended(made(lrs=[0.1, 1, 1.5]), tmp_path / "run") == [(1, 0), (1.5, 0)]
    descended(made(lrs=[0.1, 1, 1.5]), tmp_path / "whole")
    assert curves(tmp_path / "run") == curves(tmp_path / "whole")
    assert not store.read_steps(tmp_path / "run")  # nor is the loss of the killed one left


def test_two_loops_do_not_share_a_directory(tmp_path):
    given = made().missing(tmp_path / "run")
    next(given)
    with pytest.raises(InUseError):
        next(made().missing(tmp_path / "run"))
    given.close()
    assert len(descended(made(), tmp_path / "run")) == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["train_loss", "val_loss", "val_accuracy"])
def test_what_is_not_finite_is_divergence(tmp_path, name, bad):
    for trial in made(objective="val_accuracy").missing(tmp_path / "run"):
        trial.log(epoch=0, val_loss=2.3, val_accuracy=0.1)
        trial.log(epoch=1, **{"train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5, name: bad})
        assert trial.diverged
        trial.log(epoch=2, val_loss=0.1, val_accuracy=0.9)  # is dropped
    for trial in store.read(tmp_path / "run").trials:
        assert (trial.status, trial.diverged, trial.step) == ("diverged", 1, 1)
        assert [e.step for e in trial.evaluations] == [0, 1]
    assert descended(made(objective="val_accuracy"), tmp_path / "run") == []
    assert made().result(tmp_path / "run").recommendation.lr is None


def test_another_metric_may_be_undefined(tmp_path):
    for trial in made(epochs=1).missing(tmp_path / "run"):
        trial.log(epoch=0, val_loss=1, val_f1=math.nan)
        trial.log(epoch=1, val_loss=0.5, val_f1=0.5)
        assert not trial.diverged
    assert made(epochs=1).result(tmp_path / "run").counts == {"completed": 2}


def test_a_failed_trial_keeps_what_it_logged_and_the_others_go_on(tmp_path):
    for trial in made(lrs=[0.1, 1, 1.5]).missing(tmp_path / "run"):
        if trial.lr == 0.1:
            trial.log(epoch=1, val_loss=1)
            trial.fail("out of\n memory")
            with pytest.raises(SpecError, match=r"rate 0\.1, seed 0: nothing can be logged after trial\.fail"):
                trial.log(epoch=2, val_loss=1)
        elif trial.lr == 1:
            try:
                raise ValueError("no such thing")
            except ValueError as error:
                trial.fail(error)
        else:
            descend(trial)
    first, second, third = store.read(tmp_path / "run").trials
    assert (first.status, first.failure, first.traceback, first.step) == ("failed", "out of memory", None, 1)
    assert (second.status, second.failure) == ("failed", "ValueError: no such thing")
    assert "no such thing" in second.traceback
    assert third.status == "completed"
    assert descended(made(lrs=[0.1, 1, 1.5]), tmp_path / "run") == [(0.1, 0), (1, 0)]
    assert set(statuses(tmp_path / "run").values()) == {"completed"}


def test_a_trial_whose_turn_is_over_takes_no_more(tmp_path):
    kept = []
    for trial in made(seeds=2).missing(tmp_path / "run"):
        kept.append(trial)
        if len(kept) == 2:
            break
        descend(trial)
    before = curves(tmp_path / "run")
    for trial in kept:
        with pytest.raises(SpecError, match="nothing can be logged when its turn is over"):
            trial.log(epoch=2, val_loss=1)
    with pytest.raises(SpecError, match="it cannot fail when its turn is over"):
        kept[1].fail("too late")
    assert curves(tmp_path / "run") == before


def test_a_trial_that_has_ended_cannot_fail(holding):
    trial = holding()
    trial.log(epoch=3, val_loss=1)
    with pytest.raises(SpecError, match="it has completed"):
        trial.fail("too late")


@pytest.mark.parametrize(
    ("changes", "steps", "said"),
    [
        ({"task_options": {"model": "cnn", "width": 8}}, 1, "task_options.model is mlp there and cnn here"),
        ({"task_options": {"model": "mlp"}}, 1, "task_options.width is 8 there and nothing here"),
        ({"task_options": {"model": "mlp", "width": 8}, "name": "b"}, 1, "task.name is bowl there and b here"),
        ({"task_options": {"model": "mlp", "width": 8}}, 2, "loop.steps_per_epoch is 1 there and 2 here"),
    ],
)
def test_another_training_is_refused_by_name(tmp_path, changes, steps, said):
    descended(made(task_options={"model": "mlp", "width": 8}), tmp_path / "run")
    before = (tmp_path / "run" / store.DATABASE).read_bytes()
    with pytest.raises(MismatchError) as refused:
        next(made(**changes).missing(tmp_path / "run", steps_per_epoch=steps))
    assert said in str(refused.value)
    assert "choose another directory" in str(refused.value)
    assert (tmp_path / "run" / store.DATABASE).read_bytes() == before


def test_a_loop_and_a_task_do_not_share_a_directory(tmp_path, bowl_run):
    with pytest.raises(MismatchError, match=r"the task 'quadratic' there, and a loop of your own here"):
        next(made().missing(bowl_run))
    descended(made(), tmp_path / "run")
    with pytest.raises(MismatchError, match=r"a loop of your own there, and the task 'quadratic' here"):
        etude.Study.default("quadratic").run(tmp_path / "run", executor="inline")


def test_a_study_with_a_task_is_refused_at_once(tmp_path):
    with pytest.raises(SpecError, match=r"study\.missing: it is for a study without a task"):
        etude.Study.default("digits").missing(tmp_path / "run")
    with pytest.raises(SpecError, match=r"steps_per_epoch: expected a positive whole number, got 0"):
        made().missing(tmp_path / "run", steps_per_epoch=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("logged", "said"),
    [
        ({"val_loss": 1}, "log expects step=… or epoch=…, neither is given"),
        ({"step": 1, "epoch": 1, "val_loss": 1}, "log expects step=… or epoch=…, both are given"),
        ({"step": 1.5, "val_loss": 1}, r"expected a whole number of optimizer steps, got step=1\.5"),
        ({"step": -1, "val_loss": 1}, r"expected step 0 \(before training\) or more, got step=-1"),
        ({"epoch": math.nan, "val_loss": 1}, "expected a finite number of epochs, got epoch=nan"),
        ({"epoch": 4, "val_loss": 1}, r"log\(epoch=4\) lies beyond the study's horizon, 3 epochs of 1 step;"),
        ({"step": 1}, r"log\(step=1\) has nothing to record"),
        ({"step": 1, "accuracy": 1}, "named val_NAME or train_NAME, got 'accuracy'; write val_accuracy"),
        ({"step": 1, "test_loss": 1}, "got 'test_loss'; write val_loss"),
        ({"step": 1, "val_": 1}, "got 'val_'"),
        ({"step": 1, "val_top 5": 1}, "got 'val_top 5'"),
        ({"step": 1, "val_loss": "1"}, "val_loss: expected one number, got '1'"),
        ({"step": 1, "val_loss": True}, "val_loss: expected one number, got True"),
        ({"step": 1, "val_loss": None}, "val_loss: expected one number, got NoneType"),
        ({"step": 1, "val_loss": 1j}, "val_loss: expected one number, got complex"),
        ({"step": 1, "val_loss": np.ones(3)}, r"val_loss: expected one number, got shape \(3,\)"),
        ({"step": 1, "train_loss": torch.ones(1)}, r"train_loss: expected one number, got shape \(1,\)"),
        ({"step": 1, "val_loss_se": 1}, "val_loss_se is the standard error of val_loss, which is not logged with it"),
        ({"step": 1, "val_loss": 1, "val_loss_se": -1}, "val_loss_se: expected a standard error, 0 or more, got -1"),
        ({"epoch": 3, "val_lose": 1}, r"the objective 'val_loss' is not among .* \(epoch=3\); did you mean 'val_lose'"),
        ({"epoch": 3, "val_f1": 1, "train_loss": 1}, "'val_loss' is not among .*; did you mean 'train_loss'"),
    ],
)
def test_what_cannot_be_logged_says_why_and_is_not_stored(tmp_path, holding, logged, said):
    trial = holding()
    trial.log(epoch=0, val_loss=2)
    with pytest.raises(SpecError, match=said) as refused:
        trial.log(**logged)
    assert str(refused.value).startswith("rate 0.1, seed 0: ")
    assert "\n" not in str(refused.value)
    trial.log(epoch=3, val_loss=1)  # nothing of the refused one is in the way
    (stored,) = store.read(tmp_path / "run").trials
    assert [(e.step, e.metrics) for e in stored.evaluations] == [(0, {"val_loss": 2}), (3, {"val_loss": 1})]


def test_steps_advance(holding):
    trial = holding(steps_per_epoch=10)
    trial.log(step=5, val_loss=1)
    with pytest.raises(SpecError, match=r"log\(step=5\) does not advance: step 5 was logged already"):
        trial.log(step=5, val_loss=1)
    with pytest.raises(SpecError, match=r"log\(step=5\) does not advance"):
        trial.log(step=5, train_loss=1)
    with pytest.raises(SpecError, match=r"log\(epoch=0\.4\) does not advance: step 5 was logged before"):
        trial.log(epoch=0.4, val_loss=1)
    trial.log(step=6, train_loss=1)
    with pytest.raises(SpecError, match=r"log\(step=5\) does not advance: step 6 was logged before"):
        trial.log(step=5, train_loss=1)


def test_fractions_of_an_epoch_need_steps(holding):
    trial = holding()
    trial.log(epoch=1, val_loss=1)
    with pytest.raises(SpecError, match=r"log\(epoch=1\.25\) does not advance: .*steps_per_epoch=N lets an epoch have"):
        trial.log(epoch=1.25, val_loss=1)


@pytest.mark.parametrize(
    ("logs", "said"),
    [
        ([], "ended without logging anything; call trial.log"),
        ([{"epoch": 2, "val_loss": 1}], r"ended at step 2 of 3 \(3 epochs of 1 step\); log the horizon's step"),
        ([{"step": 3, "train_loss": 1}], "ended without an evaluation at the horizon; log val_loss there, too"),
    ],
)
def test_a_body_that_ends_too_early_is_told_so(tmp_path, logs, said):
    def train():
        for trial in made().missing(tmp_path / "run"):
            for log in logs:
                trial.log(**log)

    with pytest.raises(SpecError, match=said):
        train()
    assert "completed" not in statuses(tmp_path / "run").values()
    assert len(descended(made(), tmp_path / "run")) == 2


@pytest.mark.parametrize(
    "number", [0.25, np.float32(0.25), np.array(0.25), torch.tensor(0.25, requires_grad=True), decimal.Decimal("0.25")]
)
def test_numbers_of_any_library_are_taken(tmp_path, number):
    for trial in made(epochs=1).missing(tmp_path / "run"):
        trial.log(epoch=np.int64(1), train_loss=number, val_loss=number, val_loss_se=number)
    (evaluation,) = store.read(tmp_path / "run").trials[0].evaluations
    assert (evaluation.train_loss, evaluation.metrics, evaluation.standard_errors) == (
        0.25, {"val_loss": 0.25}, {"val_loss": 0.25},
    )  # fmt: skip


def test_losses_by_step_are_the_history_and_their_mean_goes_with_the_evaluation(tmp_path):
    for trial in made(lrs=[0.1], epochs=2).missing(tmp_path / "run", steps_per_epoch=4):
        trial.log(step=0, val_loss=10.0)
        for step in range(1, 5):
            trial.log(step=step, train_loss=float(step))
        trial.log(epoch=1, val_loss=5.0, val_loss_se=0.5)  # of a step whose loss is known
        trial.log(step=6, train_loss=6.0)
        trial.log(step=8, train_loss=8.0)
        assert statuses(tmp_path / "run")[0.1, 0, 2] == "running"  # not completed before it is evaluated
        trial.log(epoch=2, val_loss=4.0)
    result = made().result(tmp_path / "run")
    assert result.steps["step"].tolist() == [1, 2, 3, 4, 6, 8]
    assert result.steps["loss"].tolist() == [1, 2, 3, 4, 6, 8]
    assert result.steps["grad_norm"].isna().all()
    frame = result.evaluations
    assert frame["step"].tolist() == [0, 4, 8]
    assert frame["epoch"].tolist() == [0, 1, 2]
    assert frame["train_loss"].tolist()[1:] == [2.5, 7.0]
    assert math.isnan(frame["train_loss"][0])
    assert frame["val_loss_se"].tolist()[1] == 0.5
    assert result.complete


def test_a_training_loss_that_is_given_stands(tmp_path):
    for trial in made(lrs=[0.1], epochs=1).missing(tmp_path / "run", steps_per_epoch=4):
        trial.log(step=0, train_loss=2.5, val_loss=3.0)
        trial.log(step=2, train_loss=2.0)
        trial.log(step=4, train_loss=1.0, val_loss=1.0)
    assert made().result(tmp_path / "run").evaluations["train_loss"].tolist() == [2.5, 1.0]


def test_the_training_loss_may_decide(tmp_path):
    study = made(objective="train_loss", lrs=[0.1, 1], epochs=4)
    for trial in study.missing(tmp_path / "run"):
        for epoch in range(5):
            trial.log(epoch=epoch, train_loss=math.exp(-trial.lr * epoch))
    result = study.result(tmp_path / "run")
    assert result.recommendation.lr == 1
    assert result.counts == {"completed": 2}


def test_evaluations_without_the_objective_are_no_evaluations_of_it(tmp_path):
    study = made(objective="val_accuracy", lrs=[0.1, 1], epochs=4)
    for trial in study.missing(tmp_path / "run"):
        for epoch in range(5):
            score = {"val_accuracy": 0.1 + 0.2 * epoch * trial.lr} if epoch % 2 == 0 else {}
            trial.log(epoch=epoch, val_loss=2 - 0.4 * epoch * trial.lr, **score)
    scores = {t["lr"]: t["score"] for t in study.result(tmp_path / "run").analysis["trials"]}
    assert scores == pytest.approx({0.1: 0.18, 1: 0.9})


def test_restlessness_is_told_from_sparse_losses(tmp_path):
    rng = np.random.default_rng(0)
    for trial in made(lrs=[0.1, 1], epochs=4).missing(tmp_path / "run", steps_per_epoch=1000):
        trial.log(step=0, val_loss=2.0)
        for step in range(10, 4001, 10):
            bump = 0.8 * (1 + math.sin(step / 100)) if trial.lr == 1 else 0.0
            trial.log(step=step, train_loss=2.0 * math.exp(-step / 800) + bump + 0.01 * rng.normal())
            if step % 1000 == 0:
                trial.log(step=step, val_loss=2.0 * math.exp(-step / 800))
    dynamics = {t["lr"]: t["dynamics"] for t in made().result(tmp_path / "run").analysis["trials"]}
    assert dynamics[0.1] == "smooth"
    assert dynamics[1] in ("oscillating", "spiking")


def test_logs_that_follow_each_other_fast_are_written_together(tmp_path, holding, monkeypatch):
    trial = holding(steps_per_epoch=1000)
    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])

    def stored():
        (one,) = store.read(tmp_path / "run").trials
        return one.step

    trial.log(step=1, val_loss=1)
    assert stored() == 1
    now[0] += 0.9
    trial.log(step=2, val_loss=1)
    assert stored() == 1
    now[0] += 0.1
    trial.log(step=3, val_loss=1)
    assert stored() == 3
    trial.log(step=4, train_loss=math.nan)
    assert stored() == 4


def test_the_run_is_shown_drawn_exported_compared_and_listed_like_any_other(tmp_path, etude_command):
    for name, epochs in (("a", 8), ("b", 6)):
        study = made(lrs="1e-2..10/4", seeds=2, epochs=epochs, task_options={"noise": name})
        descended(study, tmp_path / "runs" / name)
    shown = etude_command("show", "runs/a")
    assert shown.status == 0
    assert shown.out.startswith("bowl: own loop, 8 epochs, 4 rates × 2 seeds, decided by the smallest val_loss")
    assert "batch" not in shown.out
    said = json.loads(etude_command("show", "runs/a", "--json").out)
    assert said["study"]["task"] is None
    assert said["study"]["recipe"] == {}
    assert said["study"]["task_options"] == {"noise": "a"}
    assert said["rates"][-1]["verdict"] == "diverged"
    for figure in ("curves", "rates"):
        assert etude_command("plot", "runs/a", "--figure", figure).status == 0
        assert (tmp_path / "runs/a/figures" / f"{figure}.png").stat().st_size > 10_000
    assert etude_command("export", "runs/a", "--out", "tables").status == 0
    judged = json.loads(etude_command("judge", "tables/evaluations.csv", "--json").out)
    assert [rate["verdict"] for rate in judged["rates"]] == [rate["verdict"] for rate in said["rates"]]
    compared = etude_command("compare", "runs/a", "runs/b")
    assert compared.status == 0
    assert "They differ in task_options.noise: a a, b b." in compared.out
    assert "recipe" not in compared.out
    listed = etude_command("list")
    assert sorted(line.split()[0] for line in listed.out.splitlines()) == ["runs/a", "runs/b"]
    assert all(" bowl, own loop, 4 rates, " in line for line in listed.out.splitlines())
    resumed = etude_command("resume", "runs/a")
    assert resumed.status == 2
    assert "its training loop is your own; run your script again, study.missing('runs/a')" in resumed.err


def test_the_next_command_is_a_loop_to_write(tmp_path):
    study = made(lrs=[1e-2, 0.1], epochs=4)
    descended(study, tmp_path / "run", steps_per_epoch=1)
    command = study.result(tmp_path / "run").recommendation.next_command
    assert command.startswith("study.replace(lrs=[1")
    given = eval(command, {"study": study})
    lrs = set()
    for trial in given:
        lrs.add(trial.lr)
        descend(trial)
    assert lrs
    assert not lrs & {1e-2, 0.1}
    for trial in made(name="b", lrs=[0.1]).missing(tmp_path / "b", steps_per_epoch=5):
        trial.log(epoch=1, val_loss=1)
        break
    command = made().result(tmp_path / "b").recommendation.next_command
    assert command == f"study.missing({str(tmp_path / 'b')!r}, steps_per_epoch=5)"


def test_without_an_evaluation_before_training_the_result_says_so(tmp_path):
    for trial in made().missing(tmp_path / "run"):
        for epoch in (1, 2, 3):
            trial.log(epoch=epoch, val_loss=1 / epoch)
    assert "before training (epoch 0)" in made().result(tmp_path / "run").notes[0]
    descended(made(), tmp_path / "with")
    assert made().result(tmp_path / "with").notes == ()


def test_the_place_follows_the_name_and_the_objective_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    descended(made(), None)
    assert (tmp_path / "runs/bowl" / store.DATABASE).exists()
    assert made().result().directory == Path("runs/bowl")
    assert made(objective="train_loss").result().objective["metric"] == "train_loss"
    with pytest.raises(SpecError, match="no metric 'val_f1' was recorded"):
        made(objective="val_f1").result()
    assert isinstance(made().result().rates, pd.DataFrame)

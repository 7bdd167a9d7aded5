"""What becomes of trained weights: the module for use, the best ones, and those that are not kept."""

import dataclasses

import pytest
import torch
from torch import nn

import etude
from etude import cli
from etude.errors import SpecError, StoreError

DIGITS = etude.Study.default("digits").replace(lrs=[1e-3, 1e-2], seeds=2, epochs=3)


def accuracy_of(model, task):
    with torch.no_grad():
        return (model(task.val.inputs).argmax(1) == task.val.targets).float().mean().item()


def last_accuracy(result, lr, seed):
    table = result.evaluations
    return table[(table.lr == lr) & (table.seed == seed)].val_accuracy.iloc[-1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return DIGITS.run(tmp_path_factory.mktemp("weights") / "run", executor="inline")


def test_the_module_is_the_one_that_was_evaluated(trained):
    task = DIGITS.make_task()
    for lr, seed in ((1e-3, 0), (1e-2, 1)):
        for result in (trained, etude.Result.load(trained.directory)):  # a built-in task is known by its name
            model = result.model(lr=lr, seed=seed)
            assert not model.training
            assert accuracy_of(model, task) == pytest.approx(last_accuracy(trained, lr, seed), abs=1e-6)


def test_a_trial_that_there_is_not_is_told(trained):
    with pytest.raises(SpecError, match=r"no trial has the rate 0\.5; the rates are 1e-3, 1e-2"):
        trained.model(lr=0.5)
    with pytest.raises(SpecError, match=r"several seeds \(0, 1\)"):
        trained.model(lr=1e-3)
    with pytest.raises(SpecError, match="has no seed 7"):
        trained.model(lr=1e-3, seed=7)


def test_a_checkpoint_that_is_gone_is_told(tmp_path):
    result = DIGITS.replace(lrs=[1e-2], seeds=1, epochs=1).run(tmp_path / "run", executor="inline")
    for path in (tmp_path / "run" / "checkpoints").glob("*/*.pt"):
        path.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        result.model(lr=1e-2)


def test_a_task_of_ones_own_is_made_by_the_study_that_trained_it(tmp_path, tiny_task):
    study = etude.Study(task=tiny_task, lrs=[0.1], epochs=2, recipe=etude.Recipe(batch_size=16))
    result = study.run(tmp_path / "run", executor="inline")
    of_study = result.model(lr=0.1)
    loaded = etude.Result.load(tmp_path / "run")
    with pytest.raises(SpecError, match=r"is code of your own; give the study that trained it"):
        loaded.model(lr=0.1)
    again = loaded.model(lr=0.1, study=study)
    for a, b in zip(of_study.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    other = study.replace(task=dataclasses.replace(tiny_task, model=lambda: nn.Linear(3, 7)))
    with pytest.raises(SpecError, match="do not fit the model that the study makes"):
        loaded.model(lr=0.1, study=other)


def test_averaged_weights_are_what_is_given(tmp_path):
    recipe = etude.Recipe(average="ema", average_decay=0.95, batch_size=64)
    study = DIGITS.replace(lrs=[1e-2], seeds=1, recipe=recipe)
    result = study.run(tmp_path / "run", executor="inline")
    model = result.model(lr=1e-2)
    assert type(model) is nn.Sequential  # not torch's wrapper
    assert accuracy_of(model, study.make_task()) == pytest.approx(last_accuracy(result, 1e-2, 0), abs=1e-6)


def restless():
    """A study whose curves go up and down, so that the best evaluation is not the last."""
    return DIGITS.replace(lrs=[1e-3, 0.3], seeds=1, epochs=8)


def test_select_best_scores_the_best_evaluation_and_keeps_its_weights(tmp_path):
    study = restless().replace(select="best")
    result = study.run(tmp_path / "run", executor="inline")
    task = study.make_task()
    table = result.evaluations
    assert any(
        table[table.lr == lr].val_accuracy.iloc[-1] < table[table.lr == lr].val_accuracy.max() for lr in study.lrs
    )
    for lr in study.lrs:
        best = table[(table.lr == lr) & (table.step > 0)].val_accuracy.max()
        assert result.trials.set_index("lr").score[lr] == pytest.approx(best)
        assert accuracy_of(result.model(lr=lr), task) == pytest.approx(best, abs=1e-6)
    assert any("best evaluation" in note for note in result.notes)


def test_select_last_scores_the_last_one(tmp_path):
    result = restless().run(tmp_path / "run", executor="inline")
    table = result.evaluations
    for lr in (1e-3, 0.3):
        assert result.trials.set_index("lr").score[lr] == table[table.lr == lr].val_accuracy.iloc[-1]
    assert not any("best evaluation" in note for note in result.notes)


def test_another_select_reads_anew_and_trains_nothing(tmp_path):
    study = restless()
    last = study.run(tmp_path / "run", executor="inline")
    best = study.replace(select="best").run(tmp_path / "run", executor="inline")
    assert (best.evaluations.val_accuracy.values == last.evaluations.val_accuracy.values).all()
    assert (best.trials.score >= last.trials.score).all()
    assert (best.trials.score > last.trials.score).any()
    with pytest.raises(SpecError, match="without keeping the weights of its best evaluation"):
        best.model(lr=0.3)


@pytest.mark.parametrize(("keep", "kept"), [("all", 4), ("best", 2), ("none", 0)])
def test_weights_that_are_not_kept_are_gone_from_the_disk(tmp_path, keep, kept):
    study = DIGITS.replace(keep=keep, epochs=1)
    result = study.run(tmp_path / "run", executor="inline")
    files = sorted(path.parent.name for path in (tmp_path / "run" / "checkpoints").glob("*/*.pt"))
    assert len(files) == kept
    if keep == "best":
        assert all(name.startswith("lr1e-2-") for name in files)
        assert result.recommendation.lr == 1e-2
        result.model(lr=1e-2, seed=0)
    if keep != "all":
        with pytest.raises(SpecError, match="its weights were not kept"):
            result.model(lr=1e-3, seed=0)
        with pytest.raises(SpecError, match=r"cannot go on from step 21: its weights were not kept"):
            study.replace(epochs=2).run(tmp_path / "run", executor="inline")
    again = study.run(tmp_path / "run", executor="inline")  # nothing is missing
    assert again.complete
    more = study.replace(seeds=3).run(tmp_path / "run", executor="inline")  # new trials need no weights of old ones
    assert more.counts == {"completed": 6}


def test_the_disk_that_is_kept_is_told_beforehand(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    cli.app(["run", "digits", "--dry-run", "--keep", "none"], standalone_mode=False)
    assert "MB on disk, of which 1 MB stay" in capsys.readouterr().out
    cli.app(["run", "digits", "--dry-run"], standalone_mode=False)
    assert "of which" not in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_weights_that_take_much_disk_are_told_when_training_begins(tmp_path, monkeypatch):
    from etude import preparation

    notices = []

    def on_event(event):
        notices.extend(getattr(event, "notices", ()))

    DIGITS.replace(epochs=1, lrs=[1e-2]).run(tmp_path / "small", executor="inline", on_event=on_event)
    assert not any("on disk" in notice for notice in notices)
    monkeypatch.setattr(preparation, "TOLD_BYTES", 100_000)
    DIGITS.replace(epochs=1, keep="best").run(tmp_path / "run", executor="inline", on_event=on_event)
    (said,) = [notice for notice in notices if "on disk" in notice]
    assert said.startswith(
        "The weights of 4 trials take about 0.0 GB on disk, of which about 0.0 GB stay (keep = 'best')"
    )


def test_the_test_set_is_evaluated_before_weights_go(tmp_path):
    result = DIGITS.replace(holdout=200, keep="none", seeds=1, epochs=1).run(tmp_path / "run", executor="inline")
    tests = [test for trial in result.stored.trials for test in trial.tests]
    assert len(tests) == 1
    assert tests[0].metrics["test_accuracy"] > 0.3

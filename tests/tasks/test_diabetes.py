from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score

from etude import tasks
from etude.engine.session import Session, Setup
from etude.spec.study import Study


@pytest.fixture(scope="module")
def task():
    return tasks.make("diabetes", {})


def test_measurements_and_target_are_standardised_by_the_training_part_alone(task):
    for values in (task.train.inputs, task.train.targets):
        assert torch.allclose(values.mean(0), torch.tensor(0.0), atol=1e-5)
        assert torch.allclose(values.std(0), torch.tensor(1.0), atol=1e-5)
    assert task.val.inputs.mean(0).abs().min() > 1e-4
    assert abs(task.val.targets.mean()) > 1e-4


def test_the_parts_are_all_patients_each_once(task):
    scores = torch.cat([task.train.targets, task.val.targets]).double()
    published = np.sort(load_diabetes().target)
    unit = (published.max() - published.min()) / (scores.max() - scores.min())
    restored = np.sort(((scores - scores.min()) * unit + published.min()).numpy())
    assert np.allclose(restored, published, atol=1e-3)


def test_metrics_are_scikit_learns_in_the_scores_own_unit(task):
    torch.manual_seed(0)
    outputs, targets = torch.randn(100), task.val.targets
    unit = load_diabetes().target.std()  # about: of all patients
    mae = task.metrics["mae"](outputs, targets)
    assert mae.shape == (100,)
    assert mae.mean().item() == pytest.approx(mean_absolute_error(targets, outputs) * unit, rel=0.1)
    assert task.metrics["r2"](outputs, targets).item() == pytest.approx(r2_score(targets, outputs), rel=1e-5)


def test_it_learns_as_much_as_a_straight_line_explains(task):
    study = Study.default("diabetes")
    session = Session.open(Setup(task=task, recipe=study.recipe), study.replace(lrs=[1e-2]).trials()[0])
    session.run(session.setup.steps(study.epochs))
    values, errors = session.evaluate(task.val, "val_")
    line = LinearRegression().fit(task.train.inputs, task.train.targets).score(task.val.inputs, task.val.targets)
    assert values["val_r2"] > line - 0.1
    assert set(errors) == {"val_loss", "val_mae"}  # one number for all patients has none


def test_a_study_with_a_holdout_tests_the_recommended_rate_once(tmp_path):
    study = Study.default("diabetes").replace(lrs=[1e-3, 1e-2, 1.0], seeds=2, epochs=10, holdout=80)
    result = study.run(tmp_path / "run", executor="inline")
    assert result.recommendation.lr == 1e-2
    tested = [trial for trial in result.judged if trial.tests]
    assert {trial.lr for trial in tested} == {1e-2}
    assert len(tested) == 2
    assert {"test_loss", "test_mae", "test_r2"} == set(tested[0].tests[0].metrics)

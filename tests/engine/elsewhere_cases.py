"""Training on another device than the CPU, where no tensor may be left behind (the device is made of CPU memory)."""

import dataclasses

import elsewhere
import numpy as np
import pytest
import torch
from loops import TRIAL, holds_the_law, make_setup, make_task, norm_net, plain_net
from torch import nn

import etude
from etude import metrics
from etude.engine.session import Session
from etude.execution import plan
from etude.tasks import data


@pytest.fixture
def device(monkeypatch):
    with elsewhere.there() as name:
        choose = plan.choose_device
        monkeypatch.setattr(plan, "choose_device", lambda asked: name if asked == name else choose(asked))
        yield name


def test_the_device_refuses_what_cuda_refuses(device):
    layer, x = nn.Linear(4, 2).to(device), torch.randn(3, 4)
    with pytest.raises(RuntimeError, match="same device"):
        layer(x)
    assert layer(x.to(device)).device.type == device


@pytest.mark.parametrize("recipe", [
    {"optimizer": "adam"},
    {"optimizer": "nadam"},
    {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "clip_norm": 0.1, "warmup": 1},
    {"optimizer": "adamw", "accumulate": 3, "average": "ema"},
])  # fmt: skip
def test_it_trains_as_on_the_cpu_and_stopping_changes_no_bit(device, recipe):
    setup = make_setup(recipe, make_task(norm_net))
    wanted = Session.open(setup, TRIAL).run(25)
    whole, got = holds_the_law(dataclasses.replace(setup, device=device))
    assert {parameter.device.type for parameter in whole.model.parameters()} == {device}
    np.testing.assert_allclose(got.loss, wanted.loss, rtol=1e-5)
    assert [e.metrics for e in got.evaluations] == [pytest.approx(e.metrics, rel=1e-4) for e in wanted.evaluations]


def test_adams_count_of_steps_stays_on_the_cpu_where_no_step_waits_for_it(device):
    setup = make_setup({"optimizer": "adam"}, device=device)
    session = Session.open(setup, TRIAL)
    session.run(3)
    resumed = Session.open(setup, TRIAL, session.checkpoint())
    for one in (session, resumed):
        assert {state["step"].device.type for state in one.optimizer.state.values()} == {"cpu"}
        assert {state["exp_avg"].device.type for state in one.optimizer.state.values()} == {device}


@pytest.mark.parametrize("name", ["digits", "charlm", "diabetes"])
def test_built_in_tasks_are_trained_there_from_preparing_to_the_verdict(device, name, tmp_path):
    study = etude.Study.default(name).replace(epochs=0.02, evaluate_every=0.01, lrs=[0.01], seeds=[0])
    result = study.run(tmp_path / "run", device=device)
    assert [trial.status for trial in result.stored.trials] == ["completed"]
    assert result.to_dict()["environment"]["device"] == device


def test_data_that_do_not_fit_go_there_by_batch(device, monkeypatch):
    setup = make_setup(task=make_task(plain_net), device=device)
    whole = Session.open(setup, TRIAL).run(12)
    assert setup.data[0].inputs.device.type == device
    monkeypatch.setattr(data, "_free_bytes", lambda _: 2 * setup.task.train.n_bytes - 1)
    setup = make_setup(task=make_task(plain_net), device=device)
    by_batch = Session.open(setup, TRIAL).run(12)
    assert setup.data[0].inputs.device.type == "cpu"
    np.testing.assert_array_equal(by_batch.loss, whole.loss)
    assert by_batch.evaluations == whole.evaluations


def test_a_study_from_the_cpu_goes_on_there_and_says_so(device, tmp_path):
    study = etude.Study.default("digits").replace(epochs=1, lrs=[0.01], seeds=[0])
    study.run(tmp_path, device="cpu")
    said = []
    result = study.replace(epochs=2).run(tmp_path, device=device, on_event=said.append)
    assert result.stored.trials[0].evaluations[-1].epoch == 2
    assert any(f"device cpu → {device}" in str(event) for event in said)
    assert {parameter.device.type for parameter in result.model(lr=0.01).parameters()} == {"cpu"}


def test_searches_and_range_tests_run_there(device, tmp_path):
    study = etude.Study.default("quadratic").replace(epochs=2)
    found = study.find(tmp_path / "found", trials=4, device=device)
    assert found.recommendation is not None
    ramps = study.range_test(tmp_path / "ramps", steps=30, device=device)
    assert ramps is not None


def test_data_of_any_kind_get_there(device, tmp_path):
    x, y = torch.randn(40, 4), torch.randint(0, 2, (40,))
    pairs = torch.utils.data.TensorDataset(x, y)
    loader = torch.utils.data.DataLoader(pairs, batch_size=8, shuffle=True)

    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.tensor([1.0, 2.0]))

        def forward(self, outputs, targets):
            return nn.functional.cross_entropy(outputs, targets, weight=self.weight)

    for i, train in enumerate([(x, y), pairs, loader, etude.Stream(loader)]):
        task = etude.Task(
            model=lambda: nn.Linear(4, 2),
            train=train,
            val=(x, y),
            test=(x, y),
            loss=Weighted(),
            metrics={"accuracy": "accuracy", "f1": metrics.named("F1Score", task="multiclass", num_classes=2)},
        )
        result = etude.Study(task=task, lrs=[0.1], epochs=1, recipe=etude.Recipe(batch_size=8)).run(
            tmp_path / str(i), device=device
        )
        assert result.stored.trials[0].status == "completed"

"""What is trained on a CUDA device, where there is one: the same law, the same data, and the CPU's bits where it starts."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import etude
from etude.engine.session import Session, Setup
from etude.engine.state import weights_digest
from etude.spec.study import Study
from etude.spec.trial import Trial

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

TRIAL = Trial(lr=1e-3, seed=3)


def setup_of(name, device="cuda", **recipe):
    study = Study.default(name)
    recipe = dataclasses.replace(study.recipe, **recipe)
    return Setup(task=study.make_task(), recipe=recipe, evaluate_every=1e9, device=device)


def trained(setup, last=40, stops=()):
    """Return the losses and the digest of the weights after ``last`` steps, stored and opened after each of ``stops``."""
    checkpoint, losses = None, []
    for stop in [*stops, last]:
        session = Session.open(setup, TRIAL, checkpoint)
        losses.append(session.run(stop).loss)
        checkpoint = session.checkpoint(verify=True)
    return np.concatenate(losses).tolist(), weights_digest(session.model)


def of_images(module, n=256):
    x = torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.randint(0, 4, (n,), generator=torch.Generator().manual_seed(1))
    return etude.Task(
        model=module, train=(x, y), val=(x[:64], y[:64]), loss=nn.CrossEntropyLoss(), metrics=["accuracy"]
    )


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2), nn.ReLU(),
        nn.MaxPool2d(3), nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, 4),
    )  # fmt: skip


def test_stopping_changes_no_bit_of_a_net_with_convolutions_and_dropout():
    for setup in (
        setup_of("mnist"),
        setup_of("mnist", precision="bf16"),
        setup_of("digits", optimizer="nadam"),
        Setup(task=of_images(convolutions), recipe=etude.Recipe(average="ema"), evaluate_every=2.5, device="cuda"),
    ):
        assert trained(setup) == trained(setup) == trained(setup, stops=(7, 23))


def test_it_begins_where_the_cpu_begins_and_stays_near():
    here, there = (trained(setup_of("digits", device)) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(there[0], here[0], rtol=1e-3)


def test_the_caller_keeps_generators_and_settings_of_the_device():
    torch.cuda.manual_seed(5)
    wanted = torch.rand(3, device="cuda").tolist()
    torch.cuda.manual_seed(5)
    torch.backends.cudnn.benchmark = True
    try:
        trained(setup_of("digits"))
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (True, False)
    finally:
        torch.backends.cudnn.benchmark = False
    assert torch.rand(3, device="cuda").tolist() == wanted


@pytest.mark.parametrize("name", ["mnist", "mnist-mlp", "digits", "charlm", "quadratic", "diabetes"])
def test_built_in_tasks_give_a_verdict(name, tmp_path):
    study = Study.default(name).replace(epochs=0.05, evaluate_every=0.05, lrs=[1e-3, 1e-2], seeds=[0, 1])
    result = study.run(tmp_path, device="cuda")
    assert {trial.status for trial in result.stored.trials} == {"completed"}
    assert result.to_dict()["environment"]["device"] == "cuda"


def test_processes_on_one_device_give_the_bits_of_one(tmp_path):
    study = Study.default("mnist").replace(epochs=0.1, evaluate_every=0.1, seeds=[0])
    inline, workers = (
        study.run(tmp_path / executor, device="cuda", executor=executor, workers=workers)
        for executor, workers in (("inline", None), ("processes", 3))
    )
    assert workers.to_dict()["environment"]["workers"] == 3
    for one, other in zip(inline.to_dict()["trials"], workers.to_dict()["trials"], strict=True):
        assert one["evaluations"] == other["evaluations"]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(("first", "then"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_study_goes_on_on_another_device_and_says_so(first, then, precision, tmp_path):
    study = Study.default("mnist").replace(epochs=0.02, evaluate_every=0.02, lrs=[1e-3])
    study = study.replace(recipe=dataclasses.replace(study.recipe, precision=precision))
    study.run(tmp_path, device=first)
    said = []
    result = study.replace(epochs=0.04).run(tmp_path, device=then, on_event=said.append)
    assert [trial.evaluations[-1].epoch for trial in result.stored.trials] == [pytest.approx(0.04, abs=1e-3)]
    assert any(f"device {first} → {then}" in str(event) for event in said)
    module = result.model(lr=1e-3)
    assert {parameter.device.type for parameter in module.parameters()} == {"cpu"}


def test_what_does_not_repeat_itself_is_said_and_what_keeps_state_is_refused(tmp_path):
    class Scattered(nn.Module):
        """Adds up what lies in many places, by atomic additions in any order."""

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(768, 4)

        def forward(self, x):
            x = x.flatten(1)
            place = torch.arange(x.numel(), device=x.device) % 3
            weights = self.linear.weight.repeat(200, 1).flatten()
            summed = torch.zeros(3, device=x.device).index_add(
                0, torch.arange(weights.numel(), device=x.device) % 3, weights
            )
            return self.linear(x) + summed.sum() + 0 * place.sum()

    class Counting(nn.Linear):
        calls = 0

        def __init__(self):
            super().__init__(768, 4)

        def forward(self, x):
            self.calls += self.training
            return super().forward(x.flatten(1)) * (1 + 0.1 * self.calls)

    said = []
    study = etude.Study(task=of_images(Scattered), lrs=[1e-2], epochs=1)
    study.run(tmp_path / "scattered", device="cuda", on_event=said.append)
    assert any("do not give the same bits twice" in str(event) for event in said)
    with pytest.raises(etude.errors.SpecError, match="keeps state outside"):
        etude.Study(task=of_images(Counting), lrs=[1e-2], epochs=1).run(tmp_path / "counting", device="cuda")


def test_a_search_ends_in_its_time(tmp_path):
    result = Study.default("digits").find(tmp_path, budget="20s", device="cuda", seeds=1)
    assert result.recommendation is not None

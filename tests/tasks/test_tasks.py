from __future__ import annotations

import math

import pytest
import torch

from etude import tasks
from etude.errors import SpecError
from etude.spec.study import Study

DOWNLOADED = [name for name in tasks.BUILT_IN if "download_mb" in tasks.module(name).FACTS]
AT_HAND = [name for name in tasks.BUILT_IN if name not in DOWNLOADED]


@pytest.fixture(scope="module")
def made():
    return {name: tasks.make(name, {}) for name in AT_HAND}


def test_two_tasks_are_downloaded():
    assert DOWNLOADED == ["fashion-mnist", "cifar10"]


def rows(data):
    """The examples as a set of bytes."""
    return {(x.numpy().tobytes(), int(y)) for x, y in zip(data.inputs, data.targets, strict=True)}


@pytest.mark.parametrize("name", AT_HAND)
def test_the_facts_agree_with_the_task(made, name):
    task, facts = made[name], tasks.module(name).FACTS
    assert len(task.train) == facts["train"]
    assert len(task.val) == facts["val"]
    assert n_parameters(task.model()) == facts["parameters"]


def n_parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("name", "model", "shape"),
    [
        ("fashion-mnist", "simple_cnn", (5, 1, 28, 28)),
        ("cifar10", "cnn", (5, 3, 32, 32)),
    ],
)
def test_the_models_of_downloaded_tasks_have_the_parameters_they_say_and_take_their_images(name, model, shape):
    module = tasks.module(name)
    made = getattr(module if model == "cnn" else module.mnist, model)()
    assert n_parameters(made) == module.FACTS["parameters"]
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    assert made(module.standardised(images)).shape == (5, 10)
    study = Study.default(name)
    assert str(study.objective) == "max:val_accuracy"
    assert study.recipe.batch_size <= module.FACTS["train"]


@pytest.mark.parametrize("name", tasks.BUILT_IN)
def test_the_facts_are_numbers_that_can_be_listed(name):
    facts = tasks.module(name).FACTS
    assert {"train", "val", "parameters"} <= set(facts) <= {"train", "val", "parameters", "epoch_s", "download_mb"}
    assert all(isinstance(number, int | float) and number > 0 for number in facts.values())
    assert tasks.module(name).SUMMARY


@pytest.mark.parametrize("name", AT_HAND)
def test_a_task_has_its_name_a_summary_and_a_default_study_that_fits_it(made, name):
    assert made[name].name == name
    assert tasks.module(name).SUMMARY
    study = Study.default(name)
    assert study.recipe.batch_size <= len(made[name].train)
    recorded = {"val_loss", *(f"val_{metric}" for metric in made[name].metrics)}
    assert study.objective.metric in recorded
    assert {metric for what in study.expect.values() for metric in what.metrics} <= recorded
    assert set(study.expect) <= set(study.lrs)


@pytest.mark.parametrize("name", AT_HAND)
def test_the_model_takes_a_batch_and_the_loss_is_a_scalar(made, name):
    task = made[name]
    inputs, targets = next(iter(task.train.batches(8, seed=0, epoch=0)))
    outputs = task.model()(inputs)
    assert task.loss(outputs, targets).shape == ()
    for metric_name, metric in task.metrics.items():
        assert metric(outputs, targets).shape == (() if metric_name == "r2" else (8,))


@pytest.mark.parametrize("name", AT_HAND)
def test_a_task_is_the_same_every_time(made, name):
    again = tasks.make(name, {})
    assert again.train.digest() == made[name].train.digest()
    assert again.val.digest() == made[name].val.digest()


def test_digits_are_split_into_disjoint_parts_that_are_all_of_them(made):
    from sklearn.datasets import load_digits

    task = made["digits"]
    train, val = rows(task.train), rows(task.val)
    assert not train & val
    assert len(train | val) == len(
        {
            (x.tobytes(), int(y))
            for x, y in zip((load_digits().data / 16).astype("f4"), load_digits().target, strict=True)
        }
    )
    assert 0 <= float(task.train.inputs.min()) < float(task.train.inputs.max()) == 1.0


def test_the_curvatures_of_quadratic_are_what_it_says(made):
    module, task = tasks.module("quadratic"), made["quadratic"]
    hessian = task.train.inputs.T @ task.train.inputs / len(task.train)
    curvature = torch.linalg.eigvalsh(hessian.double())
    assert math.isclose(curvature[0].item(), module.SMALLEST, rel_tol=1e-5)
    assert math.isclose(curvature[-1].item(), module.LARGEST, rel_tol=1e-5)
    model = task.model()
    torch.nn.init.ones_(model[0].weight)
    assert task.loss(model(task.train.inputs), task.train.targets).item() < 1e-12


def test_a_holdout_takes_from_training_and_turns_validation_into_the_test_set(made):
    task = made["digits"]
    held = task.with_holdout(200)
    assert (len(held.train), len(held.val), len(held.test)) == (1097, 200, 500)
    assert held.test.digest() == task.val.digest()
    assert not rows(held.train) & rows(held.val)
    assert rows(held.train) | rows(held.val) == rows(task.train)


def test_a_holdout_is_drawn_the_same_every_time_and_leaves_the_task_alone(made):
    before = made["digits"].train.digest()
    first, second = made["digits"].with_holdout(200), made["digits"].with_holdout(200)
    assert first.val.digest() == second.val.digest()
    assert first.train.digest() == second.train.digest()
    assert made["digits"].train.digest() == before
    assert made["digits"].test is None


def test_a_holdout_keeps_the_preparation_of_images(made):
    held = made["mnist"].with_holdout(5000)
    assert (len(held.train), len(held.val), len(held.test)) == (55_000, 5_000, 10_000)
    (inputs, _), _ = next(held.val.in_order(10))
    assert inputs.dtype == torch.float32
    assert float(inputs.max()) == 1.0


def test_a_study_takes_its_holdout():
    assert len(Study.default("digits").replace(holdout=97).make_task().train) == 1200
    assert Study.default("digits").make_task().test is None


@pytest.mark.parametrize("count", [10, 11, 1_000_000])
def test_a_holdout_of_all_examples_is_refused(made, count):
    with pytest.raises(SpecError, match=rf"study\.holdout: expected fewer than the 10 training examples, got {count}"):
        made["quadratic"].with_holdout(count)


def test_an_option_that_a_task_does_not_have_is_refused():
    with pytest.raises(
        SpecError, match=r"study\.task_options: task 'mnist' has no option 'rot'; did you mean 'root'\?"
    ):
        tasks.make("mnist", {"rot": "."})
    with pytest.raises(SpecError, match="task 'digits' has no option 'root'; it has no options"):
        tasks.make("digits", {"root": "."})


def test_an_unknown_task_is_refused():
    with pytest.raises(SpecError, match="did you mean 'quadratic'"):
        tasks.make("quadratik", {})


def test_pooling_before_relu_is_the_articles_network_to_the_last_bit():
    import torch
    from torch import nn

    from etude.tasks.mnist import simple_cnn

    torch.manual_seed(0)
    ours = simple_cnn()
    article = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    for to, source in zip(article.parameters(), ours.parameters(), strict=True):
        to.data.copy_(source.data)
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.rand(64, 1, 28, 28)
        x[:, :, :10] = 0  # ties in every window of the upper third
        losses = []
        for model in (ours.to(memory_format=layout), article.to(memory_format=layout)):
            model.zero_grad()
            loss = nn.functional.cross_entropy(model(x.contiguous(memory_format=layout)), torch.arange(64) % 10)
            loss.backward()
            losses.append(loss)
        assert torch.equal(*losses)
        for one, other in zip(ours.parameters(), article.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)


def test_built_in_tasks_name_no_place_where_they_were_made(tiny_task):
    made = tasks.make("digits", {})
    assert made.made_at == made.private(torch.device("cpu")).made_at == ""
    assert "conftest.py, line" in tiny_task.made_at

"""Metrics by name and of one's own."""

import copy

import pytest
import torch
import torchmetrics

import etude
from etude.engine.evaluate import evaluate
from etude.errors import SpecError
from etude.tasks.data import Resident
from etude.tasks.metrics import is_aggregate

OUTPUTS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 4, (50,), generator=torch.Generator().manual_seed(1))


def measured(metrics, outputs=OUTPUTS, targets=TARGETS, batch_size=7):
    data, model = Resident(outputs, targets), torch.nn.Identity()
    task = etude.Task(model=lambda: model, train=data, val=data, loss=lambda o, t: o.float().mean(), metrics=metrics)
    return task, *evaluate(model, task, data, batch_size=batch_size, forward=model, prefix="val_")


CLASSES = {"task": "multiclass", "num_classes": 4}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("F1Score", {**CLASSES, "average": "macro"}),
        ("AUROC", CLASSES),
        ("CohenKappa", CLASSES),
        ("Accuracy", CLASSES),
        ("CalibrationError", CLASSES),
    ],
)
@pytest.mark.parametrize("batch_size", [7, 50])
def test_a_metric_of_torchmetrics_is_that_of_all_examples_at_once_and_has_no_standard_error(name, options, batch_size):
    _, values, errors = measured(
        {"it": etude.metrics.named(name, **options)}, OUTPUTS.softmax(1), batch_size=batch_size
    )
    whole = getattr(torchmetrics, name)(**options)(OUTPUTS.softmax(1), TARGETS)
    assert values["val_it"] == pytest.approx(whole.item(), rel=1e-6)
    assert "val_it" not in errors


def test_regression_metrics_by_name_alone():
    outputs, targets = OUTPUTS[:, 0].contiguous(), OUTPUTS[:, 1].contiguous()
    _, values, _ = measured(["r2score", "mean_squared_error", "SpearmanCorrCoef"], outputs, targets)
    assert values["val_mean_squared_error"] == pytest.approx((outputs - targets).square().mean().item(), rel=1e-5)
    assert values["val_r2score"] == pytest.approx(torchmetrics.R2Score()(outputs, targets).item(), rel=1e-4)
    assert values["val_SpearmanCorrCoef"] == pytest.approx(torchmetrics.SpearmanCorrCoef()(outputs, targets).item())


def test_the_users_own_metric_stays_untouched_and_what_it_has_seen_does_not_enter():
    metric = torchmetrics.F1Score(**CLASSES, average="macro")
    metric.update(OUTPUTS, (TARGETS + 1) % 4)
    before = copy.deepcopy(metric.metric_state)
    _, values, _ = measured({"f1": metric})
    torch.testing.assert_close(metric.metric_state, before, rtol=0, atol=0)
    assert metric.update_count == 1
    expected = torchmetrics.F1Score(**CLASSES, average="macro")(OUTPUTS, TARGETS).item()
    assert values["val_f1"] == pytest.approx(expected)


def test_an_object_that_counts_its_calls_is_copied_for_each_trial():
    class Tally:
        calls = 0

        def __call__(self, outputs, targets):
            self.calls += 1
            return (outputs.argmax(1) == targets).float()

    tally = Tally()
    data = Resident(OUTPUTS, TARGETS)
    task = etude.Task(
        model=lambda: torch.nn.Linear(4, 4),
        train=data,
        val=data,
        loss=torch.nn.CrossEntropyLoss(),
        metrics={"t": tally},
    )
    private = task.private(torch.device("cpu"))
    private.metrics["t"](OUTPUTS, TARGETS)
    assert (tally.calls, private.metrics["t"].calls) == (0, 1)
    assert private.loss is not task.loss


def test_accuracy_without_options_is_by_example_and_with_options_torchmetrics():
    assert etude.metrics.named("accuracy") is etude.metrics.accuracy
    assert is_aggregate(etude.metrics.named("accuracy", **CLASSES))
    _, values, errors = measured(["accuracy"])
    right = (OUTPUTS.argmax(1) == TARGETS).double()
    assert values["val_accuracy"] == pytest.approx(right.mean().item())
    assert errors["val_accuracy"] == pytest.approx(right.std().item() / 50**0.5)


def test_names_and_options_that_are_not_known_are_told():
    with pytest.raises(SpecError, match=r"no metric named 'acuracy'; did you mean 'accuracy'"):
        etude.metrics.named("acuracy")
    with pytest.raises(
        SpecError, match=r"F1Score wants other options \(.*task.*etude\.metrics\.named\('F1Score', option"
    ):
        etude.metrics.named("f1_score")
    with pytest.raises(SpecError, match=r"torchmetrics has no metric named 'xyzzy'; see torchmetrics\.ai") as told:
        etude.metrics.named("xyzzy")
    assert "\n" not in str(told.value)


def test_without_torchmetrics_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchmetrics", None)
    with pytest.raises(SpecError, match=r"pip install 'etude\[metrics\]'"):
        etude.metrics.named("F1Score")


@pytest.mark.parametrize("name", ["loss", "outputs", "targets", "two words", 5])
def test_names_that_mean_something_else_are_refused(name):
    with pytest.raises(SpecError, match=r"task\.metrics: expected a name like 'accuracy'"):
        measured({name: etude.metrics.accuracy})

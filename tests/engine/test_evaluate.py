import pytest
import torch
from torch import nn

import etude
from etude.engine.evaluate import by_example, evaluate
from etude.engine.history import is_due
from etude.tasks.data import Resident


def run(loss, metrics, batch_size=7, outputs=4):
    torch.manual_seed(0)
    model = nn.Linear(5, outputs)
    data = Resident(torch.randn(50, 5), torch.randint(0, 4, (50,)))
    task = etude.Task(model=lambda: model, train=data, val=data, loss=loss, metrics=metrics)
    values, errors = evaluate(model, task, data, batch_size=batch_size, forward=model, prefix="val_")
    return model(data.inputs), data.targets, values, errors


def test_means_and_standard_errors_over_examples_do_not_depend_on_the_batch():
    for batch_size in (1, 7, 50, 64):
        outputs, targets, values, errors = run(nn.CrossEntropyLoss(), {"accuracy": etude.metrics.accuracy}, batch_size)
        each = nn.functional.cross_entropy(outputs, targets, reduction="none")
        right = (outputs.argmax(1) == targets).double()
        assert values["val_loss"] == pytest.approx(each.mean().item(), rel=1e-6)
        assert errors["val_loss"] == pytest.approx(each.std().item() / 50**0.5, rel=1e-5)
        assert values["val_accuracy"] == pytest.approx(right.mean().item())
        assert errors["val_accuracy"] == pytest.approx(right.std().item() / 50**0.5)


def test_an_aggregate_is_computed_once_on_all_examples_and_has_no_standard_error():
    def spread(outputs, targets):
        return outputs.argmax(1).float().std(correction=0)  # not the mean of its values by batch

    outputs, _, values, errors = run(nn.CrossEntropyLoss(), {"spread": spread})
    assert values["val_spread"] == pytest.approx(outputs.argmax(1).float().std(correction=0).item())
    assert "val_spread" not in errors


def test_a_loss_with_class_weights_keeps_its_own_mean_and_gets_no_standard_error():
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 1.0, 1.0]))
    _, _, values, errors = run(weighted, {})
    assert "val_loss" not in errors
    assert values["val_loss"] > 0


def test_losses_by_example_are_found_for_modules_and_functions():
    assert by_example(nn.CrossEntropyLoss()) is not None
    assert by_example(nn.functional.cross_entropy) is not None
    assert by_example(lambda outputs, targets: (outputs - targets).mean()) is None
    assert by_example(nn.CrossEntropyLoss(reduction="sum")) is None


def test_a_metric_of_another_shape_is_told():
    with pytest.raises(etude.errors.SpecError, match=r"task.metrics\['odd'\].*shape \(3,\)"):
        run(nn.CrossEntropyLoss(), {"odd": lambda outputs, targets: torch.zeros(3)})


def test_a_metric_that_is_not_finite_has_no_standard_error():
    _, _, values, errors = run(nn.CrossEntropyLoss(), {"bad": lambda o, t: torch.full((len(t),), float("nan"))})
    assert values["val_bad"] != values["val_bad"]
    assert "val_bad" not in errors


@pytest.mark.parametrize(
    ("steps_per_epoch", "every", "expected"),
    [
        (10, 1, [0, 10, 20]),
        (10, 0.5, [0, 5, 10, 15, 20]),
        (10, 0.25, [0, 3, 5, 8, 10, 13, 15, 18, 20]),
        (3, 0.1, list(range(21))),
    ],
)
def test_evaluations_fall_on_fractions_of_an_epoch(steps_per_epoch, every, expected):
    assert [step for step in range(21) if is_due(step, steps_per_epoch, every)] == expected

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

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


def held_out(n=50):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, 5, generator=generator), torch.randint(0, 4, (n,), generator=generator)


def plain_loss(model, inputs, targets):
    return nn.functional.cross_entropy(model(inputs), targets, reduction="none")


def loader(n=50, size=7):
    return DataLoader([*zip(*held_out(n), strict=True)], batch_size=size)  # as the user's own: sizes are not said


STYLES = {
    "loss": {"loss": nn.CrossEntropyLoss()},
    "a function": {"loss": lambda o, t: nn.functional.cross_entropy(o, t)},
    "step": {"step": lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1])},
    "step with a dict": {"step": lambda m, b: {"loss": nn.functional.cross_entropy(m(b[0]), b[1]), "twice": 2.0}},
    "evaluate by example": {"loss": nn.CrossEntropyLoss(), "evaluate": lambda m, b: {"loss": plain_loss(m, *b)}},
    "evaluate by batch": {"loss": nn.CrossEntropyLoss(), "evaluate": lambda m, b: {"loss": plain_loss(m, *b).mean()}},
    "evaluate with outputs": {
        "step": lambda m, b: plain_loss(m, *b).mean(), "metrics": {"accuracy": etude.metrics.accuracy},
        "evaluate": lambda m, b: {"loss": plain_loss(m, *b), "outputs": m(b[0]), "targets": b[1]},
    },
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("data", [lambda: held_out(), loader], ids=["tensors", "a loader"])
def test_every_style_gives_the_mean_over_examples_whatever_the_batches(style, data):
    torch.manual_seed(0)
    model = nn.Linear(5, 4)
    task = etude.Task(model=lambda: model, train=held_out(), val=data(), **STYLES[style])
    values, errors = evaluate(model, task, task.val, batch_size=7, forward=model, prefix="val_")
    inputs, targets = held_out()
    each = plain_loss(model, inputs, targets).detach().double()
    assert values["val_loss"] == pytest.approx(each.mean().item(), rel=1e-6)
    if style in ("loss", "evaluate by example", "evaluate with outputs"):
        assert errors["val_loss"] == pytest.approx(each.std().item() / 50**0.5, rel=1e-5)
    else:
        assert errors == {}
    assert values.get("val_twice", 2.0) == 2.0
    if style == "evaluate with outputs":
        right = (model(inputs).argmax(1) == targets).double()
        assert values["val_accuracy"] == pytest.approx(right.mean().item())


def test_where_the_size_of_a_batch_cannot_be_told_batches_count_alike():
    batches = [{"x": torch.ones(3, 2), "lengths": torch.ones(5)}, {"x": torch.ones(9, 2), "lengths": torch.ones(5)}]
    task = etude.Task(
        model=lambda: nn.Linear(2, 1), train=batches, val=etude.Stream(batches), step=lambda m, b: b["x"].sum()
    )
    values, _ = evaluate(nn.Linear(2, 1), task, task.val, batch_size=1, forward=None, prefix="val_")
    assert values["val_loss"] == (6 + 18) / 2


def test_padding_that_begins_in_a_later_batch_is_left_out_as_the_loss_does():
    """Language modelling: (B, T) tokens, of which some are ignored in the second batch."""
    torch.manual_seed(0)
    model = nn.Embedding(6, 6)  # tokens (B, T) to logits (B, T, V)
    tokens, targets = torch.randint(0, 6, (8, 5)), torch.randint(0, 6, (8, 5))
    targets[4:, 2:] = -100
    losses = nn.CrossEntropyLoss()

    class OfTokens(nn.CrossEntropyLoss):
        def forward(self, outputs, targets):
            return super().forward(outputs.transpose(1, 2), targets)

    task = etude.Task(model=lambda: model, train=(tokens, targets), val=(tokens, targets), loss=OfTokens())
    values, errors = evaluate(model, task, task.val, batch_size=4, forward=model, prefix="val_")
    halves = [losses(model(tokens[part]).transpose(1, 2), targets[part]).item() for part in (slice(0, 4), slice(4, 8))]
    assert values["val_loss"] == pytest.approx(sum(halves) / 2, rel=1e-6)
    assert errors == {}, "values by example would count what is ignored"
    whole = (tokens[:4], targets[:4])
    task = etude.Task(model=lambda: model, train=whole, val=whole, loss=OfTokens())
    _, errors = evaluate(model, task, task.val, batch_size=3, forward=model, prefix="val_")
    each = nn.functional.cross_entropy(model(whole[0]).transpose(1, 2), whole[1], reduction="none").mean(1).double()
    assert errors["val_loss"] == pytest.approx(each.std().item() / 2, rel=1e-5)


def test_a_model_with_several_inputs_and_outputs_and_its_own_loss():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(5, 4)

        def forward(self, x, labels=None):
            logits = self.linear(x)
            return {"logits": logits, "loss": nn.functional.cross_entropy(logits, labels)}

    x, y = held_out()
    torch.manual_seed(0)
    model = Own()
    data = {"x": x, "labels": y}
    task = etude.Task(model=lambda: model, train=data, val=data, step=lambda m, batch: m(**batch)["loss"])
    values, _ = evaluate(model, task, task.val, batch_size=7, forward=None, prefix="val_")
    assert values["val_loss"] == pytest.approx(nn.functional.cross_entropy(model.linear(x), y).item(), rel=1e-6)


def test_a_scalar_metric_of_dicts_is_computed_of_all_examples_and_of_ragged_ones_refused():
    def spread(outputs, targets):
        return outputs["logits"].std() * len(targets["label"])

    class Dicts(nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x)}

    x, y = held_out()
    model, data = Dicts(5, 4), Resident(x, {"label": y})
    task = etude.Task(
        model=lambda: model, train=data, val=data, metrics={"spread": spread},
        loss=lambda o, t: nn.functional.cross_entropy(o["logits"], t["label"]),
    )  # fmt: skip
    values, _ = evaluate(model, task, data, batch_size=7, forward=model, prefix="val_")
    assert values["val_spread"] == pytest.approx(model(x)["logits"].std().item() * 50, rel=1e-6)
    assert values["val_loss"] == pytest.approx(nn.functional.cross_entropy(model(x)["logits"], y).item(), rel=1e-6)

    ragged = [(torch.ones(2, n), torch.ones(2, n)) for n in (3, 5)]
    task = etude.Task(
        model=lambda: model, train=ragged, val=etude.Stream(ragged), loss=lambda o, t: o.mean(),
        metrics={"share": lambda o, t: (o == t).float().mean()},
    )  # fmt: skip
    with pytest.raises(
        etude.errors.SpecError, match=r"task\.metrics\['share'\].*cannot be laid together.*test_evaluate"
    ):
        evaluate(model, task, task.val, batch_size=1, forward=nn.Identity(), prefix="val_")

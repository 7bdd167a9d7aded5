"""Every optimizer by name keeps the law; what cannot be made is told in one line; groups and functions of one's own."""

import dataclasses
import functools
import re
import sys

import pytest
import torch
from loops import (
    SIZE,
    TRIAL,
    flat_net,
    fresh,
    holds_the_law,
    make_setup,
    make_task,
    norm_net,
    plain_net,
    same,
    sparse_net,
)
from torch import nn

import etude
from etude.engine import optimizers
from etude.engine.session import Session
from etude.errors import MismatchError, SpecError
from etude.spec.recipe import ELSEWHERE, OPTIMIZERS

MODELS = {"muon": flat_net, "sparseadam": sparse_net}
FEWER = {"lbfgs": {"max_iter": 4}}  # iterations in a step


def make(optimizer, task=None, lr=0.1, **recipe):
    """Make the optimizer of a recipe for a fresh model."""
    task = task or make_task()
    recipe = etude.Recipe(optimizer=optimizer, **recipe)
    return optimizers.make_optimizer(recipe, optimizers.parameters_of(task, fresh(task), lr), lr)


def refused(match, *args, **kwargs):
    with pytest.raises(SpecError, match=match) as caught:
        make(*args, **kwargs)
    assert "\n" not in str(caught.value)


def test_the_names_are_the_classes_of_this_torch():
    classes = {
        name
        for name, one in vars(torch.optim).items()
        if isinstance(one, type) and issubclass(one, torch.optim.Optimizer) and one is not torch.optim.Optimizer
    }
    assert set(OPTIMIZERS.values()) == classes
    for name, cls in OPTIMIZERS.items():
        assert optimizers.optimizer_class(name) is getattr(torch.optim, cls)


@pytest.mark.parametrize("name", [*OPTIMIZERS, *ELSEWHERE])
def test_each_optimizer_by_name_keeps_the_law(name):
    task = make_task(MODELS.get(name, norm_net))
    whole, history = holds_the_law(make_setup({"optimizer": name, "optimizer_options": FEWER.get(name, {})}, task))
    assert history.diverged is None
    assert type(whole.optimizer).__name__ == {**OPTIMIZERS, **{k: v[1] for k, v in ELSEWHERE.items()}}[name]
    assert (history.update_ratio[5:] > 0).all(), "steps move the weights (those of RAdam from the fifth on)"


@pytest.mark.parametrize("name", ["nadam", "asgd", "adam", "adafactor", "lbfgs"])
def test_state_in_single_precision_beside_weights_in_double_keeps_the_law(name):
    # torch's load_state_dict casts it to double: NAdam went another way after each opening.
    task = make_task(lambda: norm_net().double(), dtype=torch.float64)
    holds_the_law(make_setup({"optimizer": name, "optimizer_options": FEWER.get(name, {})}, task))


def test_lbfgs_with_accumulation_clipping_and_a_line_search_keeps_the_law():
    recipe = {"optimizer": "lbfgs", "optimizer_options": {"line_search_fn": "strong_wolfe", "max_iter": 4}}
    holds_the_law(make_setup({**recipe, "accumulate": 3, "clip_norm": 0.5}, make_task(norm_net)), stops=(2, 5), last=9)


@pytest.mark.parametrize("missing", sorted(ELSEWHERE))
def test_a_package_that_is_not_installed_is_named_with_its_extra(missing, monkeypatch):
    package, cls = ELSEWHERE[missing]
    monkeypatch.setitem(sys.modules, package, None)
    refused(rf"{cls} comes from {package}, which is not installed; pip install 'etude\[optimizers\]'", missing)


@pytest.mark.parametrize(
    ("optimizer", "recipe", "match"),
    [
        ("sgd", {"optimizer_options": {"momentun": 0.9}}, r"SGD has no option 'momentun'; did you mean 'momentum'\?"),
        ("sgd", {"optimizer_options": {"momentum": -1}}, "SGD refuses .*Invalid momentum value: -1"),
        ("adam", {"optimizer_options": {"betas": [0.9]}}, "Adam refuses its options"),
        ("adam", {"optimizer_options": {"betas": 0.9}}, "Adam refuses its options"),
        ("adam", {"optimizer_options": {"fused": True}}, "fused=True is not sound on the CPU"),
        (lambda params, lr: torch.optim.Adam(params, lr, fused=True), {}, "fused=True is not sound on the CPU"),
        ("lbfgs", {"weight_decay": 0.1}, "LBFGS has none"),
        ("rprop", {"weight_decay": 0.1}, "Rprop has none"),
        ("prodigy", {"optimizer_options": {"d1": 1}}, "Prodigy has no option 'd1'"),
        ("muon", {}, "Muon refuses .*2D"),
        (lambda params, lr: params, {}, r"expected it to return a torch Optimizer, got list \(.*test_optimizers\.py, line"),
        (lambda params, lr: None, {}, "got NoneType"),
    ],
)  # fmt: skip
def test_what_an_optimizer_does_not_take_is_one_line(optimizer, recipe, match):
    refused(match, optimizer, **recipe)


def test_weight_decay_is_the_optimizers_option_of_that_name():
    assert make("adamw", weight_decay=0.3).param_groups[0]["weight_decay"] == 0.3
    assert make("sgd", weight_decay="0.0").param_groups[0]["weight_decay"] == 0.0
    usual = torch.optim.AdamW([nn.Parameter(torch.ones(1))]).defaults["weight_decay"]
    assert make("adamw").param_groups[0]["weight_decay"] == usual


def head_and_trunk(model, head=1.0, trunk=0.1, **trunk_options):
    return [
        {"params": model[2].parameters(), "lr": head},
        {"params": list(model[0].parameters()), "lr": trunk, **trunk_options},
    ]


def test_rates_of_groups_are_relative_and_the_largest_is_the_studys():
    for scale in (1.0, 1e-3, 50):
        groups = functools.partial(head_and_trunk, head=10 * scale, trunk=scale)
        made = make("adam", make_task(parameters=groups), lr=0.02)
        assert [group["lr"] for group in made.param_groups] == pytest.approx([0.02, 0.002], rel=1e-12)
    same_rate = [{"params": model} for model in (plain_net()[0].weight, plain_net()[2].weight)]
    made = make("adam", make_task(parameters=lambda model: same_rate), lr=0.02)
    assert [group["lr"] for group in made.param_groups] == [0.02, 0.02], "groups without rates have the study's"


def test_a_group_may_stand_still_or_be_frozen():
    def parameters(model):
        model[0].weight.requires_grad_(False)
        return [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].named_parameters(), "lr": 1.0}]

    task = make_task(parameters=parameters)
    before = fresh(task)
    whole, _ = holds_the_law(make_setup({"optimizer": "adam"}, task))
    same(whole.model[0].state_dict(), before[0].state_dict())
    assert not torch.equal(whole.model[2].weight, before[2].weight)
    assert [len(group["params"]) for group in whole.optimizer.param_groups] == [1, 2]


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        (lambda m: [{"params": m[0].parameters(), "lr": 1}, {"params": m[2].parameters()}], "some groups have an 'lr'"),
        (lambda m: [{"lr": 1}], "expected groups with 'params', got dict at 0"),
        (lambda m: [m[0].weight, {"params": m[2].parameters()}], "expected groups with 'params', got Parameter at 0"),
        (lambda m: [{"params": []}], "none of the groups has parameters to train"),
        (lambda m: [], "task.parameters: none to train"),
        (lambda m: [p.requires_grad_(False) for p in m.parameters()], "task.parameters: none to train"),
        (lambda m: set(m.parameters()), "got a set, whose order differs"),
        (lambda m: [{"params": set(m.parameters())}], "got a set, whose order differs"),
        (lambda m: ["weight"], "expected parameters of the model, got str"),
        (lambda m: head_and_trunk(m, 1.0, float("nan")), "expected positive relative rates"),
        (lambda m: head_and_trunk(m, 1.0, -1.0), "expected positive relative rates"),
        (lambda m: head_and_trunk(m, 0.0, 0.0), "expected positive relative rates"),
        (lambda m: head_and_trunk(m, "fast", 1.0), "expected positive relative rates"),
        (lambda m: [{"params": m[0].parameters()}, {"params": m.parameters()}], "more than one parameter group"),
    ],
)  # fmt: skip
def test_parameters_that_cannot_be_trained_are_one_line(parameters, match):
    refused(match, "adam", make_task(parameters=parameters))


def test_a_model_without_parameters_or_with_all_frozen_is_told():
    def frozen():
        return plain_net().requires_grad_(False)

    for model in (nn.Flatten, frozen):
        refused("task.model: it has no parameters to train", "adam", make_task(model))


def two_groups(params, lr):
    params = list(params)
    return torch.optim.SGD([{"params": params[:2], "lr": lr}, {"params": params[2:], "lr": 0.1 * lr}], momentum=0.9)


class Lion(torch.optim.Optimizer):
    """Sign of a momentum (Chen et al. 2023), written as a user would."""

    def __init__(self, params, lr=1e-4, beta=0.9):
        super().__init__(params, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["beta"])
                p.sub_(momentum.sign(), alpha=group["lr"])


class AdamW(torch.optim.Adam):
    """One's own, with a name that torch has, too."""


OWN = {
    "two groups": two_groups, "a class": Lion, "another AdamW": AdamW,
    "a partial": functools.partial(torch.optim.SGD, momentum=0.9),
}  # fmt: skip


@pytest.mark.parametrize("own", OWN)
def test_an_optimizer_of_ones_own_keeps_the_law(own):
    whole, _ = holds_the_law(make_setup({"optimizer": OWN[own]}, make_task(norm_net)))
    if isinstance(OWN[own], type):
        assert type(whole.optimizer) is OWN[own], "a class of that name in torch is not meant"


def test_a_class_of_torch_is_its_name():
    assert etude.Recipe(optimizer=torch.optim.AdamW) == etude.Recipe(optimizer="adamw")
    assert make(torch.optim.AdamW).__class__ is torch.optim.AdamW


@pytest.mark.parametrize(
    "own",
    [
        lambda params, lr: torch.optim.SGD(params, lr=0.1),
        lambda params, lr: torch.optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": 1e-3}], lr=lr),
        lambda params, lr: torch.optim.SGD(params, lr=min(lr, 0.02)),
    ],
    ids=["ignores it", "one group is fixed", "bounds it"],
)
def test_an_optimizer_that_does_not_follow_the_rate_is_told_with_its_line(own):
    task = make_task()
    with pytest.raises(SpecError, match=r"expected rates that follow the study's, got .*test_optimizers\.py, line \d+"):
        optimizers.check_obeys(etude.Recipe(optimizer=own), task, fresh(task), 0.02)


def test_an_optimizer_of_another_models_parameters_is_told():
    other = plain_net()
    refused("got one of others", lambda params, lr: torch.optim.SGD(other.parameters(), lr=lr))


def run(tmp_path, optimizer, lrs="0.01,0.1", task=None, **kwargs):
    recipe = kwargs.pop("recipe", {})
    study = etude.Study(
        task=task or make_task(name="own"),
        lrs=lrs,
        epochs=1,
        recipe={"optimizer": optimizer, "batch_size": SIZE, **recipe},
    )
    return study.run(tmp_path / "run", executor=kwargs.get("executor", "inline"), workers=kwargs.get("workers"))


def test_an_edited_optimizer_is_another_study_and_the_same_one_is_not(tmp_path):
    def made(betas, decay=0.0):
        return lambda params, lr: torch.optim.AdamW(params, lr=lr, betas=betas, weight_decay=decay)

    first = run(tmp_path, made((0.9, 0.99)))
    assert run(tmp_path, made((0.9, 0.99))).stored.trials == first.stored.trials
    # Other rates extend, whatever their order: what is compared does not depend on the lowest one.
    assert len(run(tmp_path, made((0.9, 0.99)), lrs="0.001,0.01,0.1").stored.trials) == 3
    for edited in (made((0.9, 0.999)), made((0.9, 0.99), 0.1), "adamw", two_groups):
        with pytest.raises(MismatchError, match="recipe"):
            run(tmp_path, edited)


def test_a_decay_that_follows_the_rate_is_the_same_optimizer_for_all_rates(tmp_path):
    def inverse(params, lr):
        return torch.optim.AdamW(params, lr=lr, weight_decay=1e-4 / lr)

    run(tmp_path, inverse)
    assert len(run(tmp_path, inverse, lrs="1e-4,0.01,0.1").stored.trials) == 3


def test_other_groups_are_another_study(tmp_path):
    run(tmp_path, "adam", task=make_task(name="own", parameters=head_and_trunk))
    for parameters in (
        functools.partial(head_and_trunk, trunk=0.5),
        functools.partial(head_and_trunk, weight_decay=1),
        None,
    ):
        with pytest.raises(MismatchError, match=r"recipe\.optimizer_made"):
            run(tmp_path, "adam", task=make_task(name="own", parameters=parameters))


def test_a_description_holds_no_address():
    class Marked(torch.optim.SGD):
        def __init__(self, params, lr):
            super().__init__(params, lr=lr)
            for group in self.param_groups:
                group |= {"hook": lambda: None, "object": object(), "tensor": torch.ones(2)}

    task = make_task()
    described = [optimizers.describe(etude.Recipe(optimizer=Marked), task, fresh(task)) for _ in range(2)]
    assert described[0] == described[1]
    assert not re.search(r"0x[0-9a-f]{6}", str(described))
    assert optimizers.describe(etude.Recipe(), task, fresh(task)) is None, "the recipe says it all"


def test_a_lambda_and_a_closure_go_to_worker_processes_and_give_the_same_bits(tmp_path):
    momentum = 0.7

    def own(params, lr):
        return torch.optim.SGD(params, lr=lr, momentum=momentum)

    task = make_task(lambda: plain_net(), name="own")
    apart = run(tmp_path / "a", own, task=task, executor="processes", workers=2)
    here = run(tmp_path / "b", lambda params, lr: own(params, lr), task=task)
    assert [t.evaluations for t in apart.stored.trials] == [t.evaluations for t in here.stored.trials]
    assert apart.counts == {"completed": 2}


def test_a_run_with_an_optimizer_of_ones_own_is_resumed_by_its_script(tmp_path, etude_command):
    recipe = {"optimizer": lambda params, lr: torch.optim.SGD(params, lr), "batch_size": 10}
    etude.Study(task="quadratic", lrs=[0.1], epochs=2, recipe=recipe).run(tmp_path / "run", executor="inline")
    said = etude_command("resume", tmp_path / "run")
    assert said.status == 2
    assert "its recipe is Python code of your own; run your script again" in said.err
    command = etude.Result.load(tmp_path / "run").recommendation.next_command
    assert command.startswith("study.")


def test_a_state_outside_the_state_dict_is_found_before_anything_is_stored(tmp_path):
    class Counting(torch.optim.SGD):
        calls = 0

        def step(self, closure=None):
            self.calls += 1
            for group in self.param_groups:
                for p in group["params"]:
                    p.grad.mul_(1 / self.calls)
            return super().step(closure)

    with pytest.raises(SpecError, match=r"do not equal four steps.*optimizer of one's own"):
        run(tmp_path, lambda params, lr: Counting(params, lr=lr))
    assert not (tmp_path / "run").exists()


def test_an_optimizer_that_changes_its_own_rate_is_let_alone():
    class Halving(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            for group in self.param_groups:
                group["lr"] /= 2

    whole, _ = holds_the_law(make_setup({"optimizer": Halving}), stops=(3,), last=6)
    assert whole.optimizer.param_groups[0]["lr"] == TRIAL.lr / 2**6


def test_a_set_up_differs_from_trial_to_trial_in_the_rate_alone():
    low, high = (
        Session.open(make_setup({"optimizer": two_groups}), dataclasses.replace(TRIAL, lr=lr)) for lr in (0.01, 0.1)
    )
    assert [group["lr"] for group in high.optimizer.param_groups] == pytest.approx([0.1, 0.01])
    assert low.fingerprint() == high.fingerprint()

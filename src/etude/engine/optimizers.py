"""Makes the optimizer that a recipe names or makes, for parameters or groups of them."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from etude.errors import SpecError, nearest, source_of
from etude.spec.recipe import ELSEWHERE, OPTIMIZERS, Recipe
from etude.tasks.task import Task

Groups = list[nn.Parameter] | list[dict[str, Any]]


def parameters_of(task: Task, model: nn.Module, lr: float) -> Groups:
    """Return what is trained of ``model``: its parameters, or the task's groups, their rates scaled to ``lr``.

    Learning rates in groups are relative: the largest becomes ``lr``. Raises `SpecError` where there is nothing to train,
    or where some groups have a rate and others have none.
    """
    given = list(model.parameters() if task.parameters is None else task.parameters(model))
    if not given or not isinstance(given[0], Mapping):
        plain = [parameter for parameter in given if isinstance(parameter, nn.Parameter) and parameter.requires_grad]
        if not plain:
            where = "task.model: it has no parameters" if task.parameters is None else "task.parameters: none"
            raise SpecError(f"{where} to train")
        return plain
    groups = []
    for i, group in enumerate(given):
        if not isinstance(group, Mapping) or "params" not in group:
            raise SpecError(f"task.parameters: expected groups with 'params', got {type(group).__name__} at {i}")
        params = group["params"]
        params = [params] if isinstance(params, nn.Parameter) else [p for p in params if p.requires_grad]
        groups.append({**group, "params": params})
    rates = [group["lr"] for group in groups if "lr" in group]
    if not any(group["params"] for group in groups):
        raise SpecError("task.parameters: none of the groups has parameters to train")
    if rates and len(rates) < len(groups):
        raise SpecError(
            "task.parameters: some groups have an 'lr' and others have none; rates of groups are relative to each other, "
            "so give all of them one (1 for the study's own rate)"
        )
    if rates:
        largest = max(rates)
        if not (math.isfinite(largest) and largest > 0 and min(rates) >= 0):
            raise SpecError(f"task.parameters: expected positive relative rates in the groups, got {rates}")
        groups = [{**group, "lr": lr * (group["lr"] / largest)} for group in groups]
    return groups


def make_optimizer(recipe: Recipe, parameters: Groups, lr: float) -> Optimizer:
    """Return the optimizer at rate ``lr``. Raises `SpecError` for an option or a value that it does not take."""
    if callable(recipe.optimizer):
        made = recipe.optimizer(parameters, lr)
        if not isinstance(made, Optimizer):
            raise SpecError(
                f"study.recipe.optimizer: expected it to return a torch Optimizer, got {type(made).__name__}"
            )
        return made
    cls = optimizer_class(recipe.optimizer)
    options = dict(recipe.optimizer_options)
    known = set(inspect.signature(cls).parameters) - {"params", "lr"}
    if recipe.weight_decay is not None:
        if "weight_decay" not in known:
            raise SpecError(f"study.recipe.weight_decay: {cls.__name__} has none")
        options["weight_decay"] = recipe.weight_decay
    for option in options:
        if option not in known:
            raise SpecError(
                f"study.recipe.optimizer_options: {cls.__name__} has no option {option!r}{nearest(option, known)}"
            )
    if options.get("fused") and any(parameter.device.type == "cpu" for parameter in flat(parameters)):
        # Wrong updates, silently, when a gradient's strides differ from its parameter's (channels_last).
        raise SpecError("study.recipe.optimizer_options: fused=True is not sound on the CPU; leave it out")
    try:
        made = cls(parameters, lr=lr, **options)  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise SpecError(f"study.recipe: {cls.__name__} refuses its options: {error}") from None
    return made


def optimizer_class(name: str) -> type[Optimizer]:
    """Return the class of an optimizer by its name. Raises `SpecError` when its package is not installed."""
    if name in OPTIMIZERS:
        found = getattr(torch.optim, OPTIMIZERS[name], None)
        if found is None:
            raise SpecError(
                f"study.recipe.optimizer: torch {torch.__version__} has no {OPTIMIZERS[name]}; upgrade torch"
            )
        return found  # type: ignore[no-any-return]
    package, cls = ELSEWHERE[name]
    try:
        return getattr(importlib.import_module(package), cls)  # type: ignore[no-any-return]
    except ImportError:
        raise SpecError(
            f"study.recipe.optimizer: {cls} comes from {package}, which is not installed; pip install 'etude[optimizers]'"
        ) from None


def flat(parameters: Groups) -> list[nn.Parameter]:
    """Return the parameters of all groups."""
    return [p for one in parameters for p in (one["params"] if isinstance(one, dict) else [one])]


def peaks(optimizer: Optimizer) -> list[float]:
    """Return the rate of each group as it was made: what the schedule multiplies."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def check_obeys(recipe: Recipe, task: Task, model: nn.Module, lr: float) -> None:
    """Raise `SpecError` for an optimizer of the user's own making that does not scale its rates with the study's."""
    if not callable(recipe.optimizer):
        return
    one, two = (peaks(make_optimizer(recipe, parameters_of(task, model, rate), rate)) for rate in (lr, 2 * lr))
    if len(one) != len(two) or any(not math.isclose(2 * a, b, rel_tol=1e-6) for a, b in zip(one, two, strict=True)):
        raise SpecError(
            f"study.recipe.optimizer: expected rates that follow the study's, got {_rates(one)} at lr {lr:g} and {_rates(two)} "
            f"at lr {2 * lr:g}; hand lr on, times a factor by group ({source_of(recipe.optimizer)})"
        )


def describe(optimizer: Optimizer) -> dict[str, Any]:
    """Return class and options of an optimizer that a function made, for the identity: an edited function is noticed."""
    groups = [
        {name: value for name, value in group.items() if name not in ("params", "lr", "initial_lr")}
        for group in optimizer.param_groups
    ]
    largest = max(peaks(optimizer), default=1.0) or 1.0
    return {
        "class": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}",
        "groups": [
            {"parameters": len(group["params"]), "rate": rate / largest, **{k: repr(v) for k, v in options.items()}}
            for group, rate, options in zip(optimizer.param_groups, peaks(optimizer), groups, strict=True)
        ],
    }


def set_mode(optimizer: Optimizer, mode: str) -> None:
    """Tell a schedule-free optimizer to lay out the weights for ``train`` or ``eval`` (Defazio et al. 2024, arXiv 2405.15682)."""
    change = getattr(optimizer, mode, None)
    if callable(change):
        change()


def _rates(of: Sequence[float]) -> str:
    return " and ".join(f"{rate:g}" for rate in of)

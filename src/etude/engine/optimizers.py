"""Makes the optimizer that a recipe names or makes, for parameters or groups of them."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from etude.errors import SpecError, nearest, source_of
from etude.spec.recipe import ELSEWHERE, OPTIMIZERS, Recipe
from etude.tasks.task import Task

Groups = list[nn.Parameter] | list[dict[str, Any]]
NOT_DESCRIBED = ("params", "param_names", "lr", "initial_lr")


REFERENCE_LR = 1e-3  # where an optimizer is described, so that the description does not depend on which rates are tried


def parameters_of(task: Task, model: nn.Module, lr: float) -> Groups:
    """Return what is trained of ``model``: its parameters, or the task's groups, their rates scaled to ``lr``.

    Parameters that do not require a gradient are left out. Learning rates in groups are relative: the largest becomes
    ``lr``. Raises `SpecError` where there is nothing to train, or where some groups have a rate and others have none.
    """
    if task.parameters is None:
        parameters = _trainable(model.parameters())
        if not parameters:
            raise SpecError("task.model: it has no parameters to train")
        return parameters
    given = task.parameters(model)
    if isinstance(given, nn.Parameter | Mapping):
        given = [given]
    _check_ordered(given)
    given = list(given)
    if not any(isinstance(one, Mapping) for one in given):
        parameters = _trainable(given)
        if not parameters:
            raise SpecError("task.parameters: none to train")
        return parameters
    groups = []
    for i, group in enumerate(given):
        if not isinstance(group, Mapping) or "params" not in group:
            raise SpecError(f"task.parameters: expected groups with 'params', got {type(group).__name__} at {i}")
        params = group["params"]
        _check_ordered(params)
        groups.append({**group, "params": _trainable([params] if isinstance(params, nn.Parameter) else params)})
    rates = [group["lr"] for group in groups if "lr" in group]
    if not any(group["params"] for group in groups):
        raise SpecError("task.parameters: none of the groups has parameters to train")
    if rates and len(rates) < len(groups):
        raise SpecError(
            "task.parameters: some groups have an 'lr' and others have none; rates of groups are relative to each other, "
            "so give all of them one (1 for the study's own rate)"
        )
    if rates:
        if not all(isinstance(rate, int | float) and 0 <= rate < math.inf for rate in rates) or not any(rates):
            raise SpecError(f"task.parameters: expected positive relative rates in the groups, got {rates}")
        largest = max(rates)
        groups = [{**group, "lr": lr * (group["lr"] / largest)} for group in groups]
    return groups


def _check_ordered(parameters: object) -> None:
    if isinstance(parameters, set | frozenset):
        raise SpecError(
            "task.parameters: expected a list of parameters, got a set, whose order differs from process to process"
        )


def _trainable(given: Iterable[Any]) -> list[nn.Parameter]:
    """Return the parameters that require a gradient; ``named_parameters()`` may be given, too."""
    parameters = [one[1] if isinstance(one, tuple) and len(one) == 2 else one for one in given]
    for one in parameters:
        if not isinstance(one, nn.Parameter):
            raise SpecError(f"task.parameters: expected parameters of the model, got {type(one).__name__}")
    return [parameter for parameter in parameters if parameter.requires_grad]


def make_optimizer(recipe: Recipe, parameters: Groups, lr: float) -> Optimizer:
    """Return the optimizer at rate ``lr``. Raises `SpecError` for an option or a value that it does not take."""
    if callable(recipe.optimizer):
        made = recipe.optimizer(parameters, lr)
        if not isinstance(made, Optimizer):
            raise SpecError(
                f"study.recipe.optimizer: expected it to return a torch Optimizer, got {type(made).__name__} "
                f"({source_of(recipe.optimizer)})"
            )
        known_ones = {id(parameter) for parameter in flat(parameters)}
        if any(id(parameter) not in known_ones for group in made.param_groups for parameter in group["params"]):
            raise SpecError(
                "study.recipe.optimizer: expected an optimizer of the parameters that it is given, got one of others; each "
                f"trial makes its own model ({source_of(recipe.optimizer)})"
            )
        _check_fused(any(group.get("fused") for group in made.param_groups), parameters)
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
    _check_fused(bool(options.get("fused")), parameters)
    try:
        made = cls(parameters, lr=lr, **options)  # type: ignore[call-arg]
    except Exception as error:  # noqa: BLE001 - betas=[0.9] is an IndexError, and others assert
        reason = " ".join(str(error).split())
        raise SpecError(f"study.recipe: {cls.__name__} refuses its options: {reason}") from None
    return made


def _check_fused(fused: bool, parameters: Groups) -> None:
    """Raise `SpecError` for a fused optimizer on the CPU.

    Its updates are wrong, silently, when a gradient's strides differ from its parameter's (channels_last).
    """
    if fused and any(parameter.device.type == "cpu" for parameter in flat(parameters)):
        raise SpecError("study.recipe.optimizer_options: fused=True is not sound on the CPU; leave it out")


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


def describe(recipe: Recipe, task: Task, model: nn.Module) -> dict[str, Any] | None:
    """Return class and options by group of an optimizer that is not said by name alone, for the identity.

    So an edited function ``(params, lr)`` or ``task.parameters`` is noticed. None where the recipe says all.
    """
    if not callable(recipe.optimizer) and task.parameters is None:
        return None
    optimizer = make_optimizer(recipe, parameters_of(task, model, REFERENCE_LR), REFERENCE_LR)
    largest = max(peaks(optimizer), default=1.0) or 1.0
    return {
        "class": f"{type(optimizer).__module__}.{type(optimizer).__qualname__}",
        "groups": [
            {
                "parameters": len(group["params"]),
                "rate": float(f"{rate / largest:.6g}"),
                **{name: _said(option) for name, option in group.items() if name not in NOT_DESCRIBED},
            }
            for group, rate in zip(optimizer.param_groups, peaks(optimizer), strict=True)
        ],
    }


def _said(option: Any) -> str:
    """Return an option in words that are the same in another process."""
    if isinstance(option, Tensor):
        return str(option.tolist())
    if isinstance(option, str | int | float | tuple | list | None):
        return repr(option)
    return str(getattr(option, "__qualname__", type(option).__qualname__))


def restore(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Put back what ``optimizer.state_dict()`` returned, bit for bit.

    `load_state_dict` casts state to its parameter's type, which changes what NAdam and ASGD keep in single precision beside
    weights in another; and moves it to its parameter's device, where each step would wait for what NAdam keeps on the CPU.
    """
    tensors = [kept for of in saved["state"].values() for kept in of.values() if isinstance(kept, Tensor)]
    from_cpu = all(kept.is_cpu for kept in tensors)
    optimizer.load_state_dict(saved)
    for live_group, group in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for parameter, key in zip(live_group["params"], group["params"], strict=True):
            for name, kept in saved["state"].get(key, {}).items():
                live = optimizer.state[parameter].get(name)
                if not isinstance(kept, Tensor) or not isinstance(live, Tensor):
                    continue
                device = live.device if from_cpu else kept.device
                if live.dtype != kept.dtype or live.device != device:
                    optimizer.state[parameter][name] = kept.to(device, copy=True)


def has_modes(optimizer: Optimizer) -> bool:
    """Whether it trains other weights than are to be evaluated, as schedule-free optimizers do."""
    return all(callable(getattr(optimizer, mode, None)) for mode in ("train", "eval"))


def set_mode(optimizer: Optimizer, mode: str) -> None:
    """Tell a schedule-free optimizer to lay out the weights for ``train`` or ``eval`` (Defazio et al. 2024, arXiv 2405.15682)."""
    getattr(optimizer, mode)()


def _rates(of: Sequence[float]) -> str:
    return " and ".join(f"{rate:g}" for rate in of)

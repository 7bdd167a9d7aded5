"""The update rule that a recipe trains with, in LaTeX, with what its symbols mean. From the stored recipe alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from etude.notation import format_rate
from etude.present.words import schedule_words

# As in torch.optim, where the recipe does not say; a test holds them against the classes.
DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0, "nesterov": False, "weight_decay": 0},
    "adam": {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False},
    "adamw": {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "amsgrad": False},
    "rmsprop": {"alpha": 0.99, "eps": 1e-8, "weight_decay": 0, "momentum": 0, "centered": False},
}
SOURCES = {
    "adam": ("Kingma & Ba 2015, Adam: A Method for Stochastic Optimization", "https://arxiv.org/abs/1412.6980"),
    "adamw": ("Loshchilov & Hutter 2019, Decoupled Weight Decay Regularization", "https://arxiv.org/abs/1711.05101"),
    "momentum": (
        "Sutskever et al. 2013, On the Importance of Initialization and Momentum in Deep Learning",
        "https://proceedings.mlr.press/v28/sutskever13.html",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``lines`` of LaTeX, the ``symbols`` in them (LaTeX, words), and one ``sentence`` on what the rate does in it."""

    lines: tuple[str, ...]
    symbols: tuple[tuple[str, str], ...]
    sentence: str
    source: tuple[str, str] | None


def rule_of(recipe: Mapping[str, Any]) -> Rule:
    """Return the rule of a stored recipe; of an optimizer without one of its own here, what all have in common."""
    name = recipe["optimizer"]
    options = {**DEFAULTS.get(name, {}), **(recipe.get("optimizer_options") or {})}
    if recipe.get("weight_decay") is not None:
        options["weight_decay"] = recipe["weight_decay"]
    schedule = schedule_words(recipe)
    eta = r"\eta_t" if schedule else r"\eta"
    lines, symbols, sentence = _rule(name, options, eta)
    if schedule:
        lines = (r"\eta_t = \eta \, s_t", *lines)
        sentence = sentence.replace("η", "ηₜ")
        symbols = (
            *symbols,
            (r"\eta", "the learning rate that this study varies"),
            ("s_t", f"what the schedule makes of it at step t: {schedule.removesuffix(' schedule')}"),
        )
    else:
        symbols = (*symbols, (r"\eta", "the learning rate, which this study varies"))
    known = (
        (r"\theta_t", "the weights before step t"),
        ("g_t", _gradient(recipe)),
    )
    source = SOURCES.get("momentum" if name == "sgd" and options.get("momentum") else name)
    return Rule(lines=lines, symbols=(*known, *symbols), sentence=sentence, source=source)


def _clipped(recipe: Mapping[str, Any]) -> str:
    bound = recipe.get("clip_norm")
    return "" if bound is None else f", its norm bounded by {bound:g}"


def _gradient(recipe: Mapping[str, Any]) -> str:
    parts = recipe.get("accumulate", 1)
    whose = "batch" if parts == 1 else f"{parts} batches"
    return f"the gradient of the {'loss' if parts == 1 else 'mean loss'} on the {whose} of step t{_clipped(recipe)}"


Symbols = tuple[tuple[str, str], ...]
Parts = tuple[tuple[str, ...], Symbols, str]


def _rule(name: str, o: Mapping[str, Any], eta: str) -> Parts:
    decay = o.get("weight_decay") or 0
    lam: Symbols = ((r"\lambda", f"the weight decay, {decay:g}"),) if decay else ()
    gradient = r"(g_t + \lambda \theta_t)" if decay else "g_t"
    lines: tuple[str, ...]
    symbols: Symbols
    if name == "sgd" and not o.get("dampening"):
        sentence = "Each step moves the weights against the gradient, by a distance that the learning rate η sets."
        if not o["momentum"]:
            return (rf"\theta_{{t+1}} = \theta_t - {eta} \, {gradient}",), lam, sentence
        step = rf"({gradient.strip('()')} + \mu \, v_t)" if o["nesterov"] else "v_t"
        lines = (rf"v_t = \mu \, v_{{t-1}} + {gradient.strip('()')}", rf"\theta_{{t+1}} = \theta_t - {eta} \, {step}")
        longer = (
            f"{sentence} Momentum adds up past gradients, as if η were {1 / (1 - o['momentum']):.3g} times as large."
        )
        mu = (r"\mu", f"the momentum, {o['momentum']:g}{', as Nesterov has it' if o['nesterov'] else ''}")
        return lines, (("v_t", "the running sum of gradients"), mu, *lam), longer if o["momentum"] < 1 else sentence
    if name in ("adam", "adamw") and not o["amsgrad"]:
        first, second = o["betas"]
        square = rf"{gradient}^2" if name == "adam" else "g_t^2"
        plain = gradient if name == "adam" else "g_t"
        step = r"\frac{\hat m_t}{\sqrt{\hat v_t} + \epsilon}"
        if name == "adamw" and decay:
            step = rf"\left( {step} + \lambda \theta_t \right)"
        lines = (
            rf"m_t = \beta_1 m_{{t-1}} + (1 - \beta_1) \, {plain}",
            rf"v_t = \beta_2 v_{{t-1}} + (1 - \beta_2) \, {square}",
            rf"\theta_{{t+1}} = \theta_t - {eta} \, {step}",
        )
        symbols = (
            ("m_t, v_t", "running means of the gradient and of its square; with a hat, corrected for their start at 0"),
            (r"\beta_1, \beta_2", f"how much of them a step keeps: {first:g} and {second:g}"),
            (r"\epsilon", f"{format_rate(o['eps'])}, against division by 0"),
            *lam,
        )
        sentence = "Each weight moves by about η a step, however large its gradient is: Adam divides by that size."
        if name == "adamw" and decay:
            sentence += " Weights decay by ηλ a step, so this study varies their decay, too."
        return lines, symbols, sentence
    if name == "rmsprop" and not o["momentum"] and not o["centered"]:
        lines = (
            rf"v_t = \alpha \, v_{{t-1}} + (1 - \alpha) \, {gradient}^2",
            rf"\theta_{{t+1}} = \theta_t - {eta} \, \frac{{{gradient.strip('()')}}}{{\sqrt{{v_t}} + \epsilon}}",
        )
        symbols = (
            ("v_t", "a running mean of the squared gradient"),
            (r"\alpha", f"how much of it a step keeps: {o['alpha']:g}"),
            (r"\epsilon", f"{format_rate(o['eps'])}, against division by 0"),
            *lam,
        )
        return lines, symbols, "Each weight moves by about η a step, however large its gradient usually is."
    sentence = "Each step moves the weights by a distance that the learning rate η sets."
    return (
        (rf"\theta_{{t+1}} = \theta_t - {eta} \, u_t",),
        (
            (
                "u_t",
                f"the direction that {name} makes of the gradients so far"
                + (f", with weight decay {decay:g}" if decay else ""),
            ),
        ),
        sentence,
    )

"""Sentences about a result that the terminal and the report share. Reads results, and knows nothing of how they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from etude.notation import (
    duration,
    is_named_share,
    metric_words,
    percent_text,
    rate_text,
    share_text,
    significant,
    time_text,
)  # fmt: skip
from etude.result import Result
from etude.searched import trial_of
from etude.spec.budget import GRID
from etude.store import UNFINISHED

if TYPE_CHECKING:
    from etude.searched import Searched
    from etude.store import StoredDecision

FEW = 3  # of a kind are told one by one


def what(result: Result) -> str:
    """Say what was trained: recipe, horizon, how many rates and seeds; of curves from elsewhere what is known of it."""
    study = result.study
    lrs, seeds, n_trials = len(study["lrs"]), len(study["seeds"]), len(result.judged)
    said = []
    if result.is_own_loop:
        said += ["own loop"]
    elif result.imported is None:
        said += recipe_words(study["recipe"])
    if not result.unit:
        said += ["final values"]
    else:
        plural = result.horizon != 1
        horizon = f"{result.horizon:,.0f}" if result.unit == "step" else f"{result.horizon:g}"
        said += [f"{horizon} {result.unit}{'s' * plural}"]
    rates = f"{lrs} rate{'s' * (lrs != 1)}"
    if result.searched:
        paused = sum(map(result.is_paused, result.judged))
        tried = len({trial.lr for trial in result.judged})
        said += [
            f"{tried} rate{'s' * (tried != 1)}",
            f"{n_trials} trials" + (f" ({paused} paused early)" if paused else ""),
        ]
    elif result.imported is None or n_trials == lrs * seeds:
        said += [f"{rates} × {seeds} seed{'s' * (seeds != 1)}"]
    else:  # not every rate has every seed
        said += [f"{rates}, {n_trials} trials"]
    return ", ".join(said)


def recipe_words(recipe: Mapping[str, Any]) -> list[str]:
    """Say what a recipe does, as far as it is not the usual thing: ``adam``, ``batch 4 × 64``, ``cosine after 5% warmup``."""
    size, parts = recipe["batch_size"], recipe.get("accumulate", 1)
    said = [recipe["optimizer"]]
    if recipe.get("weight_decay") is not None:
        said[0] += f" with weight decay {recipe['weight_decay']:g}"
    said += ["batches as the data make them" if size is None else f"batch {size}"]
    if parts > 1:
        said[-1] = f"{parts} × {said[-1]}"
    if schedule := schedule_words(recipe):
        said += [schedule]
    if recipe.get("clip_norm") is not None:
        said += [f"gradient norm up to {recipe['clip_norm']:g}"]
    if recipe.get("precision", "float32") != "float32":
        said += [recipe["precision"]]
    if recipe.get("average", "none") != "none":
        said += [f"{recipe['average']} of the weights"]
    return said


def schedule_words(recipe: Mapping[str, Any]) -> str:
    """Say ``cosine after a warmup of 5%``; nothing for a constant rate."""
    warmup = recipe.get("warmup") or 0
    after = "" if not warmup else f"warmup of {warmup if isinstance(warmup, str) else time_text(warmup, 'epoch')}"
    if recipe["schedule"] == "constant":
        return after
    return f"{recipe['schedule']} after a {after}" if after else f"{recipe['schedule']} schedule"


def study_objective(result: Result) -> str:
    """Write ``the largest val_accuracy``."""
    return (
        f"the {'largest' if result.objective['direction'] == 'maximize' else 'smallest'} {result.objective['metric']}"
    )


def percent(result: Result, metric: str, values: Iterable[float]) -> int:
    """Return what makes percent of a metric's values: 100 of a share, 1 of one from 0 to 100, 0 where they are none.

    What decides is one where the analysis says so, by the unit of its margin; others are known by their names.
    """
    decides = metric.partition("_")[2] == result.objective["metric"].partition("_")[2]
    points = decides and str(result.analysis.get("margin_text")).endswith("points")
    if not (points or is_named_share(metric)):
        return 0
    return 100 if max(values) <= 1 else 1


def metric_text(value: float, percent: int, digits: int = 0) -> str:
    """Write a value of a metric, as the analysis does: ``98.9 %`` or ``0.0421``; with further ``digits``, where they tell."""
    return percent_text(percent * value, digits) if percent else significant(value, 3 + digits)


def provisional(result: Result) -> list[str]:
    """Say why the answer is provisional, where it is."""
    answer = result.recommendation
    return [f"Provisional: {answer.provisional_reason}."] if answer.provisional and answer.provisional_reason else []


def chosen_on(result: Result) -> list[str]:
    """Say that the rates were chosen on test data, where that is so."""
    if not result.chosen_on_test_set:
        return []
    return [
        f"Chosen on {result.chosen_on_test_set}: held-out training data would be the cleaner judge "
        "(--holdout 5000 and another --out)."
    ]


def tested(result: Result) -> list[str]:
    """Say what the recommended rate reached on the test set, a line a seed."""
    lines = []
    for trial in result.judged:
        for test in trial.tests:
            if trial.lr == result.recommendation.lr and test.step == trial.step:
                values = [
                    f"{metric_words(name)} {metric_text(value, percent(result, name, [value]))}"
                    for name, value in test.metrics.items()
                ]
                lines.append(
                    f"On the test set, once: rate {rate_text(trial.lr)}, seed {trial.seed}: {', '.join(values)}."
                )
    return lines


def failed(result: Result) -> list[str]:
    """Say which trials failed, and why."""
    trials = [trial for trial in result.stored.trials if trial.status == "failed"]
    lines = [f"Failed: rate {rate_text(trial.lr)}, seed {trial.seed}: {result.reason(trial)}" for trial in trials[:FEW]]
    if len(trials) > FEW:
        lines.append(f"… and {len(trials) - FEW} more failed trials (etude show --json has them all).")
    return lines


def unfinished(result: Result) -> list[str]:
    """Say what is left to train; what a search paused is not."""
    trials = [t for t in result.stored.trials if t.status in UNFINISHED and not result.is_paused(t)]
    if not trials or (result.searched and result.complete):
        return []
    counts = ", ".join(f"{count} {status}" for status, count in sorted(result.counts.items()))
    lines = [f"Not finished: {counts}."]
    if result.imported is not None:
        lines += [f"  rate {rate_text(one.lr)}, seed {one.seed}: {result.reason(one)}" for one in trials[:FEW]]
        lines += [f"  … and {len(trials) - FEW} more"] if len(trials) > FEW else []
    return lines


def other_horizons(result: Result) -> list[str]:
    """Say how many trials are stored that are not judged."""
    others = len(result.stored.trials) - len(result.judged)
    return [f"Also stored: {others} trial{'s' * (others != 1)} of another horizon."] if others else []


def search_lines(searched: Searched) -> list[str]:
    """Say how a search went: what was decided and why, what it cost, and why it ended."""
    lines = ["How the search went:"]
    decided = [(number, of) for number, of in enumerate(searched.stored.decisions, 1) if of.requests]
    for (number, decision), later in zip(decided, [*(of for _, of in decided[1:]), None], strict=True):
        if searched.search.searcher == "optuna" and later is not None and _carries_on(decision, later):
            continue  # a part of the way each: the last tells how far the trial was carried
        rates = sorted({request["lr"] for request in decision.requests})
        shown = (
            f"{rate_text(rates[0])} to {rate_text(rates[-1])}" if len(rates) > 3 else ", ".join(map(rate_text, rates))
        )
        epochs = sorted({request["epochs"] for request in decision.requests})
        to = f"{epochs[0]:.3g}" if len(epochs) == 1 else f"{epochs[0]:.3g} to {epochs[-1]:.3g}"
        trials = len(decision.requests)
        lines += [
            f"  {number}. {decision.why}: {trials} trial{'s' * (trials != 1)} at {shown}, to {to} epoch{'s' * (epochs != [1])}"
        ]
    lines += [
        f"It cost {searched.trials:.3g} trials' worth of steps, {share_text(searched.share)} of {GRID}, in "
        f"{duration(searched.stored.searched_s)}."
    ]
    lines += [f"It ended: {searched.ended}." if searched.ended else "It has not ended."]
    return lines


def _carries_on(decision: StoredDecision, later: StoredDecision) -> bool:
    """Whether two decisions are about the same one trial."""
    first, second = decision.requests, later.requests
    return len(first) == len(second) == 1 and trial_of(first[0]) == trial_of(second[0])


def expectation(result: Result, part: Mapping[str, Any]) -> tuple[str, str]:
    """Say what was expected of a rate, and what was observed; a number so that it is told on which side of an end it lies."""
    if part["of"] == "verdict":
        return " or ".join(part["expected"]), part["observed"]
    (low, high), seen, metric = part["expected"], part["observed"], part["of"]
    times = percent(result, metric, [low, high])
    ends = f"{times * low:.6g} to {times * high:.6g} %" if times else f"{low:g} to {high:g}"
    return f"{metric_words(metric)} {ends}", "no score" if seen is None else _beside(seen, low, high, times)


def _beside(seen: float, low: float, high: float, percent: int) -> str:
    """Write a value with as many digits as it takes not to be taken for one inside of the ends, or outside."""
    texts = [metric_text(seen, percent, digits) for digits in range(6)]
    told = [float(text.removesuffix(" %")) / (percent or 1) for text in texts]
    is_inside = low <= seen <= high
    return next(
        (text for text, value in zip(texts, told, strict=True) if (low <= value <= high) == is_inside), texts[-1]
    )

"""The report as an article: title, readings, limits, how to do it again. Sentences and tables from a Result; how they are set
is for the page and for Markdown.
"""

from __future__ import annotations

import math
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w

from etude import baselines, commands, tasks
from etude.analysis.scale import Scale, find_scale
from etude.notation import duration, format_rate, metric_words, rate_text, time_text
from etude.present import words
from etude.present.response import rate_points
from etude.present.rule import Rule, rule_of
from etude.result import Result

UNTOLD = "–"
BEYOND = {"low": "lower", "high": "higher"}
WIDE = 0.15  # decades: a narrower range is no news
_ARRAY = re.compile(r"\[\n((?:    .*,\n)+)\]")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A rate in the table: ``value`` is its mean at the horizon with its error, ``gap`` how far it is from the best.

    ``value_order`` and ``gap_order`` are what the columns are sorted by.
    """

    lr: float
    name: str
    text: str
    verdict: str
    value: str
    value_order: float
    gap: str
    gap_order: float
    seeds: str
    reason: str
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class Article:
    """All that the report says, in its order."""

    name: str
    kicker: str
    title: str
    lead: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    value_words: str
    readings: tuple[Reading, ...]
    expected: tuple[tuple[str, str, str, str], ...]
    rule: Rule | None
    answer: tuple[str, ...]
    next_reason: str | None
    next_command: str | None
    other_metric: str | None
    search: tuple[str, ...]
    limits: tuple[str, ...]
    study: str
    commands: tuple[str, ...]
    machine: tuple[tuple[str, str], ...]
    references: tuple[tuple[str, str], ...]


def article(result: Result) -> Article:
    """Write the article of a result."""
    said, answer = result.analysis, result.recommendation
    recipe = result.study.get("recipe") or {}
    rule = rule_of(recipe) if "optimizer" in recipe and result.imported is None and not result.is_own_loop else None
    summary = list(said.get("summary", ()))
    second = said.get("second_opinion") or {}
    summary = [line for line in summary if not line.startswith("Another view: ")]
    return Article(
        name=result.study["name"],
        kicker=f"{result.study['name']}: {words.what(result)}",
        title=_title(result),
        lead=_lead(result, summary),
        facts=tuple(_facts(result)),
        value_words=metric_words(result.objective["metric"]),
        readings=readings(result),
        expected=tuple(_expected(result)),
        rule=rule,
        answer=(
            *([] if answer.lr is None else [answer.conclusion]),
            *summary,
            *(one.sentence for one in baselines.read(result)),
            *words.tested(result),
        ),
        next_reason=answer.next_reason,
        next_command=answer.next_command,
        other_metric=second.get("why"),
        search=()
        if result.search is None
        else tuple(_spaced(line.strip()) for line in words.search_lines(result.search)[1:]),
        limits=tuple(_limits(result)),
        study=_study(result),
        commands=tuple(_commands(result)),
        machine=tuple(_machine(result)),
        references=tuple(_references(result, rule)),
    )


def scale_of(result: Result) -> Scale:
    """Return the scale that the objective is read on, as the analysis finds it."""
    metric = result.objective["metric"]
    seen, final = [], []
    for trial in result.judged:
        columns = result.columns(trial)
        values = columns.train_loss if metric == "train_loss" else columns.metrics.get(metric)
        if values is not None and len(values):
            seen += [float(v) for v in values if math.isfinite(v)]
            final.append(float(values[-1]))
    return find_scale(result.objective["direction"], seen, metric, [v for v in final if math.isfinite(v)])


def readings(result: Result) -> tuple[Reading, ...]:
    """Return the table of the rates, lowest first."""
    scale, best = scale_of(result), result.recommendation.lr
    points = {point.lr: point for point in rate_points(result)}
    made = []
    for rate in result.analysis["rates"]:
        evidence, point = rate["evidence"], points.get(rate["lr"])
        every = _spoken_of(rate)
        mean = _number(evidence.get("mean_all" if every else "mean"))
        has_gap = evidence.get("n_scored") and rate["verdict"] != "diverged"  # as in the figure of the verdicts
        gap = _number(evidence.get("gap") if has_gap else None)
        value = UNTOLD
        if math.isfinite(mean):
            value = scale.text(mean) if every else scale.pm_text(mean, _number(evidence.get("mean_error")))
            gap += scale.sign * (_number(evidence.get("mean")) - mean)
        made.append(
            Reading(
                lr=rate["lr"],
                name=format_rate(rate["lr"]),
                text=rate_text(rate["lr"]),
                verdict=rate["verdict"],
                value=value,
                value_order=mean if math.isfinite(mean) else -math.inf * scale.sign,
                gap=scale.gap_text(max(0.0, gap)).removesuffix(" points") if math.isfinite(gap) else UNTOLD,
                gap_order=gap if math.isfinite(gap) else math.inf,
                seeds=f"{0 if point is None else len(point.scores)} of {rate['n_trials']}",
                reason=rate["reason"],
                is_best=rate["lr"] == best,
            )
        )
    return tuple(made)


def _spoken_of(rate: Mapping[str, Any]) -> bool:
    """Whether the sentence of a rate speaks of the mean of all its seeds, without an error: some do not stand for the others."""
    seen = rate["evidence"]
    stalled, scored = seen.get("n_stalled", 0), seen.get("n_scored", 0)
    if rate["verdict"] == "diverged":
        return bool(not seen.get("n_diverged") and (seen.get("n_collapsed") or seen.get("n_outlying")))
    return bool(rate["verdict"] == "too low" and stalled != scored and 2 * stalled > scored)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _title(result: Result) -> str:
    """Say the finding in one sentence, or why there is none."""
    answer, response = result.recommendation, result.analysis.get("response") or {}
    if answer.lr is None:
        return answer.conclusion
    lr, n_rates = rate_text(answer.lr), len(result.analysis["rates"])
    if answer.edge is not None:
        return f"{lr} is the best rate so far, and the best may be {BEYOND[answer.edge]}."
    if n_rates == 1:
        return f"{lr} is the only rate tried."
    head = f"Train this model at {lr}" if response.get("located") else f"Of the {n_rates} rates tried, take {lr}"
    if answer.provisional:
        return f"{head}, as far as these runs tell."
    inner = (response.get("plateau") or {}).get("inner")
    if inner is not None and inner[0] <= answer.lr <= inner[1] and math.log10(inner[1] / inner[0]) >= WIDE:
        return (
            f"Train this model at {lr}. Anything from {rate_text(inner[0])} to {rate_text(inner[1])} should do as well."
        )
    others = [rate_text(other) for other in answer.within_margin if other != answer.lr]
    if others:
        return f"{head}; {_listed(others)} {'does' if len(others) == 1 else 'do'} as well."
    if answer.interval_open:
        return f"{head}; the best may be {' or '.join(BEYOND[end] for end in answer.interval_open)} yet."
    return f"{head}."


def _listed(said: Sequence[str]) -> str:
    if len(said) > 3:
        return f"{said[0]} to {said[-1]}"
    return " and ".join([", ".join(said[:-1]), said[-1]]) if len(said) > 1 else said[0]


def _lead(result: Result, summary: Sequence[str]) -> tuple[str, ...]:
    answer = result.recommendation
    found = () if answer.lr is None else (answer.reason, *summary[:1], *words.provisional(result))
    return (*words.unfinished(result), *found)


def _facts(result: Result) -> list[tuple[str, str]]:
    study, said = result.study, result.analysis
    lrs, seeds = sorted({t.lr for t in result.judged}), sorted({t.seed for t in result.judged})
    facts = []
    if lrs:
        ends = rate_text(lrs[0]) if len(lrs) == 1 else f"{rate_text(lrs[0])} to {rate_text(lrs[-1])}, {len(lrs)} rates"
        in_a_row = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
        which = f"{seeds[0]} to {seeds[-1]}" if in_a_row else _listed([str(seed) for seed in seeds])
        facts.append(("varied", f"learning rate, {ends}; seed{'s' * (len(seeds) > 1)} {which}"))
    if result.imported is None and not result.is_own_loop:
        facts.append(("held", _held(result)))
        facts += [("task", told)] if (told := _task(result)) else []
        facts.append(("recipe", _spaced(", ".join(_recipe(study["recipe"])))))
    elif result.is_own_loop and (options := study.get("task_options")):
        facts.append(("held", ", ".join(f"{key} {value}" for key, value in options.items())))
    margin = f"; {said['margin_text']} counts as equal ({said['margin_source']})" if said["margin"] is not None else ""
    at = f" after {time_text(result.horizon, result.unit)}" if result.unit else ""
    way = "largest" if result.objective["direction"] == "maximize" else "smallest"
    facts.append(("judged by", f"the {way} {metric_words(result.objective['metric'])}{at}{margin}"))
    wall_s = sum(trial.wall_s for trial in result.stored.trials)
    if math.isfinite(wall_s) and wall_s >= 0.5:
        env = result.stored.environments[-1] if result.stored.environments else {}
        side = f", {env['workers']} side by side" if env.get("workers", 1) > 1 else ""
        facts.append(("trained for", f"{duration(wall_s)}, all trials together{side}"))
    return facts


def _task(result: Result) -> str:
    """Say what model was trained on what data, as far as the run or the name of a built-in task tells it."""
    task, data = result.stored.identity.get("task") or {}, result.stored.identity.get("data") or {}
    said = []
    if task.get("built_in") and task["name"] in tasks.BUILT_IN:
        known = tasks.module(task["name"])
        said.append(known.SUMMARY.partition(":")[0])
        said += (
            [] if task.get("options") else [f"{known.FACTS['parameters']:,} parameters"]
        )  # which an option may change
    elif task.get("name"):
        said.append(task["name"])
    counts = [f"{data[part]['examples']:,} {name}" for part, name in (("train", "training"), ("val", "validation"))
              if isinstance(data.get(part), Mapping) and data[part].get("examples")]  # fmt: skip
    return "; ".join([*said, *([f"{' and '.join(counts)} examples"] if counts else [])])


def _held(result: Result) -> str:
    """Say what all rates of a seed share: batches only where the data could be read again as they were."""
    if any(env.get("resume") == "from the start" for env in result.stored.environments):
        return "initial weights, which all rates of a seed share; the data came in another order at each reading"
    return "initial weights, order of the data and batches, which all rates of a seed share"


def _recipe(recipe: Mapping[str, Any]) -> list[str]:
    """Say what a recipe does, with the optimizer's options."""
    first, *rest = words.recipe_words(recipe)
    options = (recipe.get("optimizer_options") or {}).items()
    return [first, *(f"{name.replace('_', ' ')} {value}" for name, value in options), *rest]


def _spaced(text: str) -> str:
    """Write ``5 %``, as figures and readings do, where a search or a recipe says ``5%``."""
    return re.sub(r"(?<=\d)%", "\u00a0%", text)


def _expected(result: Result) -> list[tuple[str, str, str, str]]:
    return [
        (rate_text(rate["lr"]), *words.expectation(result, part), part["outcome"])
        for rate in result.analysis["rates"]
        if rate["expected"]
        for part in rate["expected"]["parts"]
    ]


def _limits(result: Result) -> list[str]:
    """Say plainly what the answer does not bear."""
    answer, said = result.recommendation, result.analysis
    limits = [*words.unfinished(result), *words.provisional(result), *words.chosen_on(result)]
    if answer.edge is not None:
        end = "lowest" if answer.edge == "low" else "highest"
        limits.append(f"The best rate tried is the {end} one, so the best is not bracketed.")
    if said["margin"] is not None and "guess" in said["margin_source"]:
        limits.append(f"What counts as equal is {said['margin_source']}.")
    limits += words.failed(result)
    limits += words.other_horizons(result)
    if result.unit and answer.lr is not None:
        has_recipe = result.imported is None and not result.is_own_loop
        limits.append(
            f"It holds for {time_text(result.horizon, result.unit)}{' of this recipe' * has_recipe}: trained for longer, or with "
            "another batch size, a model may want another rate."
        )
    return [line.strip() for line in (*limits, *result.notes)]


def _study(result: Result) -> str:
    """Write the study as TOML, as a study file has it; nothing for curves from elsewhere."""
    if result.imported is not None:
        return ""
    hidden = {"source"} | ({"recipe"} if result.is_own_loop else set())
    table = {key: value for key, value in result.fields.items() if key not in hidden}
    own = "" if result.is_known_by_name or result.is_own_loop else "# The task is code of its own: "
    note = f"{own}{result.study.get('source') or 'not a file'}\n" if own else ""
    return note + _ARRAY.sub(_in_one_line, tomli_w.dumps(_plain(table)))


def _in_one_line(found: re.Match[str]) -> str:
    """Write an array as a person would: in one line, or in as few as it takes."""
    text = "[" + ", ".join(line.strip().removesuffix(",") for line in found[1].splitlines()) + "]"
    return "\n    ".join(textwrap.wrap(text, 78, break_long_words=False, break_on_hyphens=False))


def _plain(value: Any) -> Any:
    """Leave out what TOML has no word for: a field that is None is one that nobody set."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items() if one is not None and one != {}}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _commands(result: Result) -> list[str]:
    """Return the commands that trained it, or judged it, each once, as they are typed."""
    typed = [shlex.split(environment.get("command") or "") for environment in result.stored.environments]
    every = [commands.as_typed(words) for words in typed]  # older runs have the path of the program
    every += [] if result.imported is None else [result.imported.command]
    return [command for command in dict.fromkeys(every) if command]


def _machine(result: Result) -> list[tuple[str, str]]:
    if not result.stored.environments:
        return []
    env = result.stored.environments[-1]
    versions = [f"{name} {env[key]}" for name, key in
                (("etude", "etude"), ("Python", "python"), ("PyTorch", "torch"), ("NumPy", "numpy")) if env.get(key)]  # fmt: skip
    facts = [("versions", ", ".join(versions))] if versions else []
    hardware = [str(env[key]) for key in ("platform", "cpu") if env.get(key)]
    hardware += [f"{env['cores']} core{'s' * (env['cores'] != 1)}"] if env.get("cores") else []
    hardware += [f"trained on {env['device']}"] if env.get("device") else []
    facts += [("machine", ", ".join(hardware))] if hardware else []
    if env.get("executor"):
        carried = f"{env['executor']}, {env['workers']} worker{'s' * (env['workers'] != 1)}, {env['threads']} thread"
        facts.append(("carried out", f"{carried}{'s' * (env['threads'] != 1)} each; resume: {env.get('resume')}"))
    facts.append(("seeds", ", ".join(map(str, sorted({t.seed for t in result.stored.trials})))))
    digests = {which: of.get("digest") for which, of in (result.stored.identity.get("data") or {}).items()
               if isinstance(of, Mapping)}  # fmt: skip
    told = ", ".join(f"{which} {digest[:12]}" for which, digest in digests.items() if digest)
    return [*facts, *([("digests of the data", told)] if told else [])]


def _references(result: Result, rule: Rule | None) -> list[tuple[str, str]]:
    """Return what the article leans on, and nothing that it does not use."""
    said = result.analysis
    found = [] if rule is None or rule.source is None else [rule.source]
    if (said.get("response") or {}).get("lrs"):
        found.append(
            ("Rasmussen & Williams 2006, Gaussian Processes for Machine Learning", "https://gaussianprocess.org/gpml/")
        )
    if (said.get("sensitivity") or {}).get("value") is not None:
        found.append(
            (
                "Wortsman et al. 2023, Small-scale proxies for large-scale Transformer training instabilities (LR sensitivity)",
                "https://arxiv.org/abs/2309.14322",
            )
        )
    if result.stored.range_test is not None:
        found.append(
            (
                "Smith 2017, Cyclical Learning Rates for Training Neural Networks (the range test)",
                "https://arxiv.org/abs/1506.01186",
            )
        )
    return found

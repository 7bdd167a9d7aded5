"""The report as one HTML file: the article set in its page, figures inline, and what its script needs as JSON.

The file holds all it shows and asks for nothing from elsewhere; its content security policy forbids it to.
"""

from __future__ import annotations

import base64
import csv
import functools
import gzip
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from numpy.typing import NDArray

from etude.frames import evaluation_columns
from etude.notation import format_rate, metric_words, rate_text
from etude.present import article as articles
from etude.present import curves, figures, stability, svg, verdicts
from etude.present.axes import Look, Words
from etude.present.beside import beside
from etude.present.layout import OnePass
from etude.present.lines import Line
from etude.present.response import rates_figure
from etude.result import Result

MOST_POINTS = 120  # of a line or a trial, in the page's data: more could not be told apart
MOST_TIMES = 200  # of the slider
MOST_CSV = 200_000  # bytes: a longer table is packed


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure of the page, drawn for a screen and for a phone."""

    name: str
    words: Words
    screen: svg.Drawn
    phone: svg.Drawn
    how: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """The evaluations, as a link that holds them."""

    name: str
    href: str
    rows: str
    kind: str
    size: str


def render(result: Result, *, fork: bool = False) -> str:
    """Return the page; ``fork`` has half of it made by another process (`etude.present.beside`)."""
    made, names = articles.article(result), which(result)
    theme = svg.Theme(trial.lr for trial in result.judged)

    def drawn(narrow: bool) -> list[svg.Drawn]:
        return [_drawn(result, name, theme, f"f{i}{'sp'[narrow]}", narrow=narrow) for i, name in enumerate(names)]

    for_phone = beside(lambda: (drawn(narrow=True), _table(result)), fork=fork)
    screens, data = drawn(narrow=False), _data(result, names, made)
    phones, table = for_phone()
    shown = [
        Shown(name=name, words=figures.FIGURES[name].words(result), how=_how(name, data), screen=screen, phone=phone)
        for name, screen, phone in zip(names, screens, phones, strict=True)
    ]
    for one in shown:
        if one.name in data["figures"]:
            places = {"screen": one.screen.places, "phone": one.phone.places}
            data["figures"][one.name] |= {page: [asdict(place) for place in of] for page, of in places.items()}
    script = _text("page.js")
    return (
        environment()
        .get_template("page.html")
        .render(
            article=made,
            theme=theme,
            figures=shown,
            data=data,
            json=_json(data),
            table=table,
            css=_text("page.css"),
            script=script,
            digest=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
            values=aligned([one.value for one in made.readings], [one.verdict != "diverged" for one in made.readings]),
            gaps=aligned([one.gap for one in made.readings]),
            version=version("etude"),
            mathml=mathml,
        )
    )


def _how(name: str, data: Mapping[str, Any]) -> str:
    """Say what a reader can do with a figure: nothing that this study's page has not."""
    if name == "rates":
        slider = "; the slider sets the dots back to where they stood" if len(data["times"]) > 1 else ""
        return f"Pick a rate to lift it in all figures{slider}."
    if name != "curves":
        return ""
    of_rate = [
        trial["rate"] for trial in data["trials"] if sum(time > 0 for time in trial["times"]) > 1
    ]  # they make a line
    seeds = "; of a picked rate the seeds are drawn, too" if len(of_rate) > len(set(of_rate)) else ""
    return f"Point at a line for its values{seeds}."


def fragment(result: Result) -> str:
    """Return what a notebook shows of a result: the finding, the table, the two main figures; styled apart from the notebook."""
    theme = svg.Theme(trial.lr for trial in result.judged)
    told = f"{result.directory}{result.stored.created}{result.stored.revision}{result.objective}"
    prefix = f"e{zlib.crc32(told.encode()):x}"  # several results in a notebook share one page, and must not share ids
    drawn = [_drawn(result, name, theme, f"{prefix}{name[0]}") for name in which(result) if name in ("rates", "curves")]
    return (
        environment().get_template("fragment.html").render(article=articles.article(result), theme=theme, figures=drawn)
    )


def which(result: Result) -> list[str]:
    """Return the figures of the report, in its order: none that a result has not, or that would say nothing."""
    recipe = result.study.get("recipe") or {}
    silent = set()
    one = len({trial.lr for trial in result.judged}) < 2
    if one or not any(len(point.scores) for point in rates_figure(result).points):
        silent.add("rates")
    if one or all(strip.gap is None and strip.behind is None for strip in verdicts.verdicts_figure(result).strips):
        silent.add("verdicts")
    if not result.unit or all(panel.limits is None for panel in curves.panels(result)):  # final values are in "rates"
        silent.add("curves")
    if recipe.get("schedule", "constant") == "constant" and not recipe.get("warmup"):
        silent.add("schedule")
    order = ("rates", "verdicts", "curves", "stability", "schedule", "range-test")
    has = figures.names(result)
    return [name for name in order if name in has and name not in silent]


@functools.cache
def environment() -> Environment:
    """Return what the report's templates are read with: all values are escaped in HTML, and a missing one is an error."""
    made = Environment(
        loader=PackageLoader("etude.present"), autoescape=select_autoescape(["html"]), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters |= {"unbroken": unbroken, "code": code}
    return made


_HAT = re.compile(r'<mover accent="true">(<mi>\w</mi>)<mo>&#x0005E;</mo></mover>')


def mathml(latex: str, display: str) -> Markup:
    """Return a formula as MathML, with hats that lie above their letter also in a font that has no accents for mathematics."""
    from latex2mathml.converter import convert

    return Markup(_HAT.sub(r'<mover>\1<mo stretchy="false">ˆ</mo></mover>', convert(latex, display=display)))


_WHOLE = re.compile(r"\d[\d.,]*(?:e-?\d+)?(?: ± [\d.,]+(?:e-?\d+)?)?(?: %)?")


def unbroken(text: str) -> Markup:
    """Escape a text, and keep what must not be broken at a line's end together: ``2.51e-3``, ``97.4 ± 0.1 %``."""
    return Markup(
        _WHOLE.sub(
            lambda found: f'<span class="whole">{found[0]}</span>' if set(found[0]) & set("e %") else found[0],
            str(escape(text)),
        )
    )


_WORD = re.compile(r"[^\s,]+,?|,")
LONG = 30  # characters: a longer word may be broken anywhere, so that a path does not leave a phone's page


def code(text: str) -> Markup:
    """Escape a command or a file, so that its lines are broken after spaces and commas only, and never within ``5.62e-3``."""
    made, end = Markup(""), 0
    for found in _WORD.finditer(text):
        made += escape(text[end : found.start()])
        made += Markup('<span class="whole">%s</span>') % found[0] if len(found[0]) <= LONG else escape(found[0])
        made += Markup("<wbr>" if found[0].endswith(",") else "")
        end = found.end()
    return made + escape(text[end:])


_FIGURE = re.compile(r"-?\d+((?:\.\d+)?(?: ± [\d.]+)?(?: %)?)")
DIGIT, POINT = "\u2007", "\u2008"  # spaces as wide as they
FAR = 4  # digits: columns whose numbers differ by more are not aligned


def aligned(texts: Sequence[str], ordinary: Sequence[bool] | None = None) -> list[Markup]:
    """Follow numbers (``97.4 ± 0.09 %``) by spaces, so that at the right of a column their points are beneath one another.

    What is no number, has no error where others have one, or is not ``ordinary`` stays as it is, and the others without regard
    to it.
    """
    plain = [True] * len(texts) if ordinary is None else ordinary
    found = [_FIGURE.fullmatch(text) if usual else None for text, usual in zip(texts, plain, strict=True)]
    tails = [None if one is None else one[1] for one in found]
    errors = any(" ± " in tail for tail in tails if tail)
    alike = [tail for tail in tails if tail is not None and (" ± " in tail) == errors]
    digits, points = ([sum(map(kind, tail)) for tail in alike] for kind in (str.isdigit, ".".__eq__))
    if not alike or max(digits) - min(digits) > FAR:
        return [escape(text) for text in texts]
    made = []
    for text, tail in zip(texts, tails, strict=True):
        short = ""
        if tail is not None and (" ± " in tail) == errors:
            short = POINT * (max(points) - tail.count(".")) + DIGIT * (max(digits) - sum(map(str.isdigit, tail)))
        made.append(escape(text) + Markup(f'<span class="pad">{short}</span>' if short else ""))
    return made


def _text(name: str) -> str:
    source, _, _ = environment().loader.get_source(environment(), name)  # type: ignore[union-attr]
    return source


def _drawn(result: Result, name: str, theme: svg.Theme, prefix: str, *, narrow: bool = False) -> svg.Drawn:
    made = figures.make(result, name, Look(heading=False, narrow=narrow), layout=OnePass(is_column=narrow))
    return svg.draw(made, prefix, theme, figures.FIGURES[name].words(result).alt)


def _data(result: Result, names: Sequence[str], made: articles.Article) -> dict[str, Any]:
    """Return what the page's script works with: rates, trials, and what the figures show; not yet where they have it."""
    lrs = [one.lr for one in made.readings]
    place = {lr: i for i, lr in enumerate(lrs)}
    told = {"curves": _curves, "rates": _rates, "stability": _stability}
    return {
        "unit": result.unit,
        "times": _times(result),
        "horizon": result.horizon,
        "rates": [{"name": format_rate(lr), "text": rate_text(lr)} for lr in lrs],
        "best": None if result.recommendation.lr is None else format_rate(result.recommendation.lr),
        "trials": _trials(result, place),
        "figures": {name: told[name](result, place) for name in names if name in told},
        "gap_unit": gap_unit(made.readings),
    }


def gap_unit(readings: Sequence[articles.Reading]) -> str:
    """Return what the heading of the gaps says of their unit."""
    return ", points" if any(one.value.endswith("%") for one in readings) else ""


def _times(result: Result) -> list[float]:
    """Return the times up to the horizon at which anything was evaluated, for the slider."""
    every = np.concatenate([np.empty(0), *(result.columns(trial).epochs for trial in result.judged)])
    every = np.unique(every[np.isfinite(every) & (every <= result.horizon)])
    return [float(t) for t in _thin(every, MOST_TIMES)] if result.unit else []


def _trials(result: Result, place: dict[float, int]) -> list[dict[str, Any]]:
    metric, made = result.objective["metric"], []
    for trial in result.judged:
        columns = result.columns(trial)
        kept = _thin(np.arange(len(columns)), MOST_POINTS)
        unknown = np.full(len(columns), math.nan)
        value = columns.train_loss if metric == "train_loss" else columns.metrics.get(metric, unknown)
        if trial.lr in place:
            made.append(
                {
                    "rate": place[trial.lr],
                    "seed": trial.seed,
                    "times": _numbers(columns.epochs[kept]),
                    "metric": _numbers(value[kept]),
                    "train_loss": _numbers(columns.train_loss[kept]),
                }
            )
    return made


def _curves(result: Result, place: dict[float, int]) -> dict[str, Any]:
    both = [
        _panel(panel.lines, place)
        | {"words": panel.ylabel.removesuffix(", %"), "percent": panel.percent, "single": single}
        for panel, single in zip(curves.panels(result), ("train_loss", "metric"), strict=True)
    ]
    return {"panels": both, "unit": result.unit, "per": 1}


def _stability(result: Result, place: dict[float, int]) -> dict[str, Any]:
    both = [
        _panel(panel.lines, place) | {"words": panel.title.lower(), "percent": 0, "single": None}
        for panel in stability.panels(result)
    ]
    return {"panels": both, "unit": "step", "per": result.steps_per_epoch}


def _panel(lines: Sequence[Line], place: dict[float, int]) -> dict[str, Any]:
    """Return what a panel's lines show, at places few enough to be read."""
    made = []
    for line in lines:
        kept = _thin(np.arange(len(line.x)), MOST_POINTS)
        arrays = {name: _numbers(getattr(line, name)[kept]) for name in ("x", "y", "low", "high")}
        made.append({"rate": place[line.lr], "n": line.n_seeds, **arrays})
    return {"lines": made}


def _rates(result: Result, place: dict[float, int]) -> dict[str, Any]:
    data = rates_figure(result)
    points = [{"rate": place[p.lr], "lr": p.lr, "seed": seed, "value": float(score)}
              for p in data.points for seed, score in zip(p.seeds, p.scores, strict=True)]  # fmt: skip
    return {"points": points, "words": metric_words(result.objective["metric"]), "percent": data.percent}


def _thin(values: Any, most: int) -> Any:
    """Return at most so many of the values, the last among them."""
    if len(values) <= most:
        return values
    return values[np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))]


def _numbers(values: Any) -> list[float | None]:
    return [float(f"{v:.7g}") if math.isfinite(v) else None for v in values]


def _json(data: dict[str, Any]) -> str:
    """Write JSON that may stand in a page: nothing in it ends the script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _table(result: Result) -> Table:
    columns = evaluation_columns(result)
    rows = list(zip(*(_cells(values) for values in columns.values()), strict=True))
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([tuple(columns), *rows])
    text = written.getvalue().encode()
    name, kind, media = "evaluations.csv", "CSV", "text/csv"
    if len(text) > MOST_CSV:  # `etude judge` and pandas read it packed
        text, name, kind, media = gzip.compress(text, 6, mtime=0), f"{name}.gz", "CSV, gzipped", "application/gzip"
    return Table(
        name=name,
        href=f"data:{media};base64,{base64.b64encode(text).decode()}",
        rows=f"{len(rows):,}",
        kind=kind,
        size=f"{max(1, round(len(text) / 1000))} kB",
    )


def _cells(values: NDArray[Any]) -> list[Any]:
    """Return what a CSV has of a column; what there is not is left empty."""
    return ["" if value != value else value for value in values.tolist()]  # NaN alone differs from itself

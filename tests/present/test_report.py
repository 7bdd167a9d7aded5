"""The report, without a browser: whole, true to the store, and asking for nothing from elsewhere, for studies of every kind."""

from __future__ import annotations

import base64
import dataclasses
import functools
import gzip
import hashlib
import html.parser
import io
import json
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

import etude
from etude.errors import DiskError, SpecError
from etude.present import article, figures, page, palette, report, rule, svg
from etude.result import Result
from etude.spec.recipe import Recipe
from present_studies import HOSTILE, MADE, curves, made, page_of

VOID = {"meta", "input", "br", "link", "img", "hr", "wbr"}
SIZE_LIMIT = 2_000_000  # bytes, of an ordinary study's report


class Page(html.parser.HTMLParser):
    """Reads a page strictly: every element is closed, in order; ``texts`` is what a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts, self.hidden = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        (self.hidden if {"style", "script", "math"} & {*self.open} else self.texts).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@functools.cache
def rendered(name):
    return page_of(name).read_text(encoding="utf-8")


def squeezed(text):
    return re.sub(r"\s+", "", text)


def the_page_is_whole_and_says_what_the_store_says(name):
    result, text = made(name), rendered(name)
    read = Page(text)
    seen = squeezed(read.text)
    for rate in result.analysis["rates"]:
        assert squeezed(rate["reason"]) in seen
        assert squeezed(f"{etude.notation.rate_text(rate['lr'])}{rate['verdict']}") in seen
    answer = result.recommendation
    assert squeezed(answer.reason if answer.lr is not None else answer.conclusion) in seen
    for line in (
        *result.analysis.get("summary", ()),
        *result.notes,
        *([answer.next_command] if answer.next_command else []),
    ):
        assert squeezed(line) in seen or line.startswith("Another view"), line
    assert len(text.encode()) < SIZE_LIMIT
    assert text.count("<h1>") == 1


def nothing_in_it_is_left_unsaid_or_unescaped(name):
    read = Page(rendered(name))
    assert not re.search(r"\b(nan|None|inf|NaN|undefined)\b", read.text), name
    scripts = [attrs for tag, attrs in read.elements if tag == "script"]
    assert [attrs.get("type") for attrs in scripts] == ["application/json", None]
    ids = [attrs["id"] for _, attrs in read.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    pointed = {attrs["href"][1:] for _, attrs in read.elements if (attrs.get("href") or "").startswith("#")}
    clipped = set(re.findall(r"url\(#([^)]+)\)", rendered(name).partition('id="data"')[0]))
    assert pointed | clipped <= set(ids)


def it_asks_for_nothing_from_elsewhere(name):
    read = Page(rendered(name))
    for tag, attrs in read.elements:
        assert "src" not in attrs, tag
        href = attrs.get("href", "#")
        assert href.startswith(("#", "data:")) or (tag == "a" and href.startswith("https://")), (tag, href)
    assert "@import" not in rendered(name)
    assert "url(http" not in rendered(name)
    (policy,) = [attrs["content"] for attrs in read.all("meta") if attrs.get("http-equiv")]
    assert policy.startswith("default-src 'none'")


def the_evaluations_in_it_are_those_of_the_result(name):
    (link,) = [attrs for attrs in Page(rendered(name)).all("a") if "download" in attrs]
    media, _, packed = link["href"].partition(";base64,")
    raw = base64.b64decode(packed)
    raw = gzip.decompress(raw) if media.endswith("gzip") else raw
    frame = pd.read_csv(io.BytesIO(raw))
    pd.testing.assert_frame_equal(frame, made(name).evaluations, check_dtype=False)


def figures_have_text_in_their_place_and_only_the_pages_colours(name):
    result, read = made(name), Page(rendered(name))
    shown = page.which(result)
    assert [attrs["data-figure"] for attrs in read.all("figure")] == [
        *(n for n in shown if n == "rates"), *(n for n in shown if n != "rates")
    ]  # fmt: skip
    drawn = read.all("svg")
    assert len(drawn) == 2 * len(shown)
    for attrs in drawn:
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"]) > 30
    figures = re.findall(r"<svg .*?</svg>", rendered(name), re.DOTALL)
    for one in figures:
        assert not re.findall(r"#[0-9a-f]{6}\b", one)
        ElementTree.fromstring(one)
        assert "<image" not in one
    known = {attrs["data-lr"] for attrs in read.all("tr") if "data-lr" in attrs}
    assert {attrs["data-lr"] for attrs in read.all("g") if "data-lr" in attrs} <= known


def the_scripts_data_agree_with_the_store(name):
    result = made(name)
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', rendered(name), re.DOTALL)
    data = json.loads(text)
    metric = result.objective["metric"]
    stored = {(trial.lr, trial.seed): result.columns(trial) for trial in result.judged}
    rates = [float(rate["name"]) for rate in data["rates"]]
    assert rates == [rate["lr"] for rate in result.analysis["rates"]]
    assert len(data["trials"]) == len(result.judged)
    for trial in data["trials"]:
        columns = stored[rates[trial["rate"]], trial["seed"]]
        values = columns.train_loss if metric == "train_loss" else columns.metrics.get(metric, [])
        if len(values) and np.isfinite(values[-1]):
            assert trial["metric"][-1] == pytest.approx(values[-1], rel=1e-6)
    for point in data["figures"].get("rates", {}).get("points", []):
        (score,) = [
            t["score"] for t in result.analysis["trials"] if (t["lr"], t["seed"]) == (point["lr"], point["seed"])
        ]
        assert point["value"] == pytest.approx(score)


@pytest.mark.parametrize("name", MADE)
def test_the_page_of_every_study_is_sound(name):
    the_page_is_whole_and_says_what_the_store_says(name)
    nothing_in_it_is_left_unsaid_or_unescaped(name)
    it_asks_for_nothing_from_elsewhere(name)
    the_evaluations_in_it_are_those_of_the_result(name)
    figures_have_text_in_their_place_and_only_the_pages_colours(name)
    the_scripts_data_agree_with_the_store(name)


@pytest.mark.parametrize(
    "name", ["one rate", "failed trials", "a hostile name", "a search", "an own loop", "judged curves"]
)
def test_markdown_says_the_same_and_its_pictures_are_there(name, tmp_path):
    result = made(name)
    path = result.report(tmp_path / "report.md", "md")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert "\n\n\n" not in text
    plain = squeezed(text.replace("\\", "").replace("&lt;", "<"))
    for rate in result.analysis["rates"]:
        assert squeezed(rate["reason"].replace("\\", "")) in plain
    pictures = re.findall(r"^!\[[^\]]+\]\(([^)]+)\)$", text, re.MULTILINE)
    assert pictures == [f"report_figures/{figure}.png" for figure in page.which(result)]
    assert all((tmp_path / one).stat().st_size > 5000 for one in pictures)
    prose = [line for line in text.partition("```toml")[0].splitlines() if not line.startswith("    ")]
    assert "<script" not in "".join(prose)


def test_a_report_made_twice_is_the_same_file(finished_digits, tmp_path):
    first = Result.load(finished_digits).report(tmp_path / "a.html").read_bytes()
    assert Result.load(finished_digits).report(tmp_path / "b.html").read_bytes() == first


def test_what_a_hostile_name_holds_is_text():
    read = Page(rendered("a hostile name"))
    assert "alert" not in "".join(read.hidden[2:])
    assert squeezed(HOSTILE) in squeezed(read.text)
    assert squeezed(HOSTILE) in squeezed(Page(made("a hostile name")._repr_html_()).text)


def test_results_in_one_notebook_do_not_share_ids(finished_digits):
    shown = [Page(result._repr_html_()) for result in (Result.load(finished_digits), made("regression"))]
    ids = [attrs["id"] for read in shown for _, attrs in read.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for read, result in zip(shown, (Result.load(finished_digits), made("regression")), strict=True):
        assert len(read.all("svg")) == 2
        for rate in result.analysis["rates"]:
            assert squeezed(rate["reason"]) in squeezed(read.text)


def test_the_study_in_it_runs(finished_digits, etude_command, tmp_path):
    result = Result.load(finished_digits)
    (tmp_path / "study.toml").write_text(article.article(result).study)
    said = etude_command("run", "study.toml", "--out", finished_digits, "--dry-run")
    assert said.out.startswith("0 trials to train (6 complete)"), said


def test_a_judged_file_is_judged_again_and_a_data_frame_has_no_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    curves().to_csv("mine.csv", index=False)
    told = etude.judge("mine.csv", "val_loss", margin=0.1)
    assert article.article(told).commands == ("etude judge mine.csv --objective val_loss --margin 0.1",)
    assert "Do it again" in told.report("file.html").read_text()
    frame = made("judged curves")
    assert article.article(frame).commands == ()
    assert "Do it again" not in rendered("judged curves")
    assert "Do it again" not in frame.report("frame.md", "md").read_text()


def test_a_run_that_kept_the_path_of_its_program_does_not_show_it(tmp_path):
    result = made("one rate")
    typed = "/home/me/etude/src/etude/__main__.py run digits"
    stored = dataclasses.replace(result.stored, environments=({"command": typed}, {"command": "make.py"}))
    told = article.article(dataclasses.replace(result, stored=stored))
    assert told.commands == ("python -m etude run digits", "python make.py")


def test_the_command_writes_it_into_the_run(digits_run, etude_command):
    said = etude_command("report", digits_run)
    assert said.out == f"{digits_run / 'report.html'}\n"
    alone = Result.load(digits_run).report(digits_run.parents[1] / "alone.html")  # in one process
    assert alone.read_bytes() == (digits_run / "report.html").read_bytes()
    assert etude_command("report", digits_run, "--format", "md").out == f"{digits_run / 'report.md'}\n"
    said = etude_command("report", digits_run, "--objective", "val_loss", "--out", "loss.html")
    assert "smallest validation loss" in Page((digits_run.parents[1] / "loss.html").read_text()).text
    assert not [path for path in digits_run.iterdir() if path.name.endswith(".partial")]


def test_what_cannot_be_written_is_one_line_and_leaves_nothing(digits_run, etude_command, tmp_path):
    assert etude_command("report", digits_run, "--format", "pdf").err == (
        "etude: report: no format is named 'pdf'; known: html, md\n"
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="the report cannot be written"):
        Result.load(digits_run).report(tmp_path / "file" / "report.html")
    with pytest.raises(SpecError, match="got the folder"):
        Result.load(digits_run).report(tmp_path)
    with pytest.raises(SpecError, match="no run directory; say where"):
        made("judged curves").report()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "runs"}


def test_reporting_reads_and_does_not_write_a_run(digits_run, tmp_path):
    before = (digits_run / "study.sqlite").read_bytes()
    (digits_run / "lock").unlink(missing_ok=True)
    Result.load(digits_run).report(tmp_path / "report.html")
    assert (digits_run / "study.sqlite").read_bytes() == before
    assert not (digits_run / "lock").exists()


@pytest.mark.parametrize("dark", [False, True])
def test_colours_of_the_page_can_be_read(dark):
    theme = svg.Theme(np.logspace(-5, 1, 26))
    shades = dict(one.split(":") for one in re.findall(r"--(\w+:#\w+);", theme.variables(dark=dark)))
    for back in ("paper", "wash"):
        for name in ("ink", "quiet"):
            assert palette.contrast(shades[name], shades[back]) >= 4.5
    for i in range(26):
        assert palette.contrast(shades[f"text{i}"], shades["paper"]) >= 4.5
        assert palette.contrast(shades[f"rate{i}"], shades["paper"]) >= 3
    assert palette.contrast(shades["accent"], shades["paper"]) >= 3  # what is focused


def test_the_dark_ramp_rises_in_lightness():
    shades = [
        matplotlib.colors.to_rgb(colour) for colour in palette.colours(list(np.logspace(-5, 1, 40)), dark=True).values()
    ]
    light = [palette.contrast(matplotlib.colors.to_hex(shade), "#000000") for shade in shades]
    assert np.all(np.diff(light) > 0)


def test_defaults_in_the_update_rule_are_those_of_torch():
    import inspect

    import torch

    for name, known in rule.DEFAULTS.items():
        cls = {
            "sgd": torch.optim.SGD,
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "rmsprop": torch.optim.RMSprop,
        }[name]
        parameters = inspect.signature(cls).parameters
        assert known == {option: parameters[option].default for option in known}


@pytest.mark.parametrize(
    ("recipe", "parts"),
    [
        ({"optimizer": "sgd"}, [r"- \eta \, g_t"]),
        ({"optimizer": "sgd", "weight_decay": 0.1}, [r"(g_t + \lambda \theta_t)"]),
        ({"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "schedule": "cosine"}, [r"\mu \, v_{t-1}", r"\eta_t = \eta"]),
        ({"optimizer": "adam"}, [r"\hat m_t"]),
        ({"optimizer": "adamw"}, [r"+ \lambda \theta_t"]),
        ({"optimizer": "adamw", "weight_decay": 0.0}, [r"\sqrt{\hat v_t} + \epsilon}"]),
        ({"optimizer": "rmsprop"}, [r"\alpha \, v_{t-1}"]),
        ({"optimizer": "lbfgs"}, ["u_t"]),
        ({"optimizer": "sgd", "optimizer_options": {"momentum": 0.9, "nesterov": True}}, [r"(g_t + \mu \, v_t)"]),
    ],
)  # fmt: skip
def test_the_update_rule_names_all_its_symbols(recipe, parts):
    made = rule.rule_of(Recipe(**recipe).to_dict())
    text = " ".join(made.lines)
    assert all(part in text for part in parts), text
    for line in made.lines:
        root = ElementTree.fromstring(str(page.mathml(line, "block")))
        assert root.tag.endswith("math")
    told = " ".join(symbol for symbol, _ in made.symbols)
    for symbol in re.findall(r"\\(?:theta|eta|lambda|mu|alpha|beta|epsilon)|[gu]_t", text):
        assert symbol in told, symbol
    assert ("weight decay" in str(made.symbols)) == (r"\lambda" in text)


def test_writing_over_an_older_report_replaces_it(finished_digits, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("older")
    assert report.write(Result.load(finished_digits), path) == path
    assert path.read_text().startswith("<!doctype html>")


def test_the_momentum_of_a_rule_is_cited_where_there_is_one():
    assert rule.rule_of(Recipe(optimizer="sgd").to_dict()).source is None
    made = rule.rule_of(Recipe(optimizer="sgd", optimizer_options={"momentum": 0.9}, schedule="cosine").to_dict())
    assert "Momentum" in made.source[0]
    assert dict(made.symbols)["s_t"].endswith(": cosine")


def test_the_update_rule_says_what_else_a_step_does():
    made = rule.rule_of(Recipe(optimizer="adamw", accumulate=4, clip_norm=1.0, schedule="cosine").to_dict())
    assert (
        dict(made.symbols)["g_t"] == "the gradient of the mean loss on the 4 batches of step t, its norm bounded by 1"
    )
    assert "Each weight moves by about ηₜ a step" in made.sentence
    assert "Weights decay by ηₜλ a step" in made.sentence
    made = rule.rule_of(Recipe(optimizer="adam", optimizer_options={"amsgrad": True, "weight_decay": 0.1}).to_dict())
    assert "with weight decay 0.1" in dict(made.symbols)["u_t"]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("one rate", "1e-2 is the only rate tried."),
        ("one epoch", "1e-2 is the best rate so far, and the best may be higher."),
        ("failed trials", "Of the 3 rates tried, take 1e-2."),
        ("regression", "Train this model at 1e-2."),
        ("still running", "No rate can be recommended yet: all 6 trials did not finish."),
    ],
)
def test_the_title_claims_no_more_than_is_known(name, title):
    assert article.article(made(name)).title == title


def test_a_title_says_where_the_best_rate_may_lie_beyond_those_tried():
    losses = {1e-4: 0.9, 3e-4: 0.7, 1e-3: 0.5, 3e-3: 0.4, 1e-2: 0.32, 3e-2: 0.3, 1e-1: 0.31}
    table = pd.DataFrame(
        {"lr": lr, "seed": seed, "val_loss": loss * (1 + 0.025 * np.sin(7 * seed + 50 * lr))}
        for lr, loss in losses.items()
        for seed in range(3)
    )
    title = article.article(etude.judge(table)).title
    assert title == "Train this model at 3e-2; the best may be higher yet."


def test_numbers_in_a_column_have_their_points_beneath_one_another():
    texts = ["97.4 ± 0.09 %", "84.2 ± 3.0 %", "36.3 ± 15.2 %", "–", "1e-3", "10.9 %"]
    made = ["".join(Page(text).texts) for text in page.aligned(texts)]
    assert all(one.startswith(text) for one, text in zip(made, texts, strict=True)), "no hole in a number"
    assert len({len(one) - one.index(".") for one in made[:3]}) == 1
    assert made[3:] == texts[3:]
    assert page.aligned(["0", "0.25"]) == [f'0<span class="pad">{page.POINT}{page.DIGIT * 2}</span>', "0.25"]
    assert page.aligned(["<b>"]) == ["&lt;b&gt;"]


def test_a_number_of_another_kind_moves_no_other():
    texts = ["1.51 ± 0.71", "0.32 ± 0.08", "5100.125 ± 4900.125"]
    assert page.aligned(texts, [True, True, False]) == texts
    assert page.aligned(["0.1", "0.1234567"]) == ["0.1", "0.1234567"], "too far apart to be read as a column"


@pytest.mark.parametrize("name", [*MADE, "a far one", "a stalled one"])
def test_the_table_says_the_numbers_that_its_sentences_say(name):
    """A rate that ended no better than it started is told by the mean of all its seeds, without an error."""
    ends = {1e-3: (1.4, 1.5), 1e-2: (0.3, 0.31), 1e-1: (9000.0, 1200.0)}
    if name == "a stalled one":
        ends = {1e-3: (3.0, 3.0, 2.1), 1e-2: (0.3, 0.31, 0.32), 1e-1: (0.5, 0.51, 0.5)}
    rows = [
        {"lr": lr, "seed": seed, "epoch": epoch, "val_loss": 3 + (end - 3) * epoch / 4}
        for lr, of in ends.items() for seed, end in enumerate(of) for epoch in range(5)
    ]  # fmt: skip
    result = made(name) if name in MADE else etude.judge(pd.DataFrame(rows))
    for one in article.readings(result):
        if re.search(r"\d after |Never left|no better than it started|on average", one.reason) and one.value != "–":
            assert one.value in one.reason, one


def test_figures_of_a_page_share_no_ids(monkeypatch):
    """Those of `rates` and `range-test` once did, and the ticks of the one were the marks of the other."""
    monkeypatch.setattr(page, "which", lambda _: ["rates", "rates"])
    drawn = [attrs.get("id", "") for _, attrs in Page(page.render(made("regression"))).elements]
    drawn = [one for one in drawn if re.fullmatch(r"f\d[sp]\d+", one)]
    assert drawn
    assert len(drawn) == len({*drawn})


def test_only_the_pages_own_script_may_run():
    read = Page(rendered("regression"))
    (policy,) = [attrs["content"] for attrs in read.all("meta") if attrs.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(read.hidden[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not [attrs for _, attrs in read.elements if any(name.startswith("on") for name in attrs)]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("# a [b](c) `d` $e$ ~~f~~", r"\# a \[b\](c) \`d\` \$e\$ \~\~f\~\~"),
        ("- a\n<b> &lt;", r"\- a &lt;b> &amp;lt;"),
        ("1. a", r"1\. a"),
        ("1e-3 & 2.5 > 1", "1e-3 & 2.5 > 1"),
    ],
    ids=["inline", "item", "numbered", "plain"],
)
def test_text_in_markdown_is_no_markup(text, written):
    assert report._text(text) == written


def test_a_guessed_margin_is_called_so_once():
    rows = [
        {"lr": lr, "seed": 0, "epoch": epoch, "val_loss": 3 + (end - 3) * epoch / 4}
        for lr, end in ((1e-3, 1.4), (1e-2, 0.3), (1e-1, 0.5)) for epoch in range(5)
    ]  # fmt: skip
    said = article.article(etude.judge(pd.DataFrame(rows)))
    assert "What counts as equal is a guess: 2 % of what training gained." in said.limits


def test_a_figure_says_how_to_use_what_there_is():
    rates, seeds = "Pick a rate to lift it in all figures", "of a picked rate the seeds are drawn"
    assert f"{rates}; the slider sets the dots back" in rendered("regression")
    assert seeds in rendered("regression")
    assert f"{rates}." in rendered("final values alone"), "there is no slider"
    assert seeds not in rendered("one rate"), "there is one seed"
    assert seeds not in rendered("one epoch"), "a single evaluation makes no line"


def test_a_figure_with_nothing_in_it_is_left_out():
    assert page.which(made("nothing trained yet")) == []
    assert not {*page.which(made("all diverged"))} & {"rates", "verdicts", "curves"}
    assert "rates" not in page.which(made("still running"))
    assert page.which(made("final values alone")) == ["rates", "verdicts"], "there are no curves"
    assert "Explore the figures" not in rendered("nothing trained yet")
    assert {"rates", "verdicts", "curves"} <= {*page.which(made("regression"))}


def test_limits_speak_of_what_was_recommended():
    assert not [line for line in article.article(made("all diverged")).limits if "It holds" in line]
    (line,) = [line for line in article.article(made("an own loop")).limits if "It holds" in line]
    assert line.startswith("It holds for 3 epochs: ")
    (line,) = [line for line in article.article(made("regression")).limits if "It holds" in line]
    assert line.startswith("It holds for 10 epochs of this recipe: ")


@pytest.mark.parametrize("name", ["failed trials", "regression", "an own loop", "judged curves"])
def test_the_answer_names_the_recommended_rate(name):
    result = made(name)
    assert re.search(rf"\b{etude.notation.rate_text(result.recommendation.lr)}\b", article.article(result).answer[0])


def test_the_next_command_is_introduced_by_a_sentence(tmp_path):
    result = made("regression")
    said = f"Next ({result.recommendation.next_reason}):"
    assert said in Page(rendered("regression")).text
    assert said in result.report(tmp_path / "report.md", "md").read_text()
    assert said in Page(result._repr_html_()).text


def test_model_and_data_are_named_where_the_run_knows_them(finished_digits):
    facts = dict(article.article(Result.load(finished_digits)).facts)
    assert facts["task"] == (
        "a perceptron with 64 hidden units on small handwritten digits, 8×8; 4,810 parameters; "
        "1,297 training and 500 validation examples"
    )
    assert "examples" not in dict(article.article(made("regression")).facts)["task"], "which its store does not have"
    assert "task" not in dict(article.article(made("judged curves")).facts)


def test_pictures_of_markdown_are_found_whatever_its_file_is_called(tmp_path):
    text = made("one rate").report(tmp_path / "my (first) report.md", "md").read_text()
    (found, *_) = re.findall(r"\]\((\S+\.png)\)$", text, re.MULTILINE)
    assert (tmp_path / urllib.parse.unquote(found)).is_file()
    assert not {*"() "} & {*found}


def test_a_metric_from_0_to_100_has_its_unit_in_text_and_figures():
    rows = [
        {"lr": lr, "seed": seed, "epoch": epoch, "val_accuracy": top - 20 / epoch + seed * (1 + lr)}
        for lr, top in ((1e-3, 70.0), (1e-2, 90.0), (1e-1, 60.0)) for seed in range(2) for epoch in (1, 2, 3, 4)
    ]  # fmt: skip
    result = etude.judge(pd.DataFrame(rows))
    assert article.readings(result)[1].value.endswith(" %")
    for name, panel in (("rates", 0), ("curves", 1)):
        assert figures.make(result, name).axes[panel].get_ylabel() == "validation accuracy, %"


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_perfect_scores_have_their_dots(metric, tmp_path):
    """An accuracy of exactly 1 and a loss of exactly 0 are beyond the end of a logarithmic axis; their dots lie at it."""
    errors = {1e-4: (0.5, 0.6), 1e-3: (0.0, 0.01), 1e-2: (0.0, 0.0), 1e-1: (0.0, 0.001), 1.0: (0.8, 0.9)}
    rows = [
        {"lr": lr, "seed": seed, "epoch": epoch, metric: 1 - value if metric == "val_accuracy" else 5 * value}
        for lr, ends in errors.items()
        for seed, end in enumerate(ends)
        for epoch, value in enumerate((0.95, (0.95 + end) / 2, end))
    ]
    page = etude.judge(pd.DataFrame(rows)).report(tmp_path / "report.html").read_text(encoding="utf-8")
    shown = re.findall(r'<g class="seeds" data-lr="([^"]+)">(.*?)</g></g>', page)
    dots = sorted((lr, seed) for lr, part in shown for seed in re.findall(r'data-seed="(\d)"', part))
    assert dots == sorted(
        (lr, seed) for lr in ("1e-4", "1e-3", "1e-2", "0.1", "1") for seed in "0011"
    )  # desk and phone

"""The report in a browser: rates are picked, values read, training replayed, the table sorted; no error, no request.

What the script shows is held against the store.
"""

from __future__ import annotations

import io

import matplotlib.image
import numpy as np
import pytest

import etude
from etude.notation import format_rate, rate_text
from etude.present import page as pages
from etude.result import Result
from present_studies import MADE, made, page_of

LONG_COMMAND = "etude resume runs/digits --lrs 5.62e-3,1e-2,1.78e-2,3.16e-2,5.62e-2,1e-1 --seeds 10"
SIZES = {"a desk": (1280, 900), "a phone": (390, 844)}


@pytest.fixture(scope="module")
def written(tmp_path_factory, finished_digits):
    """Write the report of the finished run of digits: three rates, two seeds, two epochs."""
    return Result.load(finished_digits).report(tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture(scope="module")
def result(finished_digits):
    return Result.load(finished_digits)


def at(open_page, path, size="a desk", **context):
    width, height = SIZES[size]
    opened = open_page(viewport={"width": width, "height": height}, **context)
    opened.goto(path.as_uri())
    return opened


def plot(page, figure):
    return page.locator(f"figure[data-figure={figure}] .plot:visible")


def lifted(page):
    """The rates that are lifted, by figure and in the table."""
    return page.evaluate(
        """() => ({
            figures: [...document.querySelectorAll('.plot svg')].map((svg) => [
                svg.closest('figure').dataset.figure,
                svg.classList.contains('picking'),
                [...new Set([...svg.querySelectorAll('[data-lr].on')].map((part) => part.dataset.lr))],
            ]),
            rows: [...document.querySelectorAll('#table tr.picked')].map((row) => row.dataset.lr),
            chip: document.querySelector('#chips input:checked')?.value,
        })"""
    )


def assert_lifted(page, lr):
    seen = lifted(page)
    assert seen["rows"] == ([] if lr is None else [lr])
    assert seen["chip"] == (lr or "")
    assert {picking for _, picking, _ in seen["figures"]} == {lr is not None}
    for figure, _, rates in seen["figures"]:
        assert rates == ([] if lr is None else [lr]), figure


@pytest.mark.parametrize("size", SIZES)
def test_a_rate_is_picked_by_chip_by_row_and_by_its_parts(open_page, written, size):
    page = at(open_page, written, size)
    page.locator("#chips label", has_text="1e-4").click()
    assert_lifted(page, "1e-4")
    assert page.locator(".single").count() >= 4  # two seeds in two panels, drawn for both widths
    assert "too low" in page.locator("#said").inner_text()
    page.locator("#table tr[data-lr='1e-2'] button").click()
    assert_lifted(page, "1e-2")
    page.locator("#table tr[data-lr='1e-2'] button").click()
    assert_lifted(page, None)
    plot(page, "curves").locator("[data-lr='1e-4']").first.click(force=True)
    assert_lifted(page, "1e-4")
    page.keyboard.press("Escape")
    assert_lifted(page, None)
    assert page.locator(".single").count() == 0


def test_a_strip_picks_its_rate_and_a_selected_text_does_not(open_page, written):
    page = at(open_page, written)
    button = page.locator("#table tr[data-lr='1e-2'] button")
    plot(page, "verdicts").locator("[data-lr='1e-2'] text").first.click()
    assert_lifted(page, "1e-2")
    assert button.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert button.get_attribute("aria-pressed") == "false"
    reason = page.locator("#table tr[data-lr='1e-2'] .reason").bounding_box()
    page.mouse.move(reason["x"] + 2, reason["y"] + 20)
    page.mouse.down()
    page.mouse.move(reason["x"] + 90, reason["y"] + 20)
    page.mouse.up()
    assert page.evaluate("String(getSelection())")
    assert_lifted(page, None)
    button.press("Enter")
    assert_lifted(page, "1e-2")


def test_what_is_focused_is_not_beneath_the_controls(open_page, written):
    for size in SIZES:
        page = at(open_page, written, size)
        for name in ("rates", "curves"):
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            plot(page, name).focus()
            assert plot(page, name).bounding_box()["y"] >= page.locator("#controls").bounding_box()["height"] - 1


def test_a_touch_picks_a_rate(open_page, written):
    page = at(open_page, written, "a phone", has_touch=True)
    page.locator("#chips label", has_text="1e-2").tap()
    assert_lifted(page, "1e-2")


def test_all_can_be_done_without_a_mouse(open_page, written, result):
    page = at(open_page, written)
    page.locator("#chips input").first.focus()
    page.keyboard.press("ArrowRight")
    assert_lifted(page, "1e-4")
    page.keyboard.press("ArrowLeft")
    assert_lifted(page, None)
    plot(page, "curves").focus()
    page.keyboard.press("ArrowRight")
    best = result.recommendation.lr
    assert_lifted(page, format_rate(best))  # where nothing is picked the reader starts with the recommended rate
    tip = page.locator(".tip").inner_text()
    assert tip.startswith(f"rate {rate_text(best)}, epoch 1\ntraining loss ")
    assert page.locator("#said").inner_text() == tip.replace("\n", ", ")
    page.keyboard.press("ArrowDown")
    assert_lifted(page, "1e-4")
    for name in ("rates", "curves"):
        plot(page, name).focus()
        page.keyboard.press("Tab")  # none is a trap
        assert page.evaluate("document.activeElement.closest('.plot')?.closest('figure')?.dataset.figure") != name


def test_the_values_read_are_those_of_the_store(open_page, written, result):
    page = at(open_page, written)
    frame = result.evaluations
    for lr in (1e-4, 1e-2):
        of_rate = frame[(frame.lr == lr) & (frame.epoch == 2)]
        page.locator("#chips label", has_text=rate_text(lr)).click()
        plot(page, "curves").focus()
        page.keyboard.press("ArrowLeft")  # the last value of the second panel
        values = of_rate.val_accuracy
        assert page.locator(".tip").inner_text() == (
            f"rate {rate_text(lr)}, epoch 2\nvalidation accuracy {100 * values.mean():.2f} %\n"
            f"2 seeds, {100 * values.min():.2f} % to {100 * values.max():.2f} %"
        )


def test_pointing_at_a_dot_reads_its_value(open_page, written, result):
    page = at(open_page, written)
    dot = plot(page, "rates").locator(".seeds[data-lr='1e-2'] use[data-seed='1']")
    box = dot.bounding_box()
    page.locator("#chips label", has_text="1e-2").click()
    plot(page, "rates").scroll_into_view_if_needed()
    box = dot.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    (score,) = [t["score"] for t in result.analysis["trials"] if (t["lr"], t["seed"]) == (1e-2, 1)]
    assert page.locator(".tip").inner_text() == f"rate 1e-2, seed 1\nvalidation accuracy {100 * score:.2f} %"
    page.mouse.move(5, 5)
    assert page.locator(".tip").count() == 0


def test_the_scripts_places_are_those_of_the_drawing(open_page, written):
    """A ring that the script draws lies on the dot that Matplotlib has drawn, in both widths."""
    for size in SIZES:
        page = at(open_page, written, size)
        plot(page, "rates").focus()
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        lr, seed = page.locator(".tip").inner_text().splitlines()[0].removeprefix("rate ").split(", seed ")
        ring = plot(page, "rates").locator(".cursor")
        dot = plot(page, "rates").locator(f".seeds[data-lr='{format_rate(float(lr))}'] use[data-seed='{seed}']")
        for mine, drawn in (("cx", "x"), ("cy", "y")):
            assert float(ring.get_attribute(mine)) == pytest.approx(float(dot.get_attribute(drawn)), abs=0.05)


def test_the_slider_replays_training(open_page, written, result):
    page = at(open_page, written)
    slider = page.locator("#time")
    assert page.locator("#now").inner_text() == "2 of 2"
    dot = plot(page, "rates").locator(".seeds[data-lr='1e-2'] use[data-seed='0']")
    ended = float(dot.get_attribute("y"))
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#now").inner_text() == "1 of 2"
    assert slider.get_attribute("aria-valuetext") == "epoch 1 of 2"
    frame = result.evaluations
    early = frame[(frame.lr == 1e-2) & (frame.seed == 0) & (frame.epoch == 1)].val_accuracy.item()
    last = frame[(frame.lr == 1e-2) & (frame.seed == 0) & (frame.epoch == 2)].val_accuracy.item()
    moved = float(dot.get_attribute("y")) - ended
    assert (moved > 0) == (early < last)
    plot(page, "rates").focus()
    page.locator("#chips label", has_text="1e-2").click()
    plot(page, "rates").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".tip").inner_text() == f"rate 1e-2, seed 0\nvalidation accuracy {100 * early:.2f} %"
    assert (
        plot(page, "rates").locator("xpath=../h2").inner_text()
        == "Validation accuracy after 1 of 2 epochs, by learning rate"
    )
    widths = page.evaluate(
        """() => [...document.querySelectorAll('[data-figure=curves] .plot.screen .line[data-lr="1e-2"]>path')].map((line) => {
            const clip = document.getElementById(line.getAttribute('clip-path').slice(5, -1)).firstChild;
            return Number(clip.getAttribute('x')) + Number(clip.getAttribute('width'));
        })"""
    )
    places = page.evaluate("JSON.parse(document.getElementById('data').textContent).figures.curves.screen")
    for right, place in zip(widths, places, strict=True):
        left, _, end, _ = place["box"]
        _, low, high = place["x"]
        cut = left + (1 - low) / (high - low) * (end - left)
        assert right == pytest.approx(cut, abs=0.1)
    slider.press("End")
    assert (
        plot(page, "rates").locator("xpath=../h2").inner_text()
        == "Validation accuracy after 2 epochs, by learning rate"
    )
    assert float(dot.get_attribute("y")) == ended
    assert page.locator("[clip-path*=until]").count() == 0


def test_an_unfinished_study_is_at_a_time_of_its_horizon(open_page):
    page = at(open_page, page_of("still running"))
    assert page.locator("#now").inner_text() == "6 of 10"
    page.locator("#time").press("Home")
    assert page.locator("#now").inner_text() == "0 of 10"


def test_before_the_first_evaluation_nothing_has_been_reached(open_page, written):
    page = at(open_page, written)
    page.locator("#time").press("Home")  # epoch 0: evaluated, not trained
    assert page.locator("#now").inner_text() == "0 of 2"
    page.locator("#time").press("End")


def test_the_table_sorts_by_each_of_its_columns(open_page, written, result):
    page = at(open_page, written)
    shown = lambda: page.locator("#table tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.lr)")  # noqa: E731
    lrs = [format_rate(rate["lr"]) for rate in result.analysis["rates"]]
    assert shown() == lrs
    heads = page.locator("#table th button")
    assert heads.count() == 5
    heads.nth(0).click()
    assert shown() == lrs[::-1]
    assert page.locator("#table th").first.get_attribute("aria-sort") == "descending"
    means = {format_rate(rate["lr"]): rate["evidence"]["mean"] for rate in result.analysis["rates"]}
    heads.nth(2).click()
    order = shown()
    known = [means[lr] for lr in order if means[lr] is not None]
    assert known == sorted(known)
    heads.nth(2).click()
    assert [means[lr] for lr in shown() if means[lr] is not None] == known[::-1]


def test_the_evaluations_are_one_click_away(open_page, written, result, tmp_path):
    import pandas as pd

    page = at(open_page, written)
    with page.expect_download() as begun:
        page.locator("a[download]").click()
    begun.value.save_as(tmp_path / "got.csv")
    assert begun.value.suggested_filename == "evaluations.csv"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "got.csv"), result.evaluations, check_dtype=False)


@pytest.mark.parametrize("size", SIZES)
def test_it_is_readable_with_scripts_switched_off(open_page, written, result, size):
    page = at(open_page, written, size, java_script_enabled=False)
    assert page.locator("#controls").is_hidden()
    assert page.locator(".scripted").first.is_hidden()
    for figure in pages.which(result):
        assert plot(page, figure).locator("svg").is_visible()
    for rate in result.analysis["rates"]:
        row = page.locator(f"#table tr[data-lr='{format_rate(rate['lr'])}']")
        assert row.locator(".reason").inner_text() == rate["reason"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_leaves_the_page_and_no_text_is_too_small(open_page, written, size, scheme):
    page = at(open_page, written, size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    small = page.evaluate(
        """() => [...document.querySelectorAll('p, li, td, th, dd, dt, figcaption, .plot:not([hidden]) svg text')]
            .filter((one) => one.getClientRects().length && one.textContent.trim())
            .map((one) => {
                const svg = one.closest('svg');
                const scale = svg ? svg.getScreenCTM().a : 1;
                return [parseFloat(getComputedStyle(one).fontSize) * scale, one.textContent.trim()];
            })
            .filter(([size]) => size < 10.5)"""
    )
    assert not small
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 28)")


def test_texts_of_a_figure_do_not_overlap_in_the_pages_font(open_page, written):
    for size in SIZES:
        page = at(open_page, written, size)
        touching = page.evaluate(
            """() => [...document.querySelectorAll('.plot svg')].filter((svg) => svg.getClientRects().length).flatMap((svg) => {
                const texts = [...svg.querySelectorAll('text')].map((text) => [text.textContent, text.getBoundingClientRect()]);
                return texts.flatMap(([one, a], i) => texts.slice(i + 1)
                    .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3)
                    .map(([other]) => [one, other]));
            })"""
        )
        assert not touching, size


@pytest.mark.parametrize("name", MADE)
def test_every_study_opens_without_an_error(open_page, name):
    for size in SIZES:
        page = at(open_page, page_of(name), size)
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
        chips = page.locator("#chips label")
        if chips.count():
            chips.last.click()
        if page.locator("#time").count():
            page.locator("#time").press("Home")
        for figure in pages.which(made(name)):
            plot(page, figure).focus()
            page.keyboard.press("ArrowRight")


@pytest.mark.parametrize("look", ["light", "dark", "print"])
def test_a_hat_does_not_strike_through_its_letter(open_page, written, look):
    """In whatever font there is, a row of paper lies between the two."""
    page = at(open_page, written, color_scheme="dark" if look == "dark" else "light", device_scale_factor=4)
    if look == "print":
        page.emulate_media(media="print")
    over = page.locator("div.rule mover").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    clip = {"x": box["x"], "y": box["y"] - 3, "width": box["width"], "height": box["height"] + 3}
    pixels = matplotlib.image.imread(io.BytesIO(page.screenshot(clip=clip)))[..., :3]
    inked = (np.abs(pixels - pixels[0, 0]).max(axis=-1) > 0.3).any(axis=1)
    assert (np.diff(inked.astype(int)) == 1).sum() == 2, "the hat, and below it the letter"


def test_a_command_is_not_broken_within_a_number(open_page, written):
    """At every width a line of a command ends where a word or a comma does."""
    page = at(open_page, written)
    page.locator("pre code").first.evaluate("(code, text) => { code.innerHTML = text }", str(pages.code(LONG_COMMAND)))
    for width in range(320, 900, 20):
        page.set_viewport_size({"width": width, "height": 800})
        lines = page.locator("pre code").first.evaluate(
            """(code) => {
                const walk = document.createTreeWalker(code, NodeFilter.SHOW_TEXT), lines = [];
                for (let node = walk.nextNode(), last = null; node; node = walk.nextNode()) {
                    for (let i = 0; i < node.data.length; i += 1) {
                        const range = document.createRange();
                        range.setStart(node, i);
                        range.setEnd(node, i + 1);
                        const y = Math.round(range.getBoundingClientRect().bottom);
                        if (y !== last && node.data[i] !== " ") { lines.push(""); last = y; }
                        lines[lines.length - 1] += node.data[i];
                    }
                }
                return lines;
            }"""
        )
        assert "".join(lines) == LONG_COMMAND
        assert all(line.endswith((" ", ",")) for line in lines[:-1]), lines
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_path_that_is_longer_than_a_phone_does_not_leave_the_page(open_page, written):
    page = at(open_page, written, "a phone")
    command = f"etude judge {'/a-folder' * 12}/curves.csv"
    page.locator("pre code").first.evaluate("(code, text) => { code.innerHTML = text }", str(pages.code(command)))
    assert page.locator("pre code").first.inner_text() == command
    assert page.locator("pre").first.evaluate("(pre) => pre.scrollWidth <= pre.clientWidth")


def test_there_is_room_above_the_table_where_no_figure_is(open_page):
    page = at(open_page, page_of("one rate"))
    bar, head = page.locator("#controls").bounding_box(), page.locator("#readings").bounding_box()
    assert head["y"] - bar["y"] - bar["height"] > 20
    page = at(open_page, page_of("nothing trained yet"))
    bar, head = page.locator(".facts").bounding_box(), page.locator("#readings").bounding_box()
    assert head["y"] - bar["y"] - bar["height"] > 20


@pytest.mark.parametrize("width", [900, "print"])
def test_gaps_and_seeds_stay_where_there_is_room(open_page, written, width):
    page = open_page(viewport={"width": 688 if width == "print" else width, "height": 900})
    page.goto(written.as_uri())
    if width == "print":  # as wide as A4 within its margins
        page.emulate_media(media="print")
    assert page.locator("#table th:visible").count() == 6
    assert page.locator("#table").evaluate("(table) => table.scrollWidth <= table.parentElement.clientWidth")
    assert page.locator("#table .reason").first.bounding_box()["width"] > 250


def test_expected_and_observed_fit_a_phone(open_page, tmp_path):
    study = etude.Study.default("digits").replace(
        lrs=[1e-2, 0.1],
        seeds=1,
        epochs=1,
        expect={"1e-2": {"val_accuracy": [0.1, 0.2]}, "0.1": ["unstable", "diverged"]},
    )
    page = at(open_page, study.run(tmp_path / "run", executor="inline").report(), "a phone")
    assert "validation accuracy 10 to 20 %" in page.locator(".expected").inner_text()
    page.locator(".expected tr:last-child td:last-child").evaluate("(cell) => { cell.textContent = 'undetermined' }")
    page.locator(".expected tr:last-child td:nth-child(3)").evaluate("(cell) => { cell.textContent = 'undetermined' }")
    assert page.locator(".expected").evaluate("(table) => table.scrollWidth <= table.parentElement.clientWidth")


def test_it_prints(open_page, written, tmp_path):
    page = at(open_page, written, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("#controls").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 36, 51)"  # ink, on white paper
    printed = page.pdf(path=str(tmp_path / "report.pdf"), format="A4")
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000


# What JupyterLab 4 says of the tables of an output, where it differs from what a result asks for.
JUPYTERLAB = """
.jp-RenderedHTMLCommon td, .jp-RenderedHTMLCommon th, .jp-RenderedHTMLCommon tr
  { vertical-align: middle; padding: 0.5em; border: none; white-space: normal }
:not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon td, :not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon th { text-align: right }
.jp-RenderedHTMLCommon tbody tr:nth-child(odd) { background: rgb(245, 245, 245) }
"""


def test_a_notebooks_own_rules_do_not_disarrange_the_table(open_page, result):
    page = open_page()
    page.set_content(f"<style>{JUPYTERLAB}</style><div class='jp-RenderedHTMLCommon'>{result._repr_html_()}</div>")
    seen = page.evaluate(
        """() => Object.fromEntries(['td.reason', 'td.word', 'td.number', 'tbody tr', 'td'].map((which) => {
            const {textAlign, verticalAlign, backgroundColor, borderBottomStyle} = getComputedStyle(document.querySelector(which));
            return [which, {textAlign, verticalAlign, backgroundColor, borderBottomStyle}];
        }))"""
    )
    assert [seen[which]["textAlign"] for which in ("td.reason", "td.word", "td.number")] == ["left", "left", "right"]
    assert seen["td"]["verticalAlign"] == "top"
    assert seen["td"]["borderBottomStyle"] == "solid"
    assert seen["tbody tr"]["backgroundColor"] == "rgba(0, 0, 0, 0)"

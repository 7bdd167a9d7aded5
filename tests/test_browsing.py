"""The pages that tests open do notice what they are there to notice."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import browsing


@pytest.fixture
def address():
    """A server on this machine that has nothing; its address."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def closed(pages):
    """What the pages complain of."""
    with pytest.raises(AssertionError, match="errors or went to the network"):
        pages.close()
    return pages.complaints


def test_an_error_on_the_console_and_one_of_a_script_are_caught(browser):
    pages = browsing.Pages(browser)
    pages.open().set_content("<script>console.warn('well'); console.error('oh', 1); throw new Error('no')</script>")
    assert closed(pages) == ["console error: oh 1", "error in a script: no"]


@pytest.mark.parametrize("scripts", [True, False])
def test_a_request_is_caught_whoever_answers_it(browser, address, scripts):
    pages = browsing.Pages(browser)
    pages.open(java_script_enabled=scripts).set_content(f"<img src='{address}/x'>")
    assert f"request: {address}/x" in closed(pages)


def test_a_file_with_what_it_needs_inside_is_fine(page, tmp_path):
    (tmp_path / "page.html").write_text(
        "<!doctype html><title>A</title><img src='data:image/svg+xml,<svg xmlns=\"http://www.w3.org/2000/svg\"/>'>"
        "<script>document.title += 'B'; fetch(URL.createObjectURL(new Blob(['C']))).then(r => r.text())"
        ".then(text => document.title += text)</script>"
    )
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("document.title === 'ABC'")


@pytest.mark.parametrize(("ci", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_browser_skips_a_test_but_fails_in_ci(monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(browsing.shutil, "which", lambda name: None)
    with pytest.raises(outcome, match="none of chromium, chromium-browser, google-chrome"), browsing.launched():
        raise AssertionError("it was started")

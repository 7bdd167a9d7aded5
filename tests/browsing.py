"""A browser for tests: the system's Chromium, driven by Playwright, and pages that must say nothing and fetch nothing.

While Playwright runs, a loop of asyncio is under way in the thread of the tests: what calls ``asyncio.run`` goes to another.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request

NAMES = ("chromium", "chromium-browser", "google-chrome")
_OWN = ("about:", "blob:", "data:", "file:")  # where a page may have things from without a network


def lacking(what: str) -> None:
    """Skip the test, or fail it where `CI` is set."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def executable() -> str | None:
    """Return the path of the system's Chromium, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """Start the browser, and end it. Skips or fails (see `lacking`) where it or Playwright is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("needs Playwright: pip install -e '.[dev]'")
    path = executable()
    if path is None:
        lacking(f"needs a browser: none of {', '.join(NAMES)} is on the PATH; apt-get install chromium")
    with sync_playwright() as playwright:
        # The pages are our own, and the sandbox is not to be had as root or in a container.
        browser = playwright.chromium.launch(executable_path=path, chromium_sandbox=False)
        yield browser
        browser.close()


class Pages:
    """Opens pages and listens to them: `complaints` are errors of consoles and scripts, and what was asked of a network."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.complaints: list[str] = []
        self._opened: list[Page] = []

    def open(self, **context: Any) -> Page:
        """Return a page in a context of its own (``viewport={"width": 390, "height": 844}, color_scheme="dark", …``)."""
        page = self._browser.new_context(**context).new_page()
        page.on("console", self._said)
        page.on("pageerror", self._raised)
        page.on("request", self._requested)
        self._opened.append(page)
        return page

    def close(self) -> None:
        """Close the pages. Raises `AssertionError` with what they said or asked for."""
        for page in self._opened:
            if not page.is_closed():
                page.evaluate("0")  # what was said before it has been heard when it returns
            page.context.close()
        self._opened.clear()
        assert not self.complaints, "the page had errors or went to the network:\n" + "\n".join(self.complaints)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"console error: {message.text}")

    def _raised(self, error: Error) -> None:
        self.complaints.append(f"error in a script: {error}")

    def _requested(self, request: Request) -> None:
        if not request.url.startswith(_OWN):
            self.complaints.append(f"request: {request.url}")

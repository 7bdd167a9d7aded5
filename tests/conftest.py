"""Fixtures that several test files share: the command line in this process, small finished runs, and a browser's pages."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import browsing

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@dataclass(frozen=True)
class Said:
    """What a command did: its exit status, and what it wrote."""

    status: int
    out: str
    err: str


@pytest.fixture
def etude_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Run ``etude WORDS`` in this process, with ``tmp_path`` as the working directory."""
    from etude.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "250")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["etude", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Said(int(ended.value.code or 0), out, err)

    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report's figures out: each run ends with a report, which takes a second or two and has tests of its own."""
    monkeypatch.setattr(
        "etude.present.page.render", lambda result, *, fork=False: f"<title>{result.study['name']}</title>"
    )


def trained(directory: Path, task: str, **changes: Any) -> Path:
    """Train a built-in task's study in this process and return the run directory."""
    from etude.spec.study import Study

    Study.default(task).replace(**changes).run(directory, executor="inline")
    return directory


@pytest.fixture(scope="session")
def finished_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of digits, to be read only: three rates, two seeds, two epochs."""
    return trained(tmp_path_factory.mktemp("digits") / "run", "digits", lrs="1e-4,1e-2,1", seeds=2, epochs=2)


@pytest.fixture(scope="session")
def finished_bowl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of quadratic, to be read only: one rate too low, two that learn, one that diverges."""
    return trained(tmp_path_factory.mktemp("bowl") / "run", "quadratic", lrs="1e-9,0.1,1,10", epochs=40)


@pytest.fixture
def digits_run(finished_digits: Path, tmp_path: Path) -> Path:
    """A copy of the finished run of digits, at ``runs/digits`` below ``tmp_path``."""
    return Path(shutil.copytree(finished_digits, tmp_path / "runs" / "digits"))


@pytest.fixture
def bowl_run(finished_bowl: Path, tmp_path: Path) -> Path:
    """A copy of the finished run of quadratic, at ``runs/quadratic`` below ``tmp_path``."""
    return Path(shutil.copytree(finished_bowl, tmp_path / "runs" / "quadratic"))


@pytest.fixture
def tiny_task() -> Any:
    """64 examples of four numbers, two classes: a task of one's own."""
    import torch
    from torch import nn

    import etude

    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    return etude.Task(
        model=lambda: nn.Linear(4, 2), train=(x, (x[:, 0] > 0).long()), val=(x, (x[:, 0] > 0).long()),
        loss=nn.CrossEntropyLoss(), name="tiny",
    )  # fmt: skip


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium; a test without it is skipped, or fails in CI."""
    with browsing.launched() as started:
        yield started


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a page in a context of its own, with Playwright's options; the test fails if one has an error or goes to the network."""
    pages = browsing.Pages(browser)
    yield pages.open
    pages.close()


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """A page at 1280 × 720, in light; see `open_page`."""
    return open_page()


@pytest.fixture(autouse=True, scope="session")
def shared_studies(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tell `present_studies` where all workers keep theirs."""
    root = tmp_path_factory.getbasetemp()
    root = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "studies"
    root.mkdir(exist_ok=True)
    os.environ["ETUDE_TEST_STUDIES"] = str(root)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Have torch compute in one thread, as trials do: bits can be compared, and processes that test do not wait for each other."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

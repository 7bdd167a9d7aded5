"""The live table of a notebook: in a real kernel, and drawn from events."""

from __future__ import annotations

import importlib
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from etude.events import Failed, Preparing
from etude.present import notebook
from etude.spec.study import Study
from etude.spec.trial import Trial

# A cell each, by what it is about.
CELLS = {
    "inline": "study.run('inline', executor='inline').directory",
    "processes": "study.replace(name='two').run('processes', executor='processes', workers=2).directory",
    "find": "etude.Study.default('quadratic').replace(epochs=40).find('find', trials=4, executor='inline').directory",
    "own": "seen = []\nstudy.run('own', executor='inline', on_event=seen.append)\nlen(seen)",
    "refused": "try:\n    study.find('refused', trials=1)\nexcept etude.errors.SpecError:\n    print('refused')",
}


def need(name):
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The cells of a notebook after they ran in a kernel, and the messages of each, by name."""
    nbclient, nbformat, _ = need("nbclient"), need("nbformat"), need("ipykernel")
    messages: dict[str, list] = {name: [] for name in CELLS}
    names = [None, *CELLS]

    class Client(nbclient.NotebookClient):
        def process_message(self, msg, cell, cell_index):
            if cell_index and msg["msg_type"] in ("display_data", "update_display_data"):
                messages[names[cell_index]].append(msg)
            return super().process_message(msg, cell, cell_index)

    begin = "import etude\nstudy = etude.Study.default('quadratic').replace(lrs='0.1,1,10', epochs=40)"
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (begin, *CELLS.values())])
    folder = tmp_path_factory.mktemp("notebook")
    client = Client(made, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    with ThreadPoolExecutor(1) as elsewhere:  # a loop of asyncio may be under way in this thread: Playwright's
        elsewhere.submit(client.execute).result()
    return SimpleNamespace(cells=dict(zip(names, made.cells, strict=True)), messages=messages)


def displayed(executed, name):
    """The one display of a cell, as it stands at its end."""
    (display,) = [one for one in executed.cells[name].outputs if one.output_type == "display_data"]
    return display.data


def text(html):
    return re.sub(r"\s+", " ", re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL))


@pytest.mark.parametrize("name", ["inline", "processes", "find"])
def test_a_notebook_shows_one_table_that_is_updated_in_place(executed, name):
    first, *others = executed.messages[name]
    assert first["msg_type"] == "display_data"
    assert {message["msg_type"] for message in others} == {"update_display_data"}
    assert len({message["content"]["transient"]["display_id"] for message in (first, *others)}) == 1
    assert first["content"]["data"]["text/html"] != displayed(executed, name)["text/html"]


@pytest.mark.parametrize("name", ["inline", "processes"])
def test_the_table_ends_with_the_state_at_the_end(executed, name):
    shown = displayed(executed, name)
    assert "3 of 3 trials done" in text(shown["text/html"])
    assert "3 of 3 trials done" in shown["text/plain"]
    statuses = re.findall(r"(completed|diverged|running|pending)</td>", shown["text/html"])
    assert statuses == ["completed", "completed", "diverged"]
    assert f"into {name} (" in text(shown["text/html"])


def test_a_search_says_what_it_may_take_and_what_it_decided(executed):
    shown = text(displayed(executed, "find")["text/html"])
    assert "The budget (--trials 4) buys 4 trials' worth of steps" in shown.replace("&#x27;", "'")
    assert re.search(r"etude: searching for the rate of quadratic into find", shown)
    assert re.search(r"\d+\. .*; [\d,]+ steps done $", shown)
    assert "running" not in shown


def test_who_listens_for_themselves_gets_the_events_and_no_table(executed):
    (result,) = executed.cells["own"].outputs
    assert int(result.data["text/plain"]) > 3


def test_a_run_that_is_refused_shows_nothing(executed):
    assert [one.get("text") for one in executed.cells["refused"].outputs] == ["refused\n"]


def test_plain_python_shows_nothing_and_does_not_import_ipython(tmp_path, monkeypatch, capfd):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    Study.default("quadratic").replace(lrs="0.1,1", epochs=5).run(tmp_path / "run", executor="inline")
    assert capfd.readouterr() == ("", "")
    assert "IPython" not in sys.modules


@pytest.mark.parametrize(("name", "is_kernel"), [("TerminalInteractiveShell", False), ("ZMQInteractiveShell", True)])
def test_a_terminal_of_ipythons_is_no_notebook(monkeypatch, name, is_kernel):
    colab = type("Shell", (type(name, (), {}),), {})()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: colab))
    assert notebook.in_kernel() is is_kernel


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """The events of a run of 60 trials of a step."""
    seen = []
    study = Study.default("quadratic").replace(lrs="1e-3..1/20", seeds=3, epochs=1)
    study.run(tmp_path_factory.mktemp("many") / "run", executor="inline", on_event=seen.append)
    return seen


class Display:
    """Stands for IPython.display: counts what is shown."""

    def __init__(self):
        self.shown = []

    def display(self, data, *, raw, display_id):
        self.shown.append(data)
        return self

    def update(self, data, *, raw):
        self.shown.append(data)


@pytest.fixture
def display(monkeypatch):
    made = Display()
    monkeypatch.setitem(sys.modules, "IPython.display", made)
    return made


def test_it_is_drawn_at_most_a_few_times_a_second_and_ends_with_the_last_state(events, display, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(notebook, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    live = notebook.Live()
    for event in events:
        live(event)
        clock[0] += 0.125
    assert len(events) == 61
    assert len(display.shown) == 21  # the third event is the first that comes 0.3 s later or more
    live.end()
    assert "60 of 60 trials done" in display.shown[-1]["text/html"]


def test_preparing_that_takes_long_is_told_until_training_begins(events, display):
    live = notebook.Live()
    live(Preparing(seconds=20, place="/home/me/a<b.py, line 3"))
    assert "Preparing for 20 s, now in /home/me/a&lt;b.py, line 3." in display.shown[-1]["text/html"]
    live(events[0])
    assert "Preparing" not in live.html()


def test_of_many_trials_those_under_way_come_first_and_the_others_are_counted(events, display):
    live = notebook.Live()
    live(events[0])
    html = live.html()
    assert html.count("<tr>") == notebook.ROOM
    assert f"… and {61 - notebook.ROOM} more" in html


def test_a_trial_that_fails_says_why_and_no_text_becomes_markup(events, display):
    live = notebook.Live()
    live(events[0])
    live(Failed(trial=Trial(lr=1e-3, seed=0), reason="ValueError: <script>alert('&')</script>"))
    live.board.metric = "val_<b>"
    html = live.html()
    assert "failed: ValueError: &lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;</td>" in html
    assert "<script" not in html
    assert "&lt;b&gt;</th>" in html


def test_what_was_running_when_a_run_stopped_has_paused(events, display):
    live = notebook.Live()
    live(events[0])
    live.board.rows[Trial(lr=1e-3, seed=0)].status = "running"
    live.end()
    assert display.shown[-1]["text/html"].count("paused</td>") == 1

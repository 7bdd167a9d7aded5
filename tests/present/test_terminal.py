from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from etude.events import Advanced, Failed, Preparing, Started
from etude.notation import duration
from etude.present import words as sentences
from etude.present.progress import Progress
from etude.present.terminal import print_result
from etude.present.words import recipe_words
from etude.result import Result
from etude.spec.recipe import Recipe
from etude.spec.study import Study
from etude.spec.trial import Trial


def terminal(width=100, height=20):
    return Console(force_terminal=True, file=io.StringIO(), width=width, height=height, legacy_windows=False)


def frame(progress):
    """The lines of the live table as they would be shown now."""
    rendered = progress.console.render_lines(progress.table(), pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in rendered]


def watched(directory, console, task="digits", **changes):
    """Train with a live table; return the progress and what was shown after each event."""
    frames = []
    with Progress(console) as progress:

        def on_event(event):
            progress(event)
            frames.append(frame(progress))

        Study.default(task).replace(**changes).run(directory, executor="inline", on_event=on_event)
    return progress, frames


def test_a_terminal_shows_a_table_that_fills_and_a_summary(tmp_path):
    _, frames = watched(tmp_path / "run", terminal(), lrs=[1e-3, 1e-2], seeds=1, epochs=2)
    first, last = frames[0], frames[-1]
    assert first[0].split() == ["rate", "seed", "epoch", "loss", "accuracy", "steps/s"]
    assert [line.split()[0] for line in first[1:3]] == ["1e-3", "1e-2"]
    assert first[-1] == "0 of 2 trials done, 0 steps done, 84 left"
    assert last[-1] == "2 of 2 trials done, 84 steps done, 0 left"
    for line in last[1:3]:
        assert re.search(r" 2 +\d\.\d{4} +0\.\d{4} +completed$", line), line


def test_the_table_is_written_to_the_terminal_and_taken_away_again(tmp_path):
    console = terminal()
    watched(tmp_path / "run", console, lrs=[1e-3, 1e-2], seeds=1, epochs=2)
    written = console.file.getvalue()
    assert "trials done" in written
    assert "\x1b[2K" in written
    assert written.endswith(("\x1b[?25h", "\x1b[2K", "\n")) or "\x1b[?25h" in written


def test_a_diverged_trial_is_shown_as_one(tmp_path):
    _, frames = watched(tmp_path / "run", terminal(), task="quadratic", lrs=[0.1, 10], epochs=40)
    (line,) = [line for line in frames[-1] if line.split()[:1] == ["10"]]
    assert line.endswith("diverged")
    assert "not finite" in line or "inf" in line
    assert frames[-1][-1].startswith("2 of 2 trials done")


@pytest.mark.parametrize(("width", "height"), [(100, 20), (100, 10), (80, 24)])
def test_more_trials_than_the_terminal_has_lines_still_fit(tmp_path, width, height):
    _, frames = watched(
        tmp_path / "run", terminal(width, height), task="quadratic", lrs="1e-3..1/13", seeds=2, epochs=2
    )
    assert len(frames) == 27
    for lines in frames:
        assert len(lines) < height
        assert max(map(len, lines)) <= width
        assert re.fullmatch(r"… and \d+ more", lines[-2])
    shown = len(frames[0]) - 3
    assert frames[0][-2] == f"… and {26 - shown} more"
    assert frames[-1][-1].startswith("26 of 26 trials done")


def test_the_table_fits_a_small_terminal(tmp_path):
    _, frames = watched(tmp_path / "run", terminal(60, 12), task="quadratic", lrs="1e-3..1/9", epochs=2)
    assert all(len(lines) <= 12 for lines in frames)
    assert all(len(line) <= 60 for lines in frames for line in lines)


def test_trials_under_way_come_first_when_not_all_fit(tmp_path):
    study = Study.default("quadratic").replace(lrs="1e-3..1/20", epochs=2)
    progress = Progress(terminal(100, 10))
    events = []
    study.run(tmp_path / "run", executor="inline", on_event=events.append)
    progress(events[0])
    progress.board.rows[Trial(lr=1.0, seed=0)].status = "running"
    with progress:
        assert frame(progress)[1].split()[0] == "1"


def test_going_on_starts_from_what_is_stored(tmp_path):
    watched(tmp_path / "run", terminal(), lrs=[1e-3], seeds=1, epochs=2)
    _, frames = watched(tmp_path / "run", terminal(), lrs=[1e-3, 1e-2], seeds=1, epochs=2)
    assert frames[0][-1] == "1 of 2 trials done, 42 steps done, 42 left"
    assert re.search(r" 2 +\d\.\d{4} +0\.\d{4} +completed$", frames[0][1])


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """The events of a small run."""
    seen = []
    study = Study.default("digits").replace(lrs=[1e-3, 1e-2], seeds=1, epochs=2)
    study.run(tmp_path_factory.mktemp("events") / "run", executor="inline", on_event=seen.append)
    assert [type(event) for event in seen] == [Started, Advanced, Advanced]
    return seen


def plain(events, **settings):
    console = Console(file=io.StringIO(), width=40, force_terminal=False)
    with Progress(console, **settings) as progress:
        for event in events:
            progress(event)
    return console.file.getvalue()


def test_without_a_terminal_there_is_a_line_an_evaluation_and_no_escape(events):
    written = plain(events)
    assert "\x1b" not in written
    head, *lines = written.splitlines()
    assert head.startswith("etude: training digits, 2 trials into ")
    assert len(lines) == 4
    assert all(re.fullmatch(r"LR=0\.0\d+ \| Epoch [12]: Loss=\d\.\d{4}, Acc=0\.\d{4}", line) for line in lines)


def test_preparing_that_takes_long_is_told():
    slow = [Preparing(seconds=10, place="/home/me/study.py, line 12"), Preparing(seconds=80, place="")]
    assert plain(slow).splitlines() == [
        "Preparing for 10 s, now in /home/me/study.py, line 12.",
        "Preparing for 1 min 20 s.",
    ]


def test_quiet_writes_nothing(events):
    assert plain([Preparing(seconds=10, place=""), *events], quiet=True) == ""


def test_a_trial_that_fails_is_told_with_its_reason_as_it_is(events):
    failed = Failed(trial=Trial(lr=1e-2, seed=0), reason="ValueError: [bold]no[/bold]")
    assert "LR=0.01 | failed: ValueError: [bold]no[/bold]" in plain([events[0], failed]).splitlines()
    with Progress(terminal()) as progress:
        progress(events[0])
        progress(failed)
        assert frame(progress)[2].endswith("failed")
        assert frame(progress)[-1].startswith("1 of 2 trials done")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.4, "0 s"), (45, "45 s"), (59.6, "1 min 0 s"), (190, "3 min 10 s"), (3599.7, "1 h 0 min"), (7500, "2 h 5 min")],
)  # fmt: skip
def test_durations_are_written_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("width", [40, 60, 100])
@pytest.mark.parametrize("name", ["finished_digits", "finished_bowl"])
def test_a_result_fits_the_terminal_but_for_the_command_to_copy(request, name, width):
    result = Result.load(request.getfixturevalue(name))
    console = Console(force_terminal=True, file=io.StringIO(), width=width, color_system=None)
    print_result(console, result)
    lines = console.file.getvalue().splitlines()
    command = result.recommendation.next_command
    assert any(command in line for line in lines)
    assert [line for line in lines if len(line) > width and command not in line] == []


def test_a_result_names_every_rate_with_its_verdict(finished_bowl):
    console = Console(file=io.StringIO(), width=200)
    print_result(console, Result.load(finished_bowl))
    written = console.file.getvalue()
    for rate, verdict in (("1e-9", "too low"), ("1", "good"), ("10", "diverged")):
        assert re.search(rf"^ *{rate} +{verdict} ", written, re.MULTILINE)
    assert "\x1b" not in written


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({}, ["adam", "batch 64"]),
        ({"optimizer": "adamw", "weight_decay": 0.1, "accumulate": 4}, ["adamw with weight decay 0.1", "4 × batch 64"]),
        ({"schedule": "cosine", "warmup": "5%"}, ["adam", "batch 64", "cosine after a warmup of 5%"]),
        ({"warmup": 1}, ["adam", "batch 64", "warmup of 1 epoch"]),
        ({"schedule": "wsd", "clip_norm": 0.5}, ["adam", "batch 64", "wsd schedule", "gradient norm up to 0.5"]),
        ({"precision": "bf16", "average": "ema"}, ["adam", "batch 64", "bf16", "ema of the weights"]),
        ({"batch_size": None}, ["adam", "batches as the data make them"]),
    ],
)
def test_a_recipe_is_told_as_far_as_it_is_not_the_usual_one(recipe, words):
    assert recipe_words(Recipe(**recipe).to_dict()) == words


@pytest.mark.parametrize(
    ("of", "expected", "observed", "told"),
    [
        ("val_accuracy", [0.97, 0.98], 0.94, ("validation accuracy 97 to 98 %", "94.0 %")),
        ("val_accuracy", [0.97, 0.98], 0.9804, ("validation accuracy 97 to 98 %", "98.04 %")),
        ("val_accuracy", [0.985, 1], 0.9951, ("validation accuracy 98.5 to 100 %", "99.51 %")),
        ("val_f1", [97, 98], 97.5, ("validation f1 97 to 98 %", "97.5 %")),
        ("val_loss", [0.1, 0.3], 0.22881, ("validation loss 0.1 to 0.3", "0.229")),
        ("val_loss", [0.1, 0.3], 0.30004, ("validation loss 0.1 to 0.3", "0.30004")),
        ("val_loss", [0.1, 0.3], None, ("validation loss 0.1 to 0.3", "no score")),
        ("verdict", ["unstable", "diverged"], "good", ("unstable or diverged", "good")),
    ],
)
def test_what_was_expected_and_observed_is_told_as_readings_are(finished_digits, of, expected, observed, told):
    part = {"of": of, "expected": expected, "observed": observed}
    assert sentences.expectation(Result.load(finished_digits), part) == told


def test_a_recipe_stored_before_there_was_more_to_say_is_told():
    stored = {"optimizer": "sgd", "optimizer_options": {}, "schedule": "linear", "batch_size": 10}
    assert recipe_words(stored) == ["sgd", "batch 10", "linear schedule"]


def test_a_search_adds_the_trials_that_it_asks_for_and_shows_those_that_it_paused(tmp_path):
    frames = []
    with Progress(terminal(140, 40)) as progress:

        def on_event(event):
            progress(event)
            frames.append(frame(progress))

        study = Study.default("quadratic").replace(epochs=40)
        study.find(tmp_path / "run", trials=6, executor="inline", on_event=on_event)
    written = progress.console.file.getvalue()
    assert "The budget (--trials 6) buys 6 trials' worth of steps" in written
    assert "searching for the rate of quadratic" in written
    decided = [lines[-1] for lines in frames if re.match(r"\d+\. ", lines[-1])]
    assert decided[0].startswith("1. ")
    assert len({line.partition(".")[0] for line in decided}) > 2
    last = frames[-1]
    assert len(frames[1]) < len(last), "rates appear when they are asked for"
    assert any(line.endswith("paused") for line in last)
    assert any(line.endswith("completed") for line in last)

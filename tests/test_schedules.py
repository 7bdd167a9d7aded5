"""Schedules from the command line to the figure: trained, extended, refused, stored, drawn."""

import dataclasses
import json
import sqlite3
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch.optim import lr_scheduler

import etude
from etude import options, store
from etude.engine.session import Session, Setup
from etude.errors import MismatchError, SpecError
from etude.events import Started
from etude.present import figures
from etude.present.schedule import schedule_figure
from etude.result import Result
from etude.spec.schedule import SCHEDULES as KINDS
from etude.spec.study import Study
from etude.spec.trial import Trial
from etude.store import DATABASE

pytestmark = pytest.mark.usefixtures("undrawn")

BOWL = Study.default("quadratic").replace(lrs=[0.1, 1.0], epochs=40)


def restarts(step):
    return 1.0 - (step % 15) / 15


def with_recipe(study=BOWL, **fields):
    return study.replace(recipe=etude.Recipe(**{"optimizer": "sgd", "batch_size": 10, **fields}))


def trained(study, directory, **kwargs):
    return study.run(directory, executor="inline", **kwargs)


def scores(result):
    return [(t.lr, t.step, [(e.step, e.metrics) for e in t.evaluations]) for t in result.judged]


@pytest.mark.parametrize(
    ("fields", "make"),
    [
        ({"schedule": "wsd", "schedule_options": {"decay": 0.5, "shape": "linear"}},
         lambda o: lr_scheduler.LambdaLR(o, lambda t: min(1.0, (40 - t) / 20))),
        ({"schedule": "step", "schedule_options": {"every": 8, "factor": 0.5}, "warmup": "4 steps"},
         lambda o: lr_scheduler.SequentialLR(
             o, [lr_scheduler.LinearLR(o, 0.25, total_iters=3), lr_scheduler.StepLR(o, 8, 0.5)], [4])),
        ({"schedule": restarts}, lambda o: lr_scheduler.LambdaLR(o, restarts)),
    ],
    ids=["wsd", "warmup, step", "function"],
)  # fmt: skip
def test_a_session_trains_as_a_loop_with_torchs_scheduler_does(fields, make):
    study = with_recipe(**fields)
    task = study.make_task()
    horizon = 40.0 if study.recipe.depends_on_horizon else None
    session = Session.open(Setup(task=task, recipe=study.recipe), Trial(lr=0.5, seed=0, horizon=horizon))
    history = session.run(40)

    torch.manual_seed(0)
    model = Session.open(Setup(task=task, recipe=study.recipe), Trial(lr=0.5, seed=0, horizon=horizon)).model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(optimizer)
        for _ in range(40):
            optimizer.zero_grad()
            loss = task.loss(model(task.train.inputs), task.train.targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
    assert history.loss == pytest.approx(np.array(losses, np.float32), rel=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"warmup": "6 steps"},
        {"schedule": "step", "schedule_options": {"every": 7}, "warmup": 3},
        {"schedule": "exponential", "schedule_options": {"factor": 0.95}},
        {"schedule": restarts, "warmup": 2},
    ],
    ids=["constant", "step", "exponential", "a function"],
)
def test_without_a_horizon_more_epochs_extend_the_trials(tmp_path, fields):
    study = with_recipe(**fields)
    whole = trained(study, tmp_path / "whole")
    trained(study.replace(epochs=20), tmp_path / "cut")
    extended = trained(study, tmp_path / "cut")
    assert scores(extended) == scores(whole)
    assert len(extended.stored.trials) == 2


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"warmup": "10%"}, "The warmup of 10% depends on the horizon: 40 epochs are other trials"),
        ({"schedule": "wsd"}, "The wsd schedule depends on the horizon: 40 epochs are other trials"),
        ({"schedule": "cosine", "warmup": "10%"}, "The cosine schedule with a warmup of 10% depends on the horizon"),
        ({"warmup": 2}, None),
    ],
    ids=str,
)
def test_more_epochs_are_other_trials_where_the_horizon_matters_and_that_is_said(tmp_path, fields, said):
    study, notices = with_recipe(**fields), []
    trained(study.replace(epochs=20), tmp_path / "run")
    trained(study, tmp_path / "run", on_event=lambda e: notices.extend(e.notices) if isinstance(e, Started) else None)
    assert len(store.read(tmp_path / "run").trials) == (2 if said is None else 4)
    assert notices == [] if said is None else notices[0].startswith(said)


def test_a_function_goes_to_worker_processes(tmp_path):
    study = with_recipe(schedule=lambda step: 1 / (1 + step), warmup="3 steps")
    spread = study.run(tmp_path / "spread", executor="processes", workers=2)
    assert scores(spread) == scores(trained(study, tmp_path / "one"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"warmup": 50}, r"study\.recipe\.warmup: expected less than the study's 40 steps, got 50 \(50 epochs\)"),
        (
            {"schedule": lambda step: 1 - step},
            r"<lambda>\(\) \(.*test_schedules\.py, line \d+\): expected a finite factor",
        ),
        ({"schedule": lambda step: 1 / abs(step - 39)}, "raised ZeroDivisionError at step 39"),
    ],
    ids=["warmup", "negative", "raises"],
)
def test_what_cannot_be_leaves_no_run(tmp_path, fields, said):
    with pytest.raises(SpecError, match=said):
        trained(with_recipe(**fields), tmp_path / "runs" / "new")
    assert list(tmp_path.iterdir()) == []


def test_an_edited_function_is_noticed(tmp_path):
    trained(with_recipe(schedule=restarts), tmp_path / "run")

    def edited(step):
        return 1.0 - (step % 15) / 16

    edited.__name__ = "restarts"
    with pytest.raises(MismatchError, match=r"recipe\.schedule_digest"):
        trained(with_recipe(schedule=edited), tmp_path / "run")


def as_stored_before(directory):
    """Take out of a run what there was not when runs had neither options nor a warmup."""
    with sqlite3.connect(directory / DATABASE) as db:
        study, identity = (json.loads(text) for text in db.execute("SELECT study, identity FROM study").fetchone())
        for recipe in (study["recipe"], identity["recipe"]):
            recipe.pop("schedule_options", None)
            recipe.pop("warmup", None)
        db.execute("UPDATE study SET study = ?, identity = ?", (json.dumps(study), json.dumps(identity)))
    db.close()


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_stored_before_goes_on_and_is_drawn(tmp_path, etude_command, schedule):
    study, directory = with_recipe(schedule=schedule), tmp_path / "run"
    first = trained(study, directory)
    as_stored_before(directory)
    assert schedule_figure(Result.load(directory)).factors[0] == 1
    assert etude_command("resume", directory, "--lrs", "0.5", "--executor", "inline").status == 0
    assert {t.lr for t in Result.load(directory).judged} == {0.1, 0.5, 1.0}
    as_stored_before(directory)
    again = trained(study, directory)
    assert [row for row in scores(again) if row[0] != 0.5] == scores(first)
    with pytest.raises(MismatchError, match=r"recipe\.warmup is 0\.0 there and 5 steps here"):
        trained(with_recipe(schedule=schedule, warmup="5 steps"), directory)
    trained(study, tmp_path / "new")
    as_stored_before(directory)
    said = etude_command("compare", directory, tmp_path / "new")
    assert said.status == 0
    assert "recipe" not in said.out


def test_options_of_the_command_line_reach_the_recipe(etude_command, tmp_path):
    said = etude_command(
        "run", "quadratic", "--lrs", "0.1", "--epochs", "20", "--executor", "inline", "--schedule", "WSD",
        "--schedule-options", "decay=0.5,shape=linear", "--warmup", "10%",
    )  # fmt: skip
    assert (said.status, said.err) == (0, "")
    recipe = store.read(tmp_path / "runs" / "quadratic").study["recipe"]
    assert recipe["schedule"] == "wsd"
    assert recipe["schedule_options"] == {"decay": 0.5, "shape": "linear"}
    assert recipe["warmup"] == "10%"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--warmup", "ten"), "study.recipe.warmup: expected a number of epochs, '500 steps', or '5%'"),
        (("--schedule", "step"), "study.recipe.schedule_options: step needs 'every'"),
        (("--schedule", "wsd", "--schedule-options", "deacy=0.1"), "wsd has no option 'deacy'; did you mean 'decay'?"),
        (("--schedule-options", "end"), "--schedule-options: expected NAME=VALUE"),
        (("--schedule", "one-cycle", "--warmup", "1"), "one-cycle rises by itself"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_status_2(etude_command, tmp_path, words, said):
    got = etude_command("run", "quadratic", *words)
    assert (got.status, got.out) == (2, "")
    assert said in got.err
    assert got.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_study_file_has_a_warmup_and_another_schedule_drops_its_options(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'task = "quadratic"\nrecipe = { schedule = "cosine", schedule_options = { end = 0.1 }, warmup = "5%" }\n'
    )
    study = Study.from_toml(path)
    assert (study.recipe.schedule, study.recipe.schedule_options, study.recipe.warmup) == ("cosine", {"end": 0.1}, "5%")
    linear = options.with_options(study, {"schedule": "linear"}).recipe
    assert (linear.schedule, linear.schedule_options, linear.warmup) == ("linear", {"end": 0.0}, "5%")
    assert options.with_options(study, {"schedule": "Cosine", "warmup": "0"}).recipe.schedule_options == {"end": 0.1}


def test_a_built_in_task_with_a_function_goes_on_by_its_script(tmp_path, etude_command):
    result = trained(with_recipe(schedule=restarts), tmp_path / "run")
    said = etude_command("resume", tmp_path / "run")
    assert said.status == 2
    assert "its recipe is Python code of your own; run your script again, study.run(" in said.err
    command = result.recommendation.next_command
    assert command is None or command.startswith("study.")
    with pytest.raises(SpecError, match=r"restarts\(\) is a function of your own, stored by its name alone"):
        etude.Recipe(**result.study["recipe"])


# --- the figure ---

SCHEDULES = {
    "constant": {},
    "warmup": {"warmup": 10},
    "cosine": {"schedule": "cosine", "warmup": "5%"},
    "one-cycle": {"schedule": "one-cycle"},
    "step": {"schedule": "step", "schedule_options": {"every": 15}},
    "exponential": {"schedule": "exponential", "schedule_options": {"factor": 0.9}},
    "wsd": {"schedule": "wsd", "warmup": "10%"},
    "function": {"schedule": restarts, "warmup": "4 steps"},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("schedules")
    made = {name: trained(with_recipe(**fields), root / name) for name, fields in SCHEDULES.items()}
    made["one rate"] = trained(with_recipe(BOWL.replace(lrs=[0.1]), schedule="cosine"), root / "one rate")
    made["close rates"] = trained(with_recipe(BOWL.replace(lrs=[0.1, 0.11, 0.12])), root / "close rates")
    made["twelve rates"] = trained(with_recipe(BOWL.replace(lrs="1e-4..1/12"), warmup=5), root / "twelve rates")
    return made


DRAWN = [*SCHEDULES, "one rate", "close rates", "twelve rates"]


@pytest.mark.parametrize("name", DRAWN)
def test_the_figure_shows_the_rates_that_trained(results, name):
    result = results[name]
    data = schedule_figure(result)
    recipe = etude.Recipe(**SCHEDULES.get(name, {"warmup": 5} if name == "twelve rates" else {}))
    if name == "one rate":
        recipe = etude.Recipe(schedule="cosine")
    expected = [recipe.factor(k, steps_per_epoch=1, horizon_step=40) for k in range(1, 41)]
    assert data.factors == pytest.approx(np.array(expected), abs=1e-8)
    assert data.x.tolist() == list(range(1, 41))
    assert data.lrs == tuple(result.study["lrs"])
    assert data.logarithmic == (name not in ("one rate", "close rates"))


@pytest.mark.parametrize(
    ("name", "goes_on"), [("cosine", True), ("warmup", False), ("step", False), ("one rate", False)]
)
def test_the_note_says_where_lines_leave_the_frame(results, name, goes_on):
    data = schedule_figure(results[name])
    assert ("The axis ends near 1e-3; rates go on below it." in data.note) == goes_on
    assert (data.lrs[0] * data.factors.min() < data.limits[0]) == goes_on


@pytest.mark.parametrize("name", DRAWN)
def test_the_figure_is_drawn_without_a_warning_and_its_labels_do_not_touch(results, name):
    figure = matplotlib.figure.Figure(figsize=figures.FIGURES["schedule"].size, layout="constrained")
    FigureCanvasAgg(figure)  # a canvas that lays out
    ax = figure.subplots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results[name].plot("schedule", ax=ax)
        figure.canvas.draw()
    lines = {line.get_gid(): line for line in ax.lines}
    assert len(lines) == len(results[name].study["lrs"])
    boxes = [text.get_window_extent() for text in [*ax.texts, ax.title, ax._left_title] if text.get_text()]
    page = figure.bbox
    for i, box in enumerate(boxes):
        assert box.x0 >= page.x0
        assert box.x1 <= page.x1
        assert box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    rates = {float(text.get_text()) for text in ax.texts if text.get_text()[0].isdigit()}
    assert rates == (
        {results[name].recommendation.lr} - {None} if name == "twelve rates" else set(results[name].study["lrs"])
    )
    assert any(text.get_text() == "warmup" for text in ax.texts) == bool(schedule_figure(results[name]).warmup)


def test_a_long_run_is_drawn_by_2000_of_its_steps(results):
    result = results["warmup"]
    stored = dataclasses.replace(
        result.stored,
        study={**result.study, "recipe": {**result.study["recipe"], "warmup": "777 steps"}},
        identity={**result.stored.identity, "steps_per_epoch": 10_000},
    )
    data = schedule_figure(Result(result.directory, stored, result.objective))
    assert len(data.x) <= 2002
    assert data.x[-1] == 40
    place = data.x.tolist().index(777 / 10_000)
    assert data.factors[place - 1] < 1
    assert data.factors[place:].tolist() == [1.0] * (len(data.x) - place)


def test_a_function_is_drawn_from_the_store_alone(results, tmp_path, monkeypatch):
    def never(step):
        raise AssertionError("the function was called")

    monkeypatch.setattr("etude.spec.function.check", never)
    data = schedule_figure(Result.load(results["function"].directory))
    assert "restarts(), from 36 stored factors; linear warmup of 4 steps" in data.note
    assert len(data.x) == 40


def test_a_shorter_or_longer_horizon_keeps_the_function_where_it_was(tmp_path):
    study = with_recipe(schedule=restarts, warmup="10%")
    trained(study.replace(epochs=20), tmp_path / "run")
    result = trained(study, tmp_path / "run")
    expected = [study.recipe.factor(k, steps_per_epoch=1, horizon_step=40) for k in range(1, 41)]
    assert schedule_figure(result).factors == pytest.approx(np.array(expected), abs=1e-8)


def test_the_figure_is_saved_by_the_command(results, etude_command):
    directory = results["wsd"].directory
    said = etude_command("plot", directory, "--figure", "schedule", "--format", "svg")
    assert (said.status, said.err) == (0, "")
    text = (directory / "figures" / "schedule.svg").read_text()
    assert "1 − √ decay over the last 20 %" in text


def test_curves_from_elsewhere_have_no_schedule(tmp_path, etude_command):
    losses = [(lr, epoch, 1 / (1 + lr * epoch)) for lr in (0.1, 1) for epoch in range(4)]
    rows = "".join(f"{lr},{epoch},{loss},{loss}\n" for lr, epoch, loss in losses)
    (tmp_path / "curves.csv").write_text("lr,epoch,train_loss,val_loss\n" + rows)
    result = etude.judge(tmp_path / "curves.csv")
    assert figures.names(result) == ["curves", "rates", "verdicts"]
    with pytest.raises(SpecError, match="figure 'schedule' needs the recipe of a run that etude trained"):
        result.plot("schedule")
    said = etude_command("judge", "curves.csv", "--out", "pictures")
    assert (said.status, said.err) == (0, "")
    assert sorted(path.stem for path in (tmp_path / "pictures").glob("*.png")) == ["curves", "rates", "verdicts"]


def test_the_page_has_each_schedule_with_its_usual_options():
    page = (Path(__file__).parent.parent / "docs" / "howto" / "schedules.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `")}
    assert set(rows) == {f"`{name}`" for name in KINDS}
    for name, kind in KINDS.items():
        _, _, _, options, horizon, _ = rows[f"`{name}`"].split("|")
        assert horizon.strip() == ("yes" if kind.horizon else "no")
        for option, (usual, _, _) in kind.options.items():
            text = usual if isinstance(usual, str) else f"{usual:g}" if usual is not None else None
            assert f"`{option}` (" in options if text is None else f"`{option}` = {text}" in options

"""Searches from end to end: budgets that are kept, crashes, Ctrl-C, trials that hang or take too much memory."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import textwrap
import time

import psutil
import pytest
import torch
from torch import nn

import etude
import programs
from etude import carrying, events, finding, runner, store, watching
from etude.errors import SpecError, TrainingError
from etude.execution.carrier import Slice
from etude.notation import duration
from etude.present.board import estimate_lines
from etude.search import Decision, Request
from etude.spec.budget import Budget
from etude.spec.trial import Trial

pytestmark = pytest.mark.usefixtures("undrawn")

BOWL = etude.Study.default("quadratic").replace(epochs=40)


@pytest.fixture(scope="module")
def whole_search(tmp_path_factory):
    """A finished search of quadratic for six trials' worth, to be read only."""
    directory = tmp_path_factory.mktemp("searched") / "run"
    BOWL.find(directory, trials=6, executor="inline")
    return directory


@pytest.fixture
def searched(whole_search, tmp_path):
    return shutil.copytree(whole_search, tmp_path / "run")


def curves(directory):
    """All that was recorded and decided."""
    steps, stored = store.read_steps(directory), store.read(directory)
    return stored.decisions, {t.trial: (steps[t.id], t.evaluations, t.status, t.step, t.ends) for t in stored.trials}


def told(study, directory, **options):
    seen = []
    result = study.find(directory, executor="inline", on_event=seen.append, **options)
    return seen, result


def test_a_search_is_an_ordinary_run_that_says_what_it_decided_and_cost(searched):
    result = etude.Result.load(searched)
    assert result.complete
    assert result.searched
    assert result.horizon == 40
    said = result.to_dict()["search"]
    assert (said["searcher"], said["range_source"], said["budget"]) == (
        "adaptive", "usual", {"kind": "trials", "amount": 6.0},
    )  # fmt: skip
    assert said["cost"]["trials"] <= 6
    trained = sum(t.step for t in result.stored.trials)
    assert said["cost"]["steps"] == trained
    assert said["cost"]["trials"] == pytest.approx(trained / 40)
    assert said["cost"]["share_of_grid"] == pytest.approx(trained / 40 / 39)
    assert said["ended"] == said["decisions"][-1]["why"]
    assert "search" not in result.to_dict()["study"]
    assert {t.lr for t in result.stored.trials} == {*result.study["lrs"]}
    paused = [t for t in result.stored.trials if t.status == "paused"]
    assert paused
    assert all(t.step in t.ends and t.end_step == 40 and t.evaluations[-1].step == t.step for t in paused)
    assert result.recommendation.lr in {t.lr for t in result.stored.trials if t.status == "completed"}
    assert json.loads(json.dumps(result.to_dict()))["search"] == said


def test_two_searches_decide_and_answer_alike_and_the_same_command_again_does_nothing(searched, tmp_path):
    _, other = told(BOWL, tmp_path / "other", trials=6)
    assert curves(tmp_path / "other") == curves(searched)
    before = curves(searched)
    seen, again = told(BOWL, searched, trials=6)
    assert not [event for event in seen if isinstance(event, events.Advanced)]
    assert curves(searched) == before
    assert again.recommendation.lr == other.recommendation.lr


def test_the_estimate_comes_first_and_tells_what_the_budget_buys(searched):
    seen, _ = told(BOWL, searched, trials=6)
    estimate = seen[0]
    assert isinstance(estimate, events.Estimated)
    assert estimate.trials == 6
    assert 0 < estimate.spent_trials <= 6
    assert estimate.epoch_s == pytest.approx(estimate.step_s * 1)  # one step an epoch
    assert estimate.seconds == pytest.approx(6 * 40 * estimate.epoch_s)


def test_a_larger_budget_goes_on_from_there(searched):
    before, seen_before = curves(searched)
    study = BOWL.replace(seeds=2)  # what a study names is for run
    seen, result = told(study, searched, trials=40, lrs="1e-3..10")
    after, seen_after = curves(searched)
    assert after[: len(before)] == before
    assert {trial: state[3] for trial, state in seen_before.items()}.items() <= {
        trial: min(state[3], seen_before[trial][3]) for trial, state in seen_after.items() if trial in seen_before
    }.items()
    assert result.search.search.budget == Budget(kind="trials", amount=40)
    assert (result.search.search.low, result.search.search.range_source) == (1e-3, "given")
    assert result.search.search.seeds == tuple(range(10)), "the search's own, which were not said again"
    assert isinstance(seen[0], events.Estimated)


def test_what_run_trained_before_is_free_and_what_it_trains_after_is_not_the_searchs(tmp_path):
    BOWL.replace(lrs=[1e-2, 1.0]).run(tmp_path / "run", executor="inline")
    _, result = told(BOWL, tmp_path / "run", trials=6)
    assert result.search.steps == sum(t.step for t in result.stored.trials) - 80
    spent = result.search.steps
    runner.run(BOWL.replace(lrs=[0.3]), tmp_path / "run", executor="inline")
    after = etude.Result.load(tmp_path / "run")
    assert 0.3 in after.study["lrs"]
    assert after.searched
    assert after.search.steps == spent
    assert after.complete
    assert store.read(tmp_path / "run").searched_s < time.time() - after.stored.created


def test_run_with_rates_trains_just_these_and_resume_extends_what_was_carried_to_the_end(etude_command, searched):
    paused = {t.trial for t in store.read(searched).trials if t.status == "paused"}
    completed = {t.lr for t in store.read(searched).trials if t.status == "completed"}
    assert etude_command("resume", searched, "--executor", "inline").status == 0
    assert {t.trial for t in store.read(searched).trials if t.status == "paused"} == paused
    said = etude_command("resume", searched, "--lrs", "0.3,0.5", "--executor", "inline")
    assert "2 trials into" in said.out
    said = etude_command("resume", searched, "--seeds", "2", "--executor", "inline")
    assert f"{len(completed) + 2} trials into" in said.out
    assert {t.lr for t in store.read(searched).trials if t.seed == 1} == completed | {0.3, 0.5}
    assert {t.trial for t in store.read(searched).trials if t.status == "paused"} == paused
    assert etude.Result.load(searched).complete


def test_the_command_tells_the_estimate_the_decisions_and_the_cost(etude_command, tmp_path):
    said = etude_command("find", "quadratic", "--trials", "6", "--epochs", "40", "--executor", "inline", "--out", "run")
    assert said.status == 0, said.err
    first, *rest = said.out.splitlines()
    assert first == "Rates from 1e-5 to 10, as is usual for the optimizer; seeds 0 to 9; to 40 epochs."
    assert rest[0].startswith("A step takes about ")
    assert re.match(
        r"The budget \(--trials 6\) buys 6 trials' worth of steps, about .*: 15 % of a grid of 13 rates × 3", rest[1]
    )
    assert any(line.startswith("Decision 1: ") for line in rest)
    assert "How the search went:" in rest
    assert re.search(
        r"^It cost [\d.]+ trials' worth of steps, \d+ % of a grid of 13 rates × 3 seeds, in ", said.out, re.M
    )
    assert re.search(r"^It ended: ", said.out, re.M)
    assert "Not finished" not in said.out
    shown = etude_command("show", "run").out
    assert shown.strip() in said.out
    assert etude_command("list", ".").out.startswith("run  quadratic, sgd")
    assert etude_command("plot", "run").status == 0


def test_a_dry_run_tells_the_estimate_and_stores_nothing(etude_command, tmp_path):
    said = etude_command("find", "digits", "--dry-run")
    assert said.status == 0
    assert len(said.out.splitlines()) == 3
    assert "The budget (--cost 0.25) buys 9.75 trials' worth of steps" in said.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "0m"), "budget: expected a time such as 20m"),
        (("--budget", "soon"), "got 'soon'"),
        (("--trials", "3", "--cost", "0.5"), "trials and cost: expected one of"),
        (("--trials", "1.5"), "budget: expected what buys 2 trials at least, got --trials 1.5, which buys 1.5"),
        (("--cost", "0.01"), "give --cost 0.052 or more"),
        (("--budget", "0.001s"), "which buys 0: getting ready took "),
        (("--budget", "0.001s"), "or more, or fewer --epochs"),
        (("--lrs", "1e-4..1e-1/4"), "lrs: expected LOW..HIGH, a range to search"),
        (("--searcher", "adaptiv"), "searcher: no searcher is named 'adaptiv'; did you mean 'adaptive'?"),
        (("--seeds", "0"), "study.seeds"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_in_one_line_and_makes_no_file(etude_command, tmp_path, words, said):
    got = etude_command("find", "quadratic", "--executor", "inline", *words)
    assert (got.status, len(got.err.splitlines())) == (2, 1), got
    assert said in got.err
    assert list(tmp_path.iterdir()) == []


def test_a_study_needs_no_rates_to_be_searched(tmp_path, tiny_task):
    study = etude.Study(task=tiny_task, epochs=4, recipe=etude.Recipe(batch_size=16))
    _, result = told(study, tmp_path / "run", trials=4, lrs="1e-4..1")
    assert result.complete
    with pytest.raises(SpecError, match="has none, so etude cannot train it"):
        etude.Study(name="mine", epochs=1).find(tmp_path / "other")


def test_with_a_schedule_each_rung_is_a_trial_of_its_own_horizon(tmp_path):
    study = etude.Study.default("digits").replace(epochs=8, recipe=etude.Recipe(schedule="cosine"))
    _, result = told(study, tmp_path / "run", trials=5)
    horizons = {t.horizon for t in result.stored.trials}
    assert len(horizons) > 1
    assert max(horizons) == result.horizon == 8
    assert result.complete
    seen, _ = told(study, tmp_path / "run", trials=6)
    (begun,) = (event for event in seen if isinstance(event, events.Started))
    assert not [one for one in begun.notices if "are other trials" in one], "the rungs are its own"
    seen, _ = told(study.replace(epochs=4), tmp_path / "run", trials=3)
    (begun,) = (event for event in seen if isinstance(event, events.Started))
    assert any("4 epochs are other trials, trained from the start" in one for one in begun.notices)


def test_every_rate_diverging_or_none_that_learns_recommends_nothing(tmp_path, tiny_task):
    import dataclasses

    endless = dataclasses.replace(tiny_task, loss=lambda o, t: nn.functional.cross_entropy(o, t) * float("inf"))
    still = dataclasses.replace(tiny_task, loss=lambda o, t: (o * 0.0).sum() + 1.0)
    for name, task in (("endless", endless), ("still", still)):
        study = etude.Study(task=task, epochs=8, recipe=etude.Recipe(batch_size=16))
        _, result = told(study, tmp_path / name, trials=3)
        assert result.recommendation.lr is None, name
        assert result.recommendation.reason
        assert result.to_dict()["search"]["ended"]


def test_a_range_test_says_where_to_look_first_and_is_paid_for(tmp_path):
    study = etude.Study.default("digits").replace(epochs=8)
    seen, result = told(study, tmp_path / "run", trials=3)
    search = result.search.search
    assert search.range_source == "range test"
    assert 1e-6 <= search.bracket[0] < search.bracket[1] <= 1
    assert search.bracket_steps == result.range_test.steps > 0
    trained = sum(t.step for t in result.stored.trials)
    assert result.search.steps == trained + search.bracket_steps <= 3 * 8 * 21
    started = next(event for event in seen if isinstance(event, events.Started))
    assert any(notice.startswith(f"A range test of {search.bracket_steps} steps") for notice in started.notices)
    seen, again = told(study, tmp_path / "run", trials=4)
    assert estimate_lines(seen[0])[0].startswith("Rates from 1e-6 to 1, as is usual for the optimizer; seeds ")
    assert (again.search.search.bracket, again.search.search.bracket_steps) == (search.bracket, search.bracket_steps)


def test_another_searcher_can_be_named(tmp_path):
    _, result = told(BOWL, tmp_path / "run", trials=3, searcher="random")
    assert result.search.trials == 3
    assert {t.status for t in result.stored.trials} <= {"completed", "diverged"}
    _, again = told(BOWL, tmp_path / "run", trials=4)
    assert again.search.search.searcher == "random", "it is kept"


class Deaf(torch.optim.SGD):
    """Has a rate, and does not look at it."""

    @torch.no_grad()
    def step(self, closure=None):
        del closure
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(0.01 * p.grad)


def test_an_optimizer_that_ignores_its_rate_is_noticed(tmp_path, tiny_task):
    recipe = etude.Recipe(optimizer=lambda params, lr: Deaf(params, lr=lr), batch_size=16)
    _, result = told(etude.Study(task=tiny_task, epochs=8, recipe=recipe), tmp_path / "run", trials=6)
    assert "trained alike, bit for bit, so the optimizer ignores its rate" in result.search.ended
    assert len(result.search.stored.decisions) == 2
    assert result.search.ignores_rate
    assert "all exactly alike" in result.recommendation.reason
    assert (result.recommendation.next_command, result.recommendation.next_reason) == (None, None)


# What goes wrong


SEARCHER = textwrap.dedent("""
    import sys, etude
    from etude import carrying
    carrying.SLICE_S = 0.05
    study = etude.Study.default("digits").replace(epochs=4)
    result = study.find(sys.argv[1], trials=4, executor="inline")
    print(result.recommendation.lr)
    """)


def test_kill_9_at_any_moment_and_the_same_search_again_decides_and_answers_alike(tmp_path):
    script = tmp_path / "searcher.py"
    script.write_text(SEARCHER)
    directory = tmp_path / "run"
    for share in (0.2, 0.6):
        process = programs.Program(script, directory, cwd=tmp_path)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if store.exists(directory) and sum(t.step for t in store.read(directory).trials) > share * 4 * 4 * 21:
                break
            time.sleep(0.01)
        assert process.poll() is None, "it was killed while it searched"
        process.kill()
        process.wait(timeout=10)
    spent_s = store.read(directory).searched_s
    assert spent_s > 0
    last = programs.run(script, directory, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    assert store.read(directory).searched_s > spent_s
    _, result = told(etude.Study.default("digits").replace(epochs=4), tmp_path / "whole", trials=4)
    assert curves(directory) == curves(tmp_path / "whole")
    assert float(last.stdout) == result.recommendation.lr


def test_ctrl_c_tells_the_answer_so_far_and_how_to_go_on(etude_command, tmp_path):
    words = ("find", "digits", "--trials", 1000, "--epochs", 400, "--out", "run", "--executor", "inline")
    process = programs.Program("-m", "etude", *words, cwd=tmp_path)
    process.wait_for("LR=")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) == 130, process.stderr
    assert "So far: " in process.stdout
    assert process.stderr.strip() == (
        "etude: stopped; what was trained is stored in run. To go on: etude resume run --executor inline"
    )
    before = etude.Result.load(tmp_path / "run")
    assert not before.complete
    assert before.search.open_requests
    said = etude_command("resume", "run", "--executor", "inline", "--dry-run")
    assert "The budget (--trials 1000) buys" in said.out, "resume goes on with the search"


def test_ctrl_c_while_workers_start_is_one_line_and_says_what_is_kept(searched, tmp_path):
    """The terminal sends it to the process that workers are forked from, too, which is still importing torch."""
    for out, told in (
        (tmp_path / "new", "etude: stopped"),
        (searched, f"etude: stopped; what was trained is stored in {searched}. To go on, give the same command again"),
    ):
        words = (
            "find",
            "quadratic",
            "--epochs",
            40,
            "--trials",
            9,
            "--out",
            out,
            "--executor",
            "processes",
            "--workers",
            2,
        )
        process = programs.Program("-m", "etude", *words, cwd=tmp_path)
        deadline = time.monotonic() + 60
        while not psutil.Process(process.pid).children() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)  # for its own start; then come the imports
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130, process.stderr
        assert process.stderr.strip() == told
    assert not (tmp_path / "new").exists()


class Stuck(nn.Linear):
    """Works while its weights are small, then waits for ever."""

    def forward(self, x):
        if self.weight.abs().max() > 100:
            time.sleep(1000)
        return super().forward(x)


class Hoarder(nn.Linear):
    """Works while its weights are small, then takes 40 MiB more at each step."""

    def forward(self, x):
        if self.weight.abs().max() > 100:
            HOARD.append(torch.ones(10 * 2**20))
        return super().forward(x)


HOARD: list = []


def troubled(tiny_task, model, epochs=8):
    import dataclasses

    task = dataclasses.replace(tiny_task, model=lambda: model(4, 2))
    return etude.Study(task=task, epochs=epochs, recipe=etude.Recipe(optimizer="sgd", batch_size=16))


def test_a_trial_that_hangs_is_stopped_and_told_and_the_others_go_on(tmp_path, tiny_task, monkeypatch):
    monkeypatch.setattr(watching, "HUNG_S", 8.0)
    monkeypatch.setattr(watching, "HUNG_TIMES", 0.0)
    result = troubled(tiny_task, Stuck).find(
        tmp_path / "run", trials=6, lrs="1e-2..1e4", executor="processes", workers=2
    )
    failed = [t for t in result.stored.trials if t.status == "failed"]
    assert failed
    assert all(t.failure.startswith("hung: step ") and "its process was ended" in t.failure for t in failed)
    assert min(t.lr for t in failed) > result.recommendation.lr
    assert result.complete


class Patience(nn.Linear):
    """Works while its weights are small, then waits for ever: at first in the range test, where these grow quickly."""

    def forward(self, x):
        if self.training and self.weight.abs().max() > 2:
            time.sleep(1000)
        return super().forward(x)


@pytest.mark.usefixtures("whole_search")
def test_what_hangs_costs_a_limit_of_time_a_part_and_is_told(tmp_path, tiny_task):
    """First the range test hangs, and then a trial, in good time to be given up."""
    began, seen = time.monotonic(), []
    study = troubled(tiny_task, Patience, epochs=50)
    result = study.find(
        tmp_path / "run", budget="40s", executor="processes", workers=2, on_event=seen.append
    )  # fmt: skip
    assert time.monotonic() - began < 60.0, "where the machine has nothing else to do 42"
    (started,) = (event for event in seen if isinstance(event, events.Started))
    assert any(
        re.fullmatch(r"No range test says where to look first: it was not done after .* s, and its process was ended\.", one)
        for one in started.notices
    )  # fmt: skip
    assert result.range_test is None
    failed = [t for t in result.stored.trials if t.status == "failed"]
    assert failed
    assert all(t.failure.startswith("hung: step ") for t in failed)
    reason = result.rates.set_index("lr").reason[failed[0].lr]
    assert reason.startswith("It hung: step ")


def test_a_trial_that_takes_too_much_memory_is_stopped_and_told(tmp_path, tiny_task, monkeypatch):
    made = watching.Watch

    def bounded(executor, pace, *limits):
        return made(executor, pace, *limits, memory_bytes=700 * watching.memory.MIB)

    monkeypatch.setattr(finding, "Watch", bounded)
    monkeypatch.setattr(watching, "TICK_S", 0.02)
    monkeypatch.setattr(carrying, "TICK_S", 0.02)
    study = troubled(tiny_task, Hoarder).replace(epochs=80)
    result = study.find(tmp_path / "run", trials=2, lrs="1e-2..1e4", executor="processes", workers=1)
    failed = [t for t in result.stored.trials if t.status == "failed"]
    assert failed
    assert all(re.match(r"memory: its process held [\d,]+ MiB, .* --workers 1 leaves more", t.failure) for t in failed)
    assert result.recommendation.lr < min(t.lr for t in failed)


class Endless:
    """Asks for two more rates, whatever the budget."""

    def ask(self, study, results, budget):
        del budget
        rates = [1e-6 * (len(results) + i) for i in (1, 2)]
        return Decision(
            requests=tuple(Request(trial=study.trial(lr, 0, study.epochs), epochs=study.epochs) for lr in rates),
            why="two more",
        )


@pytest.mark.usefixtures("whole_search")  # by which all is imported
def test_a_limit_of_time_is_kept_and_what_is_unfinished_can_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(finding, "FEWEST_TRIALS", 1e-3)
    monkeypatch.setattr(finding.named, "make", lambda *_: Endless())
    study = BOWL.replace(epochs=100_000)
    seen = []
    began = time.monotonic()
    result = study.find(tmp_path / "run", budget="6s", executor="inline", on_event=seen.append)
    assert 5.0 < time.monotonic() - began < 15.0, "within a tenth, where the machine has nothing else to do"
    assert result.search.ended == finding.OUT_OF_TIME
    assert result.complete
    assert 5.0 < result.stored.searched_s < 15.0
    steps = sum(t.step for t in result.stored.trials)
    seen, again = told(study, tmp_path / "run", budget="6s")
    assert not [event for event in seen if isinstance(event, events.Advanced)], "all calls together have the time"
    seen, again = told(study, tmp_path / "run", budget=result.stored.searched_s + 5)
    assert sum(t.step for t in again.stored.trials) > steps


@pytest.mark.usefixtures("whole_search")
def test_what_a_searcher_asks_beyond_the_budget_is_not_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(finding.named, "make", lambda *_: Endless())
    _, result = told(BOWL, tmp_path / "run", trials=5)
    assert result.search.trials == 5
    assert [len(of.requests) for of in result.search.stored.decisions] == [2, 2, 1, 0]
    assert result.search.stored.decisions[2].why == "two more (the budget carries 1 of 2 trials)"
    assert result.search.ended == "the budget is spent (--trials 5)"


def test_a_limit_of_time_leaves_a_little_for_judging_and_gives_up_what_is_late():
    for seconds in (30.0, 1200.0, 36_000.0):
        ends, lost = finding._limits(Budget(kind="wall", amount=seconds), 100.0, None)
        assert 100 + 0.9 * seconds <= ends < 100 + seconds < lost < 100 + 1.1 * seconds
    assert finding._limits(Budget(kind="cost", amount=0.25), 100.0, None) == (float("inf"), float("inf"))


@pytest.mark.usefixtures("whole_search")
def test_a_limit_of_time_must_last_for_a_trial_to_the_horizon_with_many_workers_too(searched, monkeypatch):
    """Eight workers would train two trials' worth in a quarter of the time that one trial takes."""
    monkeypatch.setattr(finding.plan, "cores", lambda: 8)
    study = BOWL.replace(epochs=100_000)
    limit = Budget(kind="wall", amount=5.0)
    with pytest.raises(
        SpecError, match=r"expected what buys 10 trials at least, got --budget 5s, which buys"
    ) as refused:
        finding.find(study, searched, budget=limit, executor="processes", workers=8, dry_run=True)
    assert re.search(r"give --budget \d", str(refused.value))


@pytest.mark.usefixtures("whole_search")
def test_time_that_went_into_getting_ready_is_told(tmp_path, monkeypatch):
    """As on a machine whose workers start after the limit."""
    monkeypatch.setattr(finding, "_limits", lambda *_: (time.monotonic(), time.monotonic() + 1))
    _, result = told(BOWL, tmp_path / "run", budget="30s", lrs="1e-3..1")
    assert result.search.ended == "the time is spent, all of it on getting ready"
    assert result.stored.trials == ()


def test_what_cannot_be_cut_in_time_is_not_begun(tmp_path):
    """Slices that could not be stored before the end are not begun, and those under way are given up when it is over."""
    pace = watching.Pace(setup=None, rehearsed_step_s=0.1, evaluation_s=0.0, wall_s=10.0, steps=100)

    class Setup:
        steps_per_epoch, evaluate_every, resume = 50, 1.0, "exact"

    class Executor:
        def __init__(self):
            self.stopped_at, self.given_up = None, []

        def stop_at(self, moment):
            self.stopped_at = moment

        def held(self):
            return {}

    pace.setup = Setup
    assert pace.epoch_s == 5.0
    assert pace.first_s(0, 200) == 5.0, "the first evaluation comes after an epoch"
    assert pace.first_s(0, 25) == 2.5, "or where it is paused"
    assert pace.first_s(10, 200) == 0.0, "it can be cut anywhere"
    Setup.resume = "by epoch"
    assert pace.first_s(10, 200) == pytest.approx(4.0)
    Setup.resume = "from the start"
    assert pace.first_s(0, 200) == 20.0
    executor = Executor()
    watch = watching.Watch(executor, pace, time.monotonic() + 10.0, time.monotonic() + 12.0)
    assert executor.stopped_at == watch.deadline
    assert not watch.may_begin(0, 200)
    assert watch.may_begin(150, 200)
    assert watch.patience_s(0.1) == pytest.approx(2.5, abs=0.1), "a quarter of what is left"
    assert watch.look()
    watch.lost_at = time.monotonic()
    assert not watch.look()


@pytest.mark.parametrize(("limit_s", "late_s"), [(40.0, 15.0), (150.0, 30.0), (3600.0, 60.0), (float("inf"), 60.0)])
def test_how_long_a_trial_may_be_late_is_a_share_of_a_short_limit_of_time(limit_s, late_s):
    """And what is out as the time ends is told with how long it has been so."""

    class Setup:
        steps_per_epoch, evaluate_every, resume = 50, 1.0, "exact"

        class task:
            class train:
                seekable = True

    class Executor:
        def __init__(self):
            self.given_up = {}

        def stop_at(self, moment):
            del moment

        def held(self):
            return {work.trial: 0}

        def give_up(self, trial, failure):
            self.given_up[trial] = failure

    work = Slice(trial=Trial(lr=0.1, seed=2), step=7, checkpoint=None, until_step=50, ends=frozenset(), seconds=2.0)
    executor = Executor()
    pace = watching.Pace(setup=Setup, rehearsed_step_s=0.01, evaluation_s=0.1)
    watch = watching.Watch(executor, pace, time.monotonic() + limit_s)
    watch.given(work)
    for out_s in (late_s + 1.0, late_s + 1.9):
        watch._out[work.trial] = work, out_s
        assert watch.look()
    assert not executor.given_up
    assert re.fullmatch(rf"from rate 0\.1, seed 2 for {duration(late_s + 2)}", watch.waited_for)
    watch._out[work.trial] = work, late_s + 2.5
    watch.look()
    assert re.match(r"hung: step 7 .*, where about 2 s were expected", executor.given_up[work.trial].reason)
    assert watch.waited_for == ""


@pytest.mark.usefixtures("whole_search")
def test_what_is_out_as_the_time_ends_is_told(tmp_path, tiny_task, monkeypatch):
    monkeypatch.setattr(watching, "LEAST_HUNG_S", 60.0)
    study = troubled(tiny_task, Stuck)
    result = study.find(tmp_path / "run", budget="20s", lrs="1e-2..1e4", executor="processes", workers=2)
    assert re.match(r"the time is spent; no step had come back from rate \S+, seed 0 for \d+ s", result.search.ended)
    assert not [t for t in result.stored.trials if t.status == "failed"]


def test_when_the_first_trials_all_fail_alike_the_search_stops(tmp_path, tiny_task):
    import dataclasses

    broken = []

    class Late(nn.Linear):  # survives the rehearsal, then never works
        def forward(self, x):
            if broken:
                raise RuntimeError("the moon is full")
            return super().forward(x)

    def on_event(event):
        if isinstance(event, events.Started):
            broken.append(True)

    task = dataclasses.replace(tiny_task, model=lambda: Late(4, 2))
    with pytest.raises(TrainingError, match="all failed alike"):
        etude.Study(task=task, epochs=50).find(tmp_path / "run", executor="inline", on_event=on_event)


def test_seeds_that_may_be_used_are_the_studys_and_further_ones(tmp_path):
    def seeds(study, **said):
        return finding._settled(study, None, None, None, said.get("seeds"), None).seeds

    assert seeds(BOWL) == tuple(range(10))
    assert seeds(BOWL.replace(seeds="7,9")) == (7, 9, *range(10, 18))
    assert seeds(BOWL.replace(seeds=12)) == tuple(range(12))
    assert seeds(BOWL, seeds="3,4") == (3, 4)


def test_memory_is_known_on_linux():
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere nothing is known of it")
    from etude.execution import memory

    assert 0 < memory.free_bytes() <= psutil.virtual_memory().total
    held = torch.ones(20 * 2**20)
    assert memory.held_bytes(os.getpid()) > held.nbytes
    assert memory.held_bytes(2**22 + 1) == 0


def test_a_trial_is_known_by_what_it_is(searched):
    first = store.read(searched).trials[0]
    assert first.trial == Trial(lr=first.lr, seed=first.seed, horizon=first.horizon)


def test_a_run_of_the_format_before_searches_is_read_as_it_is_and_can_be_searched(bowl_run):
    with contextlib.closing(sqlite3.connect(bowl_run / store.DATABASE)) as db:
        for statement in ("DROP TABLE decisions", "DROP TABLE range_tests", "ALTER TABLE sessions DROP COLUMN stored",
                          "ALTER TABLE sessions DROP COLUMN search", "PRAGMA user_version = 1"):  # fmt: skip
            db.execute(statement)
    before = store.read(bowl_run)
    assert (before.decisions, before.searched_s) == ((), 0.0)
    assert etude.Result.load(bowl_run).search is None
    _, result = told(BOWL, bowl_run, trials=3)
    assert result.search.stored.decisions
    assert {t.trial for t in before.trials} <= {t.trial for t in result.stored.trials}
    with contextlib.closing(sqlite3.connect(bowl_run / store.DATABASE)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == store.FORMAT

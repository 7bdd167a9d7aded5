"""Runs from end to end: extending, resuming, crashing at random moments, Ctrl-C, a full disk."""

import os
import random
import resource
import signal
import textwrap
import time

import numpy as np
import psutil
import pytest
import torch
from torch import nn

import etude
import programs
from etude import events, preparation, runner, store
from etude.spec.trial import Trial

DIGITS = etude.Study.default("digits").replace(lrs=[1e-3, 1e-2], seeds=1, epochs=2)


def curves(directory):
    """All that was recorded, by trial, bit for bit."""
    steps = store.read_steps(directory)
    return {
        (t.lr, t.seed, t.horizon): (steps.get(t.id), t.evaluations, t.status, t.step)
        for t in store.read(directory).trials
    }


def trained(study, directory, **kwargs):
    """Run, and return the trials that were carried on."""
    seen = set()

    def on_event(event):
        if isinstance(event, events.Advanced):
            seen.add(event.trial)

    result = runner.run(study, directory, on_event=on_event, **{"executor": "inline", **kwargs})
    return seen, result


def test_the_same_seed_and_plan_give_the_same_bits_on_every_run_and_executor(tmp_path):
    study = DIGITS.replace(lrs=[1e-3, 1e-2, 0.1])
    study.run(tmp_path / "a", executor="inline")
    study.run(tmp_path / "b", executor="inline")
    study.run(tmp_path / "c", executor="processes", workers=2)
    assert curves(tmp_path / "a") == curves(tmp_path / "b") == curves(tmp_path / "c")


def test_preparing_that_takes_long_is_told_with_where_the_task_is(tmp_path, monkeypatch):
    """And told again after twice as long, before all else; what takes no time is not told."""
    monkeypatch.setattr(runner, "SLOW_S", 0.2)
    data = torch.randn(32, 3), torch.randn(32, 1)

    def model():
        time.sleep(0.5)
        return nn.Linear(3, 1)

    task = etude.Task(model=model, train=data, val=data, loss=nn.MSELoss())
    study = etude.Study(
        task=task, objective=etude.minimize("val_loss"), lrs=[0.1], epochs=1, recipe=etude.Recipe(batch_size=8)
    )
    seen = []
    study.run(tmp_path / "run", executor="inline", on_event=seen.append)
    told = [event for event in seen if isinstance(event, events.Preparing)]
    assert seen[: len(told)] == told
    assert [event.seconds for event in told[:3]] == pytest.approx([0.2, 0.4, 0.8])
    line = model.__code__.co_firstlineno + 1
    assert told[0].place == f"{__file__}, line {line}"
    seen.clear()
    DIGITS.replace(lrs=[1e-3], epochs=1).run(tmp_path / "digits", executor="inline", on_event=seen.append)
    assert all(event.place == "" for event in seen if isinstance(event, events.Preparing))  # no code but etude's own


def test_extending_rates_and_seeds_trains_exactly_the_new_trials(tmp_path):
    trained(DIGITS, tmp_path / "run")
    before = curves(tmp_path / "run")
    seen, result = trained(DIGITS.replace(lrs=[1e-3, 1e-2, 0.1], seeds=2), tmp_path / "run")
    assert seen == {Trial(lr=0.1, seed=0), *(Trial(lr=lr, seed=1) for lr in (1e-3, 1e-2, 0.1))}
    after = curves(tmp_path / "run")
    assert len(after) == 6
    assert {key: after[key] for key in before} == before
    assert result.complete
    assert result.study["lrs"] == [1e-3, 1e-2, 0.1]
    seen, _ = trained(DIGITS, tmp_path / "run")
    assert not seen


def test_extending_epochs_goes_on_from_the_last_checkpoints_bit_for_bit(tmp_path):
    trained(DIGITS, tmp_path / "run")
    before = curves(tmp_path / "run")
    seen, result = trained(DIGITS.replace(epochs=4), tmp_path / "run")
    assert len(seen) == 2
    assert result.horizon == 4
    trained(DIGITS.replace(epochs=4), tmp_path / "whole")
    after = curves(tmp_path / "run")
    assert after == curves(tmp_path / "whole")
    for key, (arrays, evaluations, _, step) in before.items():
        assert after[key][0]["loss"][: 4 * step] == arrays["loss"]
        assert after[key][1][: len(evaluations)] == evaluations


def test_one_rate_carried_further_is_evidence_and_not_score(tmp_path):
    trained(DIGITS, tmp_path / "run")
    seen, result = trained(DIGITS.replace(lrs=[1e-3], epochs=6), tmp_path / "run")
    assert seen == {Trial(lr=1e-3, seed=0)}
    assert result.horizon == 2
    scores = {t["lr"]: t["score"] for t in result.analysis["trials"]}
    at_two = next(e for t in result.judged if t.lr == 1e-3 for e in t.evaluations if e.epoch == 2)
    assert scores[1e-3] == at_two.metrics["val_accuracy"]


def test_a_diverged_rate_does_not_hold_the_horizon_back(tmp_path):
    study = etude.Study.default("quadratic").replace(lrs=[1, 10], epochs=50)
    trained(study, tmp_path / "run")
    seen, result = trained(study.replace(epochs=100), tmp_path / "run")
    assert seen == {Trial(lr=1, seed=0)}
    assert result.horizon == 100
    assert result.counts == {"completed": 1, "diverged": 1}


def test_asking_for_less_of_a_paused_run_trains_no_further_than_asked(tmp_path):
    trained(DIGITS.replace(epochs=1), tmp_path / "run")
    with store.Writer(tmp_path / "run") as writer:  # as Ctrl-C in a longer run leaves it
        writer.begin(*(lambda s: (s.study, s.identity, s.environments[-1], s.seeds))(store.read(tmp_path / "run")))
        writer.request([(1e-3, 0, None, 10.0, 210), (1e-2, 0, None, 10.0, 210)])
    assert runner.estimate(DIGITS, tmp_path / "run").steps == 2 * 21
    _, result = trained(DIGITS, tmp_path / "run")
    assert {t.step for t in result.stored.trials} == {42}
    assert {t.status for t in result.stored.trials} == {"paused"}
    seen, result = trained(DIGITS, tmp_path / "run", carry="unfinished")
    assert len(seen) == 2
    assert result.complete


def test_carrying_on_what_is_unfinished_trains_no_cross_product(tmp_path):
    trained(DIGITS, tmp_path / "run")
    with store.Writer(tmp_path / "run") as writer:
        stored = store.read(tmp_path / "run")
        writer.begin({**stored.study, "seeds": [0, 1]}, stored.identity, stored.environments[-1], stored.seeds)
        writer.request([(1e-3, 1, None, 2.0, 42)])
    seen, _ = trained(DIGITS.replace(seeds=2), tmp_path / "run", carry="unfinished")
    assert seen == {Trial(lr=1e-3, seed=1)}


def test_an_edited_model_is_noticed_also_with_new_seeds_alone(tmp_path, tiny_task):
    import dataclasses

    study = etude.Study(task=tiny_task, lrs=[0.1], seeds="0,1", epochs=1)
    trained(study, tmp_path / "run")
    edited = dataclasses.replace(tiny_task, model=lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    with pytest.raises(etude.errors.MismatchError, match="seed 0 the model starts from other weights"):
        trained(study.replace(task=edited, seeds="5,6"), tmp_path / "run")


def test_a_network_that_calls_view_after_a_convolution_trains_in_the_plain_layout(tmp_path):
    class Classic(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.head = nn.Linear(64, 2)

        def forward(self, x):
            x = self.conv(x)
            return self.head(x.view(x.size(0), -1))

    x = torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    data = x, torch.arange(40) % 2
    task = etude.Task(model=Classic, train=data, val=data, loss=nn.CrossEntropyLoss())
    result = etude.Study(task=task, lrs=[1e-2], epochs=1, recipe=etude.Recipe(batch_size=8)).run(tmp_path / "run")
    assert result.complete
    assert result.stored.environments[-1]["channels_last"] is False


def test_state_that_a_checkpoint_does_not_see_is_refused_before_anything_is_stored(tmp_path, tiny_task):
    import dataclasses

    class Warm(nn.Linear):  # counts its calls in a plain attribute
        calls = 0

        def forward(self, x):
            self.calls += self.training
            return super().forward(x) * min(1.0, self.calls / 10)

    study = etude.Study(
        task=dataclasses.replace(tiny_task, model=lambda: Warm(4, 2)),
        lrs=[0.1],
        epochs=3,
        recipe=etude.Recipe(batch_size=8),
    )
    with pytest.raises(etude.errors.SpecError, match="keeps state outside parameters and buffers"):
        study.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_first_loss_that_is_not_finite_stays_the_same_study(tmp_path, tiny_task):
    import dataclasses

    def endless(outputs, targets):
        return nn.functional.cross_entropy(outputs, targets) * float("inf")

    study = etude.Study(task=dataclasses.replace(tiny_task, loss=endless), lrs=[0.1], epochs=1)
    for _ in range(2):
        _, result = trained(study, tmp_path / "run")
        assert result.counts == {"diverged": 1}


def test_a_schedule_that_depends_on_the_horizon_makes_other_trials(tmp_path):
    study = DIGITS.replace(recipe=etude.Recipe(schedule="cosine"))
    trained(study, tmp_path / "run")
    notices = []
    seen = set()

    def on_event(event):
        if isinstance(event, events.Started):
            notices.extend(event.notices)
        elif isinstance(event, events.Advanced):
            seen.add(event.trial)

    result = study.replace(epochs=3).run(tmp_path / "run", executor="inline", on_event=on_event)
    assert {trial.horizon for trial in seen} == {3}
    assert any("other trials" in notice for notice in notices)
    assert len(result.stored.trials) == 4
    assert {trial.horizon for trial in result.judged} == {3}


def test_another_study_in_the_directory_is_refused_by_name_and_left_as_it_was(tmp_path, tiny_task):
    directory = tmp_path / "run"
    study = etude.Study(task=tiny_task, lrs=[0.1], epochs=1)
    trained(study, directory)
    before = (directory / store.DATABASE).read_bytes()
    import dataclasses

    def other(**changes):
        return study.replace(task=dataclasses.replace(tiny_task, **changes))

    x = tiny_task.train.inputs
    for changed, match in (
        (study.replace(recipe=etude.Recipe(optimizer="sgd")), "recipe.optimizer is adam there and sgd here"),
        (study.replace(recipe=etude.Recipe(batch_size=32)), "recipe.batch_size is 64 there and 32 here"),
        (study.replace(evaluate_every=0.5), "evaluate_every"),
        (other(train=(x + 1, tiny_task.train.targets)), "data.train.digest"),
        (other(model=lambda: nn.Sequential(nn.Linear(4, 2))), "seed 0 the model starts from other weights"),
        (other(loss=lambda o, t: 2 * nn.functional.cross_entropy(o, t)), "the first loss was"),
    ):
        with pytest.raises(etude.errors.MismatchError, match=match):
            trained(changed, directory)
    assert (directory / store.DATABASE).read_bytes() == before


def test_a_trial_whose_code_raises_is_failed_and_the_others_go_on(tmp_path, tiny_task):
    import dataclasses

    class Fragile(nn.Linear):
        def forward(self, x):
            if self.weight.abs().max() > 50:
                raise RuntimeError("weights too large")
            return super().forward(x)

    task = dataclasses.replace(tiny_task, model=lambda: Fragile(4, 2))
    study = etude.Study(task=task, recipe=etude.Recipe(optimizer="sgd", batch_size=16), lrs=[0.1, 1e4], epochs=2)
    result = study.run(tmp_path / "run", executor="inline")
    assert result.counts == {"completed": 1, "failed": 1}
    failed = result.to_dict()["trials"][1]
    assert "weights too large" in failed["reason"]
    assert "weights too large" in result.analysis["rates"][1]["reason"]
    assert "Traceback" in result.stored.trials[1].traceback
    assert result.recommendation.lr == 0.1


def test_when_the_first_trials_all_fail_alike_the_study_stops(tmp_path, tiny_task):
    import dataclasses

    calls = []

    class Late(nn.Linear):  # survives the rehearsal, then never works
        def forward(self, x):
            calls.append(1)
            if len(calls) > 20:
                raise RuntimeError("the moon is full")
            return super().forward(x)

    task = dataclasses.replace(tiny_task, model=lambda: Late(4, 2))
    study = etude.Study(task=task, lrs="1e-4..1e-1/9", epochs=50)
    with pytest.raises(etude.errors.TrainingError, match=r"the first 2 trials all failed alike.*the moon is full"):
        study.run(tmp_path / "run", executor="inline")
    assert len(calls) < 50
    assert {t.status for t in store.read(tmp_path / "run").trials} == {"failed", "pending"}


def test_code_that_raises_at_once_leaves_no_run_behind(tmp_path, tiny_task):
    import dataclasses

    for changes in ({"model": lambda: nn.Linear(5, 2)}, {"loss": lambda o, t: o.nonsense}):
        study = etude.Study(task=dataclasses.replace(tiny_task, **changes), lrs=[0.1], epochs=1)
        with pytest.raises(etude.errors.TrainingError, match="before the first step"):
            study.run(tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_is_gone_is_named(tmp_path):
    trained(DIGITS, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("lr1e-3*/*.pt"):
        path.unlink()
    with pytest.raises(etude.errors.StoreError, match=r"lr1e-3-seed0/42.pt: the checkpoint cannot be read"):
        trained(DIGITS.replace(epochs=3), tmp_path / "run")


CRASHED = etude.Study.default("digits").replace(lrs=[1e-3, 1e-2, 0.1], seeds=2, epochs=12)
CRASHER = textwrap.dedent("""
    import sys, etude
    from etude import carrying
    carrying.SLICE_S = 0.02  # many commits, so that many crashes fall within one
    study = etude.Study.default("digits").replace(lrs=[1e-3, 1e-2, 0.1], seeds=2, epochs=12)
    study.run(sys.argv[1], executor=sys.argv[2], workers=2 if sys.argv[2] == "processes" else None)
    """)


@pytest.mark.parametrize(("executor", "crashes"), [("inline", 5), ("processes", 2)])
def test_kill_9_at_any_moment_and_the_same_command_again_give_the_same_bits(tmp_path, executor, crashes):
    script = tmp_path / "crasher.py"
    script.write_text(CRASHER)
    directory, whole = tmp_path / "run", tmp_path / "whole"
    chance = random.Random(executor)
    shown: dict = {}
    for _ in range(crashes):
        process = programs.Program(script, directory, executor, cwd=tmp_path)
        deadline = time.monotonic() + 120
        before = sum(state[3] for state in shown.values())
        # Wait until it trains, then a random while longer; the moment may be anywhere in a step or a commit.
        while time.monotonic() < deadline and process.poll() is None:
            if store.exists(directory) and sum(t.step for t in store.read(directory).trials) > before:
                break
            time.sleep(0.05)
        time.sleep(chance.uniform(0, 0.3))
        if store.exists(directory):
            shown = curves(directory)
        process.kill()
        process.wait(timeout=10)
        now = curves(directory)
        for key, (arrays, evaluations, _, step) in shown.items():
            assert now[key][3] >= step
            if arrays is not None:
                assert now[key][0]["loss"].startswith(arrays["loss"]), "what was shown is still there"
            assert now[key][1][: len(evaluations)] == evaluations
        shown = now
    last = programs.run(script, directory, executor, cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    CRASHED.run(whole, executor="inline")
    assert curves(directory) == curves(whole)
    for arrays, evaluations, status, step in curves(directory).values():
        assert status == "completed"
        assert len(arrays["loss"]) == 4 * step, "each step once"
        assert [e.epoch for e in evaluations] == list(range(13))
    files = [path.name for path in (directory / "checkpoints").glob("*/*")]
    assert files == ["252.pt"] * 6, "one checkpoint a trial, no orphans"


COMMIT_CRASHER = textwrap.dedent("""
    import os, signal, sqlite3, sys
    from pathlib import Path
    import sklearn.datasets, torch._dynamo
    import etude
    from etude import carrying, store
    carrying.SLICE_S = 0.0  # a step a slice
    study = etude.Study.default("digits").replace(lrs=[1e-3, 1e-2], seeds=1, epochs=1)
    directory, left = Path(sys.argv[1]), 0

    def dying(real):
        def call(*args, **kwargs):
            global left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            return result
        return call

    class Connection(sqlite3.Connection):
        execute = dying(sqlite3.Connection.execute)
        executemany = dying(sqlite3.Connection.executemany)

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)
    os.fsync, Path.replace, Path.unlink = dying(os.fsync), dying(Path.replace), dying(Path.unlink)

    crashes = 0
    for moment in range(1, 400, 7):  # the forks inherit torch, so that each attempt takes no time to start
        child = os.fork()
        if child == 0:
            left = moment
            study.run(directory, executor="inline")
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            break
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
        crashes += 1
    print(crashes, status)
    """)


def test_kill_9_within_any_operation_of_a_commit_loses_nothing(tmp_path):
    script = tmp_path / "crasher.py"
    script.write_text(COMMIT_CRASHER)
    done = programs.run(script, tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    crashes, status = map(int, done.stdout.split())
    assert crashes >= 10
    assert status == 0, "at last it got to the end"
    etude.Study.default("digits").replace(lrs=[1e-3, 1e-2], seeds=1, epochs=1).run(
        tmp_path / "whole", executor="inline"
    )
    assert curves(tmp_path / "run") == curves(tmp_path / "whole")
    assert len(list((tmp_path / "run" / "checkpoints").glob("*/*"))) == 2


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_ctrl_c_keeps_the_state_ends_the_workers_and_tells_how_to_go_on(tmp_path, executor):
    process = programs.Program(
        "-m", "etude", "run", "digits", "--epochs", "100000", "--lrs", "1e-3,1e-2", "--seeds", "1", "--out", "run",
        "--executor", executor, cwd=tmp_path,
    )  # fmt: skip
    process.wait_for("\nLR=", times=3)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    process.wait(timeout=120)
    errors = process.stderr
    assert process.returncode == 130, errors
    assert (
        errors.strip().splitlines()[-1]
        == f"etude: stopped; what was trained is stored in run. To go on: etude resume run --executor {executor}"
    )
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    trials = store.read(tmp_path / "run").trials
    assert {t.status for t in trials} <= {"paused", "pending"}
    assert all(t.checkpoint for t in trials if t.step)
    assert sum(t.step for t in trials) > 0


def test_a_disk_that_fills_up_stops_the_run_and_what_was_stored_stays_readable(tmp_path):
    script = tmp_path / "filler.py"
    script.write_text(
        textwrap.dedent("""
        import resource, sys, etude
        from etude import carrying, events
        carrying.SLICE_S = 0.05
        limit = int(sys.argv[2])
        study = etude.Study.default("digits").replace(lrs=[1e-3, 1e-2], seeds=1, epochs=4000)
        def on_event(event):  # from the first commit on no file may grow beyond the limit, as on a full disk
            if isinstance(event, events.Advanced):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            study.run(sys.argv[1], executor="inline", on_event=on_event)
        except etude.errors.DiskError as error:
            print(error)
            sys.exit(error.exit_status)
        """)
    )
    for name, limit in (("checkpoint", 20_000), ("database", 150_000)):
        directory = tmp_path / name
        done = programs.run(script, directory, limit, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert "writing stopped" in done.stdout
        assert "make room and run the same command again" in done.stdout
        assert len(done.stdout.splitlines()) == 1
        kept = curves(directory)
        assert sum(state[3] for state in kept.values()) > 0
        assert not list((directory / "checkpoints").rglob("*.partial"))
        named = {t.checkpoint for t in store.read(directory).trials if t.checkpoint}
        assert named == {
            p.relative_to(directory / "checkpoints").as_posix() for p in (directory / "checkpoints").glob("*/*")
        }
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_another_machine_is_said_and_allowed(tmp_path, monkeypatch):
    trained(DIGITS, tmp_path / "run")
    real = preparation.Prepared.environment
    monkeypatch.setattr(preparation.Prepared, "environment", lambda prepared: {**real(prepared), "cpu": "OTHER"})
    notices = []

    def on_event(event):
        if isinstance(event, events.Started):
            notices.extend(event.notices)

    DIGITS.replace(epochs=3).run(tmp_path / "run", executor="inline", on_event=on_event)
    assert any("→ OTHER" in notice and "not bit for bit" in notice for notice in notices)


def test_a_rate_of_ten_is_diverged_and_one_of_1e_9_too_low(tmp_path):
    study = etude.Study.default("digits").replace(lrs=[1e-9, 1e-2, 10], seeds=2, epochs=5)
    result = study.run(tmp_path / "run", executor="inline")
    verdicts = {rate["lr"]: rate["verdict"] for rate in result.analysis["rates"]}
    assert verdicts[1e-9] == "too low"
    assert verdicts[1e-2] == "good"
    assert verdicts[10] == "diverged"
    assert result.complete


def test_numpy_arrays_and_uint8_stay_as_they_are(tmp_path, tiny_task):
    x = np.arange(200, dtype=np.uint8).reshape(50, 4)
    task = etude.Task(
        model=lambda: nn.Linear(4, 2), loss=nn.CrossEntropyLoss(),
        train=etude.Resident(torch.from_numpy(x), torch.arange(50) % 2, lambda b: b.float() / 255),
        val=(x.astype(np.float32) / 255, np.arange(50) % 2),
    )  # fmt: skip
    assert task.train.inputs.dtype == torch.uint8
    result = etude.Study(task=task, lrs=[1e-2], epochs=1, recipe=etude.Recipe(batch_size=8)).run(tmp_path / "run")
    assert result.complete
    assert result.objective["metric"] == "val_loss"

"""Executors against the reference loop, with real processes that are really killed."""

import os
import re
import signal
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import etude
import programs
from etude.engine.session import Session, Setup
from etude.errors import TrainingError
from etude.execution import plan, processes, sharing
from etude.execution.carrier import Slice
from etude.execution.inline import Inline
from etude.execution.processes import Processes
from etude.spec.trial import Trial

TRIAL = Trial(lr=1e-2, seed=0)


@pytest.fixture(scope="module")
def setup():
    study = etude.Study.default("digits")
    return Setup(task=study.make_task(), recipe=study.recipe)


def piece(trial=TRIAL, until=63, **changes):
    fields = {"step": 0, "checkpoint": None, "ends": frozenset([until]), "seconds": 60.0}
    return Slice(trial=trial, until_step=until, **{**fields, **changes})


def endless(trial=TRIAL):
    return piece(trial, until=10**7)


def workers_of(executor):
    return [pid for one in executor._workers for pid in (one.pool._processes or {})]


def test_inline_and_processes_give_the_reference_loops_bits(setup):
    torch.set_num_threads(2)
    trials = [Trial(lr=lr, seed=0) for lr in (1e-4, 1e-3, 1e-2)]
    inline = Inline(setup, threads=1)
    expected = {}
    for trial in trials:
        inline.submit(piece(trial))
        (outcome,) = inline.wait()
        expected[trial] = outcome.history
    reference = Session.open(setup, trials[0], ends=frozenset([63])).run(63)
    np.testing.assert_array_equal(reference.loss, expected[trials[0]].loss)
    inline.close()
    assert torch.get_num_threads() == 2

    executor = Processes(setup, workers=2, threads=1)
    try:
        done = {}
        waiting = [piece(trial, seconds=0.0) for trial in trials]  # a step a slice, then on from the checkpoint
        while len(done) < 3:
            while waiting and sum(one.future is not None for one in executor._workers) < 2:
                executor.submit(waiting.pop(0))
            for outcome in executor.wait():
                assert outcome.failure is None
                trial, history = outcome.work.trial, outcome.history
                if outcome.work.step == 0:
                    assert history.last_step == 1
                    waiting.append(piece(trial, step=1, checkpoint=outcome.checkpoint))
                    done.pop(trial, None)
                else:
                    done[trial] = history
        for trial in trials:
            np.testing.assert_array_equal(done[trial].loss, expected[trial].loss[1:])
            assert done[trial].evaluations == expected[trial].evaluations[1:]
    finally:
        executor.close()
    assert not [pid for pid in workers_of(executor) if psutil.pid_exists(pid)]


def test_workers_that_are_spawned_as_elsewhere_than_on_linux_give_the_same_bits(setup, monkeypatch):
    monkeypatch.setattr(processes, "METHOD", "spawn")
    expected = Session.open(setup, TRIAL).run(21)
    executor = Processes(setup, workers=1, threads=1)
    try:
        executor.submit(piece(until=21))
        (outcome,) = executor.wait()
    finally:
        executor.close()
    np.testing.assert_array_equal(outcome.history.loss, expected.loss)
    assert outcome.history.evaluations == expected.evaluations


def test_a_paused_trial_goes_on_from_where_its_worker_holds_it_and_gets_its_further_evaluations(setup):
    executor = Processes(setup, workers=1, threads=1)
    try:
        executor.submit(piece(until=5, ends=frozenset([5, 63])))
        (first,) = executor.wait()
        executor.submit(piece(until=9, step=5, checkpoint=first.checkpoint, ends=frozenset([5, 9, 63])))
        (second,) = executor.wait()
    finally:
        executor.close()
    assert (first.history.first_step, first.history.last_step) == (0, 5)
    assert (second.history.first_step, second.history.last_step) == (5, 9)
    assert [e.step for e in (*first.history.evaluations, *second.history.evaluations)] == [0, 5, 9]


def test_a_killed_worker_is_replaced_and_its_slice_repeated(setup):
    executor = Processes(setup, workers=1, threads=1)
    try:
        executor.submit(piece(until=21))
        (first,) = executor.wait()
        rest = piece(until=63, step=21, checkpoint=first.checkpoint, ends=frozenset([21]))
        executor.submit(rest)
        os.kill(workers_of(executor)[0], signal.SIGKILL)
        (outcome,) = executor.wait()
    finally:
        executor.close()
    whole = Session.open(setup, TRIAL).run(63)
    np.testing.assert_array_equal(outcome.history.loss, whole.loss[21:])


def _steps_of(setup):
    return setup.steps_per_epoch


def _at_length(setup):
    del setup
    time.sleep(1000)


def _and_dies(setup):
    del setup
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_is_done_aside_has_the_setup_and_its_process_is_ended_when_it_is_late(setup):
    executor = Processes(setup, workers=1, threads=1)
    try:
        assert executor.aside(_steps_of, 60.0) == setup.steps_per_epoch
        (first,) = workers_of(executor)
        with pytest.raises(TrainingError, match="it was not done after 1 s, and its process was ended"):
            executor.aside(_at_length, 1.0)
        assert not psutil.pid_exists(first)
        with pytest.raises(TrainingError, match="its worker process died"):
            executor.aside(_and_dies, 60.0)
        executor.submit(piece(until=5))  # the executor is as good as new
        assert executor.wait()[0].history.last_step == 5
    finally:
        executor.close(kill=True)


def test_ctrl_c_while_a_worker_is_being_started_leaves_none_behind(setup, monkeypatch):
    """It is noted first, so that it can be ended; else it would find its parent's semaphores gone, and write where it was."""
    start, started = Processes._start, []

    def interrupted(executor):
        signal.raise_signal(signal.SIGINT)
        worker = start(executor)
        started.extend(worker.pool._processes)
        return worker

    monkeypatch.setattr(Processes, "_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Processes(setup, workers=2, threads=1)
    assert len(started) == 1
    assert not psutil.pid_exists(started[0])


def test_three_deaths_in_one_slice_make_it_fail(setup):
    executor = Processes(setup, workers=1, threads=1)
    try:
        executor.submit(endless())

        def kill(times=3):
            killed = set()
            while len(killed) < times:
                for pid in set(workers_of(executor)) - killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
                time.sleep(0.05)

        killer = threading.Thread(target=kill)
        killer.start()
        (outcome,) = executor.wait()
        killer.join(timeout=30)
        assert outcome.history is None
        assert "died 3 times between steps 0" in outcome.failure.reason
        executor.submit(piece(until=5))  # the executor is as good as new
        assert executor.wait()[0].history.last_step == 5
    finally:
        executor.close(kill=True)


def test_stop_ends_a_slice_after_its_step_and_the_rest_equals(setup):
    executor = Processes(setup, workers=1, threads=1)
    try:
        executor.submit(endless())
        time.sleep(0.5)
        executor.stop()
        (outcome,) = executor.wait()
    finally:
        executor.close()
    reached = outcome.history.last_step
    again = Session.open(setup, TRIAL).run(reached)
    np.testing.assert_array_equal(outcome.history.loss, again.loss)


def test_what_the_trials_code_raises_is_a_failure_with_its_line_and_traceback(setup):
    import dataclasses

    def broken(outputs, targets):
        raise ValueError("no such\nthing")

    bad = Setup(task=dataclasses.replace(setup.task, loss=broken), recipe=setup.recipe)
    for executor in (Inline(bad, threads=1), Processes(bad, workers=1, threads=1)):
        try:
            executor.submit(piece())
            (outcome,) = executor.wait()
        finally:
            executor.close()
        assert outcome.failure.reason.startswith("ValueError: no such thing; on a batch (")
        assert re.search(r"test_executors.py, line \d+\)$", outcome.failure.reason)
        assert "Traceback" in outcome.failure.traceback


def test_large_tensors_and_arrays_are_shared_and_small_ones_are_copied(setup):
    big, array, small = torch.arange(100_000), np.arange(50_000.0), torch.arange(3)
    pickled, shared = sharing.dump({"a": big, "again": big, "array": array, "small": small, "f": lambda x: x + small})
    assert len(shared) == 2
    assert all(tensor.is_shared() for tensor in shared)
    assert not big.is_shared(), "the caller's own tensor stays where it was"
    assert len(pickled) < 20_000
    back = sharing.load(pickled, shared)
    assert back["a"] is back["again"]
    assert torch.equal(back["a"], big)
    np.testing.assert_array_equal(back["array"], array)
    assert back["f"](1).tolist() == [1, 2, 3]


def test_what_cannot_be_pickled_is_told():
    with pytest.raises(etude.errors.SpecError, match="cannot be taken to a worker process"):
        sharing.dump(threading.Lock())


def test_a_model_made_in_a_script_without_a_guard_works_in_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        import torch
        from torch import nn
        import etude

        HIDDEN = 8

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(nn.Linear(20, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 3))

            def forward(self, x):
                return self.body(x)

        print("script runs")
        x = torch.randn(3000, 20, generator=torch.Generator().manual_seed(0))
        task = etude.Task(model=Net, train=(x, (x[:, 0] > 0).long()), val=(x[:200], (x[:200, 0] > 0).long()),
                          loss=nn.CrossEntropyLoss(), metrics={"accuracy": lambda o, t: (o.argmax(1) == t).float()})
        study = etude.Study(task=task, lrs=[1e-3, 1e-2], epochs=1, objective=etude.maximize("val_accuracy"))
        result = study.run(sys.argv[1], executor="processes")
        print(result.complete, result.recommendation.lr, result.study["task"])
        print(result.rates[["lr", "verdict"]].shape)
        """)
    )
    for fresh in (True, False):  # the second time nothing is left to train, and the identity holds
        done = programs.run(script, tmp_path / "run", cwd=tmp_path, fresh=fresh)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == ["script runs", "True 0.01 Net", "(2, 2)"]


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time, etude
        from etude.events import Advanced
        def on_event(event):
            if isinstance(event, Advanced):
                print("under way", flush=True)
        study = etude.Study.default("digits").replace(epochs=100_000)
        study.run(sys.argv[1], executor="processes", workers=2, on_event=on_event)
        """)
    )
    process = programs.Program(script, tmp_path / "run", cwd=tmp_path)
    process.wait_for("under way")
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 3
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    _, alive = psutil.wait_procs(family, timeout=15)
    for left in alive:
        left.kill()
    assert not alive


def test_plans_say_why():
    assert plan.choose("auto", None, "cpu", n_trials=1, seconds=100).executor == "inline"
    assert plan.choose("auto", None, "cpu", n_trials=9, seconds=0.5).executor == "inline"
    assert plan.choose("auto", None, "cuda", n_trials=9, seconds=100).executor == "inline"
    chosen = plan.choose("processes", 3, "cpu", n_trials=9, seconds=0.1)
    assert (chosen.executor, chosen.workers, chosen.threads) == ("processes", 3, 1)
    assert chosen.reason == "as asked"
    if plan.cores() > 1:
        chosen = plan.choose("auto", None, "cpu", n_trials=9, seconds=100)
        assert (chosen.executor, chosen.workers) == ("processes", min(plan.cores(), 9))
        assert chosen.reason == f"9 trials to train on {plan.cores()} cores"
        searching = plan.choose("auto", None, "cpu", n_trials=39, seconds=100, searching=True)
        assert searching.reason == f"trials side by side on {plan.cores()} cores", "nobody knows how many"
    with pytest.raises(etude.errors.SpecError, match="did you mean 'processes'"):
        plan.check("process", None)
    with pytest.raises(etude.errors.SpecError, match="workers: expected at least 1, got 0"):
        plan.check("auto", 0)
    on_gpu = plan.choose("processes", 3, "cuda", n_trials=3, seconds=1)
    assert str(on_gpu) == "processes × 3, 1 thread each, cuda"


def test_shared_memory_is_gone_with_its_processes(setup):
    before = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    executor = Processes(setup, workers=1, threads=1)
    executor.submit(piece(until=2))
    executor.wait()
    executor.close()
    after = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    assert not {path for path in after - before if path.name.startswith("torch_")}

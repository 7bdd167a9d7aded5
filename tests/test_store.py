from __future__ import annotations

import contextlib
import math
import sqlite3
import threading

import filelock
import numpy as np
import pytest

from etude import store
from etude.engine.history import Evaluation, History
from etude.errors import InUseError, MismatchError, StoreError
from etude.spec.study import Study
from etude.store import CHECKPOINTS, DATABASE, LOCK, Writer

STUDY = Study.default("quadratic").replace(lrs=[0.1, 1], epochs=4).to_dict()
IDENTITY = {"task": {"name": "quadratic", "built_in": True, "chosen_on_test_set": None}, "steps_per_epoch": 1}


def history(first, last, *, diverged=None, metrics=None, **evaluation):
    steps = np.arange(first + 1, last + 1, dtype=np.float32)
    evaluations = ()
    if metrics is not None:
        evaluations = (Evaluation(step=last, epoch=float(last), train_loss=0.5, metrics=metrics, **evaluation),)
    return History(
        first_step=first, last_step=last, loss=steps, grad_norm=10 * steps, update_ratio=steps / 10, evaluations=evaluations,
        wall_s=0.25, diverged=diverged,
    )  # fmt: skip


@contextlib.contextmanager
def writing(directory, study=STUDY):
    with Writer(directory) as writer:
        writer.begin(study, IDENTITY, {"torch": "2"}, {0: ("digest", 2.5), 1: ("other", math.nan)})
        yield writer


def trial_of(directory, lr=0.1):
    return next(t for t in store.read(directory).trials if t.lr == lr)


@pytest.fixture
def directory(tmp_path):
    """A run directory with two trials asked for, the first one at step 3 of 4."""
    made = tmp_path / "run"
    with writing(made) as writer:
        writer.request([(0.1, 0, None, 4.0, 4), (1.0, 0, None, 4.0, 4)])
        writer.commit(
            trial_of(made), "a", history(0, 3, metrics={"val_loss": 1.5}, standard_errors={"val_loss": 0.1}), b"3"
        )
    return made


def files(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_histories_without_a_checkpoint_may_leave_steps_out_and_are_forgotten_on_a_restart(tmp_path):
    with writing(tmp_path) as writer:
        writer.request([(0.1, 0, None, 9.0, 9), (1.0, 0, None, 9.0, 9)])
        for lr in (0.1, 1.0):
            trial = trial_of(tmp_path, lr)
            writer.record(trial, [history(0, 2), history(5, 6), history(6, 6, metrics={"val_loss": 1.5})])
        read = trial_of(tmp_path)
        assert (read.status, read.step, read.checkpoint, read.wall_s) == ("running", 6, None, 0.75)
        columns = store.read_steps(tmp_path)[read.id]
        assert np.frombuffer(columns["step"], "<i8").tolist() == [1, 2, 6]
        assert np.frombuffer(columns["loss"], "<f4").tolist() == [1, 2, 6]
        writer.fail(read, "stopped", None)
        writer.restart(read)
        assert (trial_of(tmp_path).status, trial_of(tmp_path).step, trial_of(tmp_path).wall_s) == ("pending", 0, 0)
        assert trial_of(tmp_path).evaluations == ()
        assert store.read_steps(tmp_path).keys() == {trial_of(tmp_path, 1.0).id}
        assert len(trial_of(tmp_path, 1.0).evaluations) == 1


def test_a_refused_record_leaves_nothing_behind(tmp_path):
    with writing(tmp_path) as writer:
        writer.request([(0.1, 0, None, 9.0, 9)])
        trial = trial_of(tmp_path)
        with pytest.raises(StoreError):
            writer.record(trial, [history(0, 2), history(0, 3)])  # twice the same steps
        assert trial_of(tmp_path) == trial
        assert store.read_steps(tmp_path) == {}


def test_what_is_written_is_read(directory):
    read = store.read(directory)
    assert read.study == STUDY
    assert read.identity == IDENTITY
    assert read.environments == ({"torch": "2"},)
    assert read.seeds[0] == ("digest", 2.5)
    assert math.isnan(read.seeds[1][1])
    first, second = read.trials
    assert (first.lr, first.seed, first.step, first.end_step, first.wall_s) == (0.1, 0, 3, 4, 0.25)
    assert (first.status, second.status) == ("paused", "pending")
    (one,) = first.evaluations
    assert (one.step, one.epoch, one.train_loss, one.metrics, one.standard_errors) == (
        3,
        3.0,
        0.5,
        {"val_loss": 1.5},
        {"val_loss": 0.1},
    )
    assert second.evaluations == ()


def test_slices_are_joined(directory):
    with writing(directory) as writer:
        writer.commit(trial_of(directory), "a", history(3, 4, metrics={"val_loss": 1.25}), b"4")
    steps = store.read_steps(directory)[trial_of(directory).id]
    for name, factor in (("loss", 1), ("grad_norm", 10), ("update_ratio", 0.1)):
        assert np.allclose(np.frombuffer(steps[name], "<f4"), factor * np.arange(1, 5))
    trial = trial_of(directory)
    assert (trial.step, trial.status, trial.wall_s) == (4, "completed", 0.5)
    assert [e.step for e in trial.evaluations] == [3, 4]


def test_a_slice_that_does_not_follow_is_refused_and_leaves_no_trace(directory):
    before = store.read(directory).trials
    with writing(directory) as writer, pytest.raises(StoreError, match="trial a is at step 3, not 0"):
        writer.commit(trial_of(directory), "a", history(0, 4), b"4")
    assert store.read(directory).trials == before
    assert set(files(directory / CHECKPOINTS)) == {"a/3.pt"}


def test_only_the_last_checkpoint_stays(directory):
    with writing(directory) as writer:
        assert writer.load_checkpoint(trial_of(directory)) == b"3"
        writer.commit(trial_of(directory), "a", history(3, 4), b"4")
        assert writer.load_checkpoint(trial_of(directory)) == b"4"
        assert writer.load_checkpoint(trial_of(directory, 1.0)) is None
    assert files(directory / CHECKPOINTS) == {"a/4.pt": b"4"}


def test_a_checkpoint_that_is_gone_is_named(directory):
    (directory / CHECKPOINTS / "a" / "3.pt").unlink()
    with (
        writing(directory) as writer,
        pytest.raises(StoreError, match=r"a/3\.pt: the checkpoint cannot be read: No such file"),
    ):
        writer.load_checkpoint(trial_of(directory))


def test_metrics_that_are_no_numbers_come_back_as_nan(directory):
    metrics = {"val_loss": math.nan, "val_f1": math.inf, "val_accuracy": 0.5}
    with writing(directory) as writer:
        writer.commit(
            trial_of(directory), "a", history(3, 4, metrics=metrics, standard_errors={"val_accuracy": 0.1}), b"4"
        )
    (_, one) = trial_of(directory).evaluations
    assert set(one.metrics) == set(metrics)
    assert math.isnan(one.metrics["val_loss"])
    assert not math.isfinite(one.metrics["val_f1"])
    assert one.metrics["val_accuracy"] == 0.5


def test_losses_that_are_no_numbers_come_back_as_they_are(directory):
    bad = np.array([math.nan], np.float32)
    slice_ = History(
        first_step=3, last_step=4, loss=bad, grad_norm=bad, update_ratio=np.array([math.inf], np.float32), evaluations=(),
        wall_s=0.1, diverged=4,
    )  # fmt: skip
    with writing(directory) as writer:
        writer.commit(trial_of(directory), "a", slice_, b"4")
    steps = store.read_steps(directory)[trial_of(directory).id]
    assert np.isnan(np.frombuffer(steps["loss"], "<f4")[-1])
    assert np.isinf(np.frombuffer(steps["update_ratio"], "<f4")[-1])
    assert trial_of(directory).status == "diverged"


def test_a_training_loss_that_is_no_number_is_nan_but_none_at_step_0(directory):
    with writing(directory) as writer:
        none = Evaluation(step=0, epoch=0.0, train_loss=None, metrics={"val_loss": 1.0})
        nan = Evaluation(step=1, epoch=1.0, train_loss=math.nan, metrics={"val_loss": 1.0})
        made = history(0, 1)
        made = History(**{**vars(made), "evaluations": (none, nan)})
        writer.commit(trial_of(directory, 1.0), "b", made, b"1")
    at_0, at_1 = trial_of(directory, 1.0).evaluations
    assert at_0.train_loss is None
    assert math.isnan(at_1.train_loss)


def test_a_failed_trial_keeps_what_it_reached_and_is_tried_again_when_asked_for(directory):
    with writing(directory) as writer:
        writer.fail(trial_of(directory), "ValueError: no", "Traceback …")
    failed = trial_of(directory)
    assert (failed.status, failed.failure, failed.traceback, failed.step) == (
        "failed",
        "ValueError: no",
        "Traceback …",
        3,
    )
    with writing(directory) as writer:
        writer.request([(0.1, 0, None, 4.0, 4)])
    assert trial_of(directory).status == "paused"


def test_asking_for_more_epochs_extends_a_trial_and_keeps_the_earlier_end(directory):
    with writing(directory) as writer:
        writer.request([(0.1, 0, None, 8.0, 8)])
        writer.request([(0.1, 0, None, 2.0, 2)])  # fewer take nothing away
    trial = trial_of(directory)
    assert (trial.epochs, trial.ends, trial.end_step) == (8.0, (4, 8), 8)
    assert len(store.read(directory).trials) == 2


def test_a_horizon_makes_another_trial(directory):
    with writing(directory) as writer:
        writer.request([(0.1, 0, 4.0, 4.0, 4), (0.1, 0, 8.0, 8.0, 8), (0.1, 0, 8.0, 8.0, 8)])
    assert [t.horizon for t in store.read(directory).trials if t.lr == 0.1] == [None, 4.0, 8.0]


def test_test_metrics_are_stored_at_the_step_reached(directory):
    with writing(directory) as writer:
        writer.save_test(trial_of(directory), {"test_loss": 1.0}, {"test_loss": 0.1})
    (one,) = trial_of(directory).tests
    assert (one.step, one.metrics, one.standard_errors) == (3, {"test_loss": 1.0}, {"test_loss": 0.1})


def test_an_analysis_is_stored_with_the_revision_it_is_of(directory):
    with writing(directory) as writer:
        writer.save_analysis("1", {"margin": math.nan, "rates": (1, 2)})
    read = store.read(directory)
    assert read.analysis == (read.revision, "1", {"margin": None, "rates": [1, 2]})
    with writing(directory):
        pass
    read = store.read(directory)
    assert read.analysis[0] < read.revision


def test_a_run_is_live_while_it_is_written_to(directory):
    with writing(directory):
        assert store.read(directory).live
        assert trial_of(directory).status == "running"
    assert not store.read(directory).live
    assert trial_of(directory).status == "paused"


def test_a_run_whose_writer_died_or_is_elsewhere_is_not_live(directory):
    for writer in ('{"pid": 2147483647, "host": "HOST"}', '{"pid": 1, "host": "another host"}'):
        import socket

        with contextlib.closing(sqlite3.connect(directory / DATABASE)) as db, db:
            db.execute("UPDATE study SET writer = ?", (writer.replace("HOST", socket.gethostname()),))
        assert trial_of(directory).status == "paused"


def test_reading_changes_nothing(directory):
    before = files(directory)
    store.read(directory)
    store.read_steps(directory)
    assert files(directory) == before


def test_a_second_writer_is_refused(directory):
    before = files(directory)
    with (
        filelock.FileLock(directory / LOCK),
        pytest.raises(InUseError, match="another process is writing to it"),
        Writer(directory),
    ):
        pass
    assert files(directory) == before
    with Writer(directory):
        pass


def test_a_second_writer_in_another_thread_is_refused_while_readers_go_on(directory):
    inside, done = threading.Event(), threading.Event()

    def hold():
        with writing(directory):
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert inside.wait(10)
        assert store.read(directory).live
        with pytest.raises(InUseError), Writer(directory):
            pass
    finally:
        done.set()
        thread.join()


def damaged(directory, how):
    """Put something else in the place of the database, and return its path."""
    path = directory / DATABASE
    sound = path.read_bytes()
    if how.startswith("truncated"):
        share = float(how.split()[1])
        path.write_bytes(sound[: int(share * len(sound))])
    elif how == "one page short":
        path.write_bytes(sound[:-4096])
    elif how == "text":
        path.write_text("This is no database.\n" * 100)
    elif how == "short text":
        path.write_text("no\n")
    elif how == "zeroed":
        path.write_bytes(sound[:4096] + bytes(len(sound) - 4096))
    elif how == "garbled":
        path.write_bytes(sound[:2000] + bytes(range(256)) * ((len(sound) - 2000) // 256))
    else:
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE songs (title TEXT)")
            if how == "another database with our number":
                db.execute(f"PRAGMA user_version = {store.FORMAT}")
            if how == "another database with our table":
                db.execute("CREATE TABLE study (study TEXT)")
                db.execute(f"PRAGMA user_version = {store.FORMAT}")
    return path


DAMAGES = [
    "truncated 0.1", "truncated 0.5", "truncated 0.9", "one page short", "text", "short text", "zeroed", "garbled",
    "another database", "another database with our number", "another database with our table",
]  # fmt: skip


def small_study(**changes):
    return Study.default("quadratic").replace(**{"lrs": [0.1], "epochs": 2, **changes})


@pytest.mark.parametrize("how", DAMAGES)
def test_what_is_no_sound_database_is_refused_and_left_as_it_is(directory, how):
    path = damaged(directory, how)
    before = files(directory)
    for attempt in (store.read, lambda place: small_study().run(place, executor="inline")):
        with pytest.raises(StoreError) as caught:
            attempt(directory)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert files(directory) == before


@pytest.mark.parametrize("how", DAMAGES)
def test_a_writer_alone_does_not_write_into_what_is_no_database_of_ours(directory, how):
    damaged(directory, how)
    before = files(directory)
    with pytest.raises(StoreError), writing(directory):
        pass
    assert files(directory) == before


def test_a_database_of_a_newer_format_is_refused_and_left_as_it_is(directory):
    with contextlib.closing(sqlite3.connect(directory / DATABASE)) as db, db:
        db.execute(f"PRAGMA user_version = {store.FORMAT + 1}")
    before = files(directory)
    for attempt in (store.read, lambda place: small_study().run(place, executor="inline")):
        with pytest.raises(StoreError, match=r"written by a newer etude .*upgrade etude"):
            attempt(directory)
    assert files(directory) == before


def test_an_empty_file_is_no_run_and_a_run_may_begin_there(tmp_path):
    """A crash before the first transaction leaves an empty database."""
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / DATABASE).write_bytes(b"")
    with pytest.raises(StoreError, match="there is no run in it"):
        store.read(directory)
    assert (directory / DATABASE).read_bytes() == b""
    assert store.read_if_any(directory) is None
    with writing(directory):
        pass
    assert store.read(directory).study == STUDY


def test_a_directory_without_a_run_is_told(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        assert store.read_if_any(place) is None
        with pytest.raises(StoreError, match="there is no run in it"):
            store.read(place)


def test_a_directory_with_other_things_in_it_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("\\documentclass{book}")
    with (
        pytest.raises(
            StoreError, match=r"expected an empty directory or a run, got one with other things in it \(thesis\.tex"
        ),
        Writer(tmp_path),
    ):
        pass
    assert files(tmp_path) == {"thesis.tex": b"\\documentclass{book}"}


def test_a_run_with_a_persons_notes_in_it_is_still_a_run(directory):
    (directory / "notes.md").write_text("the good one")
    with writing(directory):
        pass
    assert (directory / "notes.md").read_text() == "the good one"


def test_a_file_is_no_place_for_a_run(tmp_path):
    place = tmp_path / "file"
    place.write_text("mine")
    with pytest.raises(StoreError, match="expected a directory to write to, got a file"), Writer(place):
        pass
    assert files(tmp_path) == {"file": b"mine"}


def test_a_place_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file" / "run", tmp_path / "file" / "deeper" / "run"):
        with pytest.raises(StoreError, match="cannot be written"), Writer(place):
            pass
    assert files(tmp_path) == {"file": b"mine"}


def test_a_name_that_is_too_long_for_a_folder_is_one_error_and_leaves_nothing(tmp_path):
    place = tmp_path / "new" / ("x" * 300)
    with pytest.raises(StoreError, match="too long"), Writer(place):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError):
        store.read(place)


def test_files_that_no_trial_refers_to_are_swept_at_the_next_beginning(directory):
    checkpoints = directory / CHECKPOINTS
    (checkpoints / "a" / "2.pt").write_bytes(b"older")
    (checkpoints / "a" / "4.partial").write_bytes(b"half")
    (checkpoints / "b").mkdir()
    (checkpoints / "b" / "1.pt").write_bytes(b"of nobody")
    store.read(directory)
    assert len(files(checkpoints)) == 4
    with writing(directory):
        assert files(checkpoints) == {"a/3.pt": b"3"}


def test_a_folder_among_the_checkpoints_does_not_stop_a_run(directory):
    (directory / CHECKPOINTS / "a" / ".thumbnails").mkdir()
    with writing(directory):
        pass
    assert trial_of(directory).step == 3


def test_a_writer_that_stores_nothing_leaves_no_directory_behind(tmp_path):
    with Writer(tmp_path / "new" / "deep" / "run"):
        assert (tmp_path / "new" / "deep" / "run").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_stores_nothing_leaves_a_directory_that_was_there(tmp_path):
    place = tmp_path / "run"
    place.mkdir()
    with Writer(place):
        pass
    assert list(tmp_path.iterdir()) == [place]
    assert list(place.iterdir()) == []


def test_a_study_that_cannot_be_carried_out_leaves_no_directory_behind(tmp_path):
    with pytest.raises(Exception, match="batch_size"):
        small_study(recipe={"optimizer": "sgd", "batch_size": 11}).run(tmp_path / "new" / "run", executor="inline")
    assert list(tmp_path.iterdir()) == []


def test_another_study_is_refused_and_the_run_left_as_it_is(tmp_path):
    small_study().run(tmp_path / "run", executor="inline")
    before = files(tmp_path)
    with pytest.raises(MismatchError, match=r"recipe\.optimizer is sgd there and adam here"):
        small_study(recipe={"optimizer": "adam", "batch_size": 10}).run(tmp_path / "run", executor="inline")
    assert files(tmp_path) == before


def test_runs_are_listed_the_latest_first(tmp_path):
    import os

    for age, name in enumerate(("new", "old", "older")):
        with writing(tmp_path / name):
            pass
        os.utime(tmp_path / name / DATABASE, (1e9 - age, 1e9 - age))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert [path.name for path in store.runs(tmp_path)] == ["new", "old", "older"]
    assert store.runs(tmp_path / "none") == []
    assert store.runs(tmp_path / "file") == []

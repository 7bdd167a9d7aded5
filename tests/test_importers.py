from __future__ import annotations

import gzip
import math
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import etude
from etude.errors import DataError, SpecError
from etude.importers import Names, arrange, read_table
from etude.importers.logs import column_of

nan, inf = math.nan, math.inf


def imported(frame, objective=None, **names):
    return arrange(read_table(frame, objective, None, Names(**names)))


def curves(trials, unit="epoch", **more):
    """Make a table of validation losses: ``{(lr, seed): [value at 0, 1, …]}``."""
    rows = [
        {"lr": lr, "seed": seed, unit: place, "val_loss": value, **more}
        for (lr, seed), values in trials.items()
        for place, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def statuses(made):
    return {(t.lr, t.seed): t.status for t in made.stored.trials}


def of(made, lr, seed=0):
    return next(t for t in made.stored.trials if (t.lr, t.seed) == (lr, seed))


# What a row means


@pytest.mark.parametrize("lost", [nan, inf, -inf])
def test_a_trial_that_is_not_finite_until_its_end_diverged_at_the_first_such_step(lost):
    made = imported(curves({(0.1, 0): [3, 2, 1, 0.5], (1.0, 0): [3, 2, lost, lost]}))
    assert statuses(made) == {(0.1, 0): "completed", (1.0, 0): "diverged"}
    assert of(made, 1.0).diverged == 2
    assert made.ended == {1: 2.0}
    assert [e.metrics["val_loss"] for e in of(made, 1.0).evaluations] == [3, 2]


def test_one_last_row_without_numbers_is_enough():
    frame = pd.concat(
        [
            curves({(0.1, 0): [3, 2, 1]}, "step"),
            pd.DataFrame({"lr": [1.0, 1.0], "seed": 0, "step": [0, 77], "val_loss": [3, nan]}),
        ]
    )
    assert of(imported(frame), 1.0).diverged == 77


def test_a_gap_that_closes_again_is_a_missing_evaluation():
    made = imported(curves({(0.1, 0): [3, nan, inf, 0.5], (1.0, 0): [3, 2, 1, 0.5]}))
    assert statuses(made) == {(0.1, 0): "completed", (1.0, 0): "completed"}
    result = etude.judge(curves({(0.1, 0): [3, nan, inf, 0.5], (1.0, 0): [3, 2, 1, 0.5]}))
    (gap, whole) = result._curves()
    assert (gap.steps.tolist(), whole.steps.tolist()) == ([0, 3], [0, 1, 2, 3])


def test_a_training_loss_or_validation_loss_that_is_lost_counts_where_an_accuracy_goes_on():
    for column in ("train_loss", "val_loss"):
        frame = curves({(0.1, 0): [3, 2, 1], (1.0, 0): [3, nan, nan]}).rename(columns={"val_loss": column})
        frame["val_accuracy"] = [0.1, 0.5, 0.9, 0.1, 0.1, 0.1]
        made = imported(frame)
        assert made.objective.metric == "val_accuracy"
        assert of(made, 1.0).diverged == 1


def test_all_trials_may_have_diverged_each_at_its_own_step():
    made = imported(curves({(1.0, 0): [3, nan, nan, nan], (10.0, 0): [3, 4, nan, nan]}))
    assert {t.lr: t.diverged for t in made.stored.trials} == {1.0: 1, 10.0: 2}
    result = etude.judge(curves({(1.0, 0): [3, nan, nan, nan], (10.0, 0): [3, 4, nan, nan]}))
    assert result.recommendation.lr is None
    assert set(result.rates["verdict"]) == {"diverged"}


def test_a_trial_that_ends_before_the_others_is_unfinished():
    made = imported(curves({(0.1, 0): [3, 2, 1, 0.5], (0.1, 1): [3, 2, 1, 0.5], (1.0, 0): [3, 2]}))
    assert statuses(made) == {(0.1, 0): "completed", (0.1, 1): "completed", (1.0, 0): "paused"}
    assert (of(made, 1.0).step, of(made, 1.0).end_step) == (1, 3)


def test_a_trial_that_went_further_than_the_others_leaves_them_complete():
    made = imported(curves({(0.1, 0): [3, 2, 1], (1.0, 0): [3, 2, 1], (0.5, 0): [3, 2, 1, 0.9, 0.8]}))
    assert set(statuses(made).values()) == {"completed"}
    assert made.ends == {None: 2}


def test_many_that_were_given_up_early_do_not_end_the_study_for_the_others():
    whole = {(lr, 0): [3, 2, 1, 0.5] for lr in (0.01, 0.03, 0.1)}
    made = imported(curves({**whole, **{(lr, 0): [3, 40] for lr in (1.0, 3.0, 10.0, 30.0)}}))
    assert made.ends == {None: 3}
    assert sum(status == "paused" for status in statuses(made).values()) == 4
    assert "is read as diverged if its last row says nan or inf" in made.notes[0]


def test_with_early_stopping_all_are_judged_where_most_had_got_to_and_that_is_said():
    lengths = {1e-4: 9, 3e-4: 8, 1e-3: 7, 3e-3: 6, 1e-2: 5}
    frame = curves({(lr, 0): list(3 - lr - 0.1 * np.arange(n)) for lr, n in lengths.items()})
    made = imported(frame)
    assert made.ends == {None: 5}  # of 9, 8, 7, 6 and 5 values from 0 on: four of five got there
    assert "are judged where most of them got to: 4 of 5 to epoch 5" in made.notes[0]
    assert etude.judge(frame).recommendation.lr == 3e-3


def test_a_trial_that_trains_on_and_was_never_evaluated_did_not_diverge():
    frame = pd.DataFrame(
        {"lr": [0.1, 0.1, 1, 1], "step": [1, 2, 1, 2], "train_loss": 1.0, "val_loss": [2, 1, nan, nan]}
    )
    assert statuses(imported(frame)) == {(0.1, 0): "completed", (1.0, 0): "paused"}


def by_step(drop=()):
    """A training loss at each of 20 steps, a validation loss at every fifth."""
    return pd.DataFrame(
        [
            {
                "lr": lr,
                "step": step,
                "train_loss": nan if step == 0 else 30.0 - step,
                "val_loss": 5.0 if step % 5 == 0 else nan,
            }
            for lr in (0.1, 1.0)
            for step in range(21)
            if step not in drop
        ]
    )


def test_a_dense_training_loss_is_history_and_not_evaluations():
    made = imported(by_step())
    for trial in made.stored.trials:
        assert [e.step for e in trial.evaluations] == [0, 5, 10, 15, 20]
        assert made.losses[trial.id].tolist() == [30.0 - step for step in range(1, 21)]
        assert trial.status == "completed"


def test_a_training_loss_with_gaps_is_the_evaluations_mean_over_the_steps_since_the_last_one():
    frame = by_step(drop=(3,))
    frame.loc[frame["step"] % 5 == 0, "train_loss"] = nan
    made = imported(frame)
    assert made.losses == {}
    assert [e.train_loss for e in of(made, 0.1).evaluations] == [
        None, np.mean([29, 28, 26]), np.mean([24, 23, 22, 21]), np.mean([19, 18, 17, 16]), np.mean([14, 13, 12, 11]),
    ]  # fmt: skip


def test_rows_that_complete_each_other_are_one():
    frame = pd.DataFrame(
        {"lr": 0.1, "step": [5, 5, 10, 10], "train_loss": [2, nan, nan, 1], "val_loss": [nan, 4, 3, nan]}
    )
    (trial,) = imported(frame).stored.trials
    assert [(e.step, e.train_loss, e.metrics["val_loss"]) for e in trial.evaluations] == [(5, 2, 4), (10, 1, 3)]


# Places


def test_epochs_alone_are_the_steps_where_they_are_whole():
    made = imported(curves({(0.1, 0): [3, 2, 1]}))
    assert (made.unit, made.ends) == ("epoch", {None: 2})
    assert [(e.step, e.epoch) for e in made.stored.trials[0].evaluations] == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_fractions_of_epochs_are_counted():
    made = imported(pd.DataFrame({"lr": 0.1, "epoch": [0.25, 0.5, 1.5], "val_loss": [3.0, 2, 1]}))
    assert [(e.step, e.epoch) for e in made.stored.trials[0].evaluations] == [(1, 0.25), (2, 0.5), (3, 1.5)]
    assert made.stored.trials[0].epochs == 1.5


def test_steps_alone_and_steps_with_epochs():
    frame = curves({(0.1, 0): [3, 2, 1]}, "step")
    assert imported(frame).unit == "step"
    frame["epoch"] = frame["step"] / 2
    made = imported(frame)
    assert (made.unit, made.ends, made.stored.trials[0].epochs) == ("epoch", {None: 2}, 1.0)
    frame["epoch"] = [0, 0, 1]  # too coarse to tell evaluations apart
    made = imported(frame)
    assert (made.unit, made.stored.trials[0].epochs) == ("step", 2.0)


def test_final_values_alone_say_what_cannot_be_told():
    made = imported(pd.DataFrame({"lr": [0.1, 1, 10], "val_loss": [2.0, 1.0, nan]}))
    assert made.unit == ""
    assert statuses(made) == {(0.1, 0): "completed", (1.0, 0): "completed", (10.0, 0): "diverged"}
    assert "dynamics" in made.notes[0]


# What decides


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("train_loss", "val_loss", "val_accuracy"), "max:val_accuracy"),
        (("train_loss", "val_f1", "val_loss"), "min:val_loss"),
        (("train_loss", "val_odd", "val_f1"), "max:val_f1"),
        (("train_loss", "val_odd"), "min:train_loss"),
    ],
)
def test_the_objective_that_is_not_said(columns, expected):
    frame = pd.DataFrame({"lr": [0.1, 1.0], **{column: [0.5, 0.6] for column in columns}})
    assert str(imported(frame).objective) == expected


def test_any_column_may_decide_by_name():
    frame = pd.DataFrame({"lr": [0.1, 1.0], "top 5: [b]$x$": [0.5, 0.6]})
    made = imported(frame, "max:top 5: [b]$x$")
    assert made.objective.metric == "top 5: [b]$x$"


# What is refused, in one line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("lr,val_loss\n", "there are no rows below the header"),
        ("learning_rate,val_loss\n1,2\n", "no column 'lr'; did you mean 'learning_rate'?; say --lr COLUMN"),
        ("LR,val_loss\n1,2\n", "no column 'lr'; did you mean 'LR'?; say --lr COLUMN"),
        ("lr,val_loss\n0.1,2\n1,abc\n", "column 'val_loss', row 2: expected a number, got 'abc'"),
        ("lr,val_loss\nfast,2\n", "column 'lr', row 1: expected a number, got 'fast'"),
        ("lr,val_loss\n0.1,2\n0,2\n", "column 'lr', row 2: expected a positive, finite rate, got 0"),
        ("lr,val_loss\n-1,2\n", "column 'lr', row 1: expected a positive, finite rate, got -1"),
        ("lr,val_loss\ninf,2\n", "column 'lr', row 1: expected a positive, finite rate, got inf"),
        ("lr,val_loss\n,2\n", "column 'lr', row 1: expected a positive, finite rate, got nothing"),
        ("lr,seed,val_loss\n1,0.5,2\n", "column 'seed', row 1: expected a whole number, got 0.5"),
        ("lr,step,val_loss\n1,-1,2\n", "column 'step', row 1: expected a whole number from 0 on, got -1"),
        ("lr,step,val_loss\n1,1,2\n1,,2\n", "column 'step', row 2: expected a whole number from 0 on, got nothing"),
        ("lr,epoch,val_loss\n1,0,2\n1,,2\n", "column 'epoch', row 2: expected an epoch from 0 on, got nothing"),
        ("lr,lr,val_loss\n1,1,2\n", "two columns are called 'lr'"),
        ("lr,val_loss\n1,2,3\n", "not a sound CSV"),
        ("lr,val_loss\n1,2\n1,2,3\n", "not a sound CSV: expected 2 fields in line 3, saw 3"),
        ("lr,loss\n1,2\n", "expected a column train_loss or val_… to judge by; its other columns are loss"),
        ("lr,epoch,val_loss\n0.1,1,2\n0.1,1,3\n", "lr 0.1, epoch 1 has 2 values of 'val_loss' (rows 1, 2); expected one; name"
         " what tells them apart: --seed COLUMN"),
        ("lr,Epoch,seed,val_loss\n0.1,1,0,2\n0.1,2,0,3\n", "did you mean --epoch Epoch?"),
        ("lr,step,seed,val_loss\n0.1,1,3,2\n0.1,1,3,3\n", "lr 0.1, seed 3, step 1 has 2 values of 'val_loss' (rows 1, 2)"),
    ],
)  # fmt: skip
def test_a_malformed_table_is_one_line(tmp_path, text, words):
    path = tmp_path / "curves.csv"
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        imported(path)
    assert words in str(refused.value)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("val_los", "no column 'val_los'; did you mean 'val_loss'?"),
        ("val_odd", "whether 'val_odd' should be large or small is not known; write max:val_odd or min:val_odd"),
        ("best:val_odd", "no column 'best:val_odd'"),
    ],
)
def test_an_objective_that_cannot_be_is_one_line(objective, words):
    with pytest.raises(SpecError, match=r"study\.objective") as refused:
        imported(pd.DataFrame({"lr": [0.1], "val_loss": [1.0], "val_odd": [1.0]}), objective)
    assert words in str(refused.value)


def test_an_unknown_direction_is_asked_for_when_nothing_else_can_decide():
    with pytest.raises(SpecError, match="write max:val_odd or min:val_odd"):
        imported(pd.DataFrame({"lr": [0.1], "val_odd": [1.0]}))


def test_an_objective_without_a_number_cannot_decide():
    with pytest.raises(DataError, match="column 'val_loss' has no number in it"):
        imported(pd.DataFrame({"lr": [0.1, 1], "val_loss": [nan, nan], "train_loss": [1.0, 2.0]}))


def test_a_column_that_was_named_must_be_there():
    with pytest.raises(DataError, match="no column 'sed'; did you mean 'seed'"):
        imported(pd.DataFrame({"lr": [0.1], "seed": [0], "val_loss": [1.0]}), seed="sed")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv.gz", b"\x1f\x8bnonsense", "not a sound gzip file"),
        ("a.csv.gz", gzip.compress(b"lr,val_loss\n" + b"0.1,2\n" * 99, mtime=0)[:-9], "not a sound gzip file"),
        ("a.csv.gz", b"lr,val_loss\n1,2\n", "not a sound gzip file"),
        ("a.csv", b"lr,val_loss\n1,\xff\xfe\n", "expected a CSV in UTF-8"),
        ("a.parquet", b"PAR1 nonsense PAR1", "not a sound Parquet file"),
        ("a.parquet", b"lr,val_loss\n1,2\n", "not a sound Parquet file"),
        ("missing.csv", None, "there is no such file"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as refused:
        imported(path)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_parquet_without_its_engine_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    for name in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"needs pyarrow; pip install 'etude\[parquet\]'"):
        imported(path)


def test_a_data_frame_may_be_empty():
    with pytest.raises(DataError, match="the data frame: there are no columns"):
        imported(pd.DataFrame())
    with pytest.raises(DataError, match="the data frame: there are no rows below the header"):
        imported(pd.DataFrame({"lr": [], "val_loss": []}))


def test_only_paths_and_data_frames():
    with pytest.raises(SpecError, match="expected a path or a pandas data frame, got dict"):
        imported({"lr": [1]})


# One table, however it comes

cells = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.just(nan))
tables = st.lists(
    st.tuples(st.sampled_from([1e-5, 0.1 + 0.2, 1 / 3]), st.integers(-1, 2), st.integers(0, 4), cells, cells),
    min_size=1, max_size=25, unique_by=lambda row: row[:3],
).map(lambda rows: pd.DataFrame(rows, columns=["lr", "seed", "epoch", "train_loss", "val_loss"]))  # fmt: skip


def plain(made):
    """Everything that was imported, as values that compare (NaN with NaN)."""
    return repr(
        (
            made.objective, made.unit, made.ends, {k: v.tolist() for k, v in made.losses.items()}, made.ended,
            [(t.lr, t.seed, t.status, t.step, t.diverged, t.epochs, list(t.evaluations)) for t in made.stored.trials],
        )
    )  # fmt: skip


def attempt(source):
    try:
        return plain(imported(source))
    except DataError as error:
        return str(error).partition(": ")[2] or type(error)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=tables, shuffle=st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_the_container_matters(tmp_path, frame, shuffle):
    expected = attempt(frame)
    order = list(range(len(frame)))
    shuffle.shuffle(order)
    assert attempt(frame.iloc[order]) == expected
    frame.to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.csv.gz", "a.parquet"):
        assert attempt(tmp_path / name) == expected


@settings(max_examples=60, deadline=None)
@given(frame=tables)
def test_steps_rise_and_nothing_is_made_up(frame):
    try:
        made = imported(frame)
    except DataError:
        return
    given_values = {(r.lr, r.seed, r.epoch): r.val_loss for r in frame.itertuples()}
    for trial in made.stored.trials:
        steps = trial.evaluations.steps
        assert (np.diff(steps) > 0).all()
        assert (trial.status == "diverged") == (trial.diverged is not None)
        for e in trial.evaluations:
            expected = given_values[trial.lr, trial.seed, e.epoch]
            assert e.metrics["val_loss"] == expected or math.isnan(expected)


def test_separators_spaces_and_other_columns_are_no_matter(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\ufeffseed; lr ;note;val_loss\n0;1e-3;a;NaN\n0;1e-2;b;0.5\n", encoding="utf-8")
    assert statuses(imported(path)) == {(1e-3, 0): "diverged", (1e-2, 0): "completed"}


def test_a_data_frame_is_not_changed_and_may_have_its_keys_in_the_index():
    frame = curves({(0.1, 0): [3, 2, 1], (1.0, 1): [3, 2, 1]})
    before = frame.copy()
    grouped = frame.set_index(["lr", "seed"])
    assert plain(imported(frame)) == plain(imported(grouped))
    pd.testing.assert_frame_equal(frame, before)


# TensorBoard


@pytest.mark.parametrize(
    ("tag", "column"),
    [
        ("loss/train", "train_loss"), ("train/loss", "train_loss"), ("train_loss", "train_loss"), ("loss", "train_loss"),
        ("train_loss_epoch", "train_loss"), ("epoch_loss", "train_loss"), ("Loss/validation", "val_loss"),
        ("val/accuracy", "val_accuracy"), ("val_accuracy", "val_accuracy"), ("validation/epoch_accuracy", "val_accuracy"),
        ("eval/top_5", "val_top_5"), ("lr", None), ("train/accuracy", None), ("val", None),
    ],
)  # fmt: skip
def test_tags_are_read_as_columns(tag, column):
    assert column_of(tag) == column


def write_logs(folder, values, hparams=None, tag="val_accuracy"):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for step, value in enumerate(values):
            writer.add_scalar(tag, value, step)
        if hparams is not None:
            writer.add_hparams(hparams, {"hp/score": 1.0})


def test_a_folder_of_tensorboard_logs_is_judged(tmp_path):
    pytest.importorskip("tensorboard")
    write_logs(tmp_path / "lr=1e-3,seed=0", [0.1, 0.5, 0.875])
    write_logs(tmp_path / "lr=1e-3,seed=1", [0.1, 0.5, 0.875])
    write_logs(tmp_path / "deep" / "lr_1e-2-seed_1", [0.1, 0.5, 0.75])
    write_logs(tmp_path / "named otherwise", [0.1, 0.25, nan], {"lr": 1.0, "seed": 4, "optimizer": "adam"})
    result = etude.judge(tmp_path)
    assert {(t.lr, t.seed): t.status for t in result.stored.trials} == {
        (1e-3, 0): "completed", (1e-3, 1): "completed", (1e-2, 1): "completed", (1.0, 4): "diverged",
    }  # fmt: skip
    assert result.recommendation.lr == 1e-3
    assert result.unit == "step"


def test_logs_that_cannot_be_read_are_one_line(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    with pytest.raises(DataError, match="expected TensorBoard logs, found no file of events"):
        imported(tmp_path)
    write_logs(tmp_path / "a" / "lr=1", [1.0], tag="weights")
    with pytest.raises(DataError, match="expected scalars such as train_loss or val_accuracy in the logs, found none"):
        imported(tmp_path / "a")
    write_logs(tmp_path / "b" / "first", [1.0])
    with pytest.raises(DataError, match="no learning rate in its hparams or its name; call the folder lr=1e-3,seed=0"):
        imported(tmp_path / "b")
    write_logs(tmp_path / "c" / "lr=1,run=1", [1.0])
    write_logs(tmp_path / "c" / "lr=1,run=2", [1.0])
    with pytest.raises(DataError, match="are both lr 1, seed 0; name the seed of each"):
        imported(tmp_path / "c")
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    with pytest.raises(DataError, match=r"needs tensorboard; pip install 'etude\[tensorboard\]'"):
        imported(tmp_path / "c")


def test_a_run_of_etudes_own_is_shown_and_not_judged(finished_bowl):
    with pytest.raises(DataError, match="this is a run of etude's own; `etude show"):
        imported(finished_bowl)

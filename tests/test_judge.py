from __future__ import annotations

import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import etude
from etude.errors import SpecError

nan = math.nan
LOSSES = {1e-4: [3, 2.9, 2.8, 2.7], 1e-3: [3, 1.5, 1.0, 0.5], 1e-2: [3, 2, 2.2, 1.6], 1e-1: [3, 9, nan, nan]}


def sweep(unit="epoch", seeds=(0, 1), losses=LOSSES):
    """A sweep of four rates: too slow, good, worse, diverged."""
    noise = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"lr": lr, "seed": seed, unit: place, "train_loss": value, "val_loss": value * (1 + 0.01 * noise.standard_normal())}
            for lr, values in losses.items()
            for seed in seeds
            for place, value in enumerate(values)
        ]
    )  # fmt: skip


def write(path, frame):
    frame.to_csv(path, index=False)
    return path


def told(said):
    """The JSON that a command printed."""
    assert (said.status, said.err) == (0, ""), said
    return json.loads(said.out, parse_constant=pytest.fail)


def test_a_result_without_a_directory():
    result = etude.judge(sweep())
    assert (result.directory, result.unit, result.horizon, result.horizon_step) == (None, "epoch", 3.0, 3)
    assert dict(zip(result.rates["lr"], result.rates["verdict"], strict=True)) == {
        1e-4: "too low", 1e-3: "good", 1e-2: "too high", 1e-1: "diverged",
    }  # fmt: skip
    answer = result.recommendation
    assert (answer.lr, answer.next_command) == (1e-3, None)
    assert answer.next_reason.startswith("train the rates 3.16e-4, 3.16e-3: ")
    assert result.counts == {"completed": 6, "diverged": 2}
    assert result.complete
    with pytest.raises(SpecError, match="not known of curves that were trained elsewhere"):
        result.steps_per_epoch  # noqa: B018


def test_what_to_train_next_is_said_in_words():
    at_the_edge = etude.judge(sweep(losses={1e-3: LOSSES[1e-3], 1e-4: LOSSES[1e-4]})).recommendation
    assert at_the_edge.next_reason == "train the rates 1e-2, 0.1: the best rate is at the end of the grid"
    one_seed = etude.judge(sweep(seeds=(0,))).recommendation
    assert one_seed.next_reason.startswith("train more seeds, 3 in all: ")
    unfinished = etude.judge(sweep(losses={**LOSSES, 1e-2: [3, 2]})).recommendation
    assert unfinished.next_reason == "train the 2 trials that end before the others to the end"


def test_margin_and_objective_are_taken():
    frame = sweep()
    frame["val_accuracy"] = np.exp(-frame["val_loss"].fillna(9))
    result = etude.judge(frame, "val_loss", margin=5.0)
    assert result.objective == {"metric": "val_loss", "direction": "minimize", "margin": 5.0}
    assert set(result.rates.set_index("lr").loc[[1e-4, 1e-3, 1e-2], "verdict"]) == {"good"}
    assert etude.judge(frame).objective["metric"] == "val_accuracy"
    assert etude.judge(frame, etude.maximize("val_loss")).recommendation.lr == 1e-4


def test_columns_may_have_other_names():
    frame = sweep().rename(columns={"lr": "η", "seed": "run", "epoch": "Epoch"})
    result = etude.judge(frame, lr="η", seed="run", epoch="Epoch")
    assert result.to_dict() == etude.judge(sweep()).to_dict()


def test_data_frames_have_their_columns_and_types():
    result = etude.judge(sweep())
    evaluations = result.evaluations
    assert dict(evaluations.dtypes.astype(str)) == {
        "lr": "float64", "seed": "int64", "step": "int64", "epoch": "float64", "train_loss": "float64",
        "val_loss": "float64",
    }  # fmt: skip
    assert len(evaluations) == 4 * 6 + 3 * 2  # two evaluations of the diverged trials, and where they diverged
    trials = result.trials.set_index(["lr", "seed"])
    assert trials.loc[(0.1, 0), "reason"] == "not finite from epoch 2 on"
    assert math.isnan(trials.loc[(0.1, 0), "score"])
    assert trials.loc[(1e-3, 1), "score"] == pytest.approx(0.5, rel=0.05)
    assert dict(result.steps.dtypes.astype(str)) == {
        "lr": "float64", "seed": "int64", "step": "int64", "loss": "float32", "grad_norm": "float32",
        "update_ratio": "float32",
    }  # fmt: skip
    assert len(result.steps) == 0
    assert result.rates["n_trials"].dtype == "int64"
    assert result.rates["gap"].dtype == "float64"


def test_data_frames_of_a_run_that_has_not_begun_have_their_columns(tmp_path):
    class Stopped(Exception):
        pass

    def stop(event):
        raise Stopped

    study = etude.Study.default("quadratic").replace(lrs=[0.1, 1], epochs=5)
    with pytest.raises(Stopped):
        study.run(tmp_path / "run", executor="inline", on_event=stop)
    result = etude.Result.load(tmp_path / "run")
    assert len(result.evaluations) == len(result.steps) == 0
    assert list(result.evaluations.columns) == ["lr", "seed", "step", "epoch", "train_loss"]
    assert list(result.steps.columns) == ["lr", "seed", "step", "loss", "grad_norm", "update_ratio"]
    assert result.evaluations["seed"].dtype == result.steps["step"].dtype == "int64"
    assert list(result.trials["status"]) == ["pending", "pending"]


def test_data_frames_of_a_run(finished_digits):
    result = etude.Result.load(finished_digits)
    evaluations, steps = result.evaluations, result.steps
    assert [c for c in evaluations if c.startswith("val_")] == [
        "val_accuracy", "val_loss", "val_accuracy_se", "val_loss_se",
    ]  # fmt: skip
    assert len(evaluations) == 6 * 3
    assert (steps.groupby(["lr", "seed"])["step"].max() == result.horizon_step).all()
    one = next(trial for trial in result.stored.trials if trial.lr == 1e-2)
    frame = evaluations[(evaluations["lr"] == 1e-2) & (evaluations["seed"] == one.seed)]
    assert frame["val_loss_se"].tolist() == [e.standard_errors["val_loss"] for e in one.evaluations]
    assert steps[["loss", "grad_norm", "update_ratio"]].notna().all(axis=None)


def test_judging_its_own_evaluations_says_the_same():
    first = etude.judge(sweep())
    again = etude.judge(first.evaluations).to_dict()
    expected = first.to_dict()
    assert again == expected
    for unit in ("step", "fraction"):
        frame = sweep("step" if unit == "step" else "epoch")
        if unit == "fraction":
            frame["epoch"] /= 4
        first = etude.judge(frame)
        assert etude.judge(first.evaluations).analysis == first.analysis


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_the_command_prints_what_show_prints(etude_command, tmp_path, unit):
    said = etude_command("judge", write(tmp_path / "my curves.csv", sweep(unit)))
    assert (said.status, said.err) == (0, "")
    first, *_ = said.out.splitlines()
    assert first == f"my curves: 3 {unit}s, 4 rates × 2 seeds, decided by the smallest val_loss"
    for words in (
        "verdict",
        "what happened",
        "Train at 1e-3: ",
        "Margin: ± ",
        "Next, train the rates 3.16e-4, 3.16e-3",
    ):
        assert words in said.out
    assert not list(tmp_path.glob("**/*.png"))


def test_the_commands_json_is_format_1(etude_command, tmp_path):
    got = told(etude_command("judge", write(tmp_path / "a.csv", sweep()), "--json"))
    assert got["format"] == 1
    assert {"name": "a", "task": None, "recipe": {}, "epochs": 3.0, "unit": "epoch"}.items() <= got["study"].items()
    assert [t["status"] for t in got["trials"]] == ["completed"] * 6 + ["diverged"] * 2
    assert got["trials"][-1]["reason"] == "not finite from epoch 2 on"
    assert got["trials"][-1]["wall_s"] is None
    assert len(got["trials"][-1]["evaluations"]) == 2
    assert got["recommendation"]["next_command"] is None
    assert got == json.loads(json.dumps(etude.judge(tmp_path / "a.csv").to_dict()))


def test_the_command_saves_the_figures(etude_command, tmp_path):
    write(tmp_path / "a.csv", sweep())
    said = etude_command("judge", "a.csv", "--out", "figs", "--format", "svg")
    assert said.out.splitlines()[-2].startswith("Picture: figs/")
    assert said.out.splitlines()[-1] == "Report: figs/report.html"
    assert (tmp_path / "figs" / "curves.svg").stat().st_size > 10_000
    assert told(etude_command("judge", "a.csv", "--out", "figs", "--json"))["format"] == 1
    assert (tmp_path / "figs" / "curves.png").read_bytes().startswith(b"\x89PNG")
    refused = etude_command("judge", "a.csv", "--out", "figs", "--format", "bmp")
    assert refused.status == 2
    assert len(refused.err.splitlines()) == 1


def test_odd_names_are_printed_and_drawn(etude_command, tmp_path):
    frame = sweep().rename(columns={"val_loss": "val_[bold]: 5 % $x_1$ ü"})
    write(tmp_path / "[red]a$b$.csv", frame)
    said = etude_command("judge", "[red]a$b$.csv", "--objective", "min:val_[bold]: 5 % $x_1$ ü", "--out", "figs")
    assert (said.status, said.err) == (0, "")
    assert said.out.startswith("[red]a$b$: 3 epochs")
    assert "the smallest val_[bold]: 5 % $x_1$ ü" in said.out


TABLES = {
    "by epoch": sweep(),
    "by step": sweep("step"),
    "final values": sweep().query("epoch == 3").drop(columns="epoch"),
    "final accuracies": pd.DataFrame({"lr": [0.1, 1, 10], "val_accuracy": [0.5, 0.9, nan]}),
    "accuracy alone": pd.DataFrame({"lr": 0.1, "epoch": range(4), "val_accuracy": [0.1, 0.5, 0.8, 0.9]}),
    "training loss alone": sweep().drop(columns="val_loss"),
    "unfinished": sweep(losses={**LOSSES, 1e-2: [3, 2]}),
    "all diverged": sweep(losses={1.0: [3, nan, nan], 10.0: [nan, nan, nan]}),
    "one row": pd.DataFrame({"lr": [0.1], "val_loss": [1.0]}),
    "many rates": sweep(losses={10.0**-k: [3, 2 + k / 20, 1 + k / 20] for k in range(20)}),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_told_and_drawn_without_a_warning(etude_command, tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = etude.judge(TABLES[name])
        result.to_dict()
        for frame in (result.trials, result.evaluations, result.steps, result.rates):
            assert len(frame.columns) >= 3
        figure = Figure(figsize=(11, 4), layout="constrained")
        result.plot("curves", ax=figure.subplots(1, 2))
        figure.savefig(tmp_path / "a.png")
    said = etude_command("judge", write(tmp_path / "a.csv", TABLES[name]))
    assert (said.status, said.err) == (0, "")
    assert "verdict" in said.out


def test_a_loss_that_was_not_recorded_leaves_its_panel_empty_and_says_so():
    figure = Figure(figsize=(11, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    etude.judge(TABLES["final accuracies"]).plot("curves", ax=[loss, accuracy])
    assert "no training loss recorded" in [text.get_text() for text in loss.texts]
    assert len(loss.get_yticks()) == 0
    assert "no finite value" not in [text.get_text() for text in accuracy.texts]
    assert {ax.get_xlabel() for ax in (loss, accuracy)} == {"final values"}


def test_final_values_say_what_cannot_be_told(etude_command, tmp_path):
    said = etude_command("judge", write(tmp_path / "a.csv", TABLES["final values"]))
    assert "a: final values, 4 rates × 2 seeds" in said.out
    assert "Only final values are known: what the curves did on the way (dynamics)" in said.out
    got = told(etude_command("judge", "a.csv", "--json"))
    assert got["study"]["unit"] == ""
    assert got["trials"][0]["evaluations"][0]["step"] is None
    assert "dynamics" in got["notes"][0]


def test_unfinished_trials_are_named(etude_command, tmp_path):
    said = etude_command("judge", write(tmp_path / "a.csv", TABLES["unfinished"]))
    assert "Not finished: 4 completed, 2 diverged, 2 paused." in said.out
    assert "rate 1e-2, seed 1: ends at epoch 1 of 3" in said.out


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        (["a.csv"], "lr,val_loss\n1,x\n", "etude: a.csv: column 'val_loss', row 1: expected a number, got 'x'"),
        (["a.csv"], "rate,val_loss\n1,2\n", "etude: a.csv: no column 'lr'; did you mean 'rate'?; say --lr COLUMN"),
        (["a.csv", "--objective", "val_x"], "lr,val_x\n1,2\n", "write max:val_x or min:val_x"),
        (["b.csv"], "", "etude: b.csv: there is no such file"),
        (["a.csv", "--margin", "-1"], "lr,val_loss\n1,2\n", "etude: study.objective.margin: expected a positive"),
    ],
)
def test_what_is_wrong_is_one_line(etude_command, tmp_path, words, text, said):
    (tmp_path / "a.csv").write_text(text)
    got = etude_command("judge", *words)
    assert (got.status, got.out) == (2, "")
    assert len(got.err.splitlines()) == 1
    assert said in got.err


def test_help_and_show_stay_light(finished_bowl):
    code = (
        "import sys; from etude.cli import main; sys.argv = {argv!r}\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([n for n in ('torch', 'pandas', 'scipy', 'matplotlib', 'numpy') if n in sys.modules])"
    )
    for argv in (["etude", "--help"], ["etude", "judge", "--help"], ["etude", "show", str(finished_bowl)]):
        done = subprocess.run(
            [sys.executable, "-c", code.format(argv=argv)], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]", argv


def test_a_large_table_is_judged_whole(etude_command, tmp_path):
    """A tenth of the million rows whose time benchmarks/judging.py takes."""
    draw = np.random.default_rng(0)
    rates, seeds, epochs = 50, 4, 500
    lr = np.repeat(np.logspace(-5, 0, rates), seeds * epochs)
    seed = np.tile(np.repeat(np.arange(seeds), epochs), rates)
    epoch = np.tile(np.arange(epochs), rates * seeds)
    level = 1 + (np.log10(lr) + 3) ** 2 + 2 * np.exp(-epoch / 90)
    frame = pd.DataFrame({"lr": lr, "seed": seed, "epoch": epoch})
    for name in ("train_loss", "val_loss"):
        frame[name] = np.round(level * (1 + 0.01 * draw.standard_normal(len(level))), 5)
    write(tmp_path / "a.csv", frame)
    said = etude_command("judge", "a.csv", "--json")
    assert said.status == 0
    told = json.loads(said.out)
    assert len(told["rates"]) == rates
    assert sum(len(trial["evaluations"]) for trial in told["trials"]) == len(frame)
    low, high = told["recommendation"]["optimum_interval"]
    assert low < 1e-3 < high

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import subprocess
import sys

import pytest

import etude
from etude import cli, runner, tasks
from etude.errors import SpecError
from etude.spec.expectation import Expectation
from etude.spec.objective import Objective
from etude.spec.recipe import OPTIMIZERS, Recipe
from etude.spec.study import Study, merge_recipe
from etude.spec.trial import Trial

# What no option of the command line sets: the argument STUDY names the task, --out the place; expectations need a table.
NOT_OPTIONS = {"task", "name", "expect", "recipe", "source"}


def study(**changes):
    return Study(**{"task": "digits", "lrs": [1e-3], "epochs": 1, **changes})


def write(tmp_path, text, name="mine.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_reference_study_is_the_articles():
    made = Study.default("mnist")
    assert made.name == made.task == "mnist"
    assert made.lrs == (1e-4, 1e-3, 1e-2)
    assert (made.seeds, made.epochs, made.evaluate_every, made.holdout) == ((0,), 5.0, 1.0, 0)
    assert made.recipe == Recipe(optimizer="adam", batch_size=64, schedule="constant")
    assert made.objective == etude.maximize("val_accuracy")
    assert made.expect[1e-4] == Expectation(verdicts=("too low",))
    assert made.expect[1e-3] == Expectation(verdicts=("good",), metrics={"val_accuracy": (0.97, 0.98)})
    assert made.expect[1e-2] == Expectation(verdicts=("unstable", "diverged"))


def test_the_default_study_of_digits():
    made = Study.default("digits")
    assert made.lrs == (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
    assert (made.seeds, made.epochs, made.recipe.optimizer) == ((0, 1, 2), 10.0, "adam")
    assert made.objective == etude.maximize("val_accuracy")


def test_the_default_study_of_quadratic():
    made = Study.default("quadratic")
    assert made.lrs == (1e-3, 1e-2, 0.1, 1.0, 1.9, 2.1, 10.0)
    assert (made.recipe.optimizer, made.recipe.batch_size) == ("sgd", 10)
    assert made.objective == etude.minimize("val_loss")


@pytest.mark.parametrize("task", tasks.BUILT_IN)
def test_a_study_survives_its_dictionary_and_json(task):
    made = Study.default(task).replace(seeds=[7, 3], recipe=Recipe(optimizer="adamw", optimizer_options={"eps": 1e-7}))
    assert Study(**made.to_dict()) == made
    assert Study(**json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made
    assert Study.from_dict(made.to_dict()) == made


def test_a_study_with_everything_survives_its_dictionary():
    made = study(
        task="mnist", name="all of it", task_options={"root": "data"}, objective=etude.minimize("val_loss", margin=0.01),
        lrs="1e-5..1e-1/9", seeds="10..14", epochs=0.5, evaluate_every=0.1, holdout=5000,
        recipe=Recipe(optimizer="sgd", optimizer_options={"momentum": 0.9, "nesterov": True}, schedule="cosine", batch_size=32),
        expect={"1e-3": {"verdict": ["good"], "val_loss": [0.0, 0.1]}, 0.1: "diverged"},
    )  # fmt: skip
    assert Study(**json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made


def test_the_defaults_are_fresh_each_time():
    first = Study.default("mnist")
    first.recipe.optimizer_options["eps"] = 1.0
    tasks.defaults("mnist")["recipe"]["optimizer"] = "sgd"
    assert Study.default("mnist").recipe == Recipe()


def test_an_unknown_built_in_task_offers_the_nearest():
    with pytest.raises(SpecError, match=r"study\.task: .*'minst'; did you mean 'mnist'\?"):
        Study.default("minst")


def test_a_study_file_has_all_keys(tmp_path):
    path = write(
        tmp_path,
        """
        task = "digits"
        name = "every key"
        objective = "min:val_loss"
        lrs = "1e-4..1e-2/3"
        seeds = "10..11"
        epochs = 3
        evaluate_every = 0.5
        holdout = 100
        task_options = {}
        [recipe]
        optimizer = "SGD"
        optimizer_options = {momentum = 0.9}
        schedule = "linear"
        batch_size = 32
        [expect]
        "1e-4" = "too low"
        "1e-3" = {verdict = ["good", "undetermined"], val_accuracy = [0.9, 1]}
        """,
    )
    assert Study.from_toml(path) == Study(
        task="digits", name="every key", objective=etude.minimize("val_loss"), lrs=[1e-4, 1e-3, 1e-2], seeds=[10, 11],
        epochs=3, evaluate_every=0.5, holdout=100,
        recipe=Recipe(optimizer="sgd", optimizer_options={"momentum": 0.9}, schedule="linear", batch_size=32),
        expect={1e-4: ["too low"], 1e-3: {"verdict": ["good", "undetermined"], "val_accuracy": [0.9, 1.0]}},
    )  # fmt: skip


def test_a_study_file_takes_what_is_not_said_from_the_task(tmp_path):
    made = Study.from_toml(write(tmp_path, 'task = "digits"\nepochs = 2\n', "short.toml"))
    assert made == Study.default("digits").replace(epochs=2, name="short")


def test_rates_in_a_study_file_drop_what_was_expected_of_the_usual_ones(tmp_path):
    made = Study.from_toml(write(tmp_path, 'task = "mnist"\nlrs = [1e-3, 3e-3]\n'))
    assert made.expect == {}
    assert Study.from_toml(write(tmp_path, 'task = "mnist"\nseeds = 3\n')).expect == Study.default("mnist").expect


def test_a_recipe_in_a_study_file_is_laid_over_the_usual_one(tmp_path):
    made = Study.from_toml(write(tmp_path, 'task = "quadratic"\n[recipe]\noptimizer_options = {momentum = 0.5}\n'))
    assert made.recipe == Recipe(optimizer="sgd", optimizer_options={"momentum": 0.5}, batch_size=10)


def test_another_optimizer_drops_the_usual_ones_options():
    usual = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "batch_size": 10}
    assert merge_recipe(usual, {"optimizer": "adam"}) == {"optimizer": "adam", "batch_size": 10}
    assert merge_recipe(usual, {"batch_size": 5}) == {**usual, "batch_size": 5}


def test_the_same_optimizer_in_capitals_keeps_its_options():
    usual = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}}
    assert merge_recipe(usual, {"optimizer": "SGD"}).get("optimizer_options") == {"momentum": 0.9}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('epoch = 3\ntask = "digits"', r"no field is named 'epoch'; did you mean 'epochs'\?"),
        (
            'task = "digits"\n[recipe]\nbatchsize = 3',
            r"study\.recipe: no field is named 'batchsize'; did you mean 'batch_size'\?",
        ),
        ('task = "digits"\n[objective]\nmetric = "val_loss"\nmargn = 1', "margn"),
        ('task = "digit"', r"no built-in task is named 'digit'; did you mean 'digits'\?"),
        ("task = 3", r"study\.task: expected"),
        ("lrs = [1e-3]", r"study\.task is missing"),
        ('task = "digits"\n[recipe]\noptimizer = "adamm"', r"no optimizer is named 'adamm'; did you mean 'adam'\?"),
        (
            'task = "digits"\n[recipe]\noptimizer = 3',
            r"study\.recipe\.optimizer: expected a name or a function.*, got int",
        ),
        ('task = "digits"\n[recipe]\nschedule = "cosin"', r"no schedule is named 'cosin'; did you mean 'cosine'\?"),
        ('task = "digits"\n[recipe]\noptimizer_options = {lr = 1}', "'lr' is what the study varies"),
        ('task = "digits"\nrecipe = "adam"', r"study\.recipe: expected"),
        ('task = "digits"\nlrs = [1e-3, 0]', r"study\.lrs\[1\]: expected a positive, finite number, got 0"),
        ('task = "digits"\nlrs = [nan]', r"study\.lrs\[0\]"),
        ('task = "digits"\nlrs = []', r"study\.lrs: expected at least one"),
        ('task = "digits"\nseeds = 0', r"study\.seeds"),
        ('task = "digits"\nepochs = 0', r"study\.epochs: expected a positive, finite number, got 0"),
        ('task = "digits"\nepochs = inf', r"study\.epochs"),
        ('task = "digits"\nepochs = true', r"study\.epochs"),
        ('task = "digits"\nevaluate_every = -1', r"study\.evaluate_every"),
        ('task = "digits"\nholdout = -1', r"study\.holdout"),
        ('task = "digits"\nholdout = 1.5', r"study\.holdout"),
        ('task = "digits"\n[recipe]\nbatch_size = 1.5', r"study\.recipe\.batch_size"),
        ('task = "digits"\nobjective = "val_beauty"', r"study\.objective: .*write max:val_beauty or min:val_beauty"),
        ('task = "digits"\nobjective = 3', r"study\.objective"),
        ('task = "digits"\nname = 3', r"study\.name"),
        ('task = "digits"\nname = "a/b"', r"study\.name: expected a name fit for a folder"),
        ('task = "digits"\ntask_options = 3', r"study\.task_options"),
        ('task = "digits"\nexpect = 3', r"study\.expect"),
        (f'task = "digits"\nepochs = 1{"0" * 400}', r"study\.epochs"),
    ],
)
def test_what_cannot_be_in_a_study_file_is_one_line_that_names_file_and_field(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(SpecError, match=said) as caught:
        Study.from_toml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_syntax_error_shows_the_line(tmp_path):
    path = write(tmp_path, 'task = "digits"\nlrs = [1e-3, 1e-2\nepochs = 3\n')
    with pytest.raises(SpecError, match=r"mine\.toml: not valid TOML: .*line 3.*: epochs = 3"):
        Study.from_toml(path)


def test_a_syntax_error_at_the_end_is_one_line_too(tmp_path):
    with pytest.raises(SpecError, match="not valid TOML") as caught:
        Study.from_toml(write(tmp_path, "lrs = [1e-3,"))
    assert "\n" not in str(caught.value)


def test_a_missing_study_file_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"none\.toml: cannot be read: No such file"):
        Study.from_toml(tmp_path / "none.toml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        Study.from_toml(tmp_path)


def test_a_study_file_that_is_not_utf_8_is_refused(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes('name = "étude"'.encode("latin-1"))
    with pytest.raises(SpecError, match="it is not UTF-8 text"):
        Study.from_toml(path)


def test_a_study_file_with_windows_line_ends_and_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes('\ufefftask = "digits"\r\nepochs = 2\r\n'.encode())
    assert Study.from_toml(path).epochs == 2


@pytest.mark.parametrize("name", [".", "..", ".hidden", "a/b", "/", "a\0b", " ", "x" * 256, "é" * 200])
def test_a_name_unfit_for_a_folder_is_refused(name):
    with pytest.raises(SpecError, match=r"study\.name: expected a name fit for a folder"):
        study(name=name)


@pytest.mark.parametrize("name", ["my study", "étude", "a.b", "lr=1e-3"])
def test_other_names_are_kept(name):
    assert study(name=name).name == name


@pytest.mark.parametrize("got", [0, 1, 500, "500"])
def test_a_holdout_is_a_whole_number(got):
    assert study(holdout=got).holdout == int(got)


@pytest.mark.parametrize("got", ["0", "00"])
def test_a_holdout_of_nothing_can_be_written_as_text(got):
    assert study(holdout=got).holdout == 0


@pytest.mark.parametrize("got", [-1, 0.5, "many", True, False, None, math.nan])
def test_what_is_no_holdout_is_refused(got):
    with pytest.raises(SpecError, match=r"study\.holdout"):
        study(holdout=got)


@pytest.mark.parametrize(
    ("got", "objective"),
    [
        ("val_loss", etude.minimize("val_loss")),
        ("val_accuracy", etude.maximize("val_accuracy")),
        ("max:val_score", etude.maximize("val_score")),
        ("min:val_score", etude.minimize("val_score")),
        ({"metric": "val_loss", "margin": 0.1}, etude.minimize("val_loss", margin=0.1)),
        ({"metric": "val_x", "direction": "maximize"}, etude.maximize("val_x")),
        (None, etude.maximize("val_accuracy")),
    ],
)
def test_an_objective_is_read_from_text_and_tables(got, objective):
    assert study(objective=got).objective == objective


@pytest.mark.parametrize(
    "got", ["", "max:", "biggest:val_loss", {}, {"metric": 3}, {"metric": "val_loss", "direction": "up"}]
)
def test_what_is_no_objective_is_refused(got):
    with pytest.raises(SpecError, match=r"study\.objective"):
        study(objective=got)


@pytest.mark.parametrize("margin", [0, -0.1, math.nan, math.inf, "much"])
def test_what_is_no_margin_is_refused(margin):
    with pytest.raises(SpecError, match=r"study\.objective\.margin"):
        etude.maximize("val_accuracy", margin=margin)


def test_replace_checks_what_it_is_given_and_keeps_the_rest():
    before = study(seeds=3)
    after = before.replace(lrs="1e-4,1e-2", epochs=7)
    assert (after.lrs, after.epochs, after.seeds) == ((1e-4, 1e-2), 7.0, (0, 1, 2))
    assert before.lrs == (1e-3,)
    with pytest.raises(SpecError, match=r"study\.lrs"):
        before.replace(lrs=[])
    with pytest.raises((SpecError, TypeError), match="epoch"):
        before.replace(epoch=7)


def test_a_study_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        study().epochs = 3


def test_rates_are_missed_when_they_are_to_be_trained():
    study = Study(task="digits", epochs=1)
    with pytest.raises(
        SpecError, match=r"study\.lrs is missing: expected the rates to train, .*; or let etude choose: find"
    ):
        study.trials()


@pytest.mark.parametrize("missing", ["task", "epochs"])
def test_a_missing_field_is_named(missing):
    fields = {"task": "digits", "lrs": [1e-3], "epochs": 1}
    del fields[missing]
    with pytest.raises(SpecError, match=rf"^study\.{missing} is missing($|: give one, or a name where)"):
        Study(**fields)


def own(**changes):
    return Study(**{"name": "mine", "lrs": [1e-3], "epochs": 2, **changes})


def test_a_study_without_a_task_is_for_a_loop_of_ones_own():
    made = own(task_options={"model": "mlp", "widths": (1, 2)})
    assert made.task_name is None
    assert made.objective == etude.minimize("val_loss")
    assert own(objective="val_accuracy").objective == etude.maximize("val_accuracy")
    stored = json.loads(json.dumps(made.to_dict()))
    assert (stored["task"], stored["recipe"]) == (None, {})
    assert stored["task_options"] == {"model": "mlp", "widths": [1, 2]}
    # Other epochs are other trials: whether the loop has a schedule is not known.
    assert made.trials() == [Trial(lr=1e-3, seed=0, horizon=2)]
    assert made.replace(lrs=[1e-2]).name == "mine"


def test_a_study_without_a_task_cannot_be_run(tmp_path):
    for train in (own().make_task, lambda: own().run(tmp_path / "run"), lambda: runner.run(own(), tmp_path / "run")):
        with pytest.raises(SpecError, match=r"study\.task: 'mine' has none.* for trial in study\.missing"):
            train()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": Recipe(optimizer="sgd")}, r"^study\.recipe: it speaks of a task"),
        ({"holdout": 10}, r"^study\.holdout: it speaks of a task"),
        ({"evaluate_every": 2}, r"^study\.evaluate_every: it speaks of a task"),
        ({"task_options": {"rate": math.nan}}, r"^study\.task_options\['rate'\]: expected text, finite numbers"),
        ({"task_options": {"model": object()}}, r"^study\.task_options\['model'\]: expected text, .*object"),
        ({"name": "a/b"}, r"^study\.name"),
    ],
)
def test_what_only_a_task_makes_sense_of_is_refused_without_one(changes, said):
    with pytest.raises(SpecError, match=said) as refused:
        own(**changes)
    assert "\n" not in str(refused.value)


def test_what_is_no_task_is_refused():
    with pytest.raises(SpecError, match=r"study\.task: expected an etude\.Task or the name of a built-in one, got int"):
        study(task=3)


def test_trials_go_seed_by_seed_lowest_rate_first():
    made = study(lrs=[1e-2, 1e-3], seeds=2)
    assert [(t.lr, t.seed) for t in made.trials()] == [(1e-3, 0), (1e-2, 0), (1e-3, 1), (1e-2, 1)]
    assert {t.horizon for t in made.trials()} == {None}


def test_with_a_schedule_a_trial_has_its_horizon():
    assert study(epochs=4, recipe={"schedule": "cosine"}).trials() == [Trial(lr=1e-3, seed=0, horizon=4.0)]


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_an_optimizer_is_named_in_any_case(optimizer):
    assert Recipe(optimizer=OPTIMIZERS[optimizer]).optimizer == optimizer


def toml_tables():
    """The fields of a study file: those of a Study, of its Recipe and of its Objective."""
    return {Study: "study", Recipe: "study.recipe", Objective: "study.objective"}


@pytest.mark.parametrize("cls", toml_tables(), ids=str)
def test_each_field_is_a_key_of_a_study_file(cls):
    """A key that is known is never called unknown, whatever its value."""
    for field in dataclasses.fields(cls):
        table = {"task": "digits"} if cls is Study else {}
        with pytest.raises(SpecError) as caught:
            cls(**{**table, field.name: object(), "no_such_key": 1})
        assert "'no_such_key'" in str(caught.value)


def test_each_field_has_an_option_that_is_listed_and_taken():
    fields = {f.name for f in dataclasses.fields(Study)} - NOT_OPTIONS
    fields |= {f"recipe.{f.name}" for f in dataclasses.fields(Recipe)}
    assert set(cli.OPTIONS.values()) == fields
    for command in (cli.run, cli.find):
        assert set(cli.OPTIONS) <= set(inspect.signature(command).parameters)
    assert {field.rpartition(".")[2] for field in cli.OPTIONS.values()} == set(cli.OPTIONS)


HEAVY = ("torch", "numpy", "pandas", "scipy", "matplotlib")


@pytest.mark.parametrize(
    "code",
    [
        "import etude.spec.study, etude.result, etude.store",
        "import etude.cli, sys; sys.argv = ['etude', '--help']\ntry: etude.cli.main()\nexcept SystemExit: pass",
        "import etude.cli, sys; sys.argv = ['etude', 'show', RUN]\ntry: etude.cli.main()\nexcept SystemExit: pass",
        "import etude.cli, sys; sys.argv = ['etude', 'show', RUN, '--json']\ntry: etude.cli.main()\nexcept SystemExit: pass",
    ],
    ids=["spec, result, store", "help", "show", "show --json"],
)
def test_reading_imports_nothing_heavy(code, digits_run):
    end = f"\nimport sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"RUN = {str(digits_run)!r}\n{code}{end}"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_expectation_of_a_rate_that_is_not_tried_is_refused():
    with pytest.raises(
        SpecError, match=r"study.expect: 1e-1|study.expect: 0.1 is none of the study's rates \(1e-3, 1e-2\)"
    ):
        Study(task="digits", lrs=[1e-3, 1e-2], epochs=1, expect={"1e-1": ["good"]})


def test_with_other_rates_what_was_expected_stays_for_those_still_tried():
    reference = Study.default("mnist")
    assert set(reference.replace(lrs="1e-3,1e-1").expect) == {1e-3}
    assert reference.replace(epochs=1).expect == reference.expect

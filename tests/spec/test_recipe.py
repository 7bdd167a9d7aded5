"""What a recipe takes, refuses and means, in Python, in a study file and on the command line."""

import dataclasses
import json
import math
import re
import shlex
from pathlib import Path

import pytest

import etude
from etude.errors import MismatchError, SpecError
from etude.spec import identity
from etude.spec.recipe import ELSEWHERE, OPTIMIZERS, Recipe
from etude.spec.study import Study

HOW_TO = (Path(__file__).parents[2] / "docs/howto/recipes.md").read_text(encoding="utf-8")

EVERYTHING = {
    "optimizer": "adamw", "optimizer_options": {"betas": [0.8, 0.9]}, "weight_decay": 0.1, "schedule": "cosine",
    "batch_size": 32, "accumulate": 4, "clip_norm": 1.0, "precision": "bf16", "average": "ema", "average_decay": 0.99,
    "average_start": 0.5,
}  # fmt: skip


BY_NAME = "optimizer_options: they belong to optimizers by name; give them to your own function directly"


def own(params, lr):
    raise AssertionError("never called here")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accumulate": 0}, "accumulate: expected a positive whole number, got 0"),
        ({"accumulate": 1.5}, "accumulate: expected a positive whole number, got 1.5"),
        ({"accumulate": True}, "accumulate: expected a positive whole number, got True"),
        ({"accumulate": None}, "accumulate: expected a positive whole number, got None"),
        ({"clip_norm": 0}, "clip_norm: expected a positive, finite number, got 0"),
        ({"clip_norm": math.nan}, "clip_norm: expected a positive, finite number, got nan"),
        ({"clip_norm": math.inf}, "clip_norm: expected a positive, finite number, got inf"),
        ({"clip_norm": "much"}, "clip_norm: expected a positive, finite number, got 'much'"),
        ({"precision": "fp16"}, "precision: expected one of float32, fp32, bf16, bfloat16, got 'fp16'"),
        ({"precision": 16}, "precision: expected one of float32, fp32, bf16, bfloat16, got 16"),
        ({"average": "polyak"}, "average: expected one of none, ema, swa, got 'polyak'"),
        ({"average": None}, "average: expected one of none, ema, swa, got None"),
        ({"average": "ema", "average_decay": 1}, "average_decay: expected a number below 1, got 1"),
        ({"average": "ema", "average_decay": 0}, "average_decay: expected a positive, finite number, got 0"),
        ({"average": "swa", "average_start": -1}, "average_start: expected a finite number, zero or more, got -1"),
        ({"average": "swa", "average_start": math.inf}, "average_start: expected a finite number, zero or more, got inf"),
        ({"average_start": True}, "average_start: expected a finite number, zero or more, got True"),
        ({"weight_decay": -0.1}, "weight_decay: expected a finite number, zero or more, got -0.1"),
        ({"weight_decay": "nan"}, "weight_decay: expected a finite number, zero or more, got 'nan'"),
        ({"weight_decay": [1]}, "weight_decay: expected a finite number, zero or more, got [1]"),
        ({"average_decay": 0.9}, "average_decay: it belongs to average = 'ema', and average is 'none'"),
        ({"average": "swa", "average_decay": 0.9}, "average_decay: it belongs to average = 'ema', and average is 'swa'"),
        ({"average_start": 2}, "average_start: nothing is averaged; say average = 'ema' or 'swa', too"),
        ({"batch_size": 0}, "batch_size: expected a positive whole number, got 0"),
        ({"optimizer": "adamm"},
         "optimizer: no optimizer is named 'adamm'; did you mean 'adam'?; or give a function (params, lr)"),
        ({"optimizer": None},
         "optimizer: expected a name or a function (params, lr), which makes a fresh one for each trial, got NoneType"),
        ({"optimizer_options": {"lr": 1}}, "optimizer_options: 'lr' is what the study varies; put rates into study.lrs"),
        ({"optimizer_options": {"eps": math.nan}}, "optimizer_options.eps: expected a finite number, got nan"),
        (
            {"weight_decay": 0.1, "optimizer_options": {"weight_decay": 0.1}},
            "weight_decay: it is in optimizer_options, too; leave one of them out",
        ),
        ({"optimizer": own, "weight_decay": 0.1}, BY_NAME),
        ({"optimizer": own, "optimizer_options": {"eps": 1}}, BY_NAME),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(fields, message):
    with pytest.raises(SpecError) as caught:
        Recipe(**fields)
    assert str(caught.value) == f"study.recipe.{message}"


def test_a_finished_optimizer_is_told_that_it_must_be_made_anew():
    import torch

    finished = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(SpecError, match="makes a fresh one for each trial, got SGD") as caught:
        Recipe(optimizer=finished)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"accumulate": "4", "clip_norm": "1"}, {"accumulate": 4, "clip_norm": 1.0}),
        ({"precision": "BFloat16"}, {"precision": "bf16"}),
        ({"precision": "fp32"}, {"precision": "float32"}),
        ({"average": "SWA", "average_start": "0.0"}, {"average": "swa", "average_start": 0.0}),
        ({"weight_decay": "0.0"}, {"weight_decay": 0.0}),
        ({"weight_decay": 0}, {"weight_decay": 0.0}),
        ({"weight_decay": None, "clip_norm": None}, {"weight_decay": None, "clip_norm": None}),
        ({"optimizer": "AdamW-ScheduleFree"}, {"optimizer": "adamwschedulefree"}),
    ],
)
def test_what_a_person_writes_is_read(given, fields):
    made = Recipe(**given)
    assert {name: getattr(made, name) for name in fields} == fields


def test_an_optimizer_has_a_name_to_be_shown_by():
    names = {own: "own", (lambda params, lr: None): "own"}
    assert {Recipe(optimizer=one).optimizer_name for one in names} == {"own"}
    assert [Recipe(optimizer=name).optimizer_name for name in (*OPTIMIZERS, *ELSEWHERE)] == [*OPTIMIZERS, *ELSEWHERE]


def study(**changes):
    return Study(**{"task": "digits", "lrs": [1e-3], "epochs": 2, **changes})


def test_a_recipe_by_name_survives_its_dictionary_and_json():
    made = study(recipe=EVERYTHING)
    assert Study(**json.loads(json.dumps(made.to_dict(), allow_nan=False))) == made
    assert made.recipe.to_dict() == EVERYTHING | {
        f.name: getattr(made.recipe, f.name) for f in dataclasses.fields(Recipe) if f.name not in EVERYTHING
    }


def test_a_study_with_a_function_of_ones_own_has_a_dictionary_for_the_store():
    class Maker:
        def __call__(self, params, lr):
            raise AssertionError("never called here")

        def __deepcopy__(self, memo):
            raise AssertionError("what is the user's own is not copied")

    for one, name in ((own, "own"), (Maker(), "Maker")):
        stored = study(recipe={"optimizer": one, "accumulate": 2}).to_dict()
        assert json.loads(json.dumps(stored))["recipe"]["optimizer"] == name


def test_a_study_file_has_the_fields_of_a_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in EVERYTHING.items() if name != "optimizer_options"]
    path.write_text(
        'task = "digits"\n[recipe]\n' + "\n".join(lines) + "\noptimizer_options = {betas = [0.8, 0.9]}\n",
        encoding="utf-8",
    )
    assert Study.from_toml(path).recipe == Recipe(**EVERYTHING)


def test_the_command_line_has_the_fields_of_a_recipe(tmp_path, etude_command):
    said = etude_command(
        "run", "digits", "--lrs", "1e-2", "--seeds", "1", "--epochs", "1", "--quiet", "--optimizer", "AdamW",
        "--optimizer-options", "betas=[0.8,0.9]", "--weight-decay", "0.1", "--schedule", "cosine", "--batch-size", "32",
        "--accumulate", "4", "--clip-norm", "1", "--precision", "bf16", "--average", "ema", "--average-decay", "0.99",
        "--average-start", "0.5", "--executor", "inline",
    )  # fmt: skip
    assert (said.status, said.err) == (0, "")
    result = etude.Result.load(tmp_path / "runs" / "digits")
    kept = {name: value for name, value in result.study["recipe"].items() if name in EVERYTHING}
    assert kept == EVERYTHING
    # 1,297 images in batches of 32 are 41 batches, and 11 steps of four.
    assert [trial.step for trial in result.stored.trials] == [11]
    assert {*EVERYTHING} <= {*result.stored.identity["recipe"]}
    again = etude_command("run", "digits", "--lrs", "1e-2", "--seeds", "1", "--epochs", "1", "--accumulate", "3")
    assert again.status == 2
    assert "recipe.accumulate is 4 there and nothing here" not in again.err
    assert "recipe.accumulate is 4 there and 3 here" in again.err


def test_a_run_of_before_there_were_these_fields_is_still_the_same_study(finished_digits):
    stored = etude.Result.load(finished_digits).stored.identity
    before = ("optimizer", "optimizer_options", "schedule", "batch_size")
    old = {**stored, "recipe": {name: stored["recipe"][name] for name in before}}
    identity.check_same(finished_digits, old, stored)
    with pytest.raises(MismatchError, match=r"recipe\.accumulate is 1 there and 2 here"):
        identity.check_same(finished_digits, old, {**stored, "recipe": {**stored["recipe"], "accumulate": 2}})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--accumulate", "0"), "study.recipe.accumulate: expected a positive whole number, got '0'"),
        (("--weight-decay=-1",), "study.recipe.weight_decay: expected a finite number, zero or more, got '-1'"),
        (("--average-decay", "0.9"), "it belongs to average = 'ema', and average is 'none'"),
        (("--optimizer", "lbfgs", "--weight-decay", "0.1"), "study.recipe.weight_decay: LBFGS has none"),
        (("--average", "swa", "--average-start", "1"), "expected fewer than the study's 1 epochs, got 1"),
    ],
)
def test_the_command_line_says_what_cannot_be_and_leaves_nothing_behind(options, said, etude_command, tmp_path):
    told = etude_command("run", "digits", "--lrs", "1e-2", "--epochs", "1", *options)
    assert told.status == 2
    assert said in told.err
    assert told.err.count("\n") == 1
    assert not (tmp_path / "runs" / "digits" / "study.sqlite").exists()


def test_data_in_memory_need_a_batch_size():
    with pytest.raises(SpecError, match=r"study\.recipe\.batch_size: expected a number of examples, got None"):
        study(recipe={"batch_size": None})


def test_an_average_that_would_begin_after_the_end_is_refused():
    assert study(recipe={"average": "ema", "average_start": 1.9}).recipe.average_start == 1.9
    with pytest.raises(SpecError, match=r"average_start: expected fewer than the study's 2 epochs, got 2, so nothing"):
        study(recipe={"average": "ema", "average_start": 2})


def test_the_weight_decay_that_is_told_is_the_recipes(tmp_path):
    for i, recipe in enumerate(({"weight_decay": 0.25}, {"optimizer_options": {"weight_decay": 0.25}})):
        made = study(task="quadratic", recipe={"optimizer": "adamw", "batch_size": 10, **recipe})
        assert made.run(tmp_path / str(i), executor="inline")._weight_decay() == 0.25


def how_to(language):
    return re.findall(rf"```{language}\n(.*?)```", HOW_TO, re.DOTALL)


def test_the_how_to_names_the_fields_and_what_they_usually_are():
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", HOW_TO, re.MULTILINE))
    assert {*rows} >= {*EVERYTHING}
    for name, usual in rows.items():
        default = getattr(Recipe(), name)
        in_words = f"{default:g}" if isinstance(default, int | float) else f"`{default}`" if default else "none"
        assert usual == ("the optimizer's own" if name == "weight_decay" else in_words), name


def test_the_study_file_of_the_how_to_is_read(tmp_path):
    (text,) = how_to("toml")
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    assert Study.from_toml(path).recipe.optimizer_options == {"momentum": 0.9, "nesterov": True}


def test_the_commands_of_the_how_to_are_taken(etude_command):
    (block,) = how_to("console")
    for line in block.splitlines():
        words = shlex.split(line.removeprefix("$ etude "))
        said = etude_command(*words, "--epochs", "1", "--executor", "inline", "--dry-run")
        assert (said.status, said.err) == (0, ""), line


def test_the_code_of_the_how_to_trains(tmp_path):
    (code,) = how_to("python")
    made = {}
    exec(compile(code, "recipes.md", "exec"), made)
    for name in ("grouped", "own"):
        result = made[name].replace(epochs=1).run(tmp_path / name, executor="inline")
        assert result.counts == {"completed": 2}
    groups = etude.Result.load(tmp_path / "grouped").stored.identity["recipe"]["optimizer_made"]["groups"]
    assert [group["rate"] for group in groups] == [1.0, 0.1]

"""What of a recipe's schedule is compared, also with runs that were stored before there was so much of it."""

from pathlib import Path

import pytest

from etude.errors import MismatchError
from etude.spec.identity import check_fingerprints, check_same, identify
from etude.spec.recipe import Recipe
from etude.spec.study import Study

HERE = Path("run")


def halves(step):
    return 0.5 ** (step // 10)


def identity(**recipe):
    study = Study.default("quadratic").replace(recipe=Recipe(optimizer="sgd", batch_size=10, **recipe))
    return identify(study, study.make_task(), steps_per_epoch=1, digests={"train": "t", "val": "v"})


def stored_before(**recipe):
    made = identity(**recipe)
    del made["recipe"]["schedule_options"], made["recipe"]["warmup"]
    return made


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_run_stored_before_there_were_options_is_the_same_as_the_usual_ones(schedule):
    check_same(HERE, stored_before(schedule=schedule), identity(schedule=schedule))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"warmup": "5%"}, "recipe.warmup is 0.0 there and 5% here"),
        ({"schedule_options": {"end": 0.1}}, "recipe.schedule_options.end is 0.0 there and 0.1 here"),
    ],
)
def test_what_was_not_there_is_what_differs_when_it_is_not_the_usual(fields, said):
    with pytest.raises(MismatchError, match=f"it holds another study: {said}; choose"):
        check_same(HERE, stored_before(schedule="cosine"), identity(schedule="cosine", **fields))


def test_of_two_schedules_only_the_names_are_told():
    with pytest.raises(MismatchError, match=r"another study: recipe\.schedule is cosine there and wsd here; choose"):
        check_same(HERE, identity(schedule="cosine"), identity(schedule="wsd"))
    with pytest.raises(
        MismatchError, match=r"another study: recipe.schedule is cosine there and halves\(\) here; choose"
    ):
        check_same(HERE, identity(schedule="cosine"), identity(schedule=halves))


def test_a_function_is_the_same_by_its_name_and_its_factors():
    again = {}
    exec("def halves(step):\n    return 1 / 2 ** (step // 10)", again)
    check_same(HERE, identity(schedule=halves), identity(schedule=again["halves"]))
    exec("def halves(step):\n    return 0.5 ** (step // 11)", again)
    with pytest.raises(MismatchError, match=r"another study: recipe.schedule_digest is \w+ there and \w+ here"):
        check_same(HERE, identity(schedule=halves), identity(schedule=again["halves"]))


def test_a_run_without_a_recipe_is_compared_as_it_is():
    made = {**identity(), "recipe": {}}
    check_same(HERE, made, made)


def test_the_first_loss_may_differ_more_where_it_was_computed_otherwise(tmp_path):
    stored, asked = {0: ("weights", 2.302955)}, {0: ("weights", 2.303955)}  # the MNIST net in bfloat16, CPU and H100
    with pytest.raises(MismatchError, match=r"the first loss was 2\.30295"):
        check_fingerprints(tmp_path, stored, asked)
    check_fingerprints(tmp_path, stored, asked, coarse=True)
    with pytest.raises(MismatchError, match="other weights"):
        check_fingerprints(tmp_path, stored, {0: ("others", 2.302955)}, coarse=True)
    with pytest.raises(MismatchError, match="the first loss"):
        check_fingerprints(tmp_path, stored, {0: ("weights", 2.35)}, coarse=True)

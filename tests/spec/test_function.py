"""A schedule of the caller's own: what it may return, what is said when it may not, and what is stored of it."""

import functools
import inspect
import math
import random
from fractions import Fraction

import numpy as np
import pytest
import torch

from etude.errors import SpecError
from etude.spec import function
from etude.spec.recipe import Recipe


def halves(step):
    return 0.5 ** (step // 100)


def constant(value):
    def mine(step):
        return value

    return mine


class Falling:
    def __init__(self, over):
        self.over = over

    def __call__(self, step):
        return 1 - step / self.over


@pytest.mark.parametrize(
    ("got", "number"),
    [(1, 1.0), (0, 0.0), (2.5, 2.5), (np.float32(0.5), 0.5), (np.array(0.5), 0.5), (torch.tensor(0.5), 0.5), (Fraction(1, 2), 0.5)],
)  # fmt: skip
def test_a_factor_is_any_number_of_0_or_more(got, number):
    made = function.factor(constant(got), 3)
    assert (made, type(made)) == (number, float)


@pytest.mark.parametrize(
    "got", [-0.1, math.nan, math.inf, None, "1", True, [0.5], np.array([0.5]), torch.ones(1), 1j, object(), "a\nb"]
)
def test_anything_else_names_the_function_with_file_and_line(got):
    mine = constant(got)
    line = mine.__code__.co_firstlineno
    said = rf"^study\.recipe\.schedule: mine\(\) \({__file__}, line {line}\): expected a finite factor of 0 or more at step 3"
    with pytest.raises(SpecError, match=said) as caught:
        function.factor(mine, 3)
    assert "\n" not in str(caught.value)


def test_a_function_that_raises_is_named_with_what_it_raised():
    def inverse(step):
        return 1 / (step - 3)

    line = inspect.getsourcelines(inverse)[1]
    with pytest.raises(SpecError, match=rf"inverse\(\) \({__file__}, line {line}\) raised ZeroDivisionError at step 3"):
        function.factor(inverse, 3)


def test_objects_partials_and_builtins_are_functions_too():
    falling, line = Falling(10), inspect.getsourcelines(Falling.__call__)[1]
    assert function.factor(falling, 5) == 0.5
    with pytest.raises(SpecError, match=rf"Falling\(\) \({__file__}, line {line}\)"):
        function.factor(falling, 11)
    assert function.name_of(functools.partial(pow, 0.5)) == "pow()"
    assert Recipe(schedule=functools.partial(pow, 0.5)).factor(3, steps_per_epoch=1, horizon_step=None) == 0.25
    with pytest.raises(SpecError, match=r"^study\.recipe\.schedule: pow\(\): expected a finite factor"):
        function.factor(functools.partial(pow, -0.5), 1)


def test_a_function_that_draws_or_counts_is_refused():
    calls = []

    def counts(step):
        calls.append(step)
        return len(calls)

    generator = random.Random(1)
    for mine in (counts, lambda step: generator.random()):
        with pytest.raises(SpecError, match="expected a function of the step alone, got"):
            Recipe(schedule=mine).check(steps_per_epoch=10, horizon_step=50)


def test_a_check_goes_to_the_last_step_and_not_beyond():
    table = [1.0, 0.5, 0.25]
    recipe = Recipe(schedule=lambda step: table[step], warmup="2 steps")
    recipe.check(steps_per_epoch=5, horizon_step=5)
    with pytest.raises(SpecError, match="raised IndexError at step 3"):
        recipe.check(steps_per_epoch=5, horizon_step=6)


@pytest.mark.parametrize("last", [0, 1, 498, 499, 500, 501, 10_000, 1_234_567])
def test_samples_have_both_ends_and_no_more_than_500(last):
    steps = function.sample_steps(last)
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0, last)
    assert len(steps) == min(last + 1, 500)


@pytest.mark.parametrize(
    "edited",
    [
        lambda step: 0.5 ** (step // 101),
        lambda step: 0.5001 ** (step // 100),
        lambda step: halves(step) if step < 90_000 else 0.0,
        lambda step: halves(step) if step < 31 * 391 else 0.1,
        lambda step: halves(step) if step < 900_000 else [][0],
        lambda step: halves(step) if step != 7 else None,
    ],
)
def test_an_edited_function_has_another_digest(edited):
    assert function.digest(edited, 391) != function.digest(halves, 391)


def test_factors_that_differ_only_in_their_last_bits_have_the_same_digest():
    mine = lambda step: 0.7 ** (step / 1e4)  # noqa: E731
    assert function.digest(lambda step: mine(step) * (1 + 1e-13), 391) == function.digest(mine, 391)


def test_a_function_that_cannot_go_on_for_ever_has_a_digest():
    table = [1.0, 0.5]
    mine = lambda step: table[step]  # noqa: E731
    assert function.digest(mine, 3) == function.digest(mine, 3)


def test_what_is_stored_are_its_own_steps_after_the_warmup():
    recipe = Recipe(schedule=Falling(10), warmup="4 steps")
    assert recipe.samples(5, 10) == {
        "schedule_samples": {"steps": [0, 1, 2, 3, 4, 5], "factors": [1, 0.9, 0.8, 0.7, 0.6, 0.5]}
    }
    assert Recipe(schedule="cosine").samples(5, 10) == {}

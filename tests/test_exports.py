from __future__ import annotations

import importlib.metadata

import pytest

import etude
from etude import analysis, result

NAMES = [
    "Comparison",
    "Expectation",
    "Objective",
    "Recipe",
    "Resident",
    "Result",
    "Stream",
    "Study",
    "Task",
    "compare",
    "errors",
    "judge",
    "maximize",
    "metrics",
    "minimize",
]


def test_the_exports_are_these_and_no_others():
    assert etude.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_resolves_to_what_it_says(name):
    got = getattr(etude, name)
    assert got.__name__.rpartition(".")[2] == name
    assert getattr(etude, name) is got
    assert name in dir(etude)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'etude' has no attribute 'Studdy'"):
        etude.Studdy  # noqa: B018


def test_the_errors_are_one_tree():
    errors = [
        thing for thing in vars(etude.errors).values() if isinstance(thing, type) and issubclass(thing, Exception)
    ]
    assert len(errors) == 9
    assert all(issubclass(error, etude.errors.EtudeError) for error in errors)
    assert all(
        f" {error.__name__} " in etude.errors.__doc__ for error in errors if error is not etude.errors.EtudeError
    )
    statuses = {error.__name__: error.exit_status for error in errors}
    assert {name for name, status in statuses.items() if status == 1} == {"DiskError", "TrainingError"}
    assert {name for name, status in statuses.items() if status == 130} == {"Interrupted"}


def test_reading_and_judging_agree_on_the_version_of_the_analysis():
    assert result.ANALYSIS_VERSION == analysis.VERSION


def test_the_version_is_the_packages():
    assert etude.__version__ == importlib.metadata.version("etude")

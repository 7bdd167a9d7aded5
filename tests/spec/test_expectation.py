from __future__ import annotations

import json
import math

import pytest

from etude.errors import SpecError
from etude.spec.expectation import VERDICTS, Expectation, parse_expectations


def test_words_stand_alone_in_a_list_or_in_a_table():
    good = Expectation(verdicts=("good",))
    assert parse_expectations({"1e-3": "good"}) == {1e-3: good}
    assert parse_expectations({"1e-3": ["good"]}) == {1e-3: good}
    assert parse_expectations({1e-3: {"verdict": "good"}}) == {1e-3: good}
    assert parse_expectations({1e-3: {"verdict": ["good"]}}) == {1e-3: good}
    assert parse_expectations({1e-3: good}) == {1e-3: good}


def test_ranges_stand_beside_words_or_alone():
    read = parse_expectations({"1e-3": {"verdict": ["good"], "val_accuracy": [0.97, 0.98]}, "1": {"val_loss": [0, 1]}})
    assert read[1e-3] == Expectation(verdicts=("good",), metrics={"val_accuracy": (0.97, 0.98)})
    assert read[1.0] == Expectation(metrics={"val_loss": (0.0, 1.0)})


def test_every_verdict_can_be_expected():
    assert parse_expectations({"1": list(VERDICTS)})[1.0].verdicts == VERDICTS


def test_nothing_expected_is_nothing():
    assert parse_expectations({}) == {}


def test_an_expectation_survives_its_dictionary():
    made = parse_expectations({"1e-3": {"verdict": ["good"], "val_accuracy": [0.97, 0.98]}, "10": "diverged"})
    stored = json.loads(json.dumps({repr(lr): one.to_dict() for lr, one in made.items()}))
    assert parse_expectations(stored) == made


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (3, r"study\.expect: expected a table of rates, got 3"),
        (["good"], r"study\.expect: expected a table"),
        ({"fast": "good"}, r"study\.expect: a learning rate: expected a positive, finite number, got 'fast'"),
        ({"0": "good"}, r"study\.expect"),
        ({"1e-3": "god"}, r"study\.expect\[1e-3\]: no verdict is named 'god'; did you mean 'good'\?"),
        ({1e-3: "to low"}, r"study\.expect\[1e-3\]: .*did you mean 'too low'\?"),
        ({"1e-3": ["good", 3]}, r"study\.expect\[1e-3\]: no verdict is named 3"),
        ({"1e-3": 3}, r"study\.expect\[1e-3\]: expected verdicts, got 3"),
        ({"1e-3": None}, r"study\.expect\[1e-3\]"),
        ({"1e-3": {"val_accuracy": 0.97}}, r"study\.expect\[1e-3\]\.val_accuracy: expected a range \[low, high\], got 0\.97"),
        ({"1e-3": {"val_accuracy": [0.97]}}, r"expected a range"),
        ({"1e-3": {"val_accuracy": [0.97, 0.98, 0.99]}}, r"expected a range"),
        ({"1e-3": {"val_accuracy": ["low", "high"]}}, r"expected a range"),
        ({"1e-3": {"val_accuracy": [0.98, 0.97]}}, r"expected low ≤ high"),
        ({"1e-3": {"val_accuracy": [math.nan, 0.97]}}, r"study\.expect\[1e-3\]\.val_accuracy"),
        ({"1e-3": {"val_accuracy": [[0.9], 0.97]}}, r"expected a range"),
    ],
)  # fmt: skip
def test_what_cannot_be_expected_is_refused(got, said):
    with pytest.raises(SpecError, match=said):
        parse_expectations(got)


def test_an_open_range_is_refused_or_survives_json():
    """A range that JSON cannot store must not make a run that cannot be read again."""
    from etude import store

    try:
        made = parse_expectations({"1e-3": {"val_loss": [0.0, math.inf]}})
    except SpecError:
        return
    stored = json.loads(json.dumps(store.plain({repr(lr): one.to_dict() for lr, one in made.items()})))
    assert parse_expectations(stored) == made


def test_a_rate_that_is_written_in_two_ways_is_refused():
    with pytest.raises(SpecError, match="twice"):
        parse_expectations({"1e-3": "good", "0.001": "diverged"})

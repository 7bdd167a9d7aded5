import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.errors import SpecError
from etude.spec.budget import DEFAULT, GRID_TRIALS, Budget, parse_budget
from etude.spec.rates import parse_range


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20m", 1200),
        ("1h30m", 5400),
        ("90s", 90),
        ("2h", 7200),
        ("1.5h", 5400),
        ("1h 1m 1s", 3661),
        ("5min", 300),
        (30, 30),
    ],
)
def test_a_time_is_read_as_people_type_it(text, seconds):
    assert parse_budget(text) == Budget(kind="wall", amount=seconds)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": "0m"}, "longer than nothing"),
        ({"budget": "-1"}, "expected a time such as 20m, 1h30m or 90s, got '-1'"),
        ({"budget": "soon"}, "got 'soon'"),
        ({"budget": "1e9h"}, "got '1e9h'"),
        ({"budget": "99999h"}, "up to 10,000h"),
        ({"budget": "20"}, "say 20s or 20m"),
        ({"budget": "1m2m"}, "a unit twice"),
        ({"budget": ""}, "got ''"),
        ({"budget": math.nan}, "got nan"),
        ({"budget": True}, "got True"),
        ({"trials": "0"}, "trials: expected how many trials"),
        ({"trials": "-3"}, "got '-3'"),
        ({"trials": "many"}, "got 'many'"),
        ({"trials": "inf"}, "got 'inf'"),
        ({"cost": "nan"}, "cost: expected a share of a grid of 13 rates × 3 seeds, such as 0.25, got 'nan'"),
        ({"cost": "25%"}, "got '25%'"),
        ({"budget": "20m", "cost": "0.25"}, "budget and cost: expected one of budget, trials and cost, got 2"),
    ],
)  # fmt: skip
def test_a_budget_that_cannot_be_is_one_line(given, said):
    with pytest.raises(SpecError) as caught:
        parse_budget(**given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_said_is_a_quarter_of_the_grid():
    assert parse_budget() == DEFAULT
    assert DEFAULT.trials == 0.25 * GRID_TRIALS == 9.75


@given(st.integers(1, 10_000 * 3600))
def test_a_time_is_written_as_it_is_read(seconds):
    option, text = str(Budget(kind="wall", amount=float(seconds))).split()
    assert option == "--budget"
    assert parse_budget(text).amount == seconds


@given(st.sampled_from(["wall", "trials", "cost"]), st.floats(0.5, 1e4), st.floats(1e-3, 1e3))
def test_what_would_be_needed_is_enough_and_not_much_more(kind, trials, trial_s):
    needed = Budget(kind=kind, amount=1.0).of_trials(trials, trial_s)
    bought = needed.amount / trial_s if kind == "wall" else needed.trials
    assert trials * (1 - 1e-6) <= bought <= 1.11 * trials


@pytest.mark.parametrize(
    "got", ["1e-5..1e-1/9", "1e-5", "1e-1..1e-5", "0..1", "a..b", "1..1", [1e-3], 3, "1..2..3", "1e-40..1"]
)
def test_a_range_that_cannot_be_searched_is_refused(got):
    with pytest.raises(SpecError, match="lrs: expected"):
        parse_range(got)


def test_a_range_is_read_from_text_or_two_numbers():
    assert parse_range("1e-5..0.1") == parse_range((1e-5, 0.1)) == (1e-5, 0.1)

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.errors import SpecError
from etude.spec.rates import MOST, format_rate, parse_rates, parse_seeds
from etude.spec.trial import Trial

positive = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    "got",
    ["1e-4,1e-3,1e-2", " 1e-2 , 1e-4,0.001 ", [1e-2, 1e-3, 1e-4], (1e-3, "1e-2", "0.0001"), np.array([1e-4, 1e-3, 1e-2])],
)  # fmt: skip
def test_rates_are_read_rising_from_text_and_sequences(got):
    assert parse_rates(got) == (1e-4, 1e-3, 1e-2)


@pytest.mark.parametrize("got", ["1e-3", 1e-3, [0.001], {1e-3}])
def test_one_rate_is_a_list_of_one(got):
    assert parse_rates(got) == (1e-3,)


def test_whole_numbers_are_rates():
    assert parse_rates([1, 10]) == (1.0, 10.0)
    assert all(type(rate) is float for rate in parse_rates([1, "10"]))


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("1e-5..1e-1/5", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
        ("1e-3..1e-1/2", (1e-3, 1e-1)),
        ("1..100/3", (1.0, 10.0, 100.0)),
        ("1e-3..1e-2/4", (1e-3, 2.15e-3, 4.64e-3, 1e-2)),
    ],
)
def test_a_range_is_spaced_on_a_log_scale_with_digits_that_can_be_read(text, rates):
    assert parse_rates(text) == rates


@given(low=st.floats(1e-9, 1), decades=st.floats(0.01, 8), count=st.integers(2, 40))
def test_a_range_keeps_its_ends_and_is_evenly_spaced(low, decades, count):
    high = low * 10**decades
    rates = parse_rates(f"{low!r}..{high!r}/{count}")
    assert len(rates) == count
    assert (rates[0], rates[-1]) == (low, high)
    steps = np.diff(np.log10(rates))
    assert np.allclose(steps, steps.mean(), rtol=0.03)


def test_a_range_and_single_rates_mix():
    assert parse_rates("1e-5,1e-3..1e-1/3") == (1e-5, 1e-3, 1e-2, 1e-1)


def test_the_widest_range_has_finite_rates():
    rates = parse_rates("1e-30..1e30/5")
    assert all(0 < rate < math.inf for rate in rates)
    assert (rates[0], rates[-1]) == (1e-30, 1e30)


@pytest.mark.parametrize("got", ["1e-31", 1e31, [1e-3, 1e39], "1e-308..1e308/5", "5e-324", "1e-40..1e-3/3"])
def test_a_rate_that_single_precision_cannot_multiply_by_is_refused(got):
    with pytest.raises(SpecError, match=r"study\.lrs: expected rates from 1e-30 to 1e\+?30, got"):
        parse_rates(got)


@pytest.mark.parametrize(
    "got",
    ["0", "-1e-3", "nan", "inf", "-inf", "1e400", "1e-400", "fast", "1e-3,fast", "1e-3;1e-2", "1e-3,,1e-2", "1e-3,", ",",
     0, -1, math.nan, math.inf, True, None, [True], [None], [[1e-3]], [1e-3, 0], [1e-3, math.nan]],
)  # fmt: skip
def test_what_is_no_rate_is_refused(got):
    with pytest.raises(SpecError, match=r"study\.lrs"):
        parse_rates(got)


def test_a_bad_rate_is_named_by_its_place():
    with pytest.raises(SpecError, match=r"study\.lrs\[1\].*got -0\.1"):
        parse_rates([1e-3, -0.1])


@pytest.mark.parametrize("got", ["1e-3,0.001", [1e-3, 1e-3], "1e-3,1e-4..1e-2/3"])
def test_a_rate_that_stands_there_twice_is_refused(got):
    with pytest.raises(SpecError, match="1e-3 stands there twice"):
        parse_rates(got)


@pytest.mark.parametrize("got", ["", "  ", [], ()])
def test_no_rate_at_all_is_refused(got):
    with pytest.raises(SpecError, match="at least one learning rate, got none"):
        parse_rates(got)


def test_a_range_without_a_count_offers_one():
    with pytest.raises(SpecError, match=r"write 1e-5\.\.1e-1/9"):
        parse_rates("1e-5..1e-1")


@pytest.mark.parametrize(
    "got",
    ["1e-5..1e-1/1", "1e-5..1e-1/0", "1e-5..1e-1/-3", "1e-5..1e-1/2.5", "1e-5..1e-1/x", "1e-5..1e-1/", "1e-1..1e-5/3",
     "1e-3..1e-3/3", "0..1/3", "..1e-1/3", "1e-5../3", "nan..1/3", "1e-5..inf/3", "1e-5..1e-3..1e-1/3", "1e-5..1/1e9"],
)  # fmt: skip
def test_a_range_that_cannot_be_is_refused(got):
    with pytest.raises(SpecError, match=r"study\.lrs"):
        parse_rates(got)


@pytest.mark.parametrize("read", [parse_rates, parse_seeds])
def test_a_whole_number_beyond_all_floats_is_refused(read):
    with pytest.raises(SpecError, match="expected a positive"):
        read(10**400)


def test_too_many_rates_are_a_slip_of_the_keyboard():
    with pytest.raises(SpecError, match=f"at most {MOST} rates"):
        parse_rates(np.logspace(-9, 1, MOST + 1))


@pytest.mark.parametrize(
    ("got", "seeds"),
    [(3, (0, 1, 2)), ("3", (0, 1, 2)), ("1", (0,)), ("10..14", (10, 11, 12, 13, 14)), ("7..7", (7,)), (" 0 .. 1 ", (0, 1)),
     ("0,7", (0, 7)), ("7, 0", (0, 7)), ([7, 0], (0, 7)), ((5,), (5,)), ([0], (0,)), (range(3), (0, 1, 2)),
     ([2**32 - 1], (2**32 - 1,)), (np.array([4, 2]), (2, 4))],
)  # fmt: skip
def test_seeds_are_read_from_every_form(got, seeds):
    assert parse_seeds(got) == seeds
    assert all(type(seed) is int for seed in parse_seeds(got))


@pytest.mark.parametrize(
    "got",
    [0, -1, 1.5, "0", "-1", "1.5", "nan", "inf", "many", "", None, True, [], [-1], [1.5], [2**32], ["x"], [True],
     "14..10", "1..x", "..3", "3..", "-1..1", "0,-1", "0,,1", "0,", MOST + 1, f"0..{MOST}"],
)  # fmt: skip
def test_what_are_no_seeds_is_refused(got):
    with pytest.raises(SpecError, match=r"study\.seeds"):
        parse_seeds(got)


@pytest.mark.parametrize("got", ["7,0,7", [7, 0, 7], ["7", 7]])
def test_a_seed_that_stands_there_twice_is_refused(got):
    with pytest.raises(SpecError, match="7 stands there twice"):
        parse_seeds(got)


@pytest.mark.parametrize(
    ("lr", "text"),
    [(1e-3, "1e-3"), (2.15e-5, "2.15e-5"), (0.1, "0.1"), (0.05, "5e-2"), (1.0, "1"), (10.0, "10"), (2.1, "2.1"),
     (1234.5, "1234.5"), (1e5, "1e5"), (1 / 3, "0.3333333333333333"), (5e-324, "5e-324")],
)  # fmt: skip
def test_a_rate_is_written_as_it_is_typed(lr, text):
    assert format_rate(lr) == text


@given(lr=positive)
def test_a_written_rate_reads_back_the_same(lr):
    assert float(format_rate(lr)) == lr
    if 1e-30 <= lr <= 1e30:
        assert parse_rates(format_rate(lr)) == (lr,)


@given(lr=positive, other=positive)
def test_the_trials_of_two_rates_have_two_keys(lr, other):
    assert (Trial(lr=lr, seed=0).key == Trial(lr=other, seed=0).key) == (lr == other)


def test_the_trials_of_two_horizons_have_two_keys():
    assert Trial(lr=1e-3, seed=0, horizon=1.0000001).key != Trial(lr=1e-3, seed=0, horizon=1.0000002).key

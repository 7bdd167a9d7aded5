"""How numbers are written: to significant digits, with their errors."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etude.notation import is_named_share, metric_words, share_text, significant, to_place, with_error


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.04213, 3, "0.0421"), (1.5, 3, "1.50"), (190.4, 2, "190"), (0.0996, 2, "0.10"), (9.996, 3, "10.0"),
        (-0.3, 2, "-0.30"), (0.0, 3, "0"), (3.21e-7, 2, "3.2e-7"), (386454.0, 2, "390000"), (2.4e9, 2, "2.4e9"),
        (999_999.6, 2, "1.0e6"), (1e-4, 2, "0.00010"),
        (math.inf, 2, "inf"), (math.nan, 3, "nan"),
    ],
)  # fmt: skip
def test_a_number_is_written_to_its_significant_digits(value, digits, text):
    assert significant(value, digits) == text


@pytest.mark.parametrize(
    ("value", "error", "texts"),
    [
        (1.5, 0.016, ("1.500", "0.016")), (190.44, 23.4, ("190", "23")), (0.04213, 0.0003, ("0.04213", "0.00030")),
        (2.0, 0.996, ("2.0", "1.0")), (386454.0, 210000.0, ("390000", "210000")), (-0.004, 0.3, ("0.00", "0.30")),
        (1.5, 1e-9, ("1.50", "1.0e-9")), (2.4e9, 1e8, ("2.40e9", "0.10e9")),
        (1.113e7, 1.6e5, ("1.113e7", "0.016e7")), (3.21e-6, 4e-7, ("3.21e-6", "0.40e-6")), (1.0, 0.1, ("1.00", "0.10")),
    ],
)  # fmt: skip
def test_a_number_has_the_digits_that_its_error_bears(value, error, texts):
    assert with_error(value, error) == texts


@given(value=st.floats(-1e12, 1e12), error=st.floats(1e-9, 1e9))
def test_what_is_written_is_the_number_to_half_a_digit(value, error):
    shown, shown_error = map(float, with_error(value, error))
    assert shown_error == pytest.approx(error, rel=0.051)
    assert abs(shown - value) <= max(
        0.51 * 10.0 ** (math.floor(math.log10(shown_error) + 1e-9) - 1), 0.006 * abs(value)
    )


@given(value=st.floats(1e-300, 1e300), digits=st.integers(1, 6))
def test_significant_digits_keep_the_number(value, digits):
    assert float(significant(value, digits)) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits))


def test_nothing_is_written_as_minus_zero():
    assert to_place(-0.001, -2) == "0.00"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0625, "6 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.00375, "0.4 %"),
        (0.0096, "1 %"),
        (1e-4, "0.01 %"),
        (1e-6, "0 %"),
    ],
)
def test_a_share_is_written_in_per_cent(share, text):
    assert share_text(share) == text


@pytest.mark.parametrize(
    ("metric", "words", "share"),
    [
        ("val_accuracy", "validation accuracy", True),
        ("val_log_loss", "validation log loss", False),
        ("macro_f1", "macro f1", True),
    ],
)
def test_a_metric_is_written_as_words_and_a_share_known_by_its_name(metric, words, share):
    assert (metric_words(metric), is_named_share(metric)) == (words, share)

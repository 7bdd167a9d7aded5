"""What was expected beside what was observed, with one seed and with several."""

import made
import pytest

FINALS = {1e-4: [0.50, 0.52, 0.54], 1e-3: [0.10, 0.11, 0.12], 1e-2: [0.60, 0.62, 0.64]}


def outcome(expected, finals=FINALS, lr=1e-3, **fields):
    curves = [made.trial(rate, final, seed) for rate, of in finals.items() for seed, final in enumerate(of)]
    found = made.judge(curves, expected={lr: expected}, **fields)
    others = [rate.expected for rate in found.rates if rate.lr != lr]
    assert others == [None] * len(others)
    return next(rate.expected for rate in found.rates if rate.lr == lr)


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ([0.05, 0.20], "agree"),
        ([0.20, 0.30], "disagree"),
        ([0.00, 0.05], "disagree"),
        ([0.109, 0.20], "undetermined"),  # the mean is 0.11, with a standard error of 0.0058
        ([0.05, 0.111], "undetermined"),
        ([0.115, 0.2], "undetermined"),  # outside, by less than two standard errors
        ([0.123, 0.2], "disagree"),
        ([0.05, 0.13], "agree"),
    ],
)
def test_a_range_is_held_against_the_mean_and_its_error_between_seeds(ends, word):
    found = outcome({"val_loss": ends})
    assert found["outcome"] == word
    assert found["parts"][0]["observed"] == pytest.approx(0.11)
    assert found["parts"][0]["expected"] == ends


def test_more_seeds_make_it_surer():
    many = {lr: of * 8 for lr, of in FINALS.items()}
    assert outcome({"val_loss": [0.107, 0.2]})["outcome"] == "undetermined"
    assert outcome({"val_loss": [0.106, 0.2]}, many)["outcome"] == "agree"


def test_one_seed_is_held_against_the_error_over_examples():
    single = [made.trial(lr, of[0], error=0.02) for lr, of in FINALS.items()]
    for ends, word in (([0.05, 0.15], "agree"), ([0.09, 0.2], "undetermined"), ([0.15, 0.2], "disagree")):
        found = made.judge(single, expected={1e-3: {"val_loss": ends}}).rates[1].expected
        assert found["outcome"] == word, ends


def test_verdicts_and_ranges_together_give_the_worst_of_both():
    assert outcome({"verdict": ["good"], "val_loss": [0.05, 0.2]})["outcome"] == "agree"
    assert outcome({"verdict": ["good"], "val_loss": [0.3, 0.4]})["outcome"] == "disagree"
    assert outcome({"verdict": ["too low"], "val_loss": [0.05, 0.2]})["outcome"] == "disagree"
    assert outcome({"verdict": ["good", "too low"], "val_loss": [0.109, 0.2]})["outcome"] == "undetermined"
    assert outcome({"verdict": []})["outcome"] == "agree"


def test_a_metric_that_was_not_measured_is_undetermined():
    found = outcome({"val_accuracy": [0.5, 0.9]})
    assert found["outcome"] == "undetermined"
    assert found["parts"][0]["observed"] is None


def test_a_rate_that_was_lost_has_nothing_to_hold_a_range_against():
    curves = [made.trial(1e-3, 0.1), made.trial(1e-4, 0.5), made.diverged(1.0)]
    found = made.judge(curves, expected={1.0: {"verdict": ["diverged"], "val_loss": [0.1, 0.2]}}).rates[2].expected
    assert [part["outcome"] for part in found["parts"]] == ["agree", "undetermined"]
    assert found["outcome"] == "undetermined"

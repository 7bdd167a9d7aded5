"""Comparing runs made of numbers: outcomes, intervals, pairing, and how often two identical methods are told apart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from etude.analysis.compare import Run, compare, signed
from etude.analysis.scale import Scale


def made(name, scores, *, direction="maximize", **fields):
    """A run that recommends the best mean of ``scores[lr]`` (a list over seeds 0, 1, …, or a mapping by seed)."""
    by_seed = {lr: dict(s) if isinstance(s, dict) else dict(enumerate(s)) for lr, s in scores.items()}
    sign = 1 if direction == "maximize" else -1
    best = max(by_seed, key=lambda lr: sign * np.mean(list(by_seed[lr].values())), default=None)
    return Run(name=name, scores=by_seed, **{"lr": best, "data": "v", **fields})


def pair(run, first, direction="maximize"):
    (reading,) = compare([first, run], direction=direction).pairs
    return reading


A = made("a", {1e-3: [0.970, 0.972, 0.974], 1e-2: [0.90, 0.91, 0.92]})
B = made("b", {1e-3: [0.981, 0.982, 0.985], 1e-2: [0.90, 0.91, 0.92]})


def test_paired_differences_give_students_interval():
    got = pair(B, A)
    want = stats.ttest_rel([0.981, 0.982, 0.985], [0.970, 0.972, 0.974]).confidence_interval(0.95)
    assert got.outcome == "better"
    assert got.paired
    assert (got.n_paired, got.df) == (3, 2)
    assert got.interval == pytest.approx((want.low, want.high))
    assert got.correlation == pytest.approx(np.corrcoef([0.981, 0.982, 0.985], [0.970, 0.972, 0.974])[0, 1])
    assert got.sentence == "b is better than a by 1.07 points (95 %: +0.92 to +1.21 points; paired over 3 seeds)."


@pytest.mark.parametrize(
    "other", [replace(A, data="w"), replace(A, data=""), made("a", {1e-3: {5: 0.97, 6: 0.972, 7: 0.974}})]
)
def test_other_data_or_other_seeds_are_welchs(other):
    got = pair(B, other)
    want = stats.ttest_ind([0.981, 0.982, 0.985], [0.970, 0.972, 0.974], equal_var=False).confidence_interval(0.95)
    assert not got.paired
    assert got.correlation is None
    assert got.interval == pytest.approx((want.low, want.high))
    assert "Welch, 3 and 3 seeds" in got.sentence


def test_only_shared_seeds_are_paired():
    other = made("a", {1e-3: {1: 0.972, 2: 0.974, 9: 0.5}}, estimate=(0.972 + 0.974 + 0.5) / 3)
    got = pair(B, other)
    assert (got.paired, got.n_paired, got.correlation) == (True, 2, None)
    assert got.difference == pytest.approx((0.982 - 0.972 + 0.985 - 0.974) / 2)


def test_the_difference_is_that_of_the_estimates():
    got = pair(replace(B, estimate=0.980), replace(A, estimate=0.971))
    assert got.difference == pytest.approx(0.980 - 0.971)
    raw = pair(B, A)
    assert got.interval[1] - got.interval[0] == pytest.approx(raw.interval[1] - raw.interval[0])


def test_one_seed_is_not_told():
    one, other = made("a", {1e-3: [0.9]}), made("b", {1e-3: [0.99]})
    got = pair(other, one)
    assert (got.outcome, got.interval, got.reason) == ("no difference told", None, "one seed: not told")
    assert pair(B, one).reason == "one seed of a: not told"
    assert "+9.0 points, but one seed: not told" in got.sentence


def test_no_scatter_is_no_certainty():
    level, higher = made("a", {1e-3: [0.9, 0.9, 0.9]}), made("b", {1e-3: [0.95, 0.95, 0.95]})
    assert pair(higher, level).outcome == "no difference told"
    assert "their scatter is not known" in pair(higher, level).reason
    assert pair(replace(higher, data=""), level).reason == "the seeds do not differ, so their scatter is not known"
    assert pair(replace(A, name="c"), A).reason == "the same scores, seed by seed"


def test_a_run_without_a_rate_is_said():
    nothing = Run(name="n", scores={}, lr=None, data="v")
    got = pair(nothing, A)
    assert (got.outcome, got.difference) == ("no difference told", None)
    assert got.sentence == "n against a: n has no rate to recommend."
    assert compare([nothing, A], direction="maximize").runs[0].sentence == "n has no rate to recommend."


def test_within_the_margin_needs_the_whole_interval_and_the_smaller_margin():
    near = replace(made("c", {1e-3: [0.9703, 0.9721, 0.9742]}), margin=0.005)
    assert pair(near, replace(A, margin=0.005)).outcome == "within the margin"
    assert pair(near, replace(A, margin=0.0001)).outcome == "no difference told"
    assert pair(replace(B, margin=0.011), replace(A, margin=0.011)).outcome == "better"
    assert "less than the margin of 0.5 points" in pair(near, replace(A, margin=0.005)).sentence


def test_the_interval_allows_for_the_luck_of_choosing_among_tied_rates():
    few = made("few", {1e-3: [0.970, 0.972, 0.974]})
    tied = {1e-3: [0.981, 0.982, 0.985], 3e-3: [0.982, 0.981, 0.983], 1e-2: [0.90, 0.91, 0.92]}
    got, alone = pair(made("many", tied), few), pair(replace(B, name="many"), few)
    assert got.difference == pytest.approx(alone.difference)
    assert got.interval[0] < alone.interval[0]
    assert got.interval[1] == pytest.approx(alone.interval[1])
    assert "allows for the luck of choosing: 2 tied rates in many, 1 in few)" in got.sentence
    assert "tied" not in alone.sentence
    corrected = pair(made("many", tied, estimate=0.9824), few)  # the reach is from the estimates, wherever they are
    assert corrected.interval[0] == pytest.approx(got.interval[0])
    assert corrected.interval[1] < got.interval[1]


def test_sensitivities_are_told_apart_only_where_their_intervals_are():
    low, high, wide = (0.01, 0.005, 0.015), (0.05, 0.04, 0.06), (0.02, 0.001, 0.045)
    words = {(x, y): pair(replace(B, sensitivity=x), replace(A, sensitivity=y)).sensitivity_outcome
             for x in (low, high, wide, None) for y in (low, high, wide)}  # fmt: skip
    assert words[low, high] == "less sensitive"
    assert words[high, low] == "more sensitive"
    assert {words[low, wide], words[wide, high], words[None, low]} == {"not told"}
    assert (
        pair(replace(B, sensitivity=(0.01, None, None)), replace(A, sensitivity=low)).sensitivity_outcome == "not told"
    )


def test_two_runs_are_the_least():
    with pytest.raises(ValueError, match="expected two runs or more, got 1"):
        compare([A], direction="maximize")


scores = st.floats(0.5, 2.0).map(lambda x: round(x, 4))
runs = st.builds(
    lambda rows, **fields: made("r", dict(zip((1e-3, 1e-2), rows, strict=False)), direction="minimize", **fields),
    st.lists(st.lists(scores, min_size=1, max_size=4), min_size=1, max_size=2),
    data=st.sampled_from(["v", "w", ""]),
    margin=st.sampled_from([None, 0.01, 0.5]),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(runs, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_beyond_the_first_does_not_matter(some, random):
    named = [replace(run, name=f"r{i}") for i, run in enumerate(some)]
    rest = named[1:]
    random.shuffle(rest)
    one, other = compare(named, direction="minimize"), compare([named[0], *rest], direction="minimize")
    assert {p.run: p for p in one.pairs} == {p.run: p for p in other.pairs}
    assert {r.name: r for r in one.runs} == {r.name: r for r in other.runs}


@settings(deadline=None, max_examples=60)
@given(runs, runs)
def test_seen_from_the_other_side_it_is_the_opposite(one, other):
    there, back = pair(one, other, "minimize"), pair(other, one, "minimize")
    opposite = {"better": "worse", "worse": "better"}
    assert back.outcome == opposite.get(there.outcome, there.outcome)
    assert back.difference == pytest.approx(-there.difference, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(runs, runs, st.integers(-40, 40))
def test_the_unit_of_a_loss_does_not_matter_for_the_words(one, other, power):
    def scaled(run):
        by_rate = {lr: {seed: math.ldexp(v, power) for seed, v in s.items()} for lr, s in run.scores.items()}
        return replace(run, scores=by_rate, margin=None if run.margin is None else math.ldexp(run.margin, power))

    plain, unit = pair(one, other, "minimize"), pair(scaled(one), scaled(other), "minimize")
    assert (unit.outcome, unit.paired, unit.reason) == (plain.outcome, plain.paired, plain.reason)


def smoothed(scores_RS):
    """Estimates without the winner's curse: a quadratic over the rates, least squares (R,)."""
    count = len(scores_RS)
    if count < 4:
        return scores_RS.mean(1)
    design = np.vander(np.linspace(-1, 1, count), 3)
    return design @ np.linalg.lstsq(design, scores_RS.mean(1), rcond=None)[0]


def identical(rng, name, n_rates, shared_S, *, curved, use_curve):
    """A run of the one method: response, what the seeds share, and noise of its own."""
    response_R = -3.0 * curved * np.linspace(-1, 1, n_rates) ** 2 if n_rates > 1 else np.zeros(1)
    scores_RS = response_R[:, None] + shared_S + rng.standard_normal((n_rates, len(shared_S)))
    best = int(scores_RS.mean(1).argmax())
    return Run(
        name=name, lr=10.0**-best, data="v", estimate=float(smoothed(scores_RS)[best]) if use_curve else None,
        scores={10.0**-r: dict(enumerate(scores_RS[r].tolist())) for r in range(n_rates)},
    )  # fmt: skip


@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize(("rates", "use_curve"), [((7, 7), False), ((7, 7), True), ((1, 7), False), ((1, 7), True)])
def test_identical_methods_are_seldom_told_apart(rates, use_curve, n_seeds, curved):
    rng = np.random.default_rng([n_seeds, curved, use_curve])
    words = []
    for _ in range(500):
        shared_S = rng.standard_normal(n_seeds)
        first, second = (
            identical(rng, name, count, shared_S, curved=curved, use_curve=use_curve)
            for name, count in zip("ab", rates, strict=True)
        )
        words.append(pair(second, first).outcome)
    # Nominal: 2.5 % on either side.
    assert words.count("better") <= 0.05 * len(words)
    assert words.count("worse") <= 0.05 * len(words)


def test_a_real_difference_is_told():
    rng = np.random.default_rng(0)
    words = []
    for _ in range(100):
        shared_S = rng.standard_normal(5)
        first, second = (identical(rng, name, 7, shared_S, curved=True, use_curve=False) for name in "ab")
        better = {lr: {seed: v + 4 for seed, v in s.items()} for lr, s in second.scores.items()}
        words.append(pair(replace(second, scores=better), first).outcome)
    assert words.count("better") >= 90


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [
        (10_035.0, 14_745.0, "+10000"),
        (-4_710.0, 14_745.0, "-5000"),
        (0.0123, 0.004, "+0.0123"),
        (7.12e-9, 1e-9, "+7.1e-09"),
    ],
)
def test_a_difference_is_written_to_two_digits_of_its_intervals_width(value, width, text):
    assert signed(value, width, Scale(kind="positive", sign=-1)) == text

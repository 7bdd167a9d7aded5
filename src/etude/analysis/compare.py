"""Several studies that share an objective, each at its recommended rate: what the numbers bear, and no more.

The difference of two runs is that of their *estimates*, which a rate-response curve has freed of the winner's curse, so it
agrees with the levels that are printed. Its error is measured on the seeds: where both runs have two or more seeds in common
and the same validation data, the differences seed by seed (paired, df S − 1), else each run's own scatter (Welch 1947, with
Satterthwaite's df). What the choice of the rate still does: each run chose its rate on the very seeds that measure the error,
and the best of seven rates that are equal looks better than one rate. An estimate may take too little of that off (none, where
it is the mean that the rate was chosen by), so the interval reaches from the difference of the estimates to the one that is
left if all rates that noise does not tell from the chosen one were equal. How often two identical methods are told apart is in
docs/validation/comparisons.md; `tests/analysis/test_compare.py` repeats it in small with other estimates. Without that reach a
run of seven rates that are equal was called better than one rate in 7.5 %. Choosing on the other seeds and scoring on the
left-out one was tried instead: up to 8 %.

Each interval is 95 % by itself; with many runs some will be told apart by chance. R rates, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from etude.analysis import noise as noises
from etude.analysis.scale import Scale, find_scale
from etude.notation import rate_text

Interval = tuple[float, float]
LEVEL = 0.95
SAME = 1e-9  # relative: a scatter below it is rounding, not noise
TIED = 2.0  # standard errors of their difference within which two rates count as not told apart


@dataclass(frozen=True, kw_only=True)
class Run:
    """One study as the comparison sees it.

    ``scores[lr][seed]`` are the finite scores at the horizon of trials that learned, ``estimate`` what the recommended
    ``lr`` will reach (the metric's unit) and ``standard_error`` its error; ``margin`` is δ; ``sensitivity`` (value, low,
    high) may lack its interval; ``data`` is the digest of the validation data, empty where it is not known.
    """

    name: str
    scores: Mapping[float, Mapping[int, float]]
    lr: float | None
    estimate: float | None = None
    standard_error: float | None = None
    interval: Interval | None = None
    interval_open: tuple[str, ...] = ()
    plateau_decades: float | None = None
    sensitivity: tuple[float, float | None, float | None] | None = None
    margin: float | None = None
    data: str = ""


@dataclass(frozen=True, kw_only=True)
class RunReading:
    """What is said of one run: its best rate, what that will reach, and how much the rate matters."""

    name: str
    lr: float | None
    estimate: float | None
    standard_error: float | None
    n_seeds: int
    n_rates: int
    interval: Interval | None
    interval_open: tuple[str, ...]
    plateau_decades: float | None
    sensitivity: tuple[float, float | None, float | None] | None
    sentence: str


@dataclass(frozen=True, kw_only=True)
class PairReading:
    """One run against the first: ``difference`` of best against best in the metric's unit, positive where ``run`` is better.

    ``outcome`` is ``better``, ``worse``, ``within the margin`` (the whole interval lies within ± δ) or ``no difference
    told``; ``interval`` is None where ``reason`` says why there is none. ``correlation`` of the two runs over the ``n_paired``
    seeds needs three. ``sensitivity_outcome`` is ``less sensitive``, ``more sensitive`` or ``not told``.
    """

    run: str
    against: str
    outcome: str
    difference: float | None
    interval: Interval | None
    df: float | None
    paired: bool
    n_paired: int
    correlation: float | None
    margin: float | None
    reason: str | None
    sentence: str
    sensitivity_outcome: str
    sensitivity_sentence: str


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All that is said: a reading a run, in the order given, and one for each run after the first against the first."""

    runs: tuple[RunReading, ...]
    pairs: tuple[PairReading, ...]
    scale: Scale


@dataclass(frozen=True, kw_only=True)
class _Gap:
    difference: float
    interval: Interval | None
    df: float | None
    paired: bool
    n_paired: int = 0
    correlation: float | None = None
    reason: str | None = None
    tied: tuple[int, int] | None = (
        None  # rates that noise does not tell from the chosen one, where that widens the interval
    )


def compare(runs: Sequence[Run], *, direction: str, metric: str = "") -> Compared:
    """Compare runs, two or more, whose scores are of one metric; ``direction`` is ``maximize`` or ``minimize``.

    Raises `ValueError` for fewer than two.
    """
    if len(runs) < 2:
        raise ValueError(f"compare: expected two runs or more, got {len(runs)}")
    values = (v for run in runs for by_seed in run.scores.values() for v in by_seed.values())
    scale = find_scale(direction, values, metric)
    return Compared(
        runs=tuple(_read_run(run, scale) for run in runs),
        pairs=tuple(_read_pair(run, runs[0], scale) for run in runs[1:]),
        scale=scale,
    )


def _read_run(run: Run, scale: Scale) -> RunReading:
    by_seed = _chosen(run)
    return RunReading(
        name=run.name,
        lr=run.lr,
        estimate=None if run.lr is None else _estimate(run),
        standard_error=run.standard_error,
        n_seeds=len(by_seed),
        n_rates=len(run.scores),
        interval=run.interval,
        interval_open=run.interval_open,
        plateau_decades=run.plateau_decades,
        sensitivity=run.sensitivity,
        sentence=_run_sentence(run, len(by_seed), scale),
    )


def _read_pair(run: Run, first: Run, scale: Scale) -> PairReading:
    margin = min((m for m in (run.margin, first.margin) if m is not None), default=None)
    missing = [one.name for one in (run, first) if not _chosen(one)]
    gap = None if missing else _gap(run, first, scale)
    reason = gap.reason if gap is not None else f"{' and '.join(missing)} has no rate to recommend"
    outcome = "no difference told" if gap is None else _outcome(gap, margin)
    sensitivity_outcome, sensitivity_sentence = _sensitivities(run, first, scale)
    return PairReading(
        run=run.name,
        against=first.name,
        outcome=outcome,
        difference=None if gap is None else gap.difference,
        interval=None if gap is None else gap.interval,
        df=None if gap is None else gap.df,
        paired=gap is not None and gap.paired,
        n_paired=0 if gap is None else gap.n_paired,
        correlation=None if gap is None else gap.correlation,
        margin=margin,
        reason=reason,
        sentence=_pair_sentence(run, first, gap, outcome, margin, reason, scale),
        sensitivity_outcome=sensitivity_outcome,
        sensitivity_sentence=sensitivity_sentence,
    )


def _chosen(run: Run) -> Mapping[int, float]:
    return {} if run.lr is None else run.scores.get(run.lr, {})


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _estimate(run: Run) -> float | None:
    if run.estimate is not None and math.isfinite(run.estimate):
        return run.estimate
    by_seed = _chosen(run)
    return _mean(by_seed.values()) if by_seed else None


def _optimism(run: Run) -> float:
    """Return by how much the mean of the chosen rate lies above its estimate (0 where the estimate is that mean)."""
    estimate = _estimate(run)
    return 0.0 if estimate is None else _mean(_chosen(run).values()) - estimate


def _luck(run: Run, scale: Scale) -> tuple[float, int]:
    """Return by how much the best of the rates that noise does not tell apart looks better than it is, if they are equal.

    In the metric's unit, 0 or more; and how many rates these are. The expectation of the best of k normal values is Blom's
    approximation (1958).
    """
    lrs = sorted(run.scores)
    noise = noises.measure(
        {lr: {seed: float(scale.even(v)) for seed, v in run.scores[lr].items()} for lr in lrs if run.scores[lr]}
    )
    if run.lr is None or not noise.measured:
        return 0.0, 1
    chosen = int(np.argmin(np.abs(noise.x - math.log10(run.lr))))
    error = np.sqrt(noise.variance / noise.count)
    tied = noise.mean - noise.mean[chosen] <= TIED * np.hypot(error, error[chosen])
    count = int(tied.sum())
    luck = float(special.ndtri((count - 0.375) / (count + 0.25)) * error[chosen])
    return luck * float(scale.level(_mean(_chosen(run).values()))), count


def _gap(run: Run, first: Run, scale: Scale) -> _Gap:
    """Measure the difference, positive where ``run`` is better, with its interval."""
    sign, ours, theirs = scale.sign, _chosen(run), _chosen(first)
    optimism = _optimism(run) - _optimism(first)
    shared = sorted(set(ours) & set(theirs))
    level = max(abs(v) for v in (*ours.values(), *theirs.values()))
    if len(shared) >= 2 and run.data and run.data == first.data:
        x_S, y_S = (np.array([by_seed[seed] for seed in shared]) for by_seed in (ours, theirs))
        d_S = sign * (x_S - y_S)
        difference, sd, n = float(d_S.mean()), float(d_S.std(ddof=1)), len(shared)
        flat = min(x_S.std(), y_S.std()) <= SAME * level
        correlation = float(np.corrcoef(x_S, y_S)[0, 1]) if n > 2 and not flat else None
        paired = _Gap(difference=difference - sign * optimism, interval=None, df=None, paired=True, n_paired=n,
                      correlation=correlation)  # fmt: skip
        if sd <= SAME * level:
            equal = bool(abs(paired.difference) <= SAME * level)
            reason = (
                "the same scores, seed by seed"
                if equal
                else "all seeds differ by the same, so their scatter is not known"
            )
            return replace(paired, reason=reason)
        return _with_interval(paired, difference, sd / math.sqrt(n), n - 1, run, first, scale)
    difference = sign * (_mean(ours.values()) - _mean(theirs.values()))
    apart = _Gap(difference=difference - sign * optimism, interval=None, df=None, paired=False)
    alone = [one.name for one, by_seed in ((run, ours), (first, theirs)) if len(by_seed) < 2]
    if alone:
        return replace(apart, reason="one seed: not told" if len(alone) == 2 else f"one seed of {alone[0]}: not told")
    variances = [float(np.var(list(s.values()), ddof=1)) / len(s) for s in (ours, theirs)]
    if math.sqrt(sum(variances)) <= SAME * level:
        return replace(apart, reason="the seeds do not differ, so their scatter is not known")
    df = sum(variances) ** 2 / sum(v**2 / (len(s) - 1) for v, s in zip(variances, (ours, theirs), strict=True))
    return _with_interval(apart, difference, math.sqrt(sum(variances)), df, run, first, scale)


def _with_interval(gap: _Gap, means: float, error: float, df: float, run: Run, first: Run, scale: Scale) -> _Gap:
    """Give the gap its interval: Student's about both the estimates' difference and that of the ``means`` less their luck."""
    (ours, our_count), (theirs, their_count) = _luck(run, scale), _luck(first, scale)
    reach = means - (ours - theirs) - gap.difference if our_count != their_count else 0.0
    low, high = _student(gap.difference, error, df)
    return replace(
        gap, df=df, interval=(low + min(0.0, reach), high + max(0.0, reach)),
        tied=(our_count, their_count) if reach else None,
    )  # fmt: skip


def _student(difference: float, error: float, df: float) -> Interval:
    half = float(special.stdtrit(df, (1 + LEVEL) / 2)) * error
    return difference - half, difference + half


def _outcome(gap: _Gap, margin: float | None) -> str:
    if gap.interval is None:
        return "no difference told"
    low, high = gap.interval
    if margin is not None and -margin <= low and high <= margin:
        return "within the margin"
    return "better" if low > 0 else "worse" if high < 0 else "no difference told"


def _run_sentence(run: Run, n_seeds: int, scale: Scale) -> str:
    estimate = _estimate(run)
    if run.lr is None or estimate is None:
        return f"{run.name} has no rate to recommend."
    text = f"{run.name}: {rate_text(run.lr)} reaches {scale.text(estimate)}"
    if run.standard_error:
        text += f" ± {scale.gap_text(run.standard_error)}"
    return f"{text} ({_count(n_seeds, 'seed')}, {_count(len(run.scores), 'rate')})."


def _pair_sentence(
    run: Run, first: Run, gap: _Gap | None, outcome: str, margin: float | None, reason: str | None, scale: Scale
) -> str:
    if gap is None:
        return f"{run.name} against {first.name}: {reason}."
    if gap.interval is None:
        size = signed(gap.difference, gap.difference, scale)
        return f"No difference told between {run.name} and {first.name}: {size}, but {reason}."
    low, high = gap.interval
    width = (high - low) / 2
    how = f"paired over {_count(gap.n_paired, 'seed')}" if gap.paired else (
        f"Welch, {len(_chosen(run))} and {_count(len(_chosen(first)), 'seed')}")  # fmt: skip
    if gap.tied is not None:
        ours, theirs = gap.tied
        how += f"; allows for the luck of choosing: {_count(ours, 'tied rate')} in {run.name}, {theirs} in {first.name}"
    interval = f"95 %: {signed(low, width, scale, unit=False)} to {signed(high, width, scale)}; {how}"
    size = signed(abs(gap.difference), width, scale, plus=False)
    if outcome in ("better", "worse"):
        text = f"{run.name} is {outcome} than {first.name} by {size} ({interval})"
    elif outcome == "within the margin":
        text = (f"{run.name} and {first.name} differ by less than the margin of {scale.gap_text(margin or 0.0)}: "
                f"{signed(gap.difference, width, scale)} ({interval})")  # fmt: skip
    else:
        text = f"No difference told between {run.name} and {first.name}: {signed(gap.difference, width, scale)} ({interval})"
    return f"{text}."


def _sensitivities(run: Run, first: Run, scale: Scale) -> tuple[str, str]:
    """Compare LR sensitivities: intervals that overlap tell nothing."""
    ours, theirs = run.sensitivity, first.sensitivity
    if ours is None or theirs is None:
        return "not told", ""
    said = f"LR sensitivity: {run.name} {_with_ends(ours, scale)}, {first.name} {_with_ends(theirs, scale)}"
    if ours[1] is None or ours[2] is None or theirs[1] is None or theirs[2] is None:
        return "not told", f"{said}; without intervals no difference is told."
    if ours[2] < theirs[1]:
        return "less sensitive", f"{said}: {run.name} is less sensitive."
    if theirs[2] < ours[1]:
        return "more sensitive", f"{said}: {run.name} is more sensitive."
    return "not told", f"{said}; their intervals overlap, no difference is told."


def _with_ends(sensitivity: tuple[float, float | None, float | None], scale: Scale) -> str:
    value, low, high = sensitivity
    if low is None or high is None:
        return scale.gap_text(value)
    return f"{scale.gap_text(value)} ({scale.gap_text(low).removesuffix(' points')} to {scale.gap_text(high)})"


def signed(value: float, width: float, scale: Scale, *, plus: bool = True, unit: bool = True) -> str:
    """Write a difference to two digits of ``width``: ``+0.21 points``."""
    percent = scale.kind == "share"
    factor = 100.0 / scale.top if percent else 1.0
    digits = 1 - math.floor(math.log10(abs(width * factor))) if width else 1
    sign = "+" if plus else ""
    number = (
        f"{round(value * factor, digits):{sign}.{max(0, digits)}f}" if digits <= 6 else f"{value * factor:{sign}.2g}"
    )
    if float(number) == 0:
        number = number.replace("-", "+" if plus else "")
    return f"{number} points" if percent and unit else number


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"

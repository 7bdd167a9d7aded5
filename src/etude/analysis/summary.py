"""What is said beneath the verdicts, in lines: where the best rate lies, what it will reach, the noise, what stays open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from etude.analysis.reading import RateEvidence
from etude.analysis.scale import Scale
from etude.analysis.values import NoiseReading, Recommendation, Response, SecondOpinion, SeedPlan, Sensitivity
from etude.notation import rate_text, share_text

NARROW = 0.05  # decades: a plateau below the resolution of the curve is none
LIKELY_LOST = 0.02  # chance of losing a trial from which on it is told


def summary(
    scale: Scale, evidence: Mapping[float, RateEvidence], answer: Recommendation, response: Response, noise: NoiseReading,
    sensitivity: Sensitivity, plan: SeedPlan | None, second: SecondOpinion | None,
) -> Iterator[str]:  # fmt: skip
    """Say it, a line a subject; nothing where no rate is recommended."""
    if answer.lr is None:
        return
    yield from _where(response, answer.lr, sum(e.is_paused for e in evidence.values()))
    value, error = answer.estimate["value"], answer.estimate["standard_error"]
    if noise.sd is not None:
        yield f"Expected of new seeds at {rate_text(answer.lr)}: {scale.pm_text(value, error or 0.0)}."
        degrees = f"{noise.df:.0f} degree{'s' * (round(noise.df or 0) != 1)} of freedom"
        shared = f"; {share_text(noise.correlation)} of it common to all rates of a seed" if noise.correlation else ""
        yield f"Between seeds: {scale.gap_text(noise.sd)} (standard deviation, {degrees}{shared})."
    e = evidence[answer.lr]
    # Where no rate lost any, the number would be little but the prior.
    if e.p_diverged_high >= LIKELY_LOST and any(of.n_lost for of in evidence.values()):
        yield (
            f"Chance of losing a trial at {rate_text(answer.lr)}: {share_text(e.p_diverged)} ({share_text(e.p_diverged_low)} to "
            f"{share_text(e.p_diverged_high)}, 95 %); none of {e.n_scored} was lost."
        )
    if (
        sensitivity.value is not None
        and sensitivity.low is not None
        and sensitivity.high is not None
        and sensitivity.range
    ):
        a, b = map(rate_text, sensitivity.range)
        part = f", {share_text(sensitivity.covered)} of it tried" if sensitivity.covered < 0.995 else ""
        yield (
            f"LR sensitivity, {a} to {b}{part}: {scale.gap_text(sensitivity.value)} lost on average "
            f"({scale.gap_text(sensitivity.low).removesuffix(' points')} to {scale.gap_text(sensitivity.high)})."
        )
    if second is not None and second.disagrees:
        yield f"Another view: {second.why}."
    if plan is not None:
        yield f"Seeds: {plan.why}."


def _where(response: Response, lr: float, paused: int) -> Iterator[str]:
    if not response.located or response.optimum_interval is None:
        others = f"; {paused} {'was' if paused == 1 else 'were'} paused before the end" if paused else ""
        yield f"The best rate is {response.reason}{others}."
        return
    low, high = map(rate_text, response.optimum_interval)
    said = f"The best rate lies between {low} and {high} (95 %)"
    if response.open:
        tried = "trained to the end" if paused else "tried"
        said += f", or {' or '.join('below' if end == 'low' else 'above' for end in response.open)} the rates {tried}"
    if not response.optimum_interval[0] <= lr <= response.optimum_interval[1]:
        said += f"; of the rates tried {rate_text(lr)}, just outside, has the least expected regret"
    plateau = response.plateau
    if plateau is not None and plateau.decades >= NARROW:
        ends = f"{rate_text(plateau.low)} to {rate_text(plateau.high)}"
        said += f"; probably within the margin of the best tried: {ends}, {plateau.decades:.1f} decades"
    yield said + "."

"""The recommendation: which rate, what it will reach, what stays open, and the one run that would teach most."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from etude.analysis.answer import Answer
from etude.analysis.reading import RateEvidence
from etude.analysis.scale import Scale
from etude.analysis.values import NextRun, RateReading, Recommendation, Response, SeedPlan
from etude.notation import rate_text, rounded, time_text

ABOVE = ("too high", "unstable", "diverged")
COARSE = 0.4  # decades between tried rates from which on a rate in between is worth a run
POWER_Z = 2.487  # of the normal quantiles of 0.95, which settles it, and of a power of 0.8
SETTLED = 0.95  # chance that the pick is within δ of the best from which on another run would teach little
NEAR = 0.1  # decades from a tried rate from which on a place counts as not tried
MOST_SEEDS = 30


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a recommendation is made from; ``pick`` indexes ``answer.lrs``."""

    rates: Sequence[RateReading]
    evidence: Mapping[float, RateEvidence]
    answer: Answer
    pick: int
    response: Response
    delta: float
    scale: Scale
    metric: str
    plan: SeedPlan | None
    searched: bool = False

    @property
    def lr(self) -> float:
        """The recommended rate."""
        return self.answer.lrs[self.pick]

    @property
    def tried(self) -> list[float]:
        """All rates, rising."""
        return [rate.lr for rate in self.rates]

    @property
    def unfinished(self) -> int:
        """How many trials are not finished."""
        return sum(e.n_unfinished for e in self.evidence.values())

    @property
    def open(self) -> list[float]:
        """The rates beside the recommended one that were paused, may be better yet, and are not on the curve."""
        at, on = self.tried.index(self.lr), self.answer.lrs if self.answer.place is not None else ()
        near = [self.tried[i] for i in (at - 1, at + 1) if 0 <= i < len(self.tried)]
        return [lr for lr in near if _may_win(self.evidence[lr]) and not (on and on[0] < lr < on[-1])]


def _may_win(e: RateEvidence) -> bool:
    """Whether a rate was paused and how it would end is not told."""
    return e.is_paused and e.verdict == "undetermined"


def seed_plan(answer: Answer, delta: float, scale: Scale) -> SeedPlan | None:
    """Plan the seeds that would tell the recommended rate from its closest rival; None where noise is not measured."""
    pick = answer.pick()
    if pick is None or len(answer.candidates) < 2 or not answer.noise.measured:
        return None
    regret = answer.regret()
    rival = min((i for i in answer.candidates if i != pick), key=lambda i: (float(regret[i]), i))
    pair = answer.lrs[pick], answer.lrs[rival]
    told = f"{rate_text(pair[0])} and {rate_text(pair[1])}"
    metric = scale.metric(answer.values[:, [pick, rival]])
    gap = scale.sign * (metric[:, 0] - metric[:, 1])
    if (np.abs(gap) < delta).mean() >= SETTLED:
        return SeedPlan(lrs=pair, more=0, why=f"{told} differ by less than the margin; more seeds would change nothing")
    if max((gap > delta).mean(), (gap < -delta).mean()) >= SETTLED:  # one of them, and it is known which
        return SeedPlan(lrs=pair, more=0, why=f"{told} are told apart; more seeds would change nothing")
    away = abs(float(np.median(gap))) - delta
    sd = math.sqrt(2 * answer.noise.variance[pick]) * float(scale.level(scale.metric(answer.noise.mean[pick])))
    needed = (POWER_Z * sd / away) ** 2 if away else math.inf
    have = int(min(answer.noise.count[[pick, rival]]))
    if needed > MOST_SEEDS + have:
        return SeedPlan(
            lrs=pair,
            more=None,
            why=f"{told} differ by about the margin: more than {MOST_SEEDS} further seeds would tell",
        )
    more = max(1, math.ceil(needed) - have)
    would = "probably show that they differ by less than the margin" if away < 0 else "probably tell them apart"
    return SeedPlan(lrs=pair, more=more, why=f"{told}: about {more} more seed{'s' * (more != 1)} would {would}")


def recommend(case: Case) -> Recommendation:
    """Put the recommendation together."""
    e, scale, tried = case.evidence[case.lr], case.scale, case.tried
    within = tuple(lr for lr in tried if case.evidence[lr].grade == "within")
    edge = _edge(case)
    position = tried.index(case.lr)
    provisional = None
    if e.n_scored < 2:
        measured = case.answer.noise.measured
        provisional = "one seed at the recommended rate" if measured else "run-to-run noise not measured: one seed"
    elif case.unfinished:
        provisional = "training is not finished"
    return Recommendation(
        lr=case.lr,
        reason=_reason(case, within, edge) + ".",
        conclusion=_conclusion(case, within) + ".",
        optimum_interval=case.response.optimum_interval,
        interval_open=case.response.open if case.response.located else (),
        bracket=(tried[position - 1], tried[position + 1]) if 0 < position < len(tried) - 1 else None,
        within_margin=within,
        edge=edge,
        provisional=provisional is not None,
        provisional_reason=provisional,
        estimate=_estimate(case, scale),
        next_run=_of_search(case, _next(case, edge)) if case.searched else _next(case, edge),
    )


def _edge(case: Case) -> str | None:
    """Return the end of the grid that the recommended rate is at, unless another rate is exactly as good."""
    position = case.tried.index(case.lr)
    if len(case.tried) == 1 or any(e.gap == 0 and lr != case.lr for lr, e in case.evidence.items()):
        return None
    return "low" if position == 0 else "high" if position == len(case.tried) - 1 else None


def _reached(case: Case) -> str:
    name, text = case.metric.removeprefix("val_").replace("_", " "), case.scale.text(case.evidence[case.lr].mean)
    return f"{text} validation {name}" if case.metric.startswith("val_") else f"{name} {text}"


def _reason(case: Case, within: Sequence[float], edge: str | None) -> str:
    e, n = case.evidence[case.lr], len(case.tried)
    after = f" after {time_text(e.horizon, e.unit)}" if e.unit else ""
    whole = sum(other.n_scored > 0 for other in case.evidence.values())
    any_paused = any(other.is_paused for other in case.evidence.values())
    of = f"{whole} rates trained to the end, of {n} tried" if any_paused else f"{n} rates"
    if whole < n and not any_paused:
        of = f"{whole} rates with a score, of {n} tried"
    how = f"the best of {of}" if e.is_top else f"the least expected regret of {of}"
    if whole == 1:
        how = "the only rate tried" if n == 1 else f"the only one of {n} rates with a score"
    if any_paused and whole == 1:
        how = f"the only one of {n} rates that got to the end"
    barred = [lr for lr, other in case.evidence.items() if other.n_lost and other.gap < 0]
    if barred:
        how += f"{',' * any_paused} that lost no seed" if e.is_top else ""
    reason = f"{rate_text(case.lr)} reaches {_reached(case)}{after}, {how}"
    others = [lr for lr in within if lr != case.lr]
    if others:
        shown = listed([rate_text(lr) for lr in others]) if len(others) <= 6 else f"{len(others)} others"
        reason += f"; {shown} {'is' if len(others) == 1 else 'are'} within the margin"
    if edge:
        reason += f"; it is the {edge}est rate tried, so the best rate is not bracketed"
    if case.open:
        reason += f"; {listed([rate_text(lr) for lr in case.open])} beside it {_was_paused(len(case.open))} and may be better yet"
    if case.unfinished:
        reason += f"; {case.unfinished} trial{'s' * (case.unfinished != 1)} still to finish"
    return reason


def _was_paused(n: int) -> str:
    return "was paused" if n == 1 else "were paused"


def _conclusion(case: Case, within: Sequence[float]) -> str:
    e = case.evidence[case.lr]
    when = f" in {time_text(e.horizon, e.unit)}" if e.unit else ""
    if len(case.tried) == 1:
        return f"{rate_text(case.lr)} reaches {_reached(case)}{when}; one rate alone compares with nothing"
    if _are_alike(case):
        return f"All {len(case.tried)} rates end exactly alike, at {_reached(case)}{when}: the rate makes no difference here"
    conclusion = f"Train at {rate_text(case.lr)}: it reaches {_reached(case)}{when}"
    others = [rate for rate in case.rates if rate.lr not in within and rate.verdict != "undetermined"]
    if len(others) <= 4:
        said = [_together([r.lr for r in of], word) for word, of in itertools.groupby(others, key=lambda r: r.verdict)]
    else:  # many rates: where each kind begins and ends
        said = []
        low = list(itertools.takewhile(lambda r: r.verdict == "too low", case.rates))
        if low:
            said.append(f"{rate_text(low[-1].lr)}{' and below' * (len(low) > 1)} is too low")
        high = list(itertools.takewhile(lambda r: r.verdict in ABOVE, reversed(case.rates)))[::-1]
        if high:
            word = _either([r.verdict for r in high])
            said.append(f"{rate_text(high[0].lr)}{' and above' * (len(high) > 1)}{_verb(word, 1)} {word}")
    return f"{conclusion}; {listed(said)}" if said else conclusion


def _together(lrs: Sequence[float], word: str) -> str:
    return f"{listed([rate_text(lr) for lr in lrs])}{_verb(word, len(lrs))} {word}"


def _verb(word: str, count: int) -> str:
    return "" if word.startswith("diverged") else " is" if count == 1 else " are"


def _either(words: Sequence[str]) -> str:
    kinds = sorted(dict.fromkeys(words), key="diverged".__eq__)
    return kinds[0] if len(kinds) == 1 else f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def _estimate(case: Case, scale: Scale) -> dict[str, object]:
    """Say what the rate will reach on average over new seeds: the mean of its draws, not its own best luck.

    On a logarithmic scale the mean of the metric lies above the exponential of the mean by half the variance of a run.
    """
    answer, e = case.answer, case.evidence[case.lr]
    count = float(answer.noise.count[case.pick])
    shared = math.sqrt(answer.noise.shared[case.pick] / count) * float(scale.level(e.mean))
    if answer.place is None:  # the rate alone: its own mean and error
        value, spread = e.mean, e.mean_error
    else:
        variance = answer.noise.sd(case.pick) ** 2 if answer.noise.measured else float(answer.inferred[case.pick])
        shift = 0.5 * variance if scale.kind != "linear" and math.isfinite(variance) else 0.0
        drawn = scale.metric(answer.values[:, case.pick] + shift)
        value, spread = float(drawn.mean()), math.hypot(float(np.ptp(np.quantile(drawn, [0.16, 0.84]))) / 2, shared)
    note = None
    if answer.place is None and len(case.tried) > 1:
        note = f"the best of {len(case.tried)} rates, so likely a little optimistic"
    elif answer.place is not None:
        note = "with its neighbours' support, " + (
            "so without the luck of the best of many"
            if answer.noise.measured
            else "but from one seed, so likely a little optimistic"
        )
    return {
        "metric": case.metric,
        "value": value,
        "standard_error": spread or None,
        "own_mean": e.mean,
        "n_seeds": e.n_scored,
        "note": note,
    }


def _are_alike(case: Case) -> bool:
    """Whether all rates, two or more, ended exactly alike: then it is not the rate that decides."""
    return len(case.tried) > 1 and all(e.gap == 0 for e in case.evidence.values())


def _next(case: Case, edge: str | None) -> NextRun | None:
    tried, best, e = case.tried, case.lr, case.evidence[case.lr]
    if case.unfinished:
        return NextRun(why="finish what was asked for")
    if _are_alike(case):
        return None
    if len(tried) == 1:
        further = tuple(lr for lr in (_typed(best / 10), _typed(best * 10)) if 0 < lr < math.inf)
        return NextRun(why="one rate has nothing to be compared with", lrs=further)
    step = float(np.median(np.diff(np.log10(tried))))
    if edge and (
        e.is_top or case.answer.noise.measured
    ):  # else a better one seed further inside asks for more seeds first
        factor = 10 ** (-step if edge == "low" else step)
        further = tuple(sorted(lr for lr in (_typed(best * factor), _typed(best * factor**2)) if 0 < lr < math.inf))
        return NextRun(why="the best rate is at the end of the grid", lrs=further)
    if case.open:
        return NextRun(
            why="paused early, and it may be better yet"
            if len(case.open) == 1
            else "paused early, and they may be better yet",
            lrs=tuple(case.open),
        )
    if e.n_scored < 2:
        why = (
            "more seeds at the best rates" if case.answer.noise.measured else "more seeds measure the run-to-run noise"
        )
        return NextRun(why=why, seeds=3)
    if case.answer.place is not None:
        return _next_by_regret(case)
    unresolved = [lr for lr in tried if case.evidence[lr].grade == "unresolved" and not case.evidence[lr].n_lost]
    unresolved = [lr for lr in unresolved if not _is_out_of_reach(case, lr)]
    if unresolved:
        named = listed([rate_text(lr) for lr in unresolved])
        return NextRun(why=f"more seeds would tell {named} from the best", seeds=e.n_trials - e.n_paused + _more(case))
    position = tried.index(best)
    between = [
        rounded(math.sqrt(a * b))
        for a, b in itertools.pairwise(tried[max(0, position - 1) : position + 2])
        if math.log10(b / a) >= COARSE
    ]
    return (
        NextRun(why="rates between the best and its neighbours have not been tried", lrs=tuple(between))
        if between
        else None
    )


def _next_by_regret(case: Case) -> NextRun | None:
    """Weigh what the best rate among those not tried may gain against what the tried ones may."""
    answer, e = case.answer, case.evidence[case.lr]
    lost = answer.loss(case.scale)[:, case.pick]
    if (lost < case.delta).mean() >= SETTLED:
        return None
    # A rate that was paused and may win yet is not tried to the end.
    tried = np.log10(np.array([lr for lr in case.tried if not _may_win(case.evidence[lr])]))
    gaps = answer.promising(lost, tried, min(NEAR, 0.25 * float(np.median(np.diff(tried)))))
    if gaps:
        where = rounded(10 ** gaps[0][1])
        paused = [lr for lr in case.tried if _may_win(case.evidence[lr]) and abs(math.log10(where / lr)) <= NEAR]
        if paused:
            nearest = min(paused, key=lambda lr: abs(math.log10(where / lr)))
            return NextRun(why="paused early, and the best rate may lie there", lrs=(nearest,))
        if all(abs(math.log10(where / lr)) > 0.02 for lr in case.tried):
            return NextRun(why="the best rate may lie between those tried", lrs=(where,))
    if case.plan is not None and not case.plan.more:  # of these two, that is; the best may be a third
        rival = _better_yet(case)
        if rival is None:
            return None
        told = f"{rate_text(case.lr)} and {rate_text(rival)} apart"
    else:
        told = f"{rate_text(case.lr)} from its rivals"
        if case.plan is not None:
            told = f"whether {' and '.join(map(rate_text, case.plan.lrs))} differ by more than the margin"
    return NextRun(why=f"more seeds would tell {told}", seeds=e.n_trials - e.n_paused + _more(case))


def _better_yet(case: Case) -> float | None:
    """Return the rate, not one of the seed plan's, that is likeliest better than the recommended one by more than the margin."""
    metric = case.scale.metric(case.answer.values)
    better = (case.scale.sign * (metric - metric[:, [case.pick]]) > case.delta).mean(0)
    settled = () if case.plan is None else case.plan.lrs
    rivals = [i for i in case.answer.candidates if case.answer.lrs[i] not in settled]
    rival = max(rivals, key=lambda i: (float(better[i]), -i), default=None)
    return None if rival is None or better[rival] < 1 - SETTLED else case.answer.lrs[rival]


def _of_search(case: Case, run: NextRun | None) -> NextRun | None:
    """Name both the rates and their seeds: all rates of a search with all its seeds would be the grid that it has spared."""
    if run is None:
        return None
    if run.lrs:
        return replace(run, seeds=max(1, case.evidence[case.lr].n_scored))
    rivals = () if case.plan is None else case.plan.lrs
    unresolved = [lr for lr, e in case.evidence.items() if e.grade == "unresolved" and not e.n_lost]
    return replace(run, lrs=tuple(sorted({case.lr, *(rivals or unresolved)})))


def _is_out_of_reach(case: Case, lr: float) -> bool:
    """Whether the seed plan says of a rate that no seeds, or more than anybody trains, would tell it from the recommended one."""
    return case.plan is not None and not case.plan.more and lr in case.plan.lrs


def _typed(lr: float) -> float:
    """Return a rate to try with one digit where that is nearly the same, else with three."""
    plain = float(f"{lr:.0e}")
    return plain if abs(plain - lr) < 0.01 * lr < math.inf else rounded(lr)


def _more(case: Case) -> int:
    """Return how many seeds to add: as planned, but no more than twice those there are at once; two without a plan."""
    e = case.evidence[case.lr]
    return min(case.plan.more, 2 * (e.n_trials - e.n_paused)) if case.plan is not None and case.plan.more else 2


def nothing(rates: Sequence[RateReading], evidence: Mapping[float, RateEvidence], sign: int) -> Recommendation:
    """Say why no rate is recommended, and where one may be found; ``sign`` is +1 where more of the metric is better."""
    tried = [rate.lr for rate in rates]
    unfinished = sum(e.n_unfinished for e in evidence.values())
    counts = [
        (sum(e.n_lost for e in evidence.values()), "diverged or collapsed"),
        (sum(e.n_stalled for e in evidence.values()), "never moved"),
        (sum(e.n_failed for e in evidence.values()), "failed"),
        (unfinished, "did not finish"),
        (sum(e.n_paused for e in evidence.values()), "stopped before the end"),
    ]
    n = sum(e.n_trials for e in evidence.values())
    what = f"of {n} trial{'s' * (n != 1)} " + ", ".join(f"{count} {words}" for count, words in counts if count)
    whole = next((words for count, words in counts if count == n), None)
    if whole is not None:  # of each of them the same is to be said
        what = f"{'its one trial' if n == 1 else 'both trials' if n == 2 else f'all {n} trials'} {whole}"
    reason = f"no rate can be recommended yet: {what if n else 'nothing was trained'}."
    lost = [lr for lr, e in evidence.items() if e.n_lost]
    stalled = [lr for lr, e in evidence.items() if e.n_stalled]
    next_run = None
    if unfinished:
        next_run = NextRun(why="finish what was asked for")
    elif paused := [lr for lr, e in evidence.items() if e.is_paused and math.isfinite(e.paused_mean)]:
        best = max(paused, key=lambda lr: (evidence[lr].paused_at, sign * evidence[lr].paused_mean, -lr))
        next_run = NextRun(why="of the rates that got furthest it was the best there", lrs=(best,), seeds=1)
        if len({evidence[lr].paused_mean for lr in paused}) == 1 < len(paused):
            reason = f"{reason[:-1]}, all exactly alike: the rate makes no difference there."
            next_run = None
    elif lost and stalled:
        low, high = max(stalled), min(lost)
        if low < high:
            points = np.logspace(math.log10(low), math.log10(high), 5)[1:-1]
            next_run = NextRun(why="the rates between what never moved and what broke", lrs=tuple(map(rounded, points)))
    elif lost:
        next_run = NextRun(why="lower rates may hold", lrs=(rounded(tried[0] / 100), rounded(tried[0] / 10)))
    elif stalled:
        next_run = NextRun(why="higher rates may move it", lrs=(rounded(tried[-1] * 10), rounded(tried[-1] * 100)))
    return Recommendation(lr=None, reason=reason, conclusion=reason[0].upper() + reason[1:], next_run=next_run)


def listed(parts: Sequence[str]) -> str:
    """Write ``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

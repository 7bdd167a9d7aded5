"""Short runs at coarse rates first, then only what may be best: on to a quarter of the horizon, to the horizon, with more seeds.

A short run prefers other rates than a long one. A small rate η trained for T steps gets about as far as kη for T/k steps (both
follow the gradient flow), so on the way from a share t of the horizon to its end the falling side of the rate-response curve
moves by log10(1/t) decades to lower rates, and the optimum by that much at most; the side on which training breaks stays where
it is. (With a schedule the sums of its factors take the place of the steps.) So after a rung the best rate at the horizon is
looked for from log10(1/t) decades below the rung's best rates to a little above them, and nothing else is carried on. From
there on the rate-response curve of the analysis says where the expected regret lies: in a gap between tried rates, which gets a
rate, or between rates that noise does not tell apart, which get seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from etude.analysis.answer import Answer
from etude.notation import rate_text, rounded, share_text
from etude.search import Decision, Request, Standing
from etude.search.seen import FIRST, SECOND, Seen
from etude.spec.study import Study
from etude.spec.trial import Trial

COARSE, MEDIUM = 1.0, 0.5  # decades between the rates of the first rung and of the second, at most
GAP = 0.3  # decades: a gap beside the best rate that is wider gets a rate, however smooth the curve looks
NEAR = 0.12  # decades: so near to a tried rate another one is not worth a run
SETTLED = 0.95  # chance that the pick is within δ of the best at which the search ends
BATCH = 2  # gaps that get a rate at a time
WORTH = 0.25  # of what the best gap has to gain: so much must another have to get a rate, too
SPENT = "the budget does not carry another trial to the horizon"


@dataclass(frozen=True, kw_only=True)
class Want:
    """A rate (log10) that is to be carried to a share of the horizon."""

    x: float
    share: float
    seed: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Adaptive:
    """Searches from ``low`` to ``high``; ``bracket``, from a range test, is where it looks first.

    ``steps_per_epoch`` relates a schedule to epochs, and rungs to whole steps. ``workers`` trials share a budget of time: a
    batch fits if its sum does, as trials take turns, and if its longest is within one worker's part, as no trial is trained by
    two. A budget of steps one trial may have alone.
    """

    low: float
    high: float
    bracket: tuple[float, float] | None = None
    steps_per_epoch: int = 100
    workers: int = 1

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None) -> Decision:
        """See `etude.search.Searcher`."""
        seen = Seen(study=study, results=results, steps_per_epoch=self.steps_per_epoch)
        left = math.inf if budget is None else budget * (1 + 1e-9)
        # What is left over is for the trials that are then to go on to the horizon.
        for phase, spare in ((self._first, 1), (self._second, 2), (self._third, 0)):
            wanted, why = phase(seen)
            # That many trials to the horizon need as much; and one of them, a worker's whole part.
            spare_epochs = max(spare, self.workers) * study.epochs if spare else 0.0
            requests, short = self._affordable(wanted, seen, left, spare_epochs)
            if requests:
                return Decision(requests=requests, why=_carried(why, len(requests), short))
        made = seen.answer()
        pick = None if made is None else made.pick()
        if made is None or pick is None:
            return Decision(why=self._nothing(seen, short))
        return self._refine(seen, made, pick, left)

    @property
    def _ends(self) -> tuple[float, float]:
        return math.log10(self.low), math.log10(self.high)

    def _affordable(
        self, wanted: Iterable[Want], seen: Seen, left: float, spare: float = 0.0
    ) -> tuple[tuple[Request, ...], int]:
        """Return requests for the first of the wanted that fit into what is left (epochs), and how many others there are."""
        requests: dict[Trial, Request] = {}
        beyond: set[Trial] = set()
        part = left / self.workers
        for want in wanted:
            lr = seen.lrs.get(want.x, min(max(rounded(10**want.x), self.low), self.high))
            trial = seen.study.trial(lr, want.seed, want.share * seen.study.epochs)
            if trial in requests or seen.is_done(trial, want.share):
                continue
            if beyond:  # those before it come first
                beyond.add(trial)
                continue
            cost = seen.until(want.share) - (seen.results[trial].epochs if trial in seen.results else 0.0)
            left -= cost
            if left < spare or cost > part:
                beyond.add(trial)
                continue
            requests[trial] = Request(trial=trial, epochs=want.share * seen.study.epochs, why=want.why)
        return tuple(requests.values()), len(beyond)

    def _first(self, seen: Seen) -> tuple[list[Want], str]:
        """Coarse rates, briefly; further ones where the best lies at the end of the bracket, or all were lost."""
        low, high = ends = self._ends
        if self.bracket is not None:  # to whole decades, which read well
            low = max(low, math.floor(math.log10(self.bracket[0])))
            high = min(high, math.ceil(math.log10(self.bracket[1])))
            low, high = (low, high) if low < high else ends
        count = max(3, math.ceil((high - low) / COARSE - 1e-9) + 1)
        coarse = [float(x) for x in np.linspace(low, high, count)]
        done = seen.at(FIRST)
        why = "a first look at the whole range" if (low, high) == ends else "a first look at what the range test leaves"
        usual = len(coarse)
        if done and (region := seen.region(FIRST)) is not None:
            if _best(done) == min(done) and min(done) > ends[0] + NEAR:
                coarse.append(max(ends[0], min(done) - COARSE))
            if region[1] > max(done) and max([*done, *seen.lost]) < ends[1] - NEAR:
                coarse.append(min(ends[1], max(done) + COARSE))
            if len(coarse) > usual:
                why = (
                    f"a first look further on: the best rate so far, {_text(_best(done))}, is at the end of those tried"
                )
        elif seen.lost and min(seen.lost) > ends[0] + NEAR:
            coarse.append(max(ends[0], min(seen.lost) - COARSE))
            why = "a first look further down: every rate so far was lost"
        fresh = [x for x in coarse if not _has([*done, *seen.lost], x)]
        seed = seen.study.seeds[0]
        return [Want(x=x, share=FIRST, seed=seed, why="a first look") for x in fresh], why

    def _second(self, seen: Seen) -> tuple[list[Want], str]:
        """The rates among which the best may be, and others between them, a little longer."""
        region, first, done, seed = seen.region(FIRST), seen.at(FIRST), seen.at(SECOND), seen.study.seeds[0]
        if region is None:
            return [], ""
        low, high = max(region[0], self._ends[0]), min(region[1], self._ends[1])
        if done:  # only further down, while the lowest does best
            best = _best(done)
            if best > min(done) or best - MEDIUM < self._ends[0] - NEAR:
                return [], ""
            low = max(self._ends[0], min(low, best - MEDIUM))
        known = sorted(x for x in first if low <= x <= high)
        if not seen.moved(FIRST):  # the highest are the first to move, if any does
            return [] if done else [Want(x=x, share=SECOND, seed=seed, why="it may yet improve") for x in known[-2:]], (
                f"after {share_text(FIRST)} of the horizon the objective has not improved at any rate"
            )
        top = min((x for x in seen.lost if x > _best(first)), default=math.inf)
        between = [
            float(x)
            for a, b in zip([low, *known], [*known, min(high, top)], strict=True)
            if b - a > 1.5 * MEDIUM
            for x in np.linspace(a, b, math.ceil((b - a) / MEDIUM - 0.25) + 1)[1:-1]
        ]
        fresh = sorted(x for x in (*known, *between) if not _has([*done, *seen.lost], x) and x < top)
        if done:
            fresh = [x for x in fresh if x < min(done)][-1:]
        middle = _best({x: first[x] for x in known} or {low: 0.0}) - 0.5 * seen.drift(FIRST)
        fresh.sort(key=lambda x: abs(x - middle))  # the likeliest first, where not all can be paid
        return [Want(x=x, share=SECOND, seed=seed, why="it may be the best") for x in fresh], _may_lie(FIRST, low, high)

    def _third(self, seen: Seen) -> tuple[list[Want], str]:
        """The first rates to the horizon."""
        share = SECOND if seen.at(SECOND) else FIRST
        of, region, seed = seen.at(share), seen.region(share), seen.study.seeds[0]
        if region is None:
            return [], ""
        if not seen.moved(share):
            return [] if seen.full else [Want(x=max(of), share=1.0, seed=seed, why="it may yet improve")], (
                f"after {share_text(share)} of the horizon the objective has not improved at any rate"
            )
        if any(region[0] <= x <= region[1] for x in seen.full if x not in seen.still):
            return [], ""
        best, tied = _best(of), seen.tied(share)
        inside = sorted((x for x in of if region[0] <= x <= best), reverse=True)[:2]
        if max(tied) > best and share == SECOND:
            inside.append(min(x for x in tied if x > best))
        if share == FIRST:  # it moves by about half of what it may
            inside.sort(key=lambda x: abs(x - best + 0.5 * seen.drift(FIRST)))
        return [Want(x=x, share=1.0, seed=seed, why="it may be the best") for x in inside], _may_lie(share, *region)

    def _refine(self, seen: Seen, made: Answer, pick: int, left: float) -> Decision:
        """Carry further rates to the horizon, or more seeds, until the pick is settled."""
        sure = float((made.loss(seen.scale)[:, pick] <= seen.margin(made, pick)).mean())
        steps = [self._open, self._halve]
        if sure < SETTLED:
            steps += [self._by_regret, self._seeds]
        elif not made.noise.measured and len(seen.study.seeds) > 1:  # it is sure of a guess at the noise
            steps += [self._seeds]
        for step in steps:
            wanted, why = step(seen, made, pick)
            requests, short = self._affordable(wanted, seen, left)
            if requests:
                return Decision(requests=requests, why=_carried(why, len(requests), short))
            if short:
                return Decision(why=SPENT)
        if sure < SETTLED:
            return Decision(why="all seeds that may be used have been used")
        best = "the best rate" if made.place is not None else "the best rate tried"
        return Decision(
            why=f"{rate_text(made.lrs[pick])} is within the margin of {best} with a chance of {share_text(sure)}"
        )

    def _nothing(self, seen: Seen, short: int) -> str:
        """Say why there is no pick; ``short`` is how many trials the budget lacks."""
        shares = [share for share in (FIRST, SECOND, 1.0) if seen.at(share)]
        if not seen.results:
            return "the budget buys no run"
        if not shares and seen.lost:
            return "every rate tried was lost: it diverged, failed, or its objective was not finite"
        if not any(map(seen.moved, shares)):
            return "the objective has not improved at any rate"
        return SPENT if short else "no rate tried ends better than it started"

    def _open(self, seen: Seen, made: Answer, pick: int) -> tuple[list[Want], str]:
        """Go on beyond the best rate where nothing on that side is known to be worse."""
        del made, pick  # the mean decides: the curve is not to be trusted beyond its ends
        full, seed = seen.full, seen.study.seeds[0]
        best = _best(full)
        wanted = []
        if min(full) > best - NEAR and best > self._ends[0] + NEAR:
            wanted.append(max(self._ends[0], self._near(seen, best - MEDIUM)))
        known_worse = [x for x in self._tried(seen) if x > best and seen.is_worse(x, best)]
        if max(full) < best + NEAR and not known_worse and best < self._ends[1] - NEAR:
            wanted.append(min(self._ends[1], self._near(seen, best + MEDIUM)))
        return [Want(x=x, share=1.0, seed=seed, why="the best so far is at the end") for x in wanted], (
            f"the best rate so far, {_text(best)}, is at the end of those trained to the horizon"
        )

    def _near(self, seen: Seen, x: float) -> float:
        """Return a rate that was begun near ``x``, so that it can be carried on, else ``x``."""
        begun = [y for y in {*seen.at(SECOND), *seen.at(FIRST)} if abs(y - x) <= 0.3 * MEDIUM and y not in seen.full]
        return min(begun, key=lambda y: (abs(y - x), y), default=x)

    def _tried(self, seen: Seen) -> set[float]:
        return {*seen.full, *seen.at(SECOND), *seen.at(FIRST), *seen.lost}

    def _halve(self, seen: Seen, made: Answer, pick: int) -> tuple[list[Want], str]:
        """Try the middles of the gaps beside the best rate, as long as they are wide."""
        full, best = seen.full, seen.nearest(made.lrs[pick])
        below = max((x for x in full if x < best - NEAR), default=None)
        above = min(
            (x for x in self._tried(seen) if x > best + NEAR and (x in full or seen.is_worse(x, best))), default=None
        )
        gaps = [(abs(end - best), (best + end) / 2) for end in (below, above) if end is not None]
        wanted = [x for gap, x in sorted(gaps, reverse=True) if gap > GAP and self.low <= 10**x <= self.high]
        seed = seen.study.seeds[0]
        return [Want(x=x, share=1.0, seed=seed, why="between the best and its neighbour") for x in wanted], (
            f"closer to {_text(best)}, the best rate so far"
        )

    def _by_regret(self, seen: Seen, made: Answer, pick: int) -> tuple[list[Want], str]:
        """Weigh what rates not tried may gain against what the tried ones may; the gaps with most to gain get a rate each."""
        tried = np.array(sorted({*seen.full, *seen.lost}))
        gaps = made.promising(made.loss(seen.scale)[:, pick], tried, NEAR, self._ends)
        wanted = [x for due, x in gaps[:BATCH] if due > WORTH * gaps[0][0]]
        seed = seen.study.seeds[0]
        return [Want(x=x, share=1.0, seed=seed, why="the best rate may lie here") for x in wanted], (
            f"the best rate may lie near {' and '.join(map(_text, wanted))}"
        )

    def _seeds(self, seen: Seen, made: Answer, pick: int) -> tuple[list[Want], str]:
        """Give the pick and its closest rival the next seed that either lacks."""
        regret = made.regret()
        rivals = sorted((i for i in made.candidates if i != pick), key=lambda i: float(regret[i]))
        of = seen.reached(1.0)
        xs = [seen.nearest(made.lrs[i]) for i in (pick, *rivals[:1])]
        seed = next((s for s in seen.study.seeds if any(s not in of[x] for x in xs)), None)
        if seed is None:
            return [], ""
        wanted = [x for x in xs if seed not in of[x]]
        why = "to learn how much noise there is"
        if made.noise.measured and rivals:
            why = "which noise does not tell apart"
            why += "" if wanted == xs else f" from {' and '.join(_text(x) for x in xs if x not in wanted)}"
        return [Want(x=x, share=1.0, seed=seed, why="another seed") for x in wanted], (
            f"another seed at {' and '.join(map(_text, wanted))}, {why}"
        )


def _best(of: Mapping[float, float]) -> float:
    """Return the rate of the lowest y, the lower of two."""
    return min(of, key=lambda x: (of[x], x))


def _carried(why: str, carried: int, beyond: int) -> str:
    """Say why, and where the budget does not carry all that this is said of, how much of it."""
    return f"{why} (the budget carries {carried} of {carried + beyond} trials)" if beyond else why


def _has(known: Iterable[float], x: float) -> bool:
    return any(abs(one - x) < NEAR for one in known)


def _may_lie(share: float, low: float, high: float) -> str:
    return f"after {share_text(share)} of the horizon the best rate may lie from {_text(low)} to {_text(high)}"


def _text(x: float) -> str:
    return rate_text(10**x)

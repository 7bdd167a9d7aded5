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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etude.analysis.answer import Answer
from etude.notation import rate_text, rounded
from etude.search import Decision, Request, Standing
from etude.search.seen import FIRST, SAME, SECOND, Seen
from etude.spec.study import Study
from etude.spec.trial import Trial

COARSE, MEDIUM = 1.0, 0.5  # decades between the rates of the first rung and of the second, at most
GAP = 0.3  # decades: a gap beside the best rate that is wider gets a rate, however smooth the curve looks
NEAR = 0.12  # decades: so near to a tried rate another one is not worth a run
SETTLED = 0.95  # chance that the pick is within δ of the best at which the search ends
BATCH = 2  # refining runs at a time


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

    ``steps_per_epoch`` relates a schedule to epochs.
    """

    low: float
    high: float
    bracket: tuple[float, float] | None = None
    steps_per_epoch: int = 100

    def ask(self, study: Study, results: Mapping[Trial, Standing], budget: float | None) -> Decision:
        """See `etude.search.Searcher`."""
        seen = Seen(study, results, self.steps_per_epoch)
        left = math.inf if budget is None else budget / study.epochs * (1 + 1e-9)
        for step, spare in ((self._first, 1.0), (self._second, 2.0), (self._third, 0.0)):
            wanted, why = step(seen)
            asked = _affordable(wanted, seen, left - spare)
            if asked:
                return _decision(asked, why, study)
        return self._refine(seen, left)

    @property
    def _ends(self) -> tuple[float, float]:
        return math.log10(self.low), math.log10(self.high)

    def _first(self, seen: Seen) -> tuple[list[Want], str]:
        """Coarse rates, briefly; further ones where the best lies at the end of the bracket."""
        ends = self._ends
        low, high = ends
        if self.bracket is not None:  # to whole decades, which read well
            low = max(low, math.floor(math.log10(self.bracket[0])))
            high = min(high, math.ceil(math.log10(self.bracket[1])))
        count = max(3, math.ceil((high - low) / COARSE - 1e-9) + 1)
        coarse = [float(x) for x in np.linspace(low, high, count)]
        done = seen.at(FIRST)
        if done and (region := seen.region(FIRST)) is not None:
            best = min(done, key=lambda x: done[x])
            if best == min(done) and best > ends[0] + NEAR:
                coarse.append(max(ends[0], best - COARSE))
            if region[1] > max(done) and max([*done, *seen.lost]) < ends[1] - NEAR:
                coarse.append(min(ends[1], max(done) + COARSE))
        elif seen.lost and min(seen.lost) > ends[0] + NEAR:
            coarse.append(max(ends[0], min(seen.lost) - COARSE))
        fresh = [x for x in coarse if not _has([*done, *seen.lost], x)]
        seed = seen.study.seeds[0]
        return [Want(x=x, share=FIRST, seed=seed, why="a first look") for x in fresh], "a first look at the whole range"

    def _second(self, seen: Seen) -> tuple[list[Want], str]:
        """The rates among which the best may be, and others between them, a little longer."""
        region, done, seed = seen.region(FIRST), seen.at(SECOND), seen.study.seeds[0]
        if region is None:
            return [], ""
        low, high = max(region[0], self._ends[0]), min(region[1], self._ends[1])
        if done:  # only further down, while the lowest does best
            best = min(done, key=lambda x: done[x])
            if best > min(done) or best - MEDIUM < self._ends[0] - NEAR:
                return [], ""
            low = max(self._ends[0], min(low, best - MEDIUM))
        top = min([x for x in seen.lost if x > low], default=math.inf)
        known = sorted(x for x in seen.at(FIRST) if low <= x <= high)
        if not seen.moved(FIRST):  # the highest are the first to move, if any does
            return [] if done else [Want(x=x, share=SECOND, seed=seed, why="it may yet move") for x in known[-2:]], (
                f"after {FIRST:.0%} of the horizon the objective has not moved at any rate"
            )
        between = [
            float(x)
            for a, b in zip([low, *known], [*known, min(high, top)], strict=True)
            if b - a > 1.5 * MEDIUM
            for x in np.linspace(a, b, math.ceil((b - a) / MEDIUM - 0.25) + 1)[1:-1]
        ]
        fresh = sorted(x for x in (*known, *between) if not _has([*done, *seen.lost], x) and x < top)
        if done:
            fresh = [x for x in fresh if x < min(done)][-1:]
        first = seen.at(FIRST)
        middle = min(known, key=lambda x: first[x], default=low) - 0.5 * seen.drift(FIRST)
        fresh.sort(key=lambda x: abs(x - middle))  # the likeliest first, where not all can be paid
        why = f"after {FIRST:.0%} of the horizon the best rate may lie from {_text(low)} to {_text(high)}"
        return [Want(x=x, share=SECOND, seed=seed, why="it may be the best") for x in fresh], why

    def _third(self, seen: Seen) -> tuple[list[Want], str]:
        """The first rates to the horizon."""
        share = SECOND if seen.at(SECOND) else FIRST
        of, region = seen.at(share), seen.region(share)
        if seen.full or region is None:
            return [], ""
        if not seen.moved(share):
            x = max(of)
            return [Want(x=x, share=1.0, seed=seen.study.seeds[0], why="it may yet move")], (
                f"after {share:.0%} of the horizon the objective has not moved at any rate"
            )
        best, tied = min(of, key=lambda x: of[x]), seen.tied(share)
        inside = sorted((x for x in of if region[0] <= x <= best), reverse=True)[:2]
        if max(tied) > best and share == SECOND:
            inside.append(min(x for x in tied if x > best))
        if share == FIRST:  # it moves by about half of what it may
            inside.sort(key=lambda x: abs(x - best + 0.5 * seen.drift(FIRST)))
        seed = seen.study.seeds[0]
        return [Want(x=x, share=1.0, seed=seed, why="it may be the best") for x in inside], (
            f"after {share:.0%} of the horizon the best rate may lie from {_text(region[0])} to {_text(region[1])}"
        )

    def _refine(self, seen: Seen, left: float) -> Decision:
        made = seen.answer()
        pick = None if made is None else made.pick()
        if made is None or pick is None:
            return Decision(why=self._nothing(seen))
        wanted, why = self._open(seen)
        if not wanted:
            wanted, why = self._halve(seen, seen.nearest(made.lrs[pick]))
        if not wanted and made.place is not None:
            wanted, why = self._by_regret(seen, made, pick)
        if not wanted and why == "":
            wanted, why = self._seeds(seen, made, pick)
        asked = _affordable(wanted, seen, left)
        if asked:
            return _decision(asked, why, seen.study)
        return Decision(why="the budget is spent" if wanted else why)

    def _nothing(self, seen: Seen) -> str:
        if not seen.at(FIRST):
            return "every rate tried was lost" if seen.lost else "the budget buys no run"
        if not seen.moved(max(share for share in (FIRST, SECOND, 1.0) if seen.at(share))):
            return "the objective has not moved at any rate"
        return "the budget is spent"

    def _open(self, seen: Seen) -> tuple[list[Want], str]:
        """Go on beyond the best rate where nothing on that side is known to be worse."""
        full, seed = seen.full, seen.study.seeds[0]
        best = min(full, key=lambda x: full[x])
        wanted = []
        below, above = [x for x in full if x < best], [x for x in full if x > best]
        if not below and best > self._ends[0] + NEAR:
            wanted.append(max(self._ends[0], self._near(seen, best - MEDIUM)))
        known_worse = [x for x in self._tried(seen) if x > best and seen.is_worse(x, best)]
        if not above and not known_worse and best < self._ends[1] - NEAR:
            wanted.append(min(self._ends[1], self._near(seen, best + MEDIUM)))
        return [Want(x=x, share=1.0, seed=seed, why="the best so far is at the end") for x in wanted], (
            f"the best rate so far, {_text(best)}, is at the end of those tried"
        )

    def _near(self, seen: Seen, x: float) -> float:
        """Return a rate that was begun near ``x``, so that it can be carried on, else ``x``."""
        begun = [y for y in {*seen.at(SECOND), *seen.at(FIRST)} if abs(y - x) <= 0.3 * MEDIUM and y not in seen.full]
        return min(begun, key=lambda y: abs(y - x), default=x)

    def _tried(self, seen: Seen) -> set[float]:
        return {*seen.full, *seen.at(SECOND), *seen.at(FIRST), *seen.lost}

    def _halve(self, seen: Seen, best: float) -> tuple[list[Want], str]:
        """Try the middles of the gaps beside the best rate, as long as they are wide."""
        full, seed = seen.full, seen.study.seeds[0]
        below = max((x for x in full if x < best), default=None)
        above = min((x for x in self._tried(seen) if x > best and (x in full or seen.is_worse(x, best))), default=None)
        gaps = [(abs(end - best), (best + end) / 2) for end in (below, above) if end is not None]
        wanted = [x for gap, x in sorted(gaps, reverse=True) if gap > GAP][:BATCH]
        return [Want(x=x, share=1.0, seed=seed, why="between the best and its neighbour") for x in wanted], (
            f"the rates beside {_text(best)}, the best so far" if wanted else ""
        )

    def _by_regret(self, seen: Seen, made: Answer, pick: int) -> tuple[list[Want], str]:
        """Weigh what rates not tried may gain against what the tried ones may; the gaps with most to gain get a rate each."""
        assert made.place is not None
        scale, seed = seen.scale, seen.study.seeds[0]
        lost = scale.sign * (scale.metric(made.best) - scale.metric(made.values[:, pick]))
        delta = seen.margin(made, pick)
        sure = float((lost < delta).mean())
        if sure >= SETTLED and (made.noise.measured or len(seen.study.seeds) == 1):
            return [], f"{rate_text(made.lrs[pick])} is within the margin of the best with {sure:.0%}"
        tried = np.array(sorted({*seen.full, *seen.lost}))
        untried = np.abs(made.place[:, None] - tried).min(1) > NEAR
        if sure >= SETTLED or not untried.any() or lost[untried].sum() < lost[~untried].sum():
            return [], ""
        cell = np.searchsorted(tried, made.place)
        gain = np.bincount(cell[untried], weights=lost[untried], minlength=len(tried) + 1)
        wanted = []
        for best in np.argsort(-gain)[:BATCH]:
            if gain[best] > 0.25 * gain.max():
                wanted.append(float(np.median(made.place[untried & (cell == best)])))
        return [Want(x=x, share=1.0, seed=seed, why="the best rate may lie here") for x in wanted], (
            f"the best rate may lie near {' and '.join(map(_text, wanted))}"
        )

    def _seeds(self, seen: Seen, made: Answer, pick: int) -> tuple[list[Want], str]:
        """Give the pick and its closest rival the next seed that either lacks."""
        regret = made.regret()
        rivals = sorted((i for i in made.candidates if i != pick), key=lambda i: float(regret[i]))
        of, pair = seen.reached(1.0), [pick, *rivals[:1]]
        xs = [seen.nearest(made.lrs[i]) for i in pair]
        seed = next((s for s in seen.study.seeds if any(s not in of[x] for x in xs)), None)
        if seed is None:
            return [], "every seed that may be used was"
        named = " and ".join(map(_text, xs))
        return [Want(x=x, share=1.0, seed=seed, why="another seed") for x in xs if seed not in of[x]], (
            f"another seed at {named}, which noise does not tell apart"
        )


def _affordable(wanted: Sequence[Want], seen: Seen, left: float) -> list[Want]:
    """Return the first of the wanted that fit into what is left."""
    asked, spent = [], 0.0
    for want in wanted:
        trial = seen.study.trial(_rate(want.x), want.seed, want.share * seen.study.epochs)
        begun = seen.results[trial].epochs / seen.study.epochs if trial in seen.results else 0.0
        if begun >= want.share / SAME:
            continue
        spent += want.share - begun
        if spent > left:
            break
        asked.append(want)
    return asked


def _decision(asked: Iterable[Want], why: str, study: Study) -> Decision:
    return Decision(
        requests=tuple(
            Request(
                trial=study.trial(_rate(want.x), want.seed, want.share * study.epochs), epochs=want.share * study.epochs,
                why=want.why,
            )
            for want in asked
        ),
        why=why,
    )  # fmt: skip


def _rate(x: float) -> float:
    return rounded(10**x)


def _has(known: Iterable[float], x: float) -> bool:
    return any(abs(one - x) < NEAR for one in known)


def _text(x: float) -> str:
    return rate_text(10**x)

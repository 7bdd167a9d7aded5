"""The joint of a search: asks the searcher, stores what it decides, has it carried out, and keeps the budget.

A decision is carried out whole before the next is asked for, so that a search whose budget is counted in steps decides alike
however often it is interrupted. What it needs to know is stored; so going on is nothing else than beginning again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etude import ranging, store
from etude.analysis.ranging import RangeTest
from etude.carrying import Live, carry_all, interruptible
from etude.engine import rehearsal
from etude.errors import Interrupted, SpecError, TrainingError
from etude.events import Decided, Estimated, Event, Started
from etude.execution import Executor, plan
from etude.notation import duration, format_rate, rate_text
from etude.preparation import Prepared, by_trial, check_weights, prepare, standings
from etude.result import ANALYSIS_VERSION, Result
from etude.runner import conclude, started, stopped, told_if_slow, told_what_is_kept
from etude.search import Decision, Request, Searcher, named
from etude.search.usual import usual_range
from etude.searched import IGNORED, Search, Searched, trial_of
from etude.spec.budget import DEFAULT, FEWEST_TRIALS, Budget
from etude.spec.rates import parse_range, parse_seeds
from etude.spec.study import Study
from etude.spec.trial import Trial
from etude.store import Stored, Writer
from etude.watching import Pace, Watch

MOST_SEEDS = 10  # that a search may use, where nobody says which
# A budget of time lasts as long as so many trials one after another, however many workers there are: a first look, and one trial
# to the horizon.
FEWEST_IN_A_ROW = 1.25
# Of a limit of time so much, and so many seconds, are for judging at the end; slices that are then still out have so long.
JUDGING_SHARE, JUDGING_S, GRACE_SHARE = 0.01, 3.0, 0.05
STARTING_S = 5.0  # of workers, beyond what preparing took: what a limit of time that is told to be enough has room for
OUT_OF_TIME = "the time is spent"


@dataclass
class _Finding:
    """A search under way."""

    writer: Writer
    executor: Executor
    prepared: Prepared
    study: Study  # with the seeds that may be used; its rates are not looked at
    search: Search
    searcher: Searcher
    pace: Pace
    watch: Watch
    on_event: Callable[[Event], None]

    @property
    def searched(self) -> Searched:
        """What is stored by now."""
        found = Searched.of(store.read(self.prepared.directory))
        assert found is not None  # it was stored before the search began
        return found

    def left_epochs(self, searched: Searched) -> float:
        """Return the epochs of training that the budget still buys, all workers together."""
        if self.search.budget.trials is None:
            return max(0.0, self.watch.left_s) * self.executor.slots / self.pace.epoch_s
        return max(0.0, self.search.budget.trials * searched.full_steps - searched.steps) / searched.steps_per_epoch


def find(
    study: Study, directory: str | Path | None = None, *, budget: Budget | None = None, lrs: object = None,
    seeds: object = None, searcher: str | None = None, executor: str = "auto", workers: int | None = None,
    device: str = "auto", on_event: Callable[[Event], None] = lambda _: None, dry_run: bool = False,
    began_s: float | None = None,
) -> Result | None:  # fmt: skip
    """Search for the rate in the run directory (``runs/NAME``), or go on with that, and return the result.

    What is not said is as the search in the directory has it, else usual: a quarter of a full grid, the range of rates that
    the optimizer is known for, the study's seeds and further ones up to ten. ``dry_run`` tells the estimate (`Estimated`) and
    returns None. Time is limited from ``began_s`` on (``time.monotonic()``), now if it is not said.

    Raises what `runner.run` raises, and `SpecError` for a budget that buys less than two trials.
    """
    began_s = time.monotonic() if began_s is None else began_s
    began = time.time() - (time.monotonic() - began_s)
    directory = study.place(directory)
    plan.check(executor, workers)
    stored = store.read_if_any(directory)
    search = _settled(study, None if stored is None else Searched.of(stored), budget, lrs, seeds, searcher)
    named.make(search.searcher, search.low, search.high)  # refuses a name that there is not
    study = study.replace(lrs=(search.low, search.high), seeds=search.seeds, expect={})
    trials = search.budget.trials
    with contextlib.ExitStack() as open_:
        open_.enter_context(told_what_is_kept(directory))
        if executor != "inline" and plan.cores() > 1 and not dry_run:
            plan.warm(device)
        writer = Writer(directory) if dry_run else open_.enter_context(Writer(directory))
        worth = float("inf") if trials is None else trials * search.epochs
        with told_if_slow(on_event):
            prepared = prepare(study, directory, executor, workers, device, "study", worth)
        pace = _pace(prepared)
        on_event(_estimate(prepared, search, pace, time.monotonic() - began_s))
        if dry_run:
            return None
        carrying = open_.enter_context(started(prepared, executor))
        table = _written(prepared, search, ())
        writer.begin(table, prepared.identity, prepared.environment(), prepared.seeds, search_began=began)
        watch = Watch(carrying, pace, *_limits(search.budget, began_s, prepared.stored))
        search = _bracketed(writer, prepared, search, watch)
        finding = _Finding(
            writer=writer, executor=carrying, prepared=prepared, study=study, search=search, pace=pace,
            searcher=named.make(
                search.searcher, search.low, search.high, search.bracket, prepared.setup.steps_per_epoch,
                carrying.slots if trials is None else 1,
            ),
            watch=watch, on_event=on_event,
        )  # fmt: skip
        resumed = prepared.stored is not None
        on_event(
            Started(
                directory=directory,
                study=study,
                plan=prepared.plan,
                trials=store.read(directory).trials,
                wanted=frozenset(),
                resumed=resumed,
                notices=tuple(prepared.notices),
            )
        )
        try:
            with interruptible(carrying) as interrupted:
                while not interrupted.is_set() and _decide_and_carry(finding, interrupted):
                    pass
            stopped_early = interrupted.is_set()
        except KeyboardInterrupt:  # a second one, which does not wait
            stopped_early = True
        if stopped_early:
            writer.save_analysis(ANALYSIS_VERSION, Result.load(directory).analysis)
            raise Interrupted(stopped(prepared, executor, workers, device, "find"))
        conclude(writer, prepared)
    return Result.load(directory, made_by=study)


def _bracketed(writer: Writer, prepared: Prepared, search: Search, watch: Watch) -> Search:
    """Have a range test say where to look first: a stored one, or in a range that nobody gave one that is made now.

    It is made where trials are trained: a rate at which the task's code hangs can only be left with a process that can be
    ended, and so every executor finds the same bracket. Where it is not worth its cost, fails, or tells nothing, the search is
    as it was.
    """
    stored, usual = prepared.stored, search.range_source == "usual"
    if search.bracket is not None or search.searcher != "adaptive" or (stored is not None and stored.decisions):
        return search
    test = None if stored is None or stored.range_test is None else RangeTest.from_dict(stored.range_test)
    if test is not None and test.from_lr is not None:  # in the midst of training it says nothing of its beginning
        test = None
    if test is None and not usual:
        return search
    if test is None:
        whole = prepared.setup.steps(search.epochs)
        worth = None if search.budget.trials is None else search.budget.trials * whole
        try:
            made = ranging.bracket(
                prepared.setup, prepared.study, search.low, search.high, search.seeds, worth,
                lambda train, count: watch.executor.aside(train, watch.patience_s(count * watch.pace.step_s)),
            )  # fmt: skip
        except TrainingError as error:
            prepared.notices.append(f"No range test says where to look first: {error}.")
            return search
        if isinstance(made, str):
            return search
        test = made
        writer.save_range_test(test.to_dict())
    low, high = test.bracket.low or search.low, test.bracket.high or search.high
    low, high = max(search.low, low), min(search.high, high)
    if not low < high:
        return search
    steps = f"{test.steps:,} step{'s' * (test.steps != 1)} ({test.share:.2g} of a trial)"
    prepared.notices.append(
        f"A range test of {steps}: rates from {rate_text(low)} to {rate_text(high)} are looked at first, to whole decades."
    )
    if not usual:  # the test was made by somebody for something else
        return dataclasses.replace(search, bracket=(low, high))
    return dataclasses.replace(search, range_source="range test", bracket=(low, high), bracket_steps=test.steps)


def _settled(
    study: Study, before: Searched | None, budget: Budget | None, lrs: object, seeds: object, searcher: str | None
) -> Search:
    """Put together what was asked for, what the directory's search has, and what is usual."""
    old = None if before is None else before.search
    bracket, bracket_steps = (None, 0) if old is None else (old.bracket, old.bracket_steps)
    given = None if lrs is None else parse_range(lrs)
    if old is not None and given in (None, (old.low, old.high)):
        low, high, source = old.low, old.high, old.range_source
    elif given is not None:
        (low, high), source, bracket = given, "given", None
    else:
        (low, high), source = usual_range(study.recipe), "usual"
    if seeds is not None:
        allowed = parse_seeds(seeds)
    elif old is not None:
        allowed = old.seeds
    else:
        more = range(study.seeds[-1] + 1, study.seeds[-1] + 1 + max(0, MOST_SEEDS - len(study.seeds)))
        allowed = (*study.seeds, *more)
    return Search(
        searcher=searcher or (old.searcher if old is not None else "adaptive"), low=low, high=high, range_source=source,
        budget=budget or (old.budget if old is not None else DEFAULT), epochs=study.epochs, seeds=allowed,
        bracket=bracket, bracket_steps=bracket_steps,
    )  # fmt: skip


def _pace(prepared: Prepared) -> Pace:
    """Return how fast training goes, by what earlier sessions took, else by the rehearsal."""
    seen, trials = prepared.rehearsal, () if prepared.stored is None else prepared.stored.trials
    assert seen is not None  # a search is always rehearsed
    return Pace(
        prepared.setup, seen.step_s, seen.evaluation_s, wall_s=sum(t.wall_s for t in trials), steps=sum(t.step for t in trials)
    )  # fmt: skip


def _estimate(prepared: Prepared, search: Search, pace: Pace, prepared_s: float) -> Estimated:
    """Say what the budget buys, preparing taken off. Raises `SpecError` where that is too little for an answer."""
    budget, workers = search.budget, min(prepared.plan.workers, plan.cores())
    trial_s = pace.epoch_s * search.epochs / workers  # of one of many
    trials = budget.trials if budget.trials is not None else max(0.0, budget.amount - prepared_s) / trial_s
    fewest: float = FEWEST_TRIALS
    if budget.trials is None and workers > 1:
        fewest = max(fewest, FEWEST_IN_A_ROW * workers)
    if trials < fewest:
        needed = budget.of_trials(fewest, trial_s + (1.5 * prepared_s + STARTING_S) / fewest)
        whole_s = pace.epoch_s * search.epochs
        takes = f"{whole_s:.2g} s" if whole_s < 10 else duration(whole_s)
        ready = f"getting ready took {duration(prepared_s)}, and " if budget.trials is None else ""
        raise SpecError(
            f"budget: expected what buys {fewest:g} trials at least, got {budget}, which buys {trials:.2g}: {ready}a trial of "
            f"{search.epochs:g} epochs takes about {takes}; give {needed} or more, or fewer --epochs"
        )
    before = None if prepared.stored is None else Searched.of(prepared.stored)
    seen = prepared.rehearsal
    assert seen is not None
    return Estimated(
        directory=prepared.directory, search=search, plan=prepared.plan, step_s=pace.step_s, epoch_s=pace.epoch_s,
        trials=trials, seconds=trials * trial_s, spent_trials=0.0 if before is None else before.steps / (search.epochs *
        before.steps_per_epoch), spent_s=0.0 if before is None else before.stored.searched_s, disk_bytes=seen.checkpoint_bytes,
    )  # fmt: skip


def _limits(budget: Budget, began_s: float, stored: Stored | None) -> tuple[float, float]:
    """Return when training ends, and when what is then still out is given up (``time.monotonic()``)."""
    if budget.kind != "wall":
        return float("inf"), float("inf")
    end = began_s + budget.amount - (0.0 if stored is None else stored.searched_s)
    judging_s = min(0.1 * budget.amount, JUDGING_S + JUDGING_SHARE * budget.amount)
    return end - judging_s, end + GRACE_SHARE * budget.amount


def _written(prepared: Prepared, search: Search, more: Iterable[Trial]) -> dict[str, Any]:
    """Return the study for the store: its rates and seeds are those that were tried, and ``more``."""
    tried = {*by_trial(prepared.stored), *more}
    lrs = sorted({trial.lr for trial in tried})
    table = {**prepared.written(), "search": search.to_dict(), "epochs": search.epochs, "lrs": lrs}
    table["seeds"] = sorted({trial.seed for trial in tried}) or [search.seeds[0]]
    table["expect"] = {lr: what for lr, what in table["expect"].items() if float(lr) in lrs}
    return table


def _decide_and_carry(finding: _Finding, interrupted: Any) -> bool:
    """Carry out what was decided and is not done, or else decide and carry that out; return whether to go on."""
    directory, steps = finding.prepared.directory, finding.prepared.setup.steps
    searched = finding.searched
    requests: Sequence[dict[str, Any]] = searched.open_requests
    if not requests:
        decision = _decide(finding, searched)
        known = by_trial(searched.stored)
        requests = [
            {
                "lr": one.trial.lr, "seed": one.trial.seed, "horizon": one.trial.horizon, "epochs": one.epochs,
                "why": one.why, "from_step": known[one.trial].step if one.trial in known else 0,
                "until_step": steps(one.epochs),
            }
            for one in decision.requests
        ]  # fmt: skip
        if requests or decision.why != searched.ended:
            _store(finding, searched, decision, requests)
        searched = finding.searched
    wanted = [(by_trial(searched.stored)[trial_of(one)], one["until_step"]) for one in requests]
    finding.on_event(
        Decided(
            number=len(searched.stored.decisions),
            why=searched.stored.decisions[-1].why,
            trials=searched.stored.trials,
            wanted=frozenset(trial.trial for trial, _ in wanted),
            left_trials=finding.left_epochs(searched) / finding.search.epochs,
        )
    )
    if not wanted:
        return False
    all_back = carry_all(
        finding.writer, finding.executor, [Live.of(*one) for one in wanted], interrupted, finding.on_event, finding.watch,
        sound=any(trial.step for trial in searched.stored.trials),
    )  # fmt: skip
    why = OUT_OF_TIME
    if not all_back:
        why += f"; no step had come back {waited_for}" if (waited_for := finding.watch.waited_for) else ""
        finding.executor.close(kill=True)
    if interrupted.is_set():
        return False
    if finding.watch.left_s <= 0 or finding.searched.open_requests:
        finding.writer.decide(why, [])
        return False
    if alike := _alike(directory, searched.stored):
        finding.writer.decide(alike, [])
        return False
    return True


def _decide(finding: _Finding, searched: Searched) -> Decision:
    """Ask the searcher, and leave out what is done already, what failed, and what the budget does not carry."""
    stored, left = searched.stored, finding.left_epochs(searched)
    known = by_trial(stored)
    steps, steps_per_epoch = finding.prepared.setup.steps, searched.steps_per_epoch
    decision = finding.searcher.ask(finding.study, standings(finding.study, stored, steps_per_epoch), left)
    fitting: list[Request] = []
    left_out = 0
    for request in decision.requests:
        one = known.get(request.trial)
        step, until_step = one.step if one is not None else 0, steps(request.epochs)
        if one is not None and (one.status in ("diverged", "failed") or step >= until_step):
            continue
        cost = (until_step - step) / steps_per_epoch
        timed = finding.search.budget.kind == "wall"
        if finding.watch.may_begin(step, until_step) if timed else cost <= left + 0.5 / steps_per_epoch:
            left -= 0.0 if timed else cost
            fitting.append(request)
        else:
            left_out += 1
    check_weights(fitting, known, finding.study.keep)
    if not fitting and not known and finding.watch.left_s <= 0:
        return Decision(why=f"{OUT_OF_TIME}, all of it on getting ready")
    if fitting or not decision.requests:
        carried = (
            f" (the budget carries {len(fitting)} of {len(fitting) + left_out} trials)" if fitting and left_out else ""
        )
        return dataclasses.replace(decision, requests=tuple(fitting), why=decision.why + carried)
    return Decision(
        why=f"the budget is spent ({finding.search.budget})" if left_out else "what is left to ask for has failed"
    )


def _store(finding: _Finding, searched: Searched, decision: Decision, requests: Sequence[dict[str, Any]]) -> None:
    """Store a decision, with what follows from it: the trials, and their rates and seeds in the study."""
    prepared, steps = finding.prepared, finding.prepared.setup.steps
    trials = [*by_trial(searched.stored), *(one.trial for one in decision.requests)]
    new_seeds = {trial.seed: trial for trial in trials if trial.seed not in searched.stored.seeds}
    wanted = []
    for one in decision.requests:
        if (
            one.trial.horizon is None and one.epochs < finding.search.epochs
        ):  # it is paused, and may go on to the horizon
            wanted.append((one.trial, finding.search.epochs))
        wanted.append((one.trial, one.epochs))
    finding.writer.decide(
        decision.why,
        requests,
        [(trial.lr, trial.seed, trial.horizon, epochs, steps(epochs)) for trial, epochs in wanted],
        study=_written(prepared, finding.search, trials),
        seeds={seed: rehearsal.fingerprint(prepared.setup, trial) for seed, trial in new_seeds.items()},
    )


def _alike(directory: Path, stored: Stored) -> str:
    """Say which two rates trained alike, bit for bit, although the weights moved: then the optimizer ignores its rate."""
    steps = store.read_steps(directory)
    seen: dict[tuple[int, float | None], tuple[float, dict[str, bytes]]] = {}
    for trial in stored.trials:
        of = steps.get(trial.id)
        if of is None:
            continue
        lr, other = seen.setdefault((trial.seed, trial.horizon), (trial.lr, of))
        shortest = min(len(of["loss"]), len(other["loss"]))
        if lr == trial.lr or shortest < 8 or not any(of["update_ratio"][:shortest]):
            continue
        if all(of[name][:shortest] == other[name][:shortest] for name in ("loss", "update_ratio")):
            return (
                f"rates {format_rate(lr)} and {format_rate(trial.lr)} trained alike, bit for bit, {IGNORED}; any rate gives "
                "this result"
            )
        return ""
    return ""

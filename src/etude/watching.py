"""What a search keeps an eye on while slices are out: the clock, trials that hang, and memory. It trains and stores nothing.

Seconds are those of ``time.monotonic()``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from etude.engine.session import Setup
from etude.execution import Executor, memory
from etude.execution.carrier import Failure, Outcome, Slice
from etude.notation import duration, rate_text
from etude.spec.trial import Trial

TICK_S = 0.5  # how often it looks
# A trial hangs when a slice of it is late by so many times what its last step and its evaluation take, and by so many seconds:
# of a limit of time by a share, so that something else can still be trained, but by more than a busy machine is slow.
HUNG_TIMES, HUNG_S, HUNG_SHARE, LEAST_HUNG_S = 20.0, 60.0, 0.2, 15.0
ASIDE_SHARE = 0.25  # of the time that is left: so much may be spent on what is done beside the trials
# So much of what processes hold and could still take stays free; and only a trial that holds as much is to blame.
SPARE_SHARE, BLAMED_BYTES = 0.05, 256 * memory.MIB


@dataclass
class Pace:
    """How fast training goes in one process: what a rehearsal saw, until ``steps`` were measured in ``wall_s``."""

    setup: Setup
    rehearsed_step_s: float
    evaluation_s: float
    wall_s: float = 0.0
    steps: int = 0

    @property
    def step_s(self) -> float:
        """Seconds a step, with its share of the evaluations."""
        if self.steps:
            return self.wall_s / self.steps
        return self.rehearsed_step_s + self.evaluation_s / self._evaluated_every

    @property
    def epoch_s(self) -> float:
        """Seconds an epoch."""
        return self.step_s * self.setup.steps_per_epoch

    @property
    def _evaluated_every(self) -> float:
        return max(1.0, self.setup.evaluate_every * self.setup.steps_per_epoch)

    def measure(self, outcomes: Iterable[Outcome]) -> None:
        """Take in what slices took."""
        for outcome in outcomes:
            if outcome.history is not None:
                self.wall_s += outcome.history.wall_s
                self.steps += outcome.history.last_step - outcome.history.first_step

    def first_s(self, work_step: int, until_step: int) -> float:
        """Return the seconds until a trial at ``work_step`` has something that can be stored and is worth it.

        That is its first evaluation, or the next place at which it can be cut.
        """
        steps = 0.0 if work_step else min(until_step, self._evaluated_every)
        if self.setup.resume == "by epoch":
            steps = max(steps, self.setup.steps_per_epoch - work_step % self.setup.steps_per_epoch)
        elif self.setup.resume == "from the start":
            steps = until_step - work_step
        return min(steps, until_step - work_step) * self.step_s

    def last_s(self, work: Slice) -> float:
        """Return the seconds that a slice takes beyond those it was given: an evaluation, and the way to where it is cut."""
        per_epoch, left = self.setup.steps_per_epoch, work.until_step - work.step
        steps = {"exact": 1, "by epoch": per_epoch, "from the start": left}[self.setup.resume]
        if self.setup.resume == "exact" and not self.setup.task.train.seekable:
            steps = per_epoch
        return self.evaluation_s + min(steps, left) * self.step_s


@dataclass
class Watch:
    """Looks after an executor. Training ends at ``deadline``; what is not back at ``lost_at`` is given up.

    ``memory_bytes`` is what all workers together may hold; if not said, what the machine has.
    """

    executor: Executor
    pace: Pace
    deadline: float = math.inf
    lost_at: float = math.inf
    memory_bytes: int | None = None
    _out: dict[Trial, tuple[Slice, float]] = field(default_factory=dict)  # what is under way, and the seconds since
    _looked: float = field(default_factory=time.monotonic)
    _hung_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.executor.stop_at(self.deadline)
        self._hung_s = min(HUNG_S, max(LEAST_HUNG_S, HUNG_SHARE * self.left_s))

    @property
    def left_s(self) -> float:
        """Seconds until training ends."""
        return self.deadline - time.monotonic()

    @property
    def waited_for(self) -> str:
        """Say which trials are out and for how long no step of theirs has come back; nothing where none is."""
        return ", ".join(
            f"from rate {rate_text(trial.lr)}, seed {trial.seed} for {duration(out_s)}"
            for trial, (_, out_s) in self._out.items()
        )

    def may_begin(self, step: int, until_step: int) -> bool:
        """Whether there is time for a slice that comes to something."""
        return self.left_s > self.pace.first_s(step, until_step)

    def patience_s(self, expected_s: float) -> float:
        """Return the seconds after which what is done beside the trials, and should take ``expected_s``, is given up."""
        return min(max(self._hung_s, HUNG_TIMES * expected_s), max(0.0, ASIDE_SHARE * self.left_s))

    def given(self, work: Slice) -> None:
        """Note that a slice is out."""
        self._out[work.trial] = (work, 0.0)

    def back(self, outcomes: Iterable[Outcome]) -> None:
        """Note that slices are back."""
        outcomes = list(outcomes)
        self.pace.measure(outcomes)
        for outcome in outcomes:
            self._out.pop(outcome.work.trial, None)

    def look(self) -> bool:
        """Have trials that hang or take too much memory given up; return whether there is still time to wait for others."""
        now = time.monotonic()
        # Where this process was itself stopped (Ctrl-Z, a suspended machine), the trials were, too.
        passed, self._looked = min(now - self._looked, 4 * TICK_S), now
        held = self.executor.held()
        for trial in held.keys() & self._out.keys():  # until its process has started a trial is not late
            work, out_s = self._out[trial]
            self._out[trial] = work, out_s + passed
        for trial, (work, out_s) in list(self._out.items()):
            last_s = self.pace.last_s(work)
            if out_s - work.seconds > max(self._hung_s, HUNG_TIMES * last_s):
                reason = (
                    f"hung: step {work.step:,} and those after it were not done after {duration(out_s)}, where about "
                    f"{duration(work.seconds + last_s)} were expected; its process was ended"
                )
                self._give_up(trial, Failure(reason=reason, traceback="", kind="hung"))
        self._look_at_memory(held)
        return now < self.lost_at

    def _look_at_memory(self, held: Mapping[Trial, int]) -> None:
        held = {trial: of for trial, of in held.items() if trial in self._out}
        together = sum(held.values())
        if self.memory_bytes is not None:
            allowed, blamed = self.memory_bytes, 0
        else:
            allowed, blamed = int((together + memory.free_bytes()) * (1 - SPARE_SHARE)), BLAMED_BYTES
        if together <= allowed or not held:
            return
        largest = max(held, key=lambda trial: held[trial])
        if held[largest] < blamed:
            return
        mib = [f"{of / memory.MIB:,.0f} MiB" for of in (held[largest], together, allowed)]
        reason = (
            f"memory: its process held {mib[0]}, all of them {mib[1]}, and the machine has {mib[2]} for them; its process was "
            "ended; --workers 1 leaves more to each"
        )
        self._give_up(largest, Failure(reason=reason, traceback="", kind="memory"))

    def _give_up(self, trial: Trial, failure: Failure) -> None:
        del self._out[trial]
        self.executor.give_up(trial, failure)

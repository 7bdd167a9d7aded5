"""Schedules step by step against torch's own, and what holds for any of them."""

import functools
import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_schedules

from etude.errors import SpecError
from etude.spec.recipe import Recipe, complete
from etude.spec.schedule import SCHEDULES, warmup_steps

PER_EPOCH, LAST = 10, 60  # steps in an epoch; steps
NEEDED = {"step": {"every": 1}, "exponential": {"factor": 0.9}}
FREE = [name for name, kind in SCHEDULES.items() if not kind.horizon]
BOUND = [name for name, kind in SCHEDULES.items() if kind.horizon]


def factors(last=LAST, per_epoch=PER_EPOCH, horizon=True, **fields):
    recipe = Recipe(**fields)
    return [
        recipe.factor(k, steps_per_epoch=per_epoch, horizon_step=last if horizon else None) for k in range(1, last + 1)
    ]


def torchs(make, last=LAST, **sgd):
    """The rates that a scheduler of torch's gives each step, with a peak of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, **sgd)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls what torch itself calls deprecated
        scheduler = make(optimizer)
        for _ in range(last):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    return rates


def after_warmup(steps, make):
    def both(optimizer):
        rise = torch_schedules.LinearLR(optimizer, start_factor=1 / steps, total_iters=steps - 1)
        return torch_schedules.SequentialLR(optimizer, [rise, make(optimizer)], milestones=[steps])

    return both


def halved(step):
    return 0.5 ** (step // 7)


TORCH = {
    "constant": ({"schedule": "constant"}, lambda span: lambda o: torch_schedules.ConstantLR(o, factor=1.0)),
    "linear": (
        {"schedule": "linear"},
        lambda span: lambda o: torch_schedules.LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=span),
    ),
    "linear to an end": (
        {"schedule": "linear", "schedule_options": {"end": 0.2}},
        lambda span: lambda o: torch_schedules.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=span),
    ),
    "cosine": ({"schedule": "cosine"}, lambda span: lambda o: torch_schedules.CosineAnnealingLR(o, T_max=span)),
    "cosine to an end": (
        {"schedule": "cosine", "schedule_options": {"end": 0.1}},
        lambda span: lambda o: torch_schedules.CosineAnnealingLR(o, T_max=span, eta_min=0.1),
    ),
    "step": (
        {"schedule": "step", "schedule_options": {"every": 1.5, "factor": 0.3}},
        lambda span: lambda o: torch_schedules.StepLR(o, step_size=15, gamma=0.3),
    ),
    "exponential": (
        {"schedule": "exponential", "schedule_options": {"factor": 0.7}},
        lambda span: lambda o: torch_schedules.ExponentialLR(o, gamma=0.7 ** (1 / PER_EPOCH)),
    ),
    "function": ({"schedule": halved}, lambda span: lambda o: torch_schedules.LambdaLR(o, halved)),
}


@pytest.mark.parametrize("name", TORCH)
def test_a_schedule_is_torchs_step_by_step(name):
    fields, make = TORCH[name]
    assert factors(**fields) == pytest.approx(torchs(make(LAST)), abs=1e-12)


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("warm", [2, 13, 40])
def test_a_warmup_before_it_is_torchs_sequence(name, warm):
    fields, make = TORCH[name]
    got = factors(**fields, warmup=f"{warm} steps")
    assert got == pytest.approx(torchs(after_warmup(warm, make(LAST - warm))), abs=1e-12)


@pytest.mark.parametrize("last", [2, 3, 7, 60])
@pytest.mark.parametrize(
    ("options", "torch_options"),
    [
        ({}, {}),
        ({"rise": 0.15}, {"pct_start": 0.15}),
        ({"start": 0.1}, {"div_factor": 10, "final_div_factor": 0.1 / (1e-4 / 25)}),
        ({"rise": 0.5, "start": 0.5, "end": 0.01}, {"pct_start": 0.5, "div_factor": 2, "final_div_factor": 50}),
    ],
    ids=str,
)
def test_one_cycle_is_torchs_step_by_step(last, options, torch_options):
    if torch_options.get("pct_start", 0.3) * last == 1:
        pytest.skip("torch divides by zero there")

    def make(optimizer):
        return torch_schedules.OneCycleLR(
            optimizer, max_lr=1.0, total_steps=last, cycle_momentum=False, **torch_options
        )

    # The last call of step() would be one too many for it.
    expected = torchs(lambda o: _UntilTheEnd(make(o), last), last)
    assert factors(last, schedule="one-cycle", schedule_options=options) == pytest.approx(expected, abs=1e-12)


class _UntilTheEnd:
    def __init__(self, scheduler, last):
        self.scheduler, self.left = scheduler, last - 1

    def step(self):
        if self.left:
            self.scheduler.step()
            self.left -= 1


def test_one_cycle_rises_in_one_step_where_torch_divides_by_zero():
    got = factors(2, schedule="one-cycle", schedule_options={"rise": 0.5})
    assert got == [1.0, pytest.approx(1e-4 / 25)]


@pytest.mark.parametrize("last", [1, 7, 400])
def test_constant_cosine_and_linear_are_bit_for_bit_what_they_were(last):
    done = [min(1.0, (step - 1) / last) for step in range(1, last + 1)]
    assert factors(last) == [1.0] * last
    assert factors(last, schedule="linear") == [1.0 - d for d in done]
    assert factors(last, schedule="cosine") == [0.5 * (1.0 + math.cos(math.pi * d)) for d in done]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("linear", [1, 1, 1, 0.75, 0.5, 0.25]), ("sqrt", [1, 1, 1, 0.5, 1 - 0.5**0.5, 1 - 0.75**0.5])],
)
def test_wsd_is_stable_then_decays_over_the_last_part_of_the_horizon(shape, expected):
    got = factors(20, schedule="wsd", schedule_options={"decay": 0.2, "shape": shape}, warmup="20%")
    assert got[:5] == [0.25, 0.5, 0.75, 1, 1]
    assert got[-6:] == pytest.approx(expected)


def test_wsd_decays_by_the_root_unless_told_otherwise():
    assert Recipe(schedule="wsd").schedule_options == {"decay": 0.2, "shape": "sqrt"}


def test_a_step_comes_after_its_epochs_whatever_the_rounding():
    got = factors(12, per_epoch=30, schedule="step", schedule_options={"every": 0.1, "factor": 0.5})
    assert got == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125, 0.125]


@pytest.mark.parametrize(
    ("warmup", "steps"),
    [(0, 0), (2, 20), (0.5, 5), ("0.25", 3), ("2 epochs", 20), ("7 steps", 7), ("1 step", 1), ("7steps", 7), ("5%", 50),
     (" 12.5 % ", 125)],
)  # fmt: skip
def test_a_warmup_is_epochs_steps_or_a_share(warmup, steps):
    made = Recipe(warmup=warmup).warmup
    assert warmup_steps(made, PER_EPOCH, 1000) == steps
    assert Recipe(warmup=made).warmup == made


@pytest.mark.parametrize("warmup", ["0", "0%", "0 steps", 0, 0.0])
def test_no_warmup_is_written_as_zero(warmup):
    assert Recipe(warmup=warmup) == Recipe()


@pytest.mark.parametrize(
    "warmup",
    [-1, math.nan, math.inf, True, None, [], "", "%", "many", "-5%", "100%", "1.5 steps", "5 minutes", "1e400"],
)
def test_what_is_no_warmup_is_refused(warmup):
    with pytest.raises(SpecError, match=r"study\.recipe\.warmup: expected a number of epochs, '500 steps', or '5%'"):
        Recipe(warmup=warmup)


def test_one_cycle_has_its_own_warmup():
    with pytest.raises(
        SpecError, match=r"warmup: one-cycle rises by itself, for 30 % of the horizon: leave the warmup out"
    ):
        Recipe(schedule="one-cycle", warmup=1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schedule": "cosin"}, r"no schedule is named 'cosin'; did you mean 'cosine'\?"),
        ({"schedule": "onecycle"}, r"did you mean 'one-cycle'\?"),
        ({"schedule": 3}, "no schedule is named 3; known: constant, "),
        ({"schedule": "mine()"}, r"mine\(\) is a function of your own, stored by its name alone"),
        ({"schedule": torch_schedules.StepLR}, "expected a schedule's name or a function .*, got StepLR"),
        ({"schedule_options": {"end": 0}}, "constant has no option 'end': it takes none"),
        ({"schedule": halved, "schedule_options": {"end": 0}}, r"halved\(\) has no option 'end'"),
        ({"schedule": "cosine", "schedule_options": {"ende": 0}}, r"cosine has no option 'ende'; did you mean 'end'\?"),
        ({"schedule": "step"}, "step needs 'every': expected a positive number of epochs, got nothing"),
        ({"schedule": "exponential"}, "exponential needs 'factor'"),
        ({"schedule": "step", "schedule_options": {"every": 0}}, r"schedule_options\.every: .*, got 0"),
        ({"schedule": "step", "schedule_options": {"every": 1, "factor": 2}}, r"\.factor: .*at most 1, got 2"),
        (
            {"schedule": "cosine", "schedule_options": {"end": math.nan}},
            r"\.end: expected a number from 0 to 1, got nan",
        ),
        ({"schedule": "cosine", "schedule_options": {"end": True}}, r"\.end: .*got True"),
        (
            {"schedule": "wsd", "schedule_options": {"shape": "round"}},
            r"\.shape: expected 'linear' or 'sqrt', got 'round'",
        ),
        ({"schedule": "wsd", "schedule_options": {"shape": []}}, r"\.shape: .*got \[\]"),
        (
            {"schedule": "one-cycle", "schedule_options": {"rise": 1}},
            r"\.rise: expected a number between 0 and 1, got 1",
        ),
        ({"schedule_options": 3}, r"study\.recipe\.schedule_options: expected"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_field(fields, said):
    with pytest.raises(SpecError, match=said) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("study.recipe.schedule")


def test_a_scheduler_of_torchs_is_refused_by_its_name():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with pytest.raises(SpecError, match="or a function from step to factor, got ExponentialLR"):
        Recipe(schedule=torch_schedules.ExponentialLR(optimizer, 0.9))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_named_in_any_case(name):
    assert Recipe(schedule=name.upper().replace("-", "_"), schedule_options=NEEDED.get(name, {})).schedule == name


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_depends_on_the_horizon_is_what_changes_with_it(name):
    recipe = Recipe(schedule=name, schedule_options=NEEDED.get(name, {}))
    short, long = (
        [recipe.factor(k, steps_per_epoch=PER_EPOCH, horizon_step=last) for k in range(1, 51)] for last in (50, 80)
    )
    assert recipe.depends_on_horizon == (short != long)
    assert recipe.depends_on_horizon == (name in ("linear", "cosine", "one-cycle", "wsd"))


def test_a_warmup_in_percent_depends_on_the_horizon_others_do_not():
    assert Recipe(warmup="5%").depends_on_horizon
    assert not Recipe(warmup="5 steps").depends_on_horizon
    assert not Recipe(warmup=0.5).depends_on_horizon
    assert not Recipe(schedule=halved, warmup=1).depends_on_horizon
    assert Recipe(schedule=halved, warmup="5%").depends_on_horizon


@pytest.mark.parametrize("fields", [*({"schedule": name} for name in BOUND), {"warmup": "5%"}], ids=str)
def test_without_its_horizon_there_is_no_factor(fields):
    with pytest.raises(SpecError, match="depends on the horizon: expected a horizon_step, got None"):
        Recipe(**fields).factor(1, steps_per_epoch=PER_EPOCH, horizon_step=None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"schedule": "wsd", "warmup": 1}, "wsd schedule"),
        ({"warmup": "5%"}, "warmup of 5%"),
        ({"schedule": "cosine", "warmup": "5%"}, "cosine schedule with a warmup of 5%"),
    ],
)
def test_what_depends_on_the_horizon_is_named(fields, reason):
    assert Recipe(**fields).horizon_reason == reason


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"warmup": 6}, r"warmup: expected less than the study's 60 steps, got 60 \(6 epochs\); .* such as '5%'"),
        ({"warmup": "1000 steps"}, r"got 1,000 \(1000 steps\)"),
        ({"warmup": "99.9%"}, r"got 60 \(99\.9%\)"),
        (
            {"schedule": "wsd", "schedule_options": {"decay": 0.5}, "warmup": "40 steps"},
            r"schedule_options\.decay: expected room after 40 steps of warmup, got 30 of 60 steps",
        ),
    ],
)
def test_what_the_horizon_has_no_room_for_is_refused(fields, said):
    with pytest.raises(SpecError, match=said):
        Recipe(**fields).check(steps_per_epoch=PER_EPOCH, horizon_step=LAST)


def test_what_has_room_is_not_refused():
    for name in SCHEDULES:
        warmup = 0 if name == "one-cycle" else "48 steps"
        recipe = Recipe(schedule=name, schedule_options=NEEDED.get(name, {}), warmup=warmup)
        recipe.check(steps_per_epoch=PER_EPOCH, horizon_step=LAST)


lasts = st.integers(2, 400)
names = st.sampled_from(sorted(SCHEDULES))


@given(names, lasts, st.integers(1, 50), st.data())
def test_factors_are_from_0_to_1_and_the_warmup_rises_to_the_peak(name, last, per_epoch, data):
    most = {"one-cycle": 0, "wsd": last - max(1, math.floor(0.2 * last + 0.5))}  # wsd: a warmup and a decay
    warm = data.draw(st.integers(0, most.get(name, last - 1)))
    got = factors(last, per_epoch, schedule=name, schedule_options=NEEDED.get(name, {}), warmup=f"{warm} steps")
    assert all(0 <= f <= 1 for f in got)
    rise = got[:warm]
    assert all(f > 0 for f in rise)
    assert rise == sorted(set(rise))
    if name != "one-cycle":
        assert got[max(warm - 1, 0)] == 1  # the peak ends the warmup
        assert got[warm] == 1  # and the schedule begins with it
        assert got[warm:] == sorted(got[warm:], reverse=True)


@given(st.sampled_from(FREE), lasts, lasts, st.one_of(st.integers(0, 50).map("{} steps".format), st.floats(0, 5)))
def test_more_epochs_leave_a_schedule_without_horizon_as_it_was(name, one, other, warmup):
    recipe = Recipe(schedule=name, schedule_options=NEEDED.get(name, {}), warmup=warmup)
    for step in range(1, min(one, other) + 1):
        expected = recipe.factor(step, steps_per_epoch=7, horizon_step=None)
        assert recipe.factor(step, steps_per_epoch=7, horizon_step=one) == expected
        assert recipe.factor(step, steps_per_epoch=7, horizon_step=other) == expected


@given(st.sampled_from(["linear", "cosine", "one-cycle", "wsd"]), st.integers(100, 2000), st.floats(0, 1))
def test_a_schedule_ends_near_its_end(name, last, end):
    options = {} if name == "wsd" else {"end": end}
    got = factors(last, schedule=name, schedule_options=options)[-1]
    assert got == pytest.approx(options.get("end", 0.0), abs=0.03)


@pytest.mark.parametrize("name", SCHEDULES)
def test_options_that_are_said_as_they_usually_are_make_the_same_recipe(name):
    short = Recipe(schedule=name, schedule_options=NEEDED.get(name, {}))
    assert Recipe(schedule=name, schedule_options=short.schedule_options) == short
    assert Recipe(**short.to_dict()) == short


def test_a_recipe_stored_before_there_were_options_is_completed():
    stored = {"optimizer": "sgd", "optimizer_options": {}, "schedule": "cosine", "batch_size": 3}
    assert complete(stored) == Recipe(optimizer="sgd", schedule="cosine", batch_size=3).to_dict()
    assert complete({}) == {}


def test_a_function_is_written_by_its_name():
    assert Recipe(schedule=halved).to_dict()["schedule"] == "halved()"
    assert Recipe(schedule=functools.partial(halved)).to_dict()["schedule"] == "halved()"

"""What a result hands to the analysis, and what it says of it."""

import inspect
import json

import pytest
import torch

import etude
from etude import result as results
from etude.spec.study import Study


@pytest.fixture(scope="module")
def adamw(tmp_path_factory):
    study = Study.default("digits").replace(
        lrs="1e-4..1e-1/4", seeds=2, epochs=2, recipe=etude.Recipe(optimizer="adamw", batch_size=64), expect={}
    )
    return study.run(tmp_path_factory.mktemp("adamw") / "run")


def test_the_default_weight_decay_is_that_of_the_class():
    assert inspect.signature(torch.optim.AdamW).parameters["weight_decay"].default == results.ADAMW_DECAY


def test_adamw_tells_its_timescale_and_adam_does_not(adamw):
    (note,) = adamw.notes
    steps = adamw.steps_per_epoch
    assert "λ = 0.01" in note
    assert "1,000,000 steps at 1e-4 to 1,000 at 0.1" in note
    assert f"to {float(f'{1000 / steps:.2g}'):g} epochs" in note


def test_json_keeps_its_promise_and_has_the_new_parts(adamw):
    told = json.loads(json.dumps(adamw.to_dict(), allow_nan=False))
    assert told["format"] == 1
    answer = told["recommendation"]
    assert {
        "lr",
        "optimum_interval",
        "within_margin",
        "edge",
        "provisional",
        "estimate",
        "reason",
        "next_command",
    } <= set(answer)
    assert answer["optimum_interval"] is None or len(answer["optimum_interval"]) == 2
    assert told["noise"]["df"] > 0
    assert set(told["response"]) >= {"located", "reason", "lrs", "mean", "low", "high", "optimum_interval", "plateau"}
    assert told["second_opinion"]["metric"] == "val_loss"
    assert told["sensitivity"]["value"] is not None or told["sensitivity"]["reason"]
    for rate in told["rates"]:
        assert (
            rate["evidence"]["p_diverged_low"] <= rate["evidence"]["p_diverged"] <= rate["evidence"]["p_diverged_high"]
        )


def test_showing_twice_says_the_same(adamw):
    again = etude.Result.load(adamw.directory)
    assert again.analyse() == again.analyse() == adamw.analysis


def test_the_loss_as_objective_asks_accuracy_for_a_second_opinion(adamw):
    anew = etude.Result.load(adamw.directory, {"metric": "val_loss", "direction": "minimize", "margin": None})
    assert anew.analysis["second_opinion"]["metric"] == "val_accuracy"

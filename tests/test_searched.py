"""What a result says of a directory in which a search has been: what is judged, what is paused, and the run to add."""

import dataclasses
import io

import pytest
from rich.console import Console

import etude
import fabricate
from etude.present import curves, response
from etude.present.terminal import print_result
from etude.present.words import search_lines

PLAN = {1e-4: [1 / 16], 1e-3: [1 / 4], 3e-3: [1, 1 / 4], 1e-2: [1, 1], 3e-2: [1], 1e-1: [1], 3e-1: [1 / 16], 1.0: [1]}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return fabricate.searched(tmp_path_factory.mktemp("searched") / "run", PLAN)


def test_the_horizon_is_that_of_the_study_and_what_is_short_of_it_is_paused(found):
    assert found.horizon == fabricate.EPOCHS
    assert {(t.lr, t.seed) for t in found.judged if found.is_paused(t)} == {(1e-4, 0), (1e-3, 0), (3e-3, 1), (3e-1, 0)}
    assert len(found.judged) == sum(map(len, PLAN.values()))
    words = {rate["lr"]: rate["verdict"] for rate in found.analysis["rates"]}
    assert [words[lr] for lr in PLAN] == [
        "too low", "too low", "too low", "good", "too high", "too high", "too high", "diverged",
    ]  # fmt: skip
    assert found.recommendation.lr == 1e-2
    assert not found.recommendation.provisional
    assert found.recommendation.edge is None
    assert found.complete
    evidence = found.rates.set_index("lr")
    assert evidence["paused_at"].notna().tolist() == [True, True, False, False, False, False, True, False]
    assert evidence["behind"][1e-3] > 0.1


def test_the_next_run_names_its_rates_and_seeds_and_not_those_that_were_spared(found):
    words = found.recommendation.next_command.split()
    assert words[:2] == ["etude", "resume"]
    lrs = words[words.index("--lrs") + 1].split(",")
    assert not {float(lr) for lr in lrs} & {1e-4, 1e-3, 3e-1, 1.0}
    assert int(words[words.index("--seeds") + 1]) < 10


def test_the_terminal_counts_what_was_paused_and_waits_for_nothing(found):
    console = Console(file=io.StringIO(), width=120)
    print_result(console, found)
    said = console.file.getvalue()
    assert "8 rates, 10 trials (4 paused early)" in said
    assert "Paused after 1.25 epochs at" in said
    assert "Not finished" not in said
    assert "Provisional" not in said


def test_paused_rates_are_rings_above_the_frame_and_at_the_end_of_their_curves(found):
    points = {point.lr: point for point in response.rate_points(found)}
    assert {lr: point.paused for lr, point in points.items() if point.paused} == {
        1e-4: 1 / 16,
        1e-3: 1 / 4,
        3e-1: 1 / 16,
    }
    assert all(not len(points[lr].scores) and not points[lr].lost for lr in (1e-4, 1e-3, 3e-1))
    ax = found.plot("rates")
    assert len([line for line in ax.lines if (line.get_gid() or "").startswith("paused:")]) == 3
    _, panel = curves.panels(found)
    lines = {line.lr: line for line in panel.lines}
    assert {lr for lr, line in lines.items() if line.is_paused} == {1e-4, 1e-3, 3e-1}
    assert lines[1e-3].x[-1] == fabricate.EPOCHS / 4
    assert lines[3e-3].n_seeds == 1, "a seed that was paused bends no curve that goes on"
    two = found.plot("curves")
    assert all(len([line for line in ax.lines if (line.get_gid() or "").startswith("paused:")]) == 3 for ax in two)


def test_a_rate_that_was_paused_far_too_high_does_not_squash_the_others(tmp_path):
    def function(lr, share, seed=0):
        return -60.0 if lr == 3e-1 and share else fabricate.accuracy(lr, share, seed)  # a loss of 183

    found = fabricate.searched(tmp_path / "run", PLAN, function=function, objective="val_loss")
    assert next(rate["verdict"] for rate in found.analysis["rates"] if rate["lr"] == 3e-1) == "too high"
    loss, objective = curves.panels(found)
    assert max(loss.limits[1], objective.limits[1]) < 10
    shown = [line for line in found.plot("curves")[1].lines if line.get_gid() == "ended:0.3"]
    assert [line.get_marker() for line in shown] == ["^"]


def test_with_a_schedule_that_depends_on_the_horizon_a_rate_is_judged_by_its_longest_trials(tmp_path):
    recipe = etude.Recipe(optimizer="sgd", batch_size=64, schedule="cosine")
    plan = {1e-4: [1 / 16], 1e-3: [1 / 16, 1 / 4], 1e-2: [1 / 16, 1, 1], 1e-1: [1 / 4, 1]}
    found = fabricate.searched(tmp_path / "run", plan, recipe=recipe)
    assert found.horizon == fabricate.EPOCHS
    assert {(t.lr, t.horizon) for t in found.judged} == {(1e-4, 0.3125), (1e-3, 1.25), (1e-2, 5.0), (1e-1, 5.0)}
    assert {t.lr for t in found.judged if found.is_paused(t)} == {1e-4, 1e-3}
    assert {rate["lr"]: rate["verdict"] for rate in found.analysis["rates"]} == {
        1e-4: "too low", 1e-3: "too low", 1e-2: "good", 1e-1: "too high",
    }  # fmt: skip


def test_without_a_rate_carried_to_the_end_there_is_a_figure_and_a_run_to_add(tmp_path):
    found = fabricate.searched(tmp_path / "run", {1e-4: [1 / 16], 1e-2: [1 / 4]})
    assert found.recommendation.lr is None
    assert found.recommendation.next_command.endswith("--lrs 1e-2 --seeds 1")
    ax = found.plot("rates")
    assert "no trial was carried to the horizon" in [text.get_text() for text in ax.texts]


def test_a_search_that_has_not_ended_is_gone_on_with(tmp_path):
    found = fabricate.searched(tmp_path / "run", PLAN, ended=None)
    assert found.recommendation.next_command == f"etude resume {tmp_path / 'run'}"
    assert found.recommendation.next_reason == "the search has not ended"


def test_of_a_trial_that_a_sampler_carried_on_again_and_again_the_last_decision_is_told(found):
    search = found.search

    def decisions(*rates):
        first = next(decision for decision in search.stored.decisions if decision.requests)
        request = first.requests[0]
        return tuple(
            dataclasses.replace(first, why=f"part {n}", requests=[{**request, "lr": lr}]) for n, lr in enumerate(rates)
        )

    def told(searcher):
        stored = dataclasses.replace(search.stored, decisions=decisions(1e-3, 1e-3, 1e-3, 1e-2, 1e-2))
        made = dataclasses.replace(search, stored=stored, search=dataclasses.replace(search.search, searcher=searcher))
        return [line.split(":")[0].strip() for line in search_lines(made) if "part" in line]

    assert told("optuna") == ["3. part 2", "5. part 4"]
    assert told("adaptive") == [f"{n + 1}. part {n}" for n in range(5)]

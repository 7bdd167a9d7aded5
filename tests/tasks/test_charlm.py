from __future__ import annotations

import math
import sys
from collections import Counter
from types import ModuleType

import pytest
import torch

from etude import tasks
from etude.engine.evaluate import evaluate
from etude.engine.session import Session, Setup
from etude.errors import DataError, SpecError
from etude.spec.recipe import Recipe
from etude.spec.trial import Trial
from etude.tasks import charlm


@pytest.fixture(scope="module")
def task():
    return tasks.make("charlm", {})


def spelled(symbols):
    return "".join(charlm.ALPHABET[symbol] for symbol in symbols.tolist())


def test_the_text_is_printable_english_of_a_constant_length():
    text = charlm.text()
    assert len(text) == charlm.BLOCKS * (charlm.BLOCK + 1)
    assert set(text) <= set(charlm.ALPHABET)
    words = Counter(text.split())
    assert {word for word, _ in words.most_common(10)} >= {"the", "of", "to", "a", "is"}


def test_a_paragraph_stands_there_once():
    paragraphs = charlm.text().split("\n")[:-1]
    assert len(paragraphs) == len(set(paragraphs)) > 500


def test_targets_are_the_inputs_shifted_by_one(task):
    assert task.train.inputs.shape == (2_700, 64)
    assert task.val.targets.shape == (300, 64)
    assert torch.equal(task.train.inputs[:, 1:].long(), task.train.targets[:, :-1])
    text = charlm.text()
    for data in (task.train, task.val):
        assert spelled(data.inputs[7]) + spelled(data.targets[7][-1:]) in text


def test_blocks_are_in_training_or_in_validation_and_make_the_text(task):
    blocks = [
        (spelled(x) + spelled(y[-1:]))
        for data in (task.train, task.val)
        for x, y in zip(data.inputs, data.targets, strict=True)
    ]
    text = charlm.text()
    assert sorted(blocks) == sorted(text[i : i + 65] for i in range(0, len(text), 65))


def test_a_position_does_not_see_what_comes_after_it(task):
    torch.manual_seed(0)
    model = task.model().eval()
    symbols = task.val.inputs[:4].clone()
    before = model(symbols)
    symbols[:, 40:] = 3
    after = model(symbols)
    assert torch.equal(before[:, :40], after[:, :40])
    assert not torch.equal(before[:, 40:], after[:, 40:])


def test_attention_is_the_textbooks(task):
    torch.manual_seed(0)
    block = task.model().blocks[0]
    x = torch.randn(2, 5, 64)
    q, k, v = (part.view(2, 5, 4, 16).transpose(1, 2) for part in block.queries_keys_values(x).split(64, dim=2))
    scores = q @ k.transpose(2, 3) / math.sqrt(16) + torch.full((5, 5), -math.inf).triu(1)
    expected = (scores.softmax(3) @ v).transpose(1, 2).reshape(2, 5, 64)
    assert torch.allclose(block._attention(x), expected, atol=1e-6)


def test_loss_and_bits_by_character_agree_and_have_standard_errors(task):
    torch.manual_seed(0)
    model = task.model()
    values, errors = evaluate(model, task, task.val, batch_size=128, forward=model, prefix="val_")
    assert values["val_loss"] == pytest.approx(math.log(len(charlm.ALPHABET)), abs=0.3)  # it knows nothing yet
    assert values["val_bpc"] == pytest.approx(values["val_loss"] / math.log(2), rel=1e-5)
    assert errors["val_bpc"] == pytest.approx(errors["val_loss"] / math.log(2), rel=1e-4)
    assert 0 < errors["val_accuracy"] < values["val_accuracy"] + 0.01


def test_it_learns_more_than_how_often_each_character_comes(task):
    counts = Counter(charlm.text())
    total = sum(counts.values())
    unigram = -sum(n / total * math.log2(n / total) for n in counts.values())
    setup = Setup(task=task, recipe=Recipe(optimizer="adamw", batch_size=16))
    session = Session.open(setup, Trial(lr=1e-2, seed=0))
    session.run(170)  # an epoch
    assert session.evaluate(task.val, "val_")[0]["val_bpc"] < 0.95 * unigram


def test_dropout_is_an_option_and_drops_in_training_alone():
    made = tasks.make("charlm", {"dropout": 0.5})
    torch.manual_seed(0)
    model = made.model()
    symbols = made.val.inputs[:4]
    assert not torch.equal(model(symbols), model(symbols))
    model.eval()
    assert torch.equal(model(symbols), model(symbols))
    plain = tasks.make("charlm", {}).model().train()
    assert torch.equal(plain(symbols), plain(symbols))


@pytest.mark.parametrize("dropout", [1, -0.1, 1.5, "much", True, math.nan])
def test_a_dropout_that_is_no_share_is_refused(dropout):
    with pytest.raises(SpecError, match=r"study\.task_options\.dropout: expected a share from 0 to below 1, got"):
        tasks.make("charlm", {"dropout": dropout})


def test_a_python_without_its_manual_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match=r"this Python comes without pydoc_data\.topics"):
        charlm.text()


def test_a_python_with_a_short_manual_is_told(monkeypatch):
    short = ModuleType("pydoc_data.topics")
    short.topics = {"one": "A sentence that is long enough to be taken for a sentence of prose."}
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", short)
    with pytest.raises(DataError, match=r"expected at least 195,000 characters of prose in pydoc_data\.topics, got 67"):
        charlm.text()

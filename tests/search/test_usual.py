import torch

from etude.search.usual import UNKNOWN, USUAL, usual_range
from etude.spec.recipe import ELSEWHERE, OPTIMIZERS, Recipe


def test_every_optimizer_that_has_a_name_has_a_usual_range():
    assert USUAL.keys() == {*OPTIMIZERS, *ELSEWHERE}
    assert all(0 < low < high for low, high in USUAL.values())
    assert usual_range(Recipe(optimizer="sgd")) == USUAL["sgd"]
    assert usual_range(Recipe(optimizer=lambda params, lr: torch.optim.SGD(params, lr=lr))) == UNKNOWN

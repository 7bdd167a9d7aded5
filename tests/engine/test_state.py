"""What tells one set of weights from another."""

import torch
from torch import nn

import etude
from etude.engine.state import weights_digest
from etude.tasks.data import Resident


def test_a_digest_does_not_depend_on_the_layout():
    # A 1×1 convolution's weights in channels_last are contiguous in either layout, with a last stride that is not 1.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 16, 1), nn.Conv2d(16, 4, 3))
    plain = weights_digest(model)
    assert weights_digest(model.to(memory_format=torch.channels_last)) == plain
    with torch.no_grad():
        model[0].weight[3, 2] += 1
    assert weights_digest(model) != plain


def test_data_of_an_open_layout_have_a_digest():
    column = torch.arange(32.0).reshape(4, 8, 1, 1)
    other = column.to(memory_format=torch.channels_last)
    assert other.stride(-1) != 1
    assert Resident(other).digest() == Resident(column).digest()


def test_a_shortcut_of_1x1_convolution_trains(tmp_path):
    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.path, self.shortcut = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(8, 16, 1)
            self.head = nn.Linear(16, 2)

        def forward(self, x):
            return self.head((self.path(x) + self.shortcut(x)).mean((2, 3)))

    data = torch.rand(12, 8, 6, 6), torch.arange(12) % 2
    task = etude.Task(model=Shortcut, train=data, val=data, loss=nn.CrossEntropyLoss())
    study = etude.Study(task=task, recipe=etude.Recipe(batch_size=4), lrs=[0.01], epochs=1)
    result = study.run(tmp_path / "run", executor="inline")
    assert list(result.trials["status"]) == ["completed"]
    assert result.stored.environments[-1]["channels_last"] is True

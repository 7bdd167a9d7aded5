"""The learning rate of every group at every step, against the loop that anybody would write with torch's schedulers."""

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR

import etude
from etude import counted
from etude.engine.session import Session, Setup
from etude.spec.trial import Trial

N, BATCH, ACCUMULATE, EPOCHS = 150, 10, 4, 3  # 15 batches, so 4 steps an epoch, the last of 3 batches
STEPS = 4 * EPOCHS
LR, SEED = 0.05, 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.backbone(x).relu())


def groups_of(model):
    """A head that trains ten times as fast as the backbone."""
    return [
        {"params": model.backbone.parameters(), "lr": 0.1},
        {"params": model.head.parameters(), "lr": 1.0},
    ]


def own_optimizer(groups, lr):
    return torch.optim.AdamW(groups, lr=lr)  # the groups come with rates in proportion to lr


SCHEDULES = {
    "one-cycle": {"schedule": "one-cycle"},
    "cosine after warmup": {"schedule": "cosine", "warmup": "3 steps"},
    "constant": {},
}


def scheduler(name, optimizer):
    if name == "one-cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=peaks, total_steps=STEPS, cycle_momentum=False)
    if name == "cosine after warmup":
        warmup = LinearLR(optimizer, start_factor=1 / 3, total_iters=2)
        rest = CosineAnnealingLR(optimizer, T_max=STEPS - 3)
        return SequentialLR(optimizer, [warmup, rest], milestones=[3])
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)


def data():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(N, 12, generator=generator), torch.randint(0, 3, (N,), generator=generator)


def plain_loop(name):
    """Rates of (backbone, head), and the loss, by step."""
    x, y = data()
    torch.manual_seed(counted.derive(counted.WEIGHTS, SEED))
    model = Net()
    optimizer = torch.optim.AdamW(
        [{"params": model.backbone.parameters(), "lr": 0.1 * LR}, {"params": model.head.parameters(), "lr": LR}]
    )
    schedule = scheduler(name, optimizer)
    rates, losses = [], []
    for epoch in range(EPOCHS):
        generator = torch.Generator().manual_seed(counted.derive(counted.ORDER, SEED, epoch))
        batches = torch.randperm(N, generator=generator).split(BATCH)
        for start in range(0, len(batches), ACCUMULATE):
            parts = batches[start : start + ACCUMULATE]
            optimizer.zero_grad()
            total = 0.0
            for index in parts:
                loss = nn.functional.cross_entropy(model(x[index]), y[index])
                (loss / len(parts)).backward()
                total += loss.item() / len(parts)
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
            losses.append(total)
    return rates, losses


@pytest.mark.parametrize("optimizer", ["adamw", own_optimizer], ids=["by name", "own"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_and_losses_of_two_groups_equal_the_plain_loops_step_by_step(name, optimizer):
    x, y = data()
    task = etude.Task(model=Net, train=(x, y), val=(x, y), loss=nn.functional.cross_entropy, parameters=groups_of)
    recipe = etude.Recipe(optimizer=optimizer, batch_size=BATCH, accumulate=ACCUMULATE, **SCHEDULES[name])
    horizon = float(EPOCHS) if recipe.depends_on_horizon else None
    session = Session.open(Setup(task=task, recipe=recipe), Trial(lr=LR, seed=SEED, horizon=horizon))
    rates, losses = [], []
    taken = session.optimizer.step

    def step(*args):
        rates.append([group["lr"] for group in session.optimizer.param_groups])
        return taken(*args)

    session.optimizer.step = step
    losses = session.run(STEPS).loss
    expected_rates, expected_losses = plain_loop(name)
    assert len(rates) == len(expected_rates) == STEPS
    for ours, theirs in zip(rates, expected_rates, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9)
        assert ours[1] == pytest.approx(10 * ours[0], rel=1e-12)
    assert losses.tolist() == pytest.approx(expected_losses, rel=1e-5)
    different = len({round(rate[1], 9) for rate in rates})
    assert different == 1 if name == "constant" else different > STEPS // 2

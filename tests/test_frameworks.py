"""A trial's losses are those of the user's own framework, given the same weights and batches: Lightning and Transformers."""

import logging
import os
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etude
from etude import counted
from etude.engine import rehearsal
from etude.engine.session import Session, Setup
from etude.spec.trial import Trial

N, BATCH, EPOCHS, SEED, LR = 60, 10, 2, 5, 0.05
STEPS = N // BATCH * EPOCHS


def need(name):
    if os.environ.get("CI"):
        return __import__(name)
    return pytest.importorskip(name)


class InEtudesOrder(torch.utils.data.Sampler):
    """The order that etude has, for a loader of somebody else's."""

    def __init__(self):
        self.epoch = 0

    def __len__(self):
        return N

    def __iter__(self):
        generator = torch.Generator().manual_seed(counted.derive(counted.ORDER, SEED, self.epoch))
        self.epoch += 1
        return iter(torch.randperm(N, generator=generator).tolist())


def trained(task, recipe):
    trial = Trial(lr=LR, seed=SEED)
    setup, _ = rehearsal.settle(Setup(task=task, recipe=recipe), trial)
    session = Session.open(setup, trial)
    history = session.run(STEPS)
    return history.loss, session.model


def test_a_lightning_module_trains_as_under_its_own_trainer():
    lightning = need("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.seen = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)), []

        def training_step(self, batch, batch_idx):
            x, y = batch
            loss = nn.functional.cross_entropy(self.net(x), y)
            self.seen.append(loss.item())
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=LR, momentum=0.9)

    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(N, 6, generator=generator), torch.randint(0, 3, (N,), generator=generator)
    torch.manual_seed(counted.derive(counted.WEIGHTS, SEED))
    module = Module()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=BATCH, sampler=InEtudesOrder()))

    def step(model, batch):
        return model.training_step(batch, 0)

    task = etude.Task(model=Module, train=(x, y), val=(x, y), step=step)
    recipe = etude.Recipe(optimizer="sgd", optimizer_options={"momentum": 0.9}, batch_size=BATCH)
    losses, ours = trained(task, recipe)
    np.testing.assert_array_equal(losses, np.array(module.seen, np.float32))
    for a, b in zip(ours.net.parameters(), module.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_model_of_transformers_trains_as_in_a_plain_loop():
    transformers = need("transformers")
    need("datasets")
    from datasets import Dataset

    random = np.random.default_rng(0)
    table = {"input_ids": random.integers(3, 16, (N, 8)), "labels": random.integers(0, 2, N)}

    def model():
        config = transformers.DistilBertConfig(
            vocab_size=16, max_position_embeddings=8, n_layers=1, n_heads=2, dim=16, hidden_dim=32, num_labels=2,
        )  # fmt: skip
        return transformers.DistilBertForSequenceClassification(config)

    task = etude.Task(
        model=model, train=Dataset.from_dict(table), val=Dataset.from_dict(table), step=lambda m, batch: m(**batch).loss
    )
    losses, ours = trained(task, etude.Recipe(optimizer="adamw", batch_size=BATCH, clip_norm=1.0))

    torch.manual_seed(counted.derive(counted.WEIGHTS, SEED))
    plain = model()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=LR)
    columns = {name: torch.tensor(values) for name, values in table.items()}
    seen, sampler = [], InEtudesOrder()
    plain.train()
    for _ in range(EPOCHS):
        for index in torch.tensor(list(sampler)).split(BATCH):
            # Dropout draws from the global generator, which etude seeds from (seed, step).
            torch.manual_seed(counted.derive(counted.STEP, SEED, len(seen) + 1))
            optimizer.zero_grad()
            loss = plain(**{name: column[index] for name, column in columns.items()}).loss
            loss.backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimizer.step()
            seen.append(loss.item())
    np.testing.assert_array_equal(losses, np.array(seen, np.float32))
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)

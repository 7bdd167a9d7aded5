"""A model of Hugging Face Transformers, on a data set of `datasets` (pip install transformers datasets).

    etude run examples/transformers_model.py        (or python examples/transformers_model.py)

The model is small and random here: nothing is downloaded. In a study of your own, write
`AutoModelForSequenceClassification.from_pretrained(...)` in `model`, and a tokenized data set for the sequences.

The best rate found is about 1e-3 (99 %); 1e-4 is too low for four epochs, 0.1 diverges; 1e-2 wants more seeds.
"""

import numpy as np
from datasets import Dataset
from transformers import DistilBertConfig, DistilBertForSequenceClassification

import etude

VOCABULARY, LENGTH = 16, 10


def sequences(count, seed):
    """Random tokens; the label is whether token 2 stands anywhere before token 1, which each sequence has once."""
    random = np.random.default_rng(seed)
    tokens = random.integers(3, VOCABULARY, (count, LENGTH))
    for row in tokens:
        row[random.choice(LENGTH, 2, replace=False)] = 1, 2
    labels = tokens.argmin(axis=1) > np.argmax(tokens == 2, axis=1)
    return Dataset.from_dict(
        {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "labels": labels.astype(int)}
    )


def model():
    config = DistilBertConfig(
        vocab_size=VOCABULARY, max_position_embeddings=LENGTH, n_layers=2, n_heads=4, dim=32, hidden_dim=64, num_labels=2,
        dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0,
    )  # fmt: skip
    return DistilBertForSequenceClassification(config)


def step(model, batch):
    return model(**batch).loss


def evaluate(model, batch):
    said = model(**batch)
    # Outputs and targets are what the metrics are computed of; the rest is recorded as it is.
    return {"loss": said.loss, "outputs": said.logits, "targets": batch["labels"]}


task = etude.Task(
    model=model,
    train=sequences(2000, seed=0),
    val=sequences(500, seed=1),
    step=step,
    evaluate=evaluate,
    metrics={"accuracy": etude.metrics.accuracy},
)
recipe = etude.Recipe(
    optimizer="adamw", weight_decay=0.01, batch_size=32, schedule="linear", warmup="10%", clip_norm=1.0
)
study = etude.Study(
    name="transformers-model", task=task, recipe=recipe, lrs="1e-5..1e-1/5", seeds=2, epochs=4,
)  # fmt: skip

if __name__ == "__main__":
    print(study.run().recommendation.conclusion)

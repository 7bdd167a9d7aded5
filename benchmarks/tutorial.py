"""The loop that people write after a tutorial, for comparison: images decoded one by one, one trial after the other.

Nothing in it is clever, and nothing is slow on purpose. PyTorch's own threads share the work of each step.
"""

from __future__ import annotations

import argparse
from itertools import islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from etude.tasks.idx import read_idx
from etude.tasks.mnist import FILES, PACKAGED

BATCH_SIZE = 64


class Mnist(Dataset[tuple[Tensor, int]]):
    """Digits as tensors (1, 28, 28) in [0, 1], converted at each access by way of PIL, as torchvision does."""

    def __init__(self, split: str) -> None:
        self.images = read(f"{split}-images-idx3-ubyte")
        self.labels = read(f"{split}-labels-idx1-ubyte")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index].numpy())
        return to_tensor(image), int(self.labels[index])


def read(name: str) -> Tensor:
    n_bytes, md5 = FILES[name]
    return torch.from_numpy(read_idx(PACKAGED / f"{name}.gz", n_bytes=n_bytes, md5=md5))


def to_tensor(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image))
    pixels = pixels.view(image.height, image.width, len(image.getbands()))
    return pixels.permute(2, 0, 1).contiguous().float().div(255)


class SimpleCNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(32 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc2(x)
        return logits


def accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, int]]) -> float:
    model.eval()
    correct = total = 0
    with torch.no_grad():
        for images, labels in loader:
            correct += int((model(images).argmax(1) == labels).sum())
            total += len(labels)
    return correct / total


def train(lr: float, epochs: float, train_set: Mnist, test_set: Mnist) -> None:
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=BATCH_SIZE)
    model = SimpleCNN()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    epoch, steps_left = 0, max(1, round(epochs * len(train_loader)))
    while steps_left > 0:
        epoch += 1
        model.train()
        losses = []
        for images, labels in islice(train_loader, steps_left):
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        steps_left -= len(losses)
        mean_loss = sum(losses) / len(losses)
        print(f"LR={lr:g} | Epoch {epoch}: Loss={mean_loss:.4f}, Acc={accuracy(model, test_loader):.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=5, help="a fraction trains that part of an epoch")
    parser.add_argument("--lrs", default="1e-4,1e-3,1e-2", help="learning rates, with commas between them")
    options = parser.parse_args()
    train_set, test_set = Mnist("train"), Mnist("t10k")
    for lr in options.lrs.split(","):
        train(float(lr), options.epochs, train_set, test_set)


if __name__ == "__main__":
    main()

"""Where a step of the reference CNN spends its time: layout, threads, allocator, and what did not help. A minute or two.

Each variant is a process of its own, because glibc's settings and torch's threads belong to a process. The loop is plain
PyTorch with the reference study's model, batch and optimizer; milliseconds a step are the median of blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any

VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("contiguous, 2 threads", {"layout": "contiguous", "threads": 2}),
    ("contiguous, 1 thread", {"layout": "contiguous"}),
    ("channels_last, 1 thread", {}),
    ("+ quiet allocator (what a worker does)", {"quiet": True}),
    ("… two such processes side by side", {"quiet": True, "copies": 2}),
    ("… side by side, allocator left alone", {"copies": 2}),
    ("quiet, Adam with foreach=True", {"quiet": True, "foreach": True}),
    ("quiet, huge pages by glibc's tunable", {"quiet": True, "tunables": "glibc.malloc.hugetlb=1"}),
    ("quiet, ReLU before pooling, as in the article", {"quiet": True, "relu_first": True}),
)


def main() -> None:
    """Run all variants and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="each variant is run so often, in turn")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(json.loads(options.one)))
        return
    found: dict[str, list[float]] = {name: [] for name, _ in VARIANTS}
    for _ in range(options.rounds):
        for name, variant in VARIANTS:
            found[name] += run(variant)
            print(f"{name}: {found[name][-1]:.1f} ms", file=sys.stderr)
    base = median(found[VARIANTS[3][0]])
    print("| variant | ms a step | to a worker's |\n|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {median(values):.1f} ({min(values):.1f}–{max(values):.1f}) | {median(values) / base:.2f} |")


def run(variant: dict[str, Any]) -> list[float]:
    """Run a variant in a process of its own, or in several at once; return the milliseconds a step of each."""
    environment = {**os.environ, **({"GLIBC_TUNABLES": variant["tunables"]} if "tunables" in variant else {})}
    command = [sys.executable, __file__, "--one", json.dumps(variant)]
    copies = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(variant.get("copies", 1))
    ]
    return [float(copy.communicate(timeout=300)[0]) for copy in copies]


def measure(variant: dict[str, Any]) -> float:
    """Return the median over blocks of 50 steps of the milliseconds a step."""
    import torch
    from torch import nn

    from etude.execution.worker import quiet_allocator
    from etude.tasks import mnist

    if variant.get("quiet"):
        quiet_allocator()
    torch.set_num_threads(variant.get("threads", 1))
    task = mnist.task()
    layout: Any = torch.contiguous_format if variant.get("layout") == "contiguous" else torch.channels_last
    layers = list(mnist.simple_cnn().children())
    if variant.get("relu_first"):
        layers[1:3], layers[4:6] = layers[2:0:-1], layers[5:3:-1]
    torch.manual_seed(0)
    model = nn.Sequential(*layers).to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=variant.get("foreach"))
    batches = task.train.batches(64, seed=0, epoch=0)
    assert task.loss is not None
    times = []
    for block in range(7):
        began = time.perf_counter()
        for _ in range(50):
            inputs, targets = next(batches)
            optimizer.zero_grad()
            loss = task.loss(model(inputs.contiguous(memory_format=layout)), targets)
            loss.backward()
            optimizer.step()
            loss.item()
        if block:
            times.append(1e3 * (time.perf_counter() - began) / 50)
    return median(times)


if __name__ == "__main__":
    main()

"""How long the report of a large study takes, and how large it is: 200 trials × 5,000 steps, by the command.

The study is trained first: gradient descent on the built-in bowl, 40 rates × 5 seeds, 50 evaluations a trial.

``python benchmarks/report.py --out docs/benchmarks/report.md``: some minutes the first time, for the training.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import fragment
from judging import TIMES, seconds, times

STUDY = ("--lrs", "1e-4..1.9/40", "--seeds", "5", "--epochs", "5000", "--evaluate-every", "100")


def etude(*words: str) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "etude", *words], check=True, capture_output=True)


def main() -> None:
    """Train, time, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    run = str(fragment.cache() / "report")
    etude("run", "quadratic", *STUDY, "--out", run)  # once; then it says that it is complete
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "report.html"
        took = seconds(lambda: etude("show", run))
        rows.append(("`etude show`", took, ""))
        took = seconds(lambda: etude("report", run, "--out", str(made)))
        rows.append(("`etude report`", took, f"{made.stat().st_size / 1e6:.2f} MB"))
        made = made.with_suffix(".md")
        took = seconds(lambda: etude("report", run, "--format", "md", "--out", str(made)))
        size = sum(path.stat().st_size for path in Path(folder).glob("report_figures/*")) + made.stat().st_size
        rows.append(("`etude report --format md`", took, f"{size / 1e6:.2f} MB"))
    lines = [
        "# The report",
        "",
        "Made by `python benchmarks/report.py`: 40 rates × 5 seeds, 5,000 steps and 50 evaluations a trial; whole commands, with",
        "the start of Python.",
        "",
        *fragment.table(["what", *TIMES, "size"], [[what, *times(took), size] for what, took, size in rows]),
    ]
    fragment.publish(lines, options.out)


if __name__ == "__main__":
    main()

"""Runs ``elsewhere_cases.py`` in a process of its own: autograd asks only at its first backward pass what devices there are."""

import os
import subprocess
import sys
from pathlib import Path


def test_training_on_another_device_leaves_nothing_behind_on_the_cpu():
    cases = Path(__file__).with_name("elsewhere_cases.py")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", cases]
    ran = subprocess.run(command, env=own, cwd=cases.parents[2], capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]

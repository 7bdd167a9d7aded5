"""What was expected of a rate beside what was observed: agree, disagree, or undetermined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from etude.analysis.evidence import ReadTrial
from etude.analysis.reading import RateEvidence


def compare_expected(expected: Mapping[str, Any], e: RateEvidence, trials: Sequence[ReadTrial]) -> dict[str, Any]:
    """Set what was expected of a rate beside what was observed."""
    parts: list[dict[str, Any]] = []
    words = expected.get("verdict") or []
    if words:
        outcome = "undetermined" if e.verdict == "undetermined" else "agree" if e.verdict in words else "disagree"
        parts.append({"of": "verdict", "expected": list(words), "observed": e.verdict, "outcome": outcome})
    for name, ends in expected.items():
        if name == "verdict":
            continue
        values = [trial.at(name) for trial in trials if math.isfinite(trial.score)]
        finite = [value for value, _ in values if math.isfinite(value)]
        if not finite:
            parts.append({"of": name, "expected": list(ends), "observed": None, "outcome": "undetermined"})
            continue
        mean = float(np.mean(finite))
        error = float(np.nan_to_num(np.nanmax([0.0, *(error for _, error in values)])))
        if len(finite) > 1:
            error = max(error, float(np.std(finite, ddof=1)) / math.sqrt(len(finite)))
        low, high = ends
        inside = low + 2 * error <= mean <= high - 2 * error
        outside = mean < low - 2 * error or mean > high + 2 * error
        outcome = "agree" if inside else "disagree" if outside else "undetermined"
        parts.append({"of": name, "expected": [low, high], "observed": mean, "outcome": outcome})
    outcomes = {part["outcome"] for part in parts}
    overall = next((word for word in ("disagree", "undetermined") if word in outcomes), "agree")
    return {"outcome": overall, "parts": parts}

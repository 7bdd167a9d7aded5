"""Verdicts where theory says what must happen: quadratics of known curvature, rates around the edge of stability.

Full-batch training of ½ Σ λ_i (w_i - 1)², as real studies (`etude.Study.run`). Along an eigenvector the error e obeys a
linear recurrence, which is stable exactly below a threshold; the largest curvature λ decides.

- Gradient descent: e ← (1 - ηλ) e; stable for η < 2/λ. The loss then falls at every step, though between 1/λ and 2/λ the
  weights leap over the minimum each time: the dynamics must be ``smooth`` there.
- Heavy ball (torch's SGD: v ← βv + g, w ← w - ηv): z² - (1 + β - ηλ) z + β = 0. By the Jury conditions both roots lie
  inside the unit circle for η > 0, β < 1 and 2(1 + β) - ηλ > 0: stable for η < 2(1 + β)/λ.
- Adam with ε ≫ √v: the preconditioner is ε, constant, and w ← w - (η/ε) m̂ with m ← β₁m + (1 - β₁)g. Once the bias
  correction has faded this is heavy ball at the rate (1 - β₁)η/ε: stable for η < 2(1 + β₁)ε / ((1 - β₁)λ), which is
  38 ε/λ for β₁ = 0.9 (Cohen et al. 2022, "Adaptive gradient methods at the edge of stability", arXiv 2207.14484: the
  preconditioned sharpness settles at 38/η). ε is 1e20 here, so that √v stays below it until float32 overflows; with a
  usual ε Adam is no linear system, its preconditioner grows with the gradient, and no rate diverges for good.

What it proves: that ``diverged`` is said exactly of the rates above the threshold, found within 2 %. What would refute it: a
rate 2 % or more above that is not ``diverged``, one 2 % or more below that is, or a curve of gradient descent below the
threshold that is not ``smooth``.

Steps: 2 % above, gradient descent multiplies the loss by 1.04² a step; float32 overflows after some 1,130 steps, so 1,500
show it as a loss that is not finite. A short study of 300 steps in float64 ends finite, at e^23 times the start, and must be
``diverged`` because the trial collapsed. Exactly at 2/λ the loss stays what it was; that rate must not be ``good``.

Run ``python benchmarks/theory.py``, two minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import etude
import fragment
from etude.tasks.quadratic import half_squared_error

FACTORS = (
    0.02,
    0.1,
    0.25,
    0.45,
    0.55,
    0.7,
    0.8,
    0.9,
    0.94,
    0.96,
    0.98,
    0.99,
    1.01,
    1.02,
    1.04,
    1.06,
    1.1,
    1.2,
    1.5,
    2.0,
)
NEAR = 0.0201  # found within 2 %
EPSILON = 1e20
BETA = 0.9
SINGLE, SPECTRUM = (0.7,), (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Case:
    """A study around a threshold; ``times_edge`` is the threshold times λ_max."""

    name: str
    optimizer: str
    times_edge: float
    curvatures: tuple[float, ...]
    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 1500
    dtype: torch.dtype = torch.float32
    plain: bool = False  # gradient descent without memory: smooth below the threshold

    @property
    def edge(self) -> float:
        return self.times_edge / max(self.curvatures)


CASES = tuple(
    case
    for label, curvatures in (("one curvature, 0.7", SINGLE), ("curvatures 0.01 to 3", SPECTRUM))
    for case in (
        Case(f"gradient descent, {label}", "sgd", 2, curvatures, plain=True),
        Case(
            f"gradient descent, {label}, 300 steps in float64",
            "sgd",
            2,
            curvatures,
            steps=300,
            dtype=torch.float64,
            plain=True,
        ),
        Case(f"heavy ball (β = 0.9), {label}", "sgd", 2 * (1 + BETA), curvatures, {"momentum": BETA}),
        Case(
            f"Adam with ε ≫ √v, {label}",
            "adam",
            2 * (1 + BETA) / (1 - BETA) * EPSILON,
            curvatures,
            {"eps": EPSILON, "betas": (BETA, 0.999)},
        ),
    )
)


def weights(count: int, dtype: torch.dtype) -> nn.Module:
    """Make one weight a curvature: (B, D) to (B,)."""
    return nn.Sequential(nn.Linear(count, 1, bias=False, dtype=dtype), nn.Flatten(0))


def bowl(case: Case) -> etude.Task:
    """Write the quadratic as a linear regression whose Hessian is diag(λ)."""
    curvature_D = torch.tensor(case.curvatures, dtype=case.dtype)
    inputs = torch.diag((len(curvature_D) * curvature_D).sqrt())
    data = inputs, inputs.sum(1)
    return etude.Task(
        name="bowl", model=partial(weights, len(curvature_D), case.dtype), train=data, val=data, loss=half_squared_error
    )


def run(case: Case, factors: tuple[float, ...], folder: Path) -> list[dict[str, Any]]:
    """Train at the threshold times each factor, and return a row a rate."""
    lrs = tuple(case.edge * factor for factor in factors)
    study = etude.Study(
        task=bowl(case),
        recipe=etude.Recipe(optimizer=case.optimizer, optimizer_options=case.options, batch_size=len(case.curvatures)),
        objective=etude.minimize("val_loss"),
        lrs=lrs,
        epochs=case.steps,  # an epoch is one step here
        evaluate_every=max(1, case.steps // 100),
    )
    result = study.run(folder, executor="inline")
    made = result.analyse()
    trials = {trial["lr"]: trial for trial in made["trials"]}
    status = {trial.lr: trial.status for trial in result.stored.trials}
    rows = []
    for factor, lr, rate in zip(factors, lrs, made["rates"], strict=True):
        evaluations = next(t.evaluations for t in result.stored.trials if t.lr == lr)
        rows.append(
            {
                "case": case.name,
                "factor": factor,
                "lr": lr,
                "start": evaluations[0].metrics["val_loss"],
                "end": evaluations[-1].metrics["val_loss"],
                "status": status[lr],
                "dynamics": trials[lr]["dynamics"] or "",
                "verdict": rate["verdict"],
                "wrong": wrong(case, factor, rate["verdict"], trials[lr]["dynamics"]),
            }
        )
    return rows


def wrong(case: Case, factor: float, verdict: str, dynamics: str | None) -> str:
    """Say what theory forbids, or nothing."""
    if factor == 1:
        return "good at the edge itself" if verdict == "good" else ""
    if factor >= 1 + NEAR - 1e-3 and verdict != "diverged":
        return f"{100 * (factor - 1):.0f} % above the threshold, and {verdict}"
    if factor <= 1 - NEAR + 1e-3 and verdict == "diverged":
        return f"{100 * (1 - factor):.0f} % below the threshold, and diverged"
    if factor < 1 and case.plain and dynamics != "smooth":
        return f"below the threshold, and {dynamics}"
    return ""


def page(rows: list[dict[str, Any]]) -> list[str]:
    """Write the fragment."""
    found: list[list[object]] = []
    for name in dict.fromkeys(row["case"] for row in rows if row["factor"] != 1):
        of_case = [row for row in rows if row["case"] == name]
        below = [row for row in of_case if row["factor"] < 1]
        above = [row for row in of_case if row["factor"] > 1]
        diverged = [row["factor"] for row in of_case if row["verdict"] == "diverged"]
        held = [row["factor"] for row in of_case if row["verdict"] != "diverged"]
        clean = not diverged or not held or max(held) < min(diverged)
        edge = f"{max(held):.2f} to {min(diverged):.2f}" if clean and diverged and held else "not one boundary"
        shown = Counter(row["dynamics"] or "not finite" for row in above)
        words = Counter(row["dynamics"] or "not finite" for row in below)
        found.append(
            [
                name,
                edge,
                ", ".join(f"{n} {word}" for word, n in words.most_common()),
                ", ".join(f"{n} {word}" for word, n in shown.most_common()),
                sum(bool(row["wrong"]) for row in rows if row["case"] == name),
            ]
        )
    exact = [row for row in rows if row["factor"] == 1]
    mismatches = [row for row in rows if row["wrong"]]
    reasons = [row["wrong"] for row in mismatches]
    lines = [
        "# Theory",
        "",
        "Made by `python benchmarks/theory.py`; the derivations are in its docstring. Rates are "
        f"{min(FACTORS):g} to {max(FACTORS):g} times the threshold that theory gives.",
        "",
        *fragment.claims(
            [
                (
                    not any("the threshold, and" in one and "%" in one for one in reasons),
                    "`diverged` within 2 % of theory",
                ),
                (
                    not any(one.startswith("below the threshold") for one in reasons),
                    "gradient descent below the threshold is smooth, also where the weights leap over the minimum",
                ),
                (not any("edge itself" in one for one in reasons), "the rate at the threshold itself is not `good`"),
            ]
        ),
        "",
        f"- {len(rows) - len(exact)} rates in {len(found)} studies; {len(mismatches)} contradict the theory.",
        *(
            f"- Exactly at 2/λ (λ = 1, float64) the loss went from {row['start']:.4g} to {row['end']:.4g} in"
            f" {row['case'].rsplit(', ', 1)[-1]}: {row['dynamics'] or row['status']}, `{row['verdict']}`."
            for row in exact
        ),
        "",
        *fragment.table(
            ["study", "boundary of `diverged`, in thresholds", "dynamics below", "dynamics above", "wrong"], found
        ),
    ]
    if mismatches:
        lines += ["", "Every contradiction:", ""]
        lines += fragment.table(
            ["study", "rate / threshold", "start", "end", "status", "dynamics", "said", "wrong because"],
            [
                [
                    row["case"], f"{row['factor']:g}", f"{row['start']:.3g}", f"{row['end']:.3g}", row["status"],
                    row["dynamics"], row["verdict"], row["wrong"],
                ]
                for row in mismatches
            ],
        )  # fmt: skip
    return lines


def main() -> None:
    """Train all studies in a temporary folder and write the fragment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=Path, default=fragment.PAGES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for i, case in enumerate(CASES):
            rows += run(case, FACTORS, Path(folder) / str(i))
        # Exact arithmetic: with λ = 1 the error changes its sign at each step and nothing else.
        edge = Case("gradient descent, at the edge, 300 steps", "sgd", 2, (1.0,), steps=300, dtype=torch.float64)
        rows += [row for row in run(edge, (0.1, 0.5, 1.0, 1.5), Path(folder) / "edge") if row["factor"] == 1]
    fragment.write("theory", page(rows), rows, options.pages)


if __name__ == "__main__":
    main()

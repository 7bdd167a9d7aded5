"""Where to look for a rate when nobody says. It belongs to searching: a study means nothing by a rate that it does not name.

The ranges are wider than anybody's habits, because a search pays little for rates that are plainly lost.
"""

from __future__ import annotations

from etude.spec.recipe import Recipe

# The size of a step does not depend on that of the gradient, so the rate is the relative size of a change.
NORMALIZED = (1e-6, 1.0)
# A step is as large as the gradient, whose size is the model's affair; momentum makes it ten times larger.
BY_GRADIENT = (1e-5, 10.0)
USUAL = {
    **dict.fromkeys(
        ("adafactor", "adam", "adamax", "adamw", "muon", "nadam", "radam", "rmsprop", "rprop", "sparseadam",
         "adamwschedulefree", "radamschedulefree"),
        NORMALIZED,
    ),
    **dict.fromkeys(("asgd", "sgd"), BY_GRADIENT),
    "sgdschedulefree": (1e-4, 100.0),  # its paper tunes from 1 to 50
    "adagrad": (1e-5, 10.0),  # normalized, and the sum that it divides by only grows
    "adadelta": (1e-3, 100.0),  # both relative: 1 is its author's rate (Zeiler 2012, arXiv 1212.5701)
    "lbfgs": (1e-3, 10.0),  # near a minimum 1 is Newton's step
    "prodigy": (1e-2, 10.0),  # a factor on the rate that it estimates
}  # fmt: skip
UNKNOWN = (1e-6, 10.0)  # an optimizer of one's own


def usual_range(recipe: Recipe) -> tuple[float, float]:
    """Return the lowest and the highest rate worth a look with the recipe's optimizer."""
    return UNKNOWN if callable(recipe.optimizer) else USUAL[recipe.optimizer]

"""How likely a rate is to lose a trial, from how many were lost at all rates.

The chance rises with the rate: lapse + (1 − lapse)·logistic((log η − centre)/width), averaged over a grid of the three
parameters with their likelihood. Neighbours lend each other strength, and 0 of 3 does not mean never. R rates.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from etude.analysis.values import Floats

WIDTHS = (0.03, 0.1, 0.25, 0.5)  # decades
LAPSES, LAPSE_WEIGHTS = (0.0, 0.02, 0.1, 0.3), (0.7, 0.15, 0.1, 0.05)  # lost for reasons that the rate has no part in
BEYOND, CENTRES = 1.5, 121  # decades outside of the rates tried where the centre may be, and how many places


def chance(x: Floats, lost: Floats, total: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the probability of losing a trial and the ends of its 95 % interval, each (R,), at log10 rates ``x``.

    ``lost`` of ``total`` trials (R,); a rate without trials is allowed. Rising in the rate.
    """
    if not len(x):
        return np.empty(0), np.empty(0), np.empty(0)
    centre = np.linspace(x.min() - BEYOND, x.max() + BEYOND, CENTRES)
    c, w, lapse = np.meshgrid(centre, WIDTHS, LAPSES, indexing="ij")
    prior = np.broadcast_to(np.log(LAPSE_WEIGHTS), c.shape).ravel()
    c, w, lapse = c.ravel()[:, None], w.ravel()[:, None], lapse.ravel()[:, None]
    p_KR = np.clip(lapse + (1 - lapse) * special.expit((x - c) / w), 1e-12, 1 - 1e-12)
    fit = prior + (lost * np.log(p_KR) + (total - lost) * np.log1p(-p_KR)).sum(1)
    weight = np.exp(fit - fit.max())
    weight /= weight.sum()
    ends = np.empty((2, len(x)))
    for i, p in enumerate(p_KR.T):
        order = p.argsort()
        cumulative = weight[order].cumsum()
        ends[:, i] = p[order][np.minimum(np.searchsorted(cumulative, [0.025, 0.975]), len(p) - 1)]
    return weight @ p_KR, ends[0], ends[1]

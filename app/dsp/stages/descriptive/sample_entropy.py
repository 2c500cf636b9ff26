"""Sample entropy of the last ``window`` values (Richman & Moorman, *Am. J. Physiol. Heart* 278, 2000).

``-ln(A / B)``: of the pairs of templates of ``m`` values that are alike, ``B``, the share that still is with the next
value, ``A``. Both are counted over the ``window - m`` templates that have a next value, and no template is compared
with itself. Alike are those whose greatest difference is at most ``r`` times the window's standard deviation
(population).

Regular series are near 0: of equal values it is 0. Where nothing is alike with the next value, it is the most that a
window can give, as if half a pair of all were: ``ln((window - m) * (window - m - 1) / 2)``.
"""

from __future__ import annotations

import math

import numpy as np

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.descriptive._templates import Params, alike, no_counts, prepare
from app.dsp.stages.descriptive._windows import measured
from app.dsp.window import init, settle


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    m, r = params.m, params.r
    return measured(params.window, state, x, marks, lambda own: sample_entropy(own, m, r)[..., np.newaxis])


def sample_entropy(x: Floats, m: int = 2, r: float = 0.2) -> Floats:
    """Sample entropy along the last axis of (..., n) values, n at least ``m + 2``: (...,)."""
    prepared = prepare(x, r)
    templates = x.shape[-1] - m
    short, long = no_counts(templates, prepared), no_counts(templates, prepared)
    for _, of_m, of_more in alike(prepared, m):
        short[: len(of_more)] += of_m[:-1]
        long[: len(of_more)] += of_more
    b, a = (np.add.reduce(counts, axis=0, dtype=np.int64) for counts in (short, long))
    most = math.log(templates * (templates - 1) / 2)
    entropy = np.where(a > 0, np.log(np.maximum(b, 1) / np.maximum(a, 1)), most)
    entropy[np.isnan(prepared.tolerance)] = np.nan
    return entropy.reshape(x.shape[:-1])


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 40}, {"window": 16, "m": 3, "r": 0.5}),
    oracle="the definition with all distances, window by window",
    outputs=("value",),
)

"""Approximate entropy of the last ``window`` values (Pincus, *Proc. Natl. Acad. Sci. USA* 88, 1991).

``phi(m) - phi(m + 1)``, where ``phi(m)`` is the mean over the ``window - m + 1`` templates of ``m`` values of the
logarithm of the share of all templates, itself among them, that each is alike to. Alike are those whose greatest
difference is at most ``r`` times the window's standard deviation (population).

Regular series are near 0, by the edges of the window sometimes just below it; of equal values it is 0. As templates
count themselves it is always finite, but takes short windows for more regular than they are; `sample_entropy` does not.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.descriptive._templates import Params, alike, no_counts, prepare
from app.dsp.stages.descriptive._windows import measured
from app.dsp.window import init, settle


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    m, r = params.m, params.r
    return measured(params.window, state, x, marks, lambda own: approximate_entropy(own, m, r)[..., np.newaxis])


def approximate_entropy(x: Floats, m: int = 2, r: float = 0.2) -> Floats:
    """Approximate entropy along the last axis of (..., n) values, n at least ``m + 1``: (...,)."""
    prepared = prepare(x, r)
    templates = x.shape[-1] - m
    short, long = no_counts(templates + 1, prepared), no_counts(templates, prepared)
    for lag, of_m, of_more in alike(prepared, m):
        for counts, found in ((short, of_m), (long, of_more)):
            counts[: len(found)] += found
            counts[lag:] += found
    entropy: Floats = _phi(short) - _phi(long)
    entropy[np.isnan(prepared.tolerance)] = np.nan
    return entropy.reshape(x.shape[:-1])


def _phi(others: NDArray[np.unsignedinteger]) -> Floats:
    """Mean logarithm of the share of templates that each is alike to, from the (templates, series) others it is."""
    logarithms = _logarithms(len(others))[np.ascontiguousarray(others.T)]
    mean: Floats = np.add.reduce(logarithms, axis=-1) / len(others)
    return mean


@lru_cache
def _logarithms(templates: int) -> Floats:
    """Logarithm of the share that 0 to ``templates - 1`` others and the template itself are of all."""
    shares: Floats = np.log(np.arange(1, templates + 1) / templates)
    return shares


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 40}, {"window": 16, "m": 3, "r": 0.5}),
    oracle="the definition with all distances, window by window",
    outputs=("value",),
)

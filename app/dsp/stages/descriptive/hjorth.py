"""Hjorth parameters of the last ``window`` values (Hjorth, *Electroencephalogr. Clin. Neurophysiol.* 29, 1970).

With population variances, and differences that are not scaled by the sample interval::

    activity = var(x);  mobility = sqrt(var(x') / var(x));  complexity = mobility(x') / mobility(x)

Where a variance is 0, the ratio over it is 0.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.descriptive._windows import measured, ratio
from app.dsp.window import check_window, init, settle

OUTPUTS = ("activity", "mobility", "complexity")


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters: ``window``, values the parameters are taken over."""

    window: Samples

    def __post_init__(self) -> None:
        check_window(self.window, 3, "two differences are taken")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    return measured(params.window, state, x, marks, hjorth)


def hjorth(x: Floats) -> Floats:
    """Activity, mobility and complexity along the last axis.

    Parameters
    ----------
    x
        (..., n) values, n at least 3.

    Returns
    -------
    (..., 3) parameters, in the order of `OUTPUTS`.
    """
    # One layout, so that sums along a row run in one order whatever array the row was taken from.
    x = np.ascontiguousarray(x)
    first = x[..., 1:] - x[..., :-1]
    activity = _variance(x)
    variance_first = _variance(first)
    mobility = np.sqrt(ratio(variance_first, activity))
    mobility_first = np.sqrt(ratio(_variance(first[..., 1:] - first[..., :-1]), variance_first))
    return np.stack([activity, mobility, ratio(mobility_first, mobility)], axis=-1)


def _variance(x: Floats) -> Floats:
    # np.add.reduce over a contiguous last axis adds pairwise within the row, in an order that depends on the
    # row's length alone; dot products would depend on the processor's kernels.
    deviation = x - np.add.reduce(x, axis=-1, keepdims=True) / x.shape[-1]
    np.square(deviation, out=deviation)
    variance: Floats = np.add.reduce(deviation, axis=-1) / x.shape[-1]
    return variance


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 256}, {"window": 3}, {"window": 100}),
    oracle="the definition with numpy.var, window by window",
    outputs=OUTPUTS,
)

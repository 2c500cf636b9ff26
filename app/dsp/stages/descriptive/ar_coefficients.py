"""Autoregressive model of the last ``window`` values, by Burg's method.

With the mean taken away, ``x[n] = a1 * x[n-1] + ... + ap * x[n-p] + e[n]`` for ``p = order``, and the variance of
``e``. (Where models are written ``x[n] + a1 * x[n-1] + ... = e[n]``, the coefficients have the other sign.)

Each order's reflection coefficient is the one that makes the forward and backward prediction errors within the window
least, ``k = 2 sum(f * b) / sum(f**2 + b**2)`` (Burg, *Maximum Entropy Spectral Analysis*, 1975). The Yule-Walker
equations take the samples outside the window for 0, which biases the model of a short window with narrow peaks; Burg's
method does not, and as they do it always gives a stable model, since ``abs(k) <= 1``. Where there is nothing left to
predict, as in a constant, the coefficients still to come are 0.
"""

from __future__ import annotations

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.descriptive._windows import centred, measured, ratio, scaled
from app.dsp.window import check_window, init, settle

MAX_ORDER = 64


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the model.

    Attributes
    ----------
    window
        Values the model is fitted to.
    order
        Values before it that each is predicted from.
    """

    window: Samples
    order: int

    def __post_init__(self) -> None:
        if not 1 <= self.order <= MAX_ORDER:
            raise ValueError(f"order = {self.order}: expected 1 to {MAX_ORDER}")
        check_window(self.window, 2 * self.order, f"order = {self.order} takes twice as many")


def outputs(params: Params) -> tuple[str, ...]:
    """Coefficients ``a1``, ``a2``, ... and the noise's variance."""
    return (*(f"a{number}" for number in range(1, params.order + 1)), "noise_variance")


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    return measured(params.window, state, x, marks, lambda windows: burg(windows, params.order))


def burg(x: Floats, order: int) -> Floats:
    """Fit a model along the last axis.

    Parameters
    ----------
    x
        (..., n) values, n above ``order``.
    order
        Coefficients of the model.

    Returns
    -------
    (..., order + 1) coefficients, and the noise's variance.
    """
    values, scale = scaled(x)
    values = centred(values)
    model = np.zeros((*x.shape[:-1], order + 1))
    variance = np.add.reduce(np.square(values), axis=-1) / x.shape[-1]
    forward, backward = values[..., 1:], values[..., :-1]
    for number in range(order):
        common = 2 * np.add.reduce(forward * backward, axis=-1)
        power = np.add.reduce(np.square(forward) + np.square(backward), axis=-1)
        reflection = np.clip(ratio(common, power), -1, 1)
        variance = variance * (1 - reflection) * (1 + reflection)
        k = reflection[..., np.newaxis]
        model[..., :number] -= k * model[..., :number][..., ::-1]
        model[..., number] = reflection
        forward, backward = (forward - k * backward)[..., 1:], (backward - k * forward)[..., :-1]
    model[..., order] = variance * scale * scale
    return model


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"window": 64, "order": 4}, {"window": 20, "order": 10}),
    oracle="least forward and backward errors of whole filters, order by order, window by window",
    outputs=outputs,
)

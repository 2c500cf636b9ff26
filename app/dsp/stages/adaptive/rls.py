"""Recursive least squares: a filter that learns all that the samples so far tell (Haykin, *Adaptive Filter Theory*, 9).

Channel 0 is the reference x, channel 1 the desired signal d. With ``x[n]`` the last ``taps`` samples of the reference,
and P, the inverse of their correlation, at ``I / delta`` to begin with::

    y = w . x[n];  e = d - y;  g = P x[n];  q = forgetting + x[n] . g
    w <- w + g * e / q;  P <- (P - g g' / q) / forgetting

so that the weights are those of least squares over all samples, where one k samples back counts ``forgetting ** k``,
and of a pull of ``delta`` towards zero that fades likewise. What comes out is the error e, from before the sample was
learnt from, and the estimate y. Before the first sample there are zeros.

A reference that tells nothing new, such as silence or a constant, would let P grow without bound: it is not divided by
``forgetting`` where that would take its greatest diagonal element beyond 1e6 / delta. Where rounding has left P not
positive, it begins anew; where weights, or an estimate, would no longer be finite, so do they, at zero.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from app.dsp.stage import NEVER, Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.window import empty_tail, join

MAX_TAPS = 128
MAX_GROWTH = 1e6


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the filter.

    Attributes
    ----------
    taps
        Weights.
    forgetting
        Weight of a sample as a share of the next one's, above 0 and at most 1 (nothing is forgotten); often lambda.
    delta
        Pull towards zero at the start, in the reference's unit squared: small against its power to learn fast.
    """

    taps: Samples
    forgetting: float = 0.99
    delta: float = 0.01

    def __post_init__(self) -> None:
        if not 1 <= self.taps <= MAX_TAPS:
            raise ValueError(f"taps = {self.taps}: expected 1 to {MAX_TAPS}")
        if not 0 < self.forgetting <= 1:
            raise ValueError(f"forgetting = {self.forgetting}: expected above 0, at most 1")
        if not 1e-30 <= self.delta <= 1e30:
            raise ValueError(f"delta = {self.delta}: expected 1e-30 to 1e30")


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``taps - 1`` samples of the reference, how many have been seen, the weights and P.

    ``weights`` (rows, taps) and ``inverse`` (rows, taps, taps) begin with the oldest sample.
    """
    if signal.channels != 2:
        raise ValueError(f"channels = {signal.channels}: expected 2, the reference and the desired signal")
    inverse = np.zeros((rows, params.taps, params.taps))
    inverse[:] = np.eye(params.taps) / params.delta
    return {
        **empty_tail(params.taps, Signal(signal.sample_rate, 1), rows),
        "weights": np.zeros((rows, params.taps)),
        "inverse": inverse,
    }


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter and learn, sample by sample; full once the reference fills the window."""
    joined = join(params.taps, state, x[:, :1], marks)
    windows, desired = sliding_window_view(joined.series[:, 0], params.taps, axis=-1), x[:, 1]
    weights, inverse = state["weights"].copy(), state["inverse"].copy()
    errors, estimates = np.empty_like(desired), np.empty_like(desired)
    with np.errstate(over="ignore", invalid="ignore"):
        for n in range(x.shape[-1]):
            window = windows[:, n]
            estimates[:, n] = np.add.reduce(weights * window, axis=-1)
            errors[:, n] = desired[:, n] - estimates[:, n]
            lost = ~np.isfinite(errors[:, n])
            if lost.any():
                weights[lost], estimates[lost, n], errors[lost, n] = 0.0, 0.0, desired[lost, n]
            _learn(params, weights, inverse, window, errors[:, n])
    after = {**joined.state, "weights": weights, "inverse": inverse}
    return Result(after, np.stack([errors, estimates], axis=1), joined.full)


def _learn(params: Params, weights: Floats, inverse: Floats, window: Floats, error: Floats) -> None:
    """Learn from a sample (rows,), in place."""
    product = inverse * window[:, np.newaxis, :]
    gain = np.add.reduce(product, axis=-1)
    power = np.add.reduce(gain * window, axis=-1)
    sound = (power >= 0) & (power < np.inf)
    if not sound.all():  # nothing is learnt from this sample
        inverse[~sound], gain[~sound], power[~sound] = np.eye(params.taps) / params.delta, 0.0, 0.0
    power += params.forgetting
    weights += gain * (error / power)[:, np.newaxis]
    sound = np.isfinite(weights).all(axis=-1)
    if not sound.all():
        weights[~sound] = 0.0
    # g g' is symmetric to the last bit, and so P stays.
    np.multiply(gain[:, :, np.newaxis], gain[:, np.newaxis, :], out=product)
    product /= power[:, np.newaxis, np.newaxis]
    inverse -= product
    diagonal = inverse.diagonal(axis1=1, axis2=2)
    sound = diagonal.min(axis=-1) > 0
    if not sound.all():
        inverse[~sound] = np.eye(params.taps) / params.delta
    if params.forgetting < 1:
        may_grow = diagonal.max(axis=-1) <= params.forgetting * MAX_GROWTH / params.delta
        inverse /= np.where(may_grow, params.forgetting, 1.0)[:, np.newaxis, np.newaxis]


def settle(params: Params, signal: Signal) -> int:
    """Never: what has been learnt stays."""
    return NEVER


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({"taps": 8}, {"taps": 3, "forgetting": 1.0, "delta": 1.0}, {"taps": 4, "forgetting": 0.95}),
    oracle="weighted least squares over all samples so far",
    mixes=True,
)

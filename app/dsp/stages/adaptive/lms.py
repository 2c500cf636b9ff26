"""Least mean squares: a filter that learns to make a desired signal from a reference (Widrow & Hoff, 1960).

Channel 0 is the reference x, channel 1 the desired signal d. With ``x[n]`` the last ``taps`` samples of the reference::

    y = w . x[n];  e = d - y;  w <- (1 - mu * leak) * w + mu * e * x[n]

Normalised (NLMS; Haykin, *Adaptive Filter Theory*, 2002, 6), ``mu`` is over ``epsilon + x[n] . x[n]`` in the last term,
the energy of the very samples that are in the window. What comes out is the error e and the estimate y: where noise is
to be cancelled, x is the noise and e the signal without it. Before the first sample there are zeros.

Not normalised, mu must be less than 2 over the energy in the window, or the weights grow without bound: where they, or
an estimate, would no longer be finite, the weights begin anew at zero.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from app.dsp.stage import NEVER, Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.window import empty_tail, join, window_sums

MAX_TAPS = 4096


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the filter.

    Attributes
    ----------
    taps
        Weights.
    mu
        Step size, above 0 and at most 1.
    normalised
        Whether the step is over the energy of the reference in the window.
    leak
        By how much weights fade, 0 (not at all) to less than 1.
    epsilon
        What is added to that energy, in the reference's unit squared.
    """

    taps: Samples
    mu: float = 0.01
    normalised: bool = False
    leak: float = 0.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if not 1 <= self.taps <= MAX_TAPS:
            raise ValueError(f"taps = {self.taps}: expected 1 to {MAX_TAPS}")
        if not 0 < self.mu <= 1:
            raise ValueError(f"mu = {self.mu}: expected above 0, at most 1")
        if not 0 <= self.leak < 1:
            raise ValueError(f"leak = {self.leak}: expected 0 to less than 1")
        if not 0 < self.epsilon < float("inf"):
            raise ValueError(f"epsilon = {self.epsilon}: expected a number above 0")


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``taps - 1`` samples of the reference, how many have been seen, and the weights.

    ``weights`` (rows, taps) begin with that of the oldest sample.
    """
    if signal.channels != 2:
        raise ValueError(f"channels = {signal.channels}: expected 2, the reference and the desired signal")
    return {**empty_tail(params.taps, Signal(signal.sample_rate, 1), rows), "weights": np.zeros((rows, params.taps))}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter and learn, sample by sample; full once the reference fills the window."""
    joined = join(params.taps, state, x[:, :1], marks)
    reference = joined.series[:, 0]
    windows, desired = sliding_window_view(reference, params.taps, axis=-1), x[:, 1]
    weights = state["weights"]
    errors, estimates = np.empty_like(desired), np.empty_like(desired)
    keep = 1 - params.mu * params.leak
    with np.errstate(over="ignore", invalid="ignore"):
        gains = np.full_like(desired, params.mu)
        if params.normalised:
            gains /= params.epsilon + window_sums(np.square(reference), params.taps)
        for n in range(x.shape[-1]):
            window = windows[:, n]
            estimate = np.add.reduce(weights * window, axis=-1)
            error = desired[:, n] - estimate
            lost = ~np.isfinite(error)
            if lost.any():
                weights = np.where(lost[:, np.newaxis], 0.0, weights)
                estimate, error = np.where(lost, 0.0, estimate), np.where(lost, desired[:, n], error)
            estimates[:, n], errors[:, n] = estimate, error
            weights = keep * weights + (gains[:, n] * error)[:, np.newaxis] * window
            lost = ~np.isfinite(weights).all(axis=-1)
            if lost.any():
                weights[lost] = 0.0
    return Result({**joined.state, "weights": weights}, np.stack([errors, estimates], axis=1), joined.full)


def settle(params: Params, signal: Signal) -> int:
    """Never: what has been learnt stays."""
    return NEVER


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"taps": 16, "mu": 0.5, "normalised": True},
        {"taps": 5},
        {"taps": 8, "mu": 0.1, "normalised": True, "leak": 0.01, "epsilon": 0.01},
    ),
    oracle="the definition, sample by sample",
    mixes=True,
)

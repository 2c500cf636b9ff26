"""Power in bands of frequencies over the last ``window`` values.

From one periodogram of the window without its mean, under a Hann window (Welch, *IEEE Trans. Audio Electroacoust.* 15,
1967, with a single segment: adding up the lines of a band averages as many of them as more segments would, and keeps
the finest resolution, ``sample_rate / window``). A band ``[low, high]`` takes the lines with ``low <= f < high``, so
that bands that meet add up to the one they cover; one up to half the sample rate takes that line too. All lines
together are the mean square under the Hann window; a sine of amplitude A well inside a band gives ``A**2 / 2``.

With ``relative`` each is a share of the power of all lines: 0 where there is none.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.descriptive._spectrum import check_spectrum_window, frequencies, hann, powers
from app.dsp.stages.descriptive._windows import measured, ratio
from app.dsp.window import empty_tail, settle

MAX_BANDS = 64

Bands = dict[str, tuple[float, float]]


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the bands.

    Attributes
    ----------
    window
        Values the spectrum is of.
    bands
        Edges of each band in Hz, ``{delta = [0.5, 4], theta = [4, 8]}``; its name is that of its power among the
        outputs, which come by rising edges.
    relative
        Whether to give shares of the whole power.
    """

    window: Samples
    bands: Bands
    relative: bool = False

    def __post_init__(self) -> None:
        check_spectrum_window(self.window)
        if not 1 <= len(self.bands) <= MAX_BANDS:
            raise ValueError(f"bands: {len(self.bands)} of them, expected 1 to {MAX_BANDS}")
        for name, (low, high) in self.bands.items():
            if not name.isidentifier():
                raise ValueError(f"bands: {name!r}: expected an identifier for its name")
            if not 0 <= low < high < math.inf:
                raise ValueError(f"bands: {name} = [{low}, {high}]: expected two rising frequencies in Hz, from 0")


def outputs(params: Params) -> tuple[str, ...]:
    """Names of the bands by rising edges, whatever order they are written in."""
    return tuple(sorted(params.bands, key=lambda name: (params.bands[name], name)))


def lines(params: Params, sample_rate: float) -> list[slice]:
    """Lines of the spectrum that each band takes, in the order of `outputs`.

    Raises
    ------
    ValueError
        A band reaches beyond half the sample rate, or lies between two lines.
    """
    at = frequencies(params.window, sample_rate)
    found = []
    for name in outputs(params):
        low, high = params.bands[name]
        if high > sample_rate / 2:
            raise ValueError(
                f"bands: {name} = [{low}, {high}]: expected at most half the sample rate, {sample_rate / 2} Hz"
            )
        first, end = np.searchsorted(at, [low, high]).tolist()
        if high == sample_rate / 2:
            end = len(at)
        if first == end:
            raise ValueError(
                f"bands: {name} = [{low}, {high}]: holds no multiple of {sample_rate / params.window:g} Hz, the"
                f" resolution of window = {params.window}; widen it, or take a longer window"
            )
        found.append(slice(first, end))
    return found


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last ``window - 1`` values, and how many have been seen."""
    lines(params, signal.sample_rate)
    return empty_tail(params.window, signal, rows)


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Measure the window that ends at each mark."""
    bands = lines(params, signal.sample_rate)
    return measured(params.window, state, x, marks, lambda windows: band_power(windows, bands, params.relative))


def band_power(x: Floats, bands: list[slice], relative: bool) -> Floats:
    """Power of (..., window) values in runs of lines: (..., bands)."""
    window = x.shape[-1]
    squares, scale = powers(x)
    # Each line stands for the negative frequency too, but for those at 0 and at half the sample rate.
    squares[..., 1 : (window + 1) // 2] *= 2
    power = np.stack([np.add.reduce(squares[..., band], axis=-1) for band in bands], axis=-1)
    if relative:
        return ratio(power, np.broadcast_to(np.add.reduce(squares, axis=-1)[..., np.newaxis], power.shape))
    power /= window * np.add.reduce(np.square(hann(window)))
    return power * scale[..., np.newaxis] * scale[..., np.newaxis]


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"window": 250, "bands": {"delta": (0.5, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0)}},
        {"window": 101, "bands": {"low": (0.0, 15.0), "high": (15.0, 125.0)}, "relative": True},
    ),
    oracle="scipy.signal.periodogram, window by window",
    outputs=outputs,
)

"""Filter bank: every channel through several Butterworth band-passes that lie side by side.

The edges divide a range of frequencies evenly on a scale: ``f`` itself (linear), ``log10 f`` (log), ``2595 log10(1 + f
/ 700)`` (mel; O'Shaughnessy, *Speech Communication*, 1987) or ``26.81 f / (1960 + f) - 0.53`` (bark; Traunmüller,
*J. Acoust. Soc. Am.* 88, 1990). Neighbours meet at -3 dB. What comes out are the bands of the first channel, then
those of the second, and so on.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np

from app.dsp.designs import butterworth
from app.dsp.sections import sosfilt
from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State
from app.dsp.stages.filters._sos import HALF_POWER, as_asked, check_order, settled

MAX_BANDS = 64


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the bank.

    Attributes
    ----------
    count
        Bands.
    range
        Lower edge of the first band and upper one of the last, in Hz.
    scale
        What all bands are equally wide on.
    order
        Of each band as scipy counts it: it has twice as many poles.
    """

    count: int
    range: tuple[float, float]
    scale: Literal["linear", "log", "mel", "bark"] = "linear"
    order: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_BANDS:
            raise ValueError(f"count = {self.count}: expected 1 to {MAX_BANDS}")
        if not 0 < self.range[0] < self.range[1]:
            raise ValueError(f"range = {list(self.range)}: expected rising frequencies above 0 Hz")
        check_order(self.order)


def edges(params: Params) -> Floats:
    """Give the edges of the bands in Hz, (count + 1,)."""
    low, high = _from_hz(np.array(params.range), params.scale)
    inner = _to_hz(np.linspace(low, high, params.count + 1), params.scale)[1:-1]
    return np.concatenate([params.range[:1], inner, params.range[1:]])


def _from_hz(f: Floats, scale: str) -> Floats:
    if scale == "log":
        return np.log10(f)
    if scale == "mel":
        return 2595 * np.log10(1 + f / 700)
    return 26.81 * f / (1960 + f) - 0.53 if scale == "bark" else f


def _to_hz(z: Floats, scale: str) -> Floats:
    if scale == "log":
        return np.asarray(10**z)
    if scale == "mel":
        return np.asarray(700 * (10 ** (z / 2595) - 1))
    return 1960 * (z + 0.53) / (26.28 - z) if scale == "bark" else z


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Second-order sections of each band, (bands, sections, 6), for a sample rate in Hz.

    Raises
    ------
    ValueError
        An edge lies at or beyond half the sample rate, or where no filter can be made.
    """
    if params.range[1] >= sample_rate / 2:
        raise ValueError(f"range = {list(params.range)}: expected below half the sample rate, {sample_rate / 2} Hz")
    return np.stack([_band(params.order, band, sample_rate) for band in pairwise(edges(params).tolist())])


def _band(order: int, cutoff: tuple[float, float], sample_rate: float) -> Floats:
    sos = butterworth(order, cutoff, "bandpass", sample_rate)
    try:
        return as_asked(sos, order, cutoff, sample_rate, HALF_POWER)
    except ValueError as error:
        raise ValueError(f"a band's {error}") from None


def signal(params: Params, signal: Signal) -> Signal:
    """Each channel becomes as many as there are bands."""
    return Signal(signal.sample_rate, signal.channels * params.count)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State ``zi`` (rows, channels, bands, sections, 2) at rest."""
    bands, sections, _ = design(params, signal.sample_rate).shape
    return {"zi": np.zeros((rows, signal.channels, bands, sections, 2))}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Filter; the series is full from its first sample."""
    bank = design(params, signal.sample_rate)
    rows, channels, samples = x.shape
    y = np.empty((rows, channels, len(bank), samples))
    zi = np.empty_like(state["zi"])
    for number, sos in enumerate(bank):
        y[:, :, number], zi[:, :, number] = sosfilt(sos, x, state["zi"][:, :, number])
    return Result({"zi": zi}, y.reshape(rows, -1, samples), np.ones(len(marks.rows), dtype=np.bool_))


def settle(params: Params, signal: Signal) -> int:
    """Until the band that rings longest has died away."""
    return max(settled(sos) for sos in design(params, signal.sample_rate))


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"count": 4, "range": (1.0, 41.0)},
        {"count": 6, "range": (0.5, 100.0), "scale": "log", "order": 3},
        {"count": 3, "range": (5.0, 120.0), "scale": "mel"},
        {"count": 2, "range": (20.0, 110.0), "scale": "bark", "order": 1},
    ),
    oracle="scipy.signal.sosfilt, band by band over the whole signal",
    signal=signal,
    design=design,
)

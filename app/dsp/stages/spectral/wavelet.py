"""Streaming wavelet transform: the undecimated (stationary, à trous) filter bank, causal, a value a sample.

With a_0 = x, and the wavelet's decomposition filters lo and hi of L coefficients::

    a_j[n] = sum(lo[k] a_(j-1)[n - 2**(j-1) k] for k < L)
    d_j[n] = sum(hi[k] a_(j-1)[n - 2**(j-1) k] for k < L)

(Holschneider et al., 1989; Mallat, *A Wavelet Tour of Signal Processing*, 5.2). What comes out has ``levels + 1``
channels for each channel, one channel's after another's: ``a_levels, d_levels, ..., d_1``, as PyWavelets orders them.

They are what ``pywt.swt`` gives, ``(2**j - 1) L / 2`` samples later as each filter only looks back; and the values at
the ``2**j``-th sample, the ``2 * 2**j``-th and so on are the coefficients of ``pywt.wavedec``. Values of level j span
``(2**j - 1) (L - 1) + 1`` samples; until the deepest level's span has passed they are of a signal that was 0 before.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from app.dsp.fir import filtered
from app.dsp.stage import Floats, Marks, Result, Signal, Stage, State

MAX_SPAN = 1 << 17


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the transform.

    Attributes
    ----------
    wavelet
        A discrete wavelet by its name in PyWavelets: ``haar``, ``db4``, ``sym8``, ``coif2``, ``bior4.4``, ...
    levels
        How many times the approximation is split.
    """

    wavelet: str = "db4"
    levels: int = 4

    def __post_init__(self) -> None:
        length = len(filters(self.wavelet).lo)
        most = ((MAX_SPAN - 1) // (length - 1) + 1).bit_length() - 1
        if not 1 <= self.levels <= most:
            raise ValueError(f"levels = {self.levels}: expected 1 to {most} with wavelet {self.wavelet}")


class Filters(NamedTuple):
    """Decomposition filters of a wavelet, (L,) each."""

    lo: Floats
    hi: Floats


@lru_cache
def filters(wavelet: str) -> Filters:
    """Look a wavelet's filters up.

    Raises
    ------
    ValueError
        There is no such discrete wavelet.
    """
    import pywt  # noqa: PLC0415 - only those who use this stage wait for it

    if wavelet not in pywt.wavelist(kind="discrete"):
        raise ValueError(
            f"wavelet = {wavelet!r}: expected a discrete wavelet of PyWavelets: haar, db1 to db38, sym2 to sym20,"
            " coif1 to coif17, dmey, or bior and rbio 1.1 to 6.8"
        )
    found = pywt.Wavelet(wavelet)
    return Filters(np.array(found.dec_lo), np.array(found.dec_hi))


def span(params: Params) -> int:
    """Give how many samples the deepest level's values are made from."""
    return int(2**params.levels - 1) * (len(filters(params.wavelet).lo) - 1) + 1


def signal(params: Params, signal: Signal) -> Signal:
    """Subbands as channels."""
    return signal._replace(channels=signal.channels * (params.levels + 1))


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the last values that each level's filters need of the one above, and how many samples have been seen."""
    length = len(filters(params.wavelet).lo)
    tails = {
        f"tail_{level}": np.zeros((rows, signal.channels, 2 ** (level - 1) * (length - 1)))
        for level in range(1, params.levels + 1)
    }
    return {**tails, "count": np.zeros(rows, dtype=np.int64)}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Split level by level; full once the deepest level's span has passed."""
    lo, hi = filters(params.wavelet)
    rows, channels, samples = x.shape
    out = np.empty((rows, channels, params.levels + 1, samples))
    after: State = {"count": state["count"] + samples}
    approximation = x
    for level in range(1, params.levels + 1):
        series = np.concatenate([state[f"tail_{level}"], approximation], axis=-1)
        after[f"tail_{level}"] = series[..., samples:]
        spacing = 2 ** (level - 1)
        out[:, :, params.levels + 1 - level] = filtered(hi, series, spacing)
        approximation = filtered(lo, series, spacing)
    out[:, :, 0] = approximation
    full = state["count"][marks.rows] + marks.last + 1 >= span(params)
    return Result(after, out.reshape(rows, -1, samples), full)


def settle(params: Params, signal: Signal) -> int:
    """Until no value is made from a sample of before."""
    return span(params)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=(
        {"wavelet": "db4", "levels": 4},
        {"wavelet": "haar", "levels": 1},
        {"wavelet": "bior4.4", "levels": 3},
    ),
    oracle="pywt.swt of the whole signal",
    signal=signal,
)

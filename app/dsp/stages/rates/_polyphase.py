"""The low-pass filter of changes of rate, taken apart into phases.

Where ``up - 1`` zeros are put between samples, a filter over the dense series meets a sample with one coefficient in
``up`` only. Those that an output meets are its *phase* (Crochiere & Rabiner, *Multirate Digital Signal Processing*,
1983, 3.3)::

    y[n * up + p] = sum(h[k * up + p] * x[n - k])
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy

from app.dsp.stage import Floats

MAX_TAPS = 262_144


def check_taps(taps: int, widest: int) -> None:
    """Check the number of coefficients, where one is given.

    Parameters
    ----------
    taps
        The number; 0 where none is given.
    widest
        The greater of the factors up and down.

    Raises
    ------
    ValueError
        The number is even, too great, or so small that the filter would not reach from one sample to the next.
    """
    least = 2 * widest + 1
    if taps and not (least <= taps <= MAX_TAPS and taps % 2):
        raise ValueError(f"taps = {taps}: expected an odd number of {least} to {MAX_TAPS}, or 0 for {20 * widest + 1}")


@lru_cache
def phases(up: int, widest: int, taps: int) -> Floats:
    """Coefficients of each phase of a Hamming-windowed sinc.

    Its edge (-6 dB) lies at half the lower of the rates that come in and go out, its gain at 0 Hz makes good for the
    zeros between the samples.

    Parameters
    ----------
    up
        Phases.
    widest
        The greater of the factors up and down.
    taps
        Coefficients of all phases together; 0 for ``20 * widest + 1``.

    Returns
    -------
    (up, k) coefficients, that of the newest sample first; phases that have fewer than others end in zeros.
    """
    h = up * scipy.signal.firwin(taps or 20 * widest + 1, 1 / widest, window="hamming")
    padded = np.zeros(-(-len(h) // up) * up)
    padded[: len(h)] = h
    return np.ascontiguousarray(padded.reshape(-1, up).T)

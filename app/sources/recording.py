"""A recording in memory, whatever file it came from, and the change of its sampling rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from app.errors import ContinuumError


class RecordingError(ContinuumError):
    """A recording cannot be read, or does not hold what was asked for."""


@dataclass(frozen=True)
class Recording:
    """Signals of one sampling rate, recorded together.

    Attributes
    ----------
    name
        What the recording is called: its record or file name without the ending.
    sample_rate
        Hz.
    channels
        Names of the channels.
    signals
        Shape (channels, samples), in physical units; NaN where the recording has no valid value.
    start
        Time of the first sample, with its zone; UTC if the file names no zone, None if it names no time.
    """

    name: str
    sample_rate: float
    channels: tuple[str, ...]
    signals: NDArray[np.float64]
    start: datetime | None

    def channel(self, which: str | int) -> NDArray[np.float64]:
        """Give one channel's samples, shape (samples,).

        Parameters
        ----------
        which
            The channel's name, or its number counted from 0. A number may also come as text, as from a
            command line; a channel of that name goes before it.

        Raises
        ------
        RecordingError
            No channel or several channels are so called.
        """
        samples: NDArray[np.float64] = self.signals[channel_number(self.name, self.channels, which)]
        return samples

    def only(self, which: str | int) -> Recording:
        """Give a recording of that channel alone; see `channel`."""
        number = channel_number(self.name, self.channels, which)
        return replace(self, channels=(self.channels[number],), signals=self.signals[number : number + 1])


def channel_number(name: str, channels: tuple[str, ...], which: str | int) -> int:
    """Find a channel of the recording `name` by its name or number; see `Recording.channel`."""
    named = [number for number, channel in enumerate(channels) if channel == which]
    if len(named) == 1:
        return named[0]
    listed = ", ".join(f"{number} {channel!r}" for number, channel in enumerate(channels))
    if named:
        raise RecordingError(f"{name} has {len(named)} channels named {which!r}; give a number instead: {listed}")
    if isinstance(which, str) and which.isdecimal():
        which = int(which)
    if isinstance(which, int) and 0 <= which < len(channels):
        return which
    raise RecordingError(f"{name} has no channel {which!r}; it has {listed}")


def resampled(recording: Recording, sample_rate: float) -> Recording:
    """Change the sampling rate with `scipy.signal.resample_poly`, by the exact ratio of the two rates.

    Rates are taken as fractions with denominators up to 1000, so 0.01 Hz and 1/3 Hz are exact. Invalid samples
    are bridged linearly before filtering, and an output sample is NaN again if an invalid one lies next to it or
    within half its own period. The filter reaches 10 samples (of the lower rate) further: values that near a gap
    lean on the bridge.

    Parameters
    ----------
    recording
        Its `sample_rate` is in Hz.
    sample_rate
        The wanted one, Hz. If the recording has it already, the same object is returned.

    Raises
    ------
    RecordingError
        `sample_rate` is not a positive number.
    """
    if not 0 < sample_rate < np.inf:
        raise RecordingError(f"sampling rate {sample_rate} Hz: expected a number above 0")
    if sample_rate == recording.sample_rate:
        return recording
    ratio = Fraction(sample_rate).limit_denominator(1000) / Fraction(recording.sample_rate).limit_denominator(1000)
    if ratio == 0:
        raise RecordingError(f"sampling rate {sample_rate} Hz: the lowest supported is 0.001 Hz")
    signals = np.stack([_resample_poly(channel, ratio) for channel in recording.signals])
    return replace(recording, sample_rate=float(sample_rate), signals=signals)


def _resample_poly(samples: NDArray[np.float64], ratio: Fraction) -> NDArray[np.float64]:
    invalid = np.isnan(samples)
    if not invalid.any():
        return _as_float64(signal.resample_poly(samples, ratio.numerator, ratio.denominator))
    at = np.arange(samples.size)
    bridged = samples if invalid.all() else np.interp(at, at[~invalid], samples[~invalid])
    output = _as_float64(signal.resample_poly(bridged, ratio.numerator, ratio.denominator))
    # In units of 1/numerator input sample all places are whole numbers, and "next to" is exact.
    place = np.arange(output.size) * ratio.denominator
    reach = max(ratio.numerator - 1, ratio.denominator // 2)
    first = np.maximum(-(-(place - reach) // ratio.numerator), 0)
    last = np.minimum((place + reach) // ratio.numerator, samples.size - 1)
    invalid_before = np.concatenate([[0], np.cumsum(invalid)])
    output[invalid_before[last + 1] > invalid_before[first]] = np.nan
    return output


def _as_float64(samples: Any) -> NDArray[np.float64]:
    return np.asarray(samples, dtype=np.float64)

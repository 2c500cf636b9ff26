"""R peaks of an ECG, after Pan & Tompkins, *A real-time QRS detection algorithm*, IEEE Trans. Biomed. Eng. 32, 1985.

What comes out is 0, and 1 at the sample that lies ``delay`` behind each R peak: always the same number of samples,
also where a beat is found late. The raw ECG goes in, in any unit; each channel is searched for itself.

1. *Band-pass.* Mean over 20 ms, twice, less the mean of that over 160 ms around it: about 5 to 16 Hz, and nothing at
   50 Hz. Its phase is linear, so that a wave's peak is late by a known number of samples and nothing is left of a
   burst that has passed.
2. *Derivative* over five points 5 ms apart, *squared*, and *summed* over the last 150 ms: the energy of a complex.
3. A *peak* is a place whose energy is greater than all within 200 ms before it, and not less than those within 200 ms
   after it. Its R wave is the greatest value of the band-passed signal in the 150 ms that were summed, or the least
   where R waves have pointed down. Which way they point is a mean of the beats' swings, the last one's share 1/8.
4. A peak is a *beat* if its energy is above ``noise + threshold (signal - noise)``, where signal is the median energy
   of the last eight beats, and noise that of the last eight peaks that were none. Not within 200 ms after a beat; and
   not within 360 ms if its steepest slope is less than half the beat's: that is a T wave.
5. *Search-back.* After 1.66 mean intervals without a beat the greatest peak above half the threshold is one; so that
   it can still be put in its place, the search may come sooner, at 0.8 intervals and what ``delay`` leaves.
6. The first 2 s are *learnt* from: their greatest peak's energy is the signal level, and of their beats those are told
   whose place has not passed. The same is done again with the last 2 s when there has been no beat for 8 s, as when an
   electrode has moved.

It differs from the paper in that the filters are for any rate and not for 200 Hz; the levels are medians, which one
artefact does not shift (Hamilton & Tompkins, *Quantitative investigation of QRS detection rules*, IEEE Trans. Biomed.
Eng. 33, 1986), and the threshold lies lower than the paper's 0.25; it has one set of thresholds, on the energy, and
one mean interval; and 6. learns again. Threshold and band were chosen on the MIT-BIH Arrhythmia Database, over all of
whose 48 records, first channel, sensitivity is 0.997 and positive predictive value 0.996 at 100 ms.

Like every detector whose levels follow the signal it finds beats in noise too: `signal_quality` tells how far to trust
them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from app.dsp.stage import Floats, Marks, Result, Samples, Signal, Stage, State
from app.dsp.stages.physiology._beats import MIN_RATE
from app.dsp.stages.physiology._decisions import Decisions, Ints, Peaks, Times, fresh
from app.dsp.stages.physiology._moving_max import moving_max
from app.dsp.window import window_sums

MAX_RATE = 20_000.0
MAX_DELAY = 10.0

SETTLE = 180.0
"""Seconds until a start from fresh state is taken as forgotten.

Levels and intervals are those of the last eight beats and peaks: once two detectors have agreed on so many, what they
knew before no longer matters. When that is, depends on the signal, and nothing bounds it: of 912 starts in the middle
of the records of the MIT-BIH Arrhythmia Database half agreed from the first 2 s on, 99 of 100 from 90 s, and all but 5
from 180 s.
"""


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the detector.

    Attributes
    ----------
    delay
        Samples from an R peak to the 1 that tells of it; 0 for 1 s. It takes some 0.45 s to know a beat; what is
        more is for those that are found late.
    threshold
        Where between the noise level, 0, and the signal level, 1, of the energy a beat begins.
    """

    delay: Samples = 0
    threshold: float = 0.125

    def __post_init__(self) -> None:
        if self.delay < 0:
            raise ValueError(f"delay = {self.delay}: expected samples, or 0 for 1 s")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold = {self.threshold}: expected a share between 0 and 1")


class Design(NamedTuple):
    """Lengths in samples, for a sample rate."""

    smooth: int
    baseline: int
    spacing: int
    """Of the derivative's points."""
    summed: int
    times: Times

    @property
    def late(self) -> int:
        """Delay of the band-passed signal."""
        return self.smooth - 1 + (self.baseline - 1) // 2

    @property
    def reach(self) -> int:
        """What the energy at a place is of."""
        return self.summed + 4 * self.spacing


@lru_cache
def design(params: Params, rate: float) -> Design:
    """Lengths for a sample rate in Hz.

    Raises
    ------
    ValueError
        The rate, or the delay at this rate, is too low or too high.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(f"sample rate {rate} Hz: expected {MIN_RATE} to {MAX_RATE} Hz; resample the ECG")
    smooth, summed, spacing = max(2, round(0.02 * rate)), round(0.15 * rate), max(1, round(rate / 200))
    baseline = 2 * round(0.08 * rate) + 1
    refractory = round(0.2 * rate)
    lag = refractory + summed - 1 + 4 * spacing + smooth - 1 + (baseline - 1) // 2
    delay = params.delay or round(rate)
    if not lag <= delay <= MAX_DELAY * rate:
        longest = int(MAX_DELAY * rate)
        raise ValueError(f"delay = {delay}: expected {lag} to {longest} samples at {rate} Hz, or 0 for 1 s")
    learning, t_wave, longest, silent = (round(seconds * rate) for seconds in (2.0, 0.36, 3.0, 8.0))
    times = Times(delay, lag, learning, refractory, t_wave, longest, silent)
    return Design(smooth, baseline, spacing, summed, times)


def init(params: Params, signal: Signal, rows: int) -> State:
    """State: the samples that the filters still need, and what is known of the beats so far."""
    own = design(params, signal.sample_rate)
    shape, around = (rows, signal.channels), own.times.refractory
    lengths = {
        "raw": own.smooth - 1,
        "smoothed": own.smooth - 1,
        "low": own.baseline - 1,
        "band": around + own.reach - 1,
        "power": own.summed - 1,
        "energy": 2 * around,
    }
    tails = {name: np.zeros((*shape, length)) for name, length in lengths.items()}
    count = np.zeros(rows, dtype=np.int64)
    return {"count": count, "first": np.zeros(shape), **tails, **fresh(own.times, shape, signal.sample_rate)}


def step(params: Params, signal: Signal, state: State, x: Floats, marks: Marks) -> Result:
    """Tell beats; the series is full from when levels have been learnt."""
    own = design(params, signal.sample_rate)
    count, samples = state["count"], x.shape[-1]
    # From the first sample on, so that an offset is no edge.
    first = np.where(count[:, np.newaxis] == 0, x[..., 0], state["first"])
    filters, band, energy = _filtered(own, state, x - first[..., np.newaxis])
    start = np.repeat(count, x.shape[1])
    peaks = _peaks(own, band.reshape(len(start), -1), energy.reshape(len(start), -1), start)
    lanes = {name: array for name, array in state.items() if name not in filters and name not in ("count", "first")}
    output, lanes = Decisions(own.times, params.threshold, lanes, start, samples).run(peaks)
    full = count[marks.rows] + marks.last + 1 >= own.times.learning
    return Result({"count": count + samples, "first": first, **filters, **lanes}, output, full)


def _filtered(own: Design, state: State, x: Floats) -> tuple[State, Floats, Floats]:
    """Give the filters' state, the band-passed signal and the energy, each with what came before the call."""
    samples, after = x.shape[-1], {}

    def joined(name: str, values: Floats) -> Floats:
        series = np.concatenate([state[name], values], axis=-1)
        after[name] = series[..., samples:]
        return series

    smoothed = window_sums(joined("raw", x), own.smooth)
    low = joined("low", window_sums(joined("smoothed", smoothed), own.smooth) / own.smooth**2)
    middle = (own.baseline - 1) // 2
    band = joined("band", low[..., middle : middle + samples] - window_sums(low, own.baseline) / own.baseline)
    slope = _slope(band[..., -(samples + 4 * own.spacing) :], own.spacing)
    power = joined("power", np.square(slope, out=slope))
    return after, band, joined("energy", window_sums(power, own.summed))


def _slope(values: Floats, spacing: int) -> Floats:
    """Give the derivative over five points; exactly 0 where the values are constant."""
    d, n = spacing, values.shape[-1] - 4 * spacing
    slope: Floats = 2 * (values[..., 4 * d :] - values[..., :n])
    slope += values[..., 3 * d : 3 * d + n] - values[..., d : d + n]
    slope *= 0.125
    return slope


def _peaks(own: Design, band: Floats, energy: Floats, start: Ints) -> Peaks:
    """Find the places of most energy that the call's samples make known."""
    around = own.times.refractory
    most = moving_max(energy, around)
    samples = energy.shape[-1] - 2 * around
    middle = energy[:, around : around + samples]
    lane, place = np.nonzero((middle > most[:, :samples]) & (middle >= most[:, around + 1 :]))
    known = start[lane] + place
    complexes = np.ascontiguousarray(sliding_window_view(band, own.reach, axis=-1)[lane, place])
    waves = complexes[:, : own.reach - 2 * own.spacing]
    after_first = np.stack([np.argmax(waves, axis=1), np.argmin(waves, axis=1)], axis=1)
    extremes = np.take_along_axis(waves, after_first, axis=1) * (1.0, -1.0)
    at = (known - own.times.lag)[:, np.newaxis] + after_first
    slope = np.abs(_slope(complexes, own.spacing)).max(axis=1, initial=0.0)
    return Peaks(lane, known, middle[lane, place], slope, extremes, at)


def settle(params: Params, signal: Signal) -> int:
    """Until the beats are those of a detector that has run all along: see `SETTLE`."""
    return round(SETTLE * signal.sample_rate)


STAGE = Stage(
    Params,
    init,
    step,
    settle,
    examples=({}, {"delay": 125, "threshold": 0.25}, {"delay": "2s"}),
    oracle="the rules, one sample after another",
)

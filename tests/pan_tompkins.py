"""The rules of `r_peaks`, written down one sample after another, for one signal as a whole."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.dsp.stage import Floats


class Peak(NamedTuple):
    at: int
    """Of its R wave."""
    height: float
    slope: float
    swing: float
    """Greatest value above 0 less that below."""


class Detector:
    """What it knows after some samples; `at` is called with every one."""

    def __init__(self, rate: float, delay: int, lag: int, threshold: float) -> None:
        self.rate, self.delay, self.lag, self.threshold = rate, delay, lag, threshold
        self.beats: list[int] = []
        self.peaks: list[Peak] = []
        self.signal: list[float] = []
        self.noise: list[float] = []
        self.intervals = [round(rate)] * 8
        self.steepest = self.swing = 0.0
        self.quiet, self.due = 0, round(2 * rate)

    def span(self, seconds: float) -> int:
        return round(seconds * self.rate)

    def missed_after(self) -> int:
        mean = sum(self.intervals[-8:]) / 8
        return int(min(1.66 * mean, 0.8 * mean + (self.delay - self.lag)))

    def level(self) -> float:
        noise, signal = np.median(self.noise[-8:]), np.median(self.signal[-8:])
        return float(noise + self.threshold * (signal - noise))

    def could_be_beat(self, peak: Peak, level: float) -> bool:
        since = peak.at - self.beats[-1] if self.beats else self.span(1000)
        t_wave = since < self.span(0.36) and peak.slope < 0.5 * self.steepest
        return since >= self.span(0.2) and peak.height > level and not t_wave

    def take(self, peak: Peak, now: int) -> None:
        if self.beats and peak.at - self.beats[-1] <= self.span(3):
            self.intervals.append(peak.at - self.beats[-1])
        self.beats.append(peak.at)
        self.signal.append(peak.height)
        self.steepest = peak.slope
        self.swing += (peak.swing - self.swing) / 8
        self.quiet = peak.at
        self.due = max(now, peak.at + self.lag + self.missed_after())

    def judge(self, peak: Peak, now: int) -> None:
        if self.could_be_beat(peak, self.level()):
            self.take(peak, now)
        elif not self.beats or peak.at - self.beats[-1] >= self.span(0.2):
            self.noise.append(peak.height)

    def learn(self, now: int) -> None:
        recent = [peak.height for peak in self.peaks if peak.at >= now - self.span(2) - self.lag]
        self.due = now + self.span(2)
        if not recent:
            return
        self.signal, self.noise = [max(recent)] * 8, [0.0] * 8
        self.quiet, self.due = now, now + self.missed_after()
        for peak in list(self.peaks):
            if peak.at + self.delay >= now:
                self.judge(peak, now)

    def look_again(self, now: int) -> None:
        if not self.signal:
            self.learn(now)
            return
        timely = [peak for peak in self.peaks if peak.at + self.delay >= now]
        fitting = [peak for peak in timely if self.could_be_beat(peak, 0.5 * self.level())]
        if fitting:
            self.take(max(fitting, key=lambda peak: peak.height), now)
            return
        self.due = now + self.missed_after()
        if now - self.quiet >= self.span(8):
            self.learn(now)

    def at(self, now: int, peak: tuple[Peak, Peak] | None) -> None:
        """Take a sample; a peak that becomes known with it comes as of a wave that points up, and of one down."""
        while self.due <= now:
            self.look_again(now)
        if peak is not None:
            up, down = peak
            self.peaks.append(down if (self.swing or up.swing) < 0 else up)
            if self.signal:
                self.judge(self.peaks[-1], now)


def beats_told(x: NDArray[np.float64], rate: float, delay: int, threshold: float) -> Floats:
    """Give a series that is 1 where a beat is told."""
    smooth, half, d = max(2, round(0.02 * rate)), round(0.08 * rate), max(1, round(rate / 200))
    summed, around = round(0.15 * rate), round(0.2 * rate)
    late = smooth - 1 + half
    lag = around + summed - 1 + 4 * d + late
    rest = 2 * lag
    x = np.concatenate([np.zeros(rest), x - x[0]])
    box = np.ones(smooth) / smooth
    low = np.convolve(x, np.convolve(box, box))[: len(x)]
    mean = np.convolve(low, np.ones(2 * half + 1) / (2 * half + 1))[: len(x)]
    band = np.concatenate([np.zeros(half), low[:-half]]) - mean
    slope = np.convolve(band, np.concatenate([[2.0], [0] * (d - 1), [1], [0] * (2 * d - 1), [-1], [0] * (d - 1), [-2]]))
    slope = slope[: len(x)] / 8
    energy = np.convolve(slope**2, np.ones(summed))[: len(x)]
    detector = Detector(rate, delay, lag, threshold)
    for now in range(rest, len(x)):
        n = now - around
        found = energy[n] > energy[n - around : n].max() and energy[n] >= energy[n + 1 : now + 1].max()
        peak = None
        if found:
            begin = n - summed + 1 - 4 * d
            wave = band[begin : n - 2 * d + 1]
            top, bottom = begin + np.argmax(wave), begin + np.argmin(wave)
            steep = np.abs(slope[n - summed + 1 : n + 1]).max()
            swing = band[top] + band[bottom]
            up, down = (Peak(int(at) - late - rest, energy[n], steep, swing) for at in (top, bottom))
            peak = up, down
        detector.at(now - rest, peak)
    told = np.zeros(len(x) - rest)
    places = np.array(detector.beats, dtype=np.intp) + delay
    told[places[places < len(told)]] = 1.0
    return told

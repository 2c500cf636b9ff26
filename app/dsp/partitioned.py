"""Long finite impulse responses, by FFT over frames that lie at fixed places of the stream.

The stream's samples are cut into frames of a fixed length, counted from its first sample. To an output, the inputs of
its own frame contribute directly, in the time domain, and those of each complete frame before it through the product
of two spectra, which is added to a tail as soon as the frame is complete (overlap-add; Stockham, *Proc. AFIPS* 28,
1966; without delay, Gardner, *J. Audio Eng. Soc.* 43, 1995). What is added to what, and in which order, depends on a
sample's place in the stream alone, so that however the samples come the bits are the same.

Rows may be at different places of their frames. Multiplying spectra is done by parts, as how a processor multiplies
complex numbers differs from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.fft import next_fast_len

from app.dsp.stage import Floats, Indices, Signal, State

_AT_ONCE = 1 << 14
"""Values of the transforms that are made at once, so that temporaries stay in the processor's cache."""


def frame_length(taps: int) -> int:
    """Give the samples of a frame, a power of two.

    An output costs about ``frame / 2`` products directly, and a share of two transforms as long as the response,
    one ``frame``-th. State and the last bits of values depend on it: stages need another version with another one.
    """
    return 1 << (taps.bit_length() // 2 + 2)


class _Frames(NamedTuple):
    """Samples of a call in their frames, all rows beginning with the first of the call."""

    inputs: Floats
    """(rows, channels, frames, frame length); zeros where the stream has not come to yet."""
    at: Indices
    """(rows, samples) where each row's samples are among the frames' one after another."""
    complete: Indices
    """(rows,) how many are complete."""


@dataclass(frozen=True, eq=False)
class Partitioned:
    """A response to convolve streams with.

    Parameters
    ----------
    taps
        (taps,) its coefficients, more than a frame has samples.
    """

    taps: Floats

    @cached_property
    def frame(self) -> int:
        """Samples of a frame."""
        return frame_length(len(self.taps))

    @cached_property
    def reach(self) -> int:
        """How many frames after a frame have contributions from it."""
        return -(-(len(self.taps) - 1) // self.frame)

    @cached_property
    def _size(self) -> int:
        return int(next_fast_len(self.frame * (1 + self.reach), real=True))

    @cached_property
    def _spectrum(self) -> tuple[Floats, Floats]:
        spectrum = np.fft.rfft(self.taps, self._size)
        return np.ascontiguousarray(spectrum.real), np.ascontiguousarray(spectrum.imag)

    def at_rest(self, signal: Signal, rows: int) -> State:
        """State: what the current frame has of inputs, what earlier ones contribute from it on, samples seen of it."""
        return {
            "frame": np.zeros((rows, signal.channels, self.frame)),
            "tail": np.zeros((rows, signal.channels, self.reach, self.frame)),
            "place": np.zeros(rows, dtype=np.int64),
        }

    def run(self, state: State, x: Floats) -> tuple[State, Floats]:
        """Convolve samples ``x`` (rows, channels, samples); gives the state that follows, and as many outputs."""
        frames = self._frames(state, x)
        rows, channels, count, length = frames.inputs.shape
        earlier = self._earlier(state["tail"], frames)
        # Where there is one frame, outputs are needed only where the call's samples are.
        first, stop = (int(frames.at.min()), int(frames.at.max()) + 1) if count == 1 else (0, length)
        y = self._within(frames.inputs, first, stop)
        y += earlier[:, :, :count, first:stop]
        after = {
            "frame": _from(frames.inputs, frames.complete, 1)[:, :, 0],
            "tail": _from(earlier, frames.complete, self.reach),
            "place": (state["place"] + x.shape[-1]) % length,
        }
        at = frames.at - first
        return after, np.take_along_axis(y.reshape(rows, channels, -1), at[:, np.newaxis], axis=-1)

    def _frames(self, state: State, x: Floats) -> _Frames:
        rows, channels, samples = x.shape
        length, place = self.frame, state["place"]
        end = place + samples
        count = int(-(-end.max() // length))
        inputs = np.zeros((rows, channels, count * length))
        inputs[..., :length] = state["frame"]
        at = place[:, np.newaxis] + np.arange(samples)
        np.put_along_axis(inputs, at[:, np.newaxis], x, axis=-1)
        return _Frames(inputs.reshape(rows, channels, count, length), at, end // length)

    def _within(self, inputs: Floats, first: int, stop: int) -> Floats:
        """Contributions of a frame's inputs to its outputs from ``first`` to before ``stop``."""
        *lead, length = inputs.shape
        # One place of all frames after another: long runs for the processor.
        series = np.ascontiguousarray(inputs.reshape(-1, length)[:, :stop].T)
        y = self.taps[0] * series[first:]
        product = np.empty_like(y)
        for k in range(1, stop):
            begin = max(k, first)
            own = product[begin - first :]
            np.multiply(series[begin - k : stop - k], self.taps[k], out=own)
            y[begin - first :] += own
        return np.ascontiguousarray(y.T).reshape(*lead, stop - first)

    def _earlier(self, tail: Floats, frames: _Frames) -> Floats:
        """Contributions of the frames before it to each frame, those that come after the call's included."""
        rows, channels, count, length = frames.inputs.shape
        total = np.zeros((rows, channels, count + self.reach, length))
        total[:, :, : self.reach] = tail
        lanes, inputs = total.reshape(-1, count + self.reach, length), frames.inputs.reshape(-1, count, length)
        complete = np.repeat(frames.complete, channels)
        many = max(1, _AT_ONCE // self._size)
        for begin in range(0, len(lanes), many):
            own = slice(begin, begin + many)
            self._add(lanes[own], inputs[own], complete[own])
        return total

    def _add(self, total: Floats, inputs: Floats, complete: Indices) -> None:
        """Add what complete frames (lanes, frames, frame length) contribute to those after them.

        To an output that of an earlier frame is added first, whatever frames the call has.
        """
        least = int(complete.min())
        many = max(1, _AT_ONCE // (len(total) * self._size))
        for begin in range(0, least, many):
            later = self._later(inputs[:, begin : min(begin + many, least)])
            own = later.shape[1]
            if own < self.reach:
                for number in range(own):
                    after = begin + number + 1
                    total[:, after : after + self.reach] += later[:, number]
            else:
                for distance in reversed(range(self.reach)):
                    after = begin + distance + 1
                    total[:, after : after + own] += later[:, :, distance]
        if len(ahead := np.flatnonzero(complete > least)):
            total[ahead, least + 1 : least + 1 + self.reach] += self._later(inputs[ahead, least])

    def _later(self, inputs: Floats) -> Floats:
        """Contributions of frames (..., frame length) to those after them: (..., reach, frame length)."""
        spectra = np.fft.rfft(inputs, self._size)
        real, imag = self._spectrum
        product, part = np.empty_like(spectra), np.empty(spectra.shape)
        np.multiply(spectra.real, real, out=product.real)
        product.real -= np.multiply(spectra.imag, imag, out=part)
        np.multiply(spectra.real, imag, out=product.imag)
        product.imag += np.multiply(spectra.imag, real, out=part)
        y = np.fft.irfft(product, self._size)[..., self.frame : self.frame * (1 + self.reach)]
        y[..., len(self.taps) - 1 :] = 0.0
        return y.reshape(*y.shape[:-1], self.reach, self.frame)


def _from(blocks: Floats, begin: Indices, count: int) -> Floats:
    """Take so many of the blocks (rows, channels, blocks, length), from a row's own one on; zeros after the last."""
    taken = np.zeros((*blocks.shape[:2], count, blocks.shape[3]))
    for number in np.unique(begin).tolist():
        own = np.flatnonzero(begin == number)
        some = blocks[own, :, number : number + count]
        taken[own, :, : some.shape[2]] = some
    return taken

"""Responses of a pipeline's series, measured: an impulse is run through the chain as blocks of sensors are.

So they hold for every stage that is linear and time-invariant, whoever wrote it, and for what several in a row make.
That a series is both is tested first: of a sum of signals it must give the sum, and of a later signal the same, later.
All is measured after enough zeros for every window to be full, at the pace of the raw signal, and beside what zeros
alone give: an offset, as of a mean that is taken away, is no matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app.dsp.chain import fresh_state, run_chain
from app.dsp.pipeline import RAW_INPUT, Feature, Node, Pipeline
from app.dsp.stage import NEVER, Floats, Marks
from app.errors import ContinuumError

LONGEST = 1 << 18
"""Samples that a response is measured over at most, and zeros before it."""

_SHORTEST = 1 << 12
_OF_NO_END = 1 << 15
"""As `LONGEST`, of a series that never forgets."""

_CALL = 1 << 10
_TOLERANCE = 1e-7
_TESTED = 1 << 11
_LATER = (1, 13)
_MOST_CURVES = 16
_DIED_AWAY = 1e-4
_LEAST_LINES = 1 << 16


class ResponseError(ContinuumError):
    """A node has no response that can be measured."""


@dataclass(frozen=True, eq=False)
class Curve:
    """What an impulse on one channel makes of another.

    Attributes
    ----------
    label
        Which channels; empty where it is the same for each.
    sample_rate
        Hz.
    impulse
        (samples,) the response.
    """

    label: str
    sample_rate: float
    impulse: Floats

    @property
    def is_cut(self) -> bool:
        """Whether it had not died away at its end."""
        tail = self.impulse[-len(self.impulse) // 16 :]
        return bool(np.abs(tail).max() > _DIED_AWAY * np.abs(self.impulse).max())

    @cached_property
    def _padded(self) -> int:
        return 2 * max(2 * len(self.impulse), _LEAST_LINES)

    @cached_property
    def frequencies(self) -> Floats:
        """(lines,) Hz, from 0 to half the sample rate."""
        return np.asarray(np.fft.rfftfreq(self._padded, 1 / self.sample_rate), dtype=np.float64)

    @cached_property
    def _spectrum(self) -> NDArray[np.complex128]:
        return np.fft.rfft(self.impulse, self._padded)

    @cached_property
    def decibels(self) -> Floats:
        """(lines,) magnitude, cut off 200 dB below the peak."""
        magnitude = np.abs(self._spectrum)
        return np.asarray(20 * np.log10(np.maximum(magnitude, 1e-10 * magnitude.max())))

    @cached_property
    def group_delay(self) -> Floats:
        """(lines,) delay in s of what is near a frequency; NaN where less than a thousandth of the peak passes."""
        weighted = np.fft.rfft(self.impulse * np.arange(len(self.impulse)), self._padded)
        passes = self.decibels > self.decibels.max() - 60
        delay = np.full(len(weighted), np.nan)
        delay[passes] = (weighted[passes] / self._spectrum[passes]).real / self.sample_rate
        return delay

    @cached_property
    def edges(self) -> list[float]:
        """Frequencies in Hz at which half the power of the peak passes, -3 dB."""
        above = self.decibels - self.decibels.max() - 10 * math.log10(0.5)
        before = np.flatnonzero((above[:-1] < 0) != (above[1:] < 0))
        share = above[before] / (above[before] - above[before + 1])
        edges: list[float] = ((before + share) * self.frequencies[1]).tolist()
        return edges


@dataclass(frozen=True, eq=False)
class Response:
    """How a series answers.

    Attributes
    ----------
    node
        Its name.
    fault
        Why it has no response; None where it has.
    curves
        Those that differ, of its channels; none where it has no response.
    left_out
        How many more curves there are.
    """

    node: str
    fault: str | None = None
    curves: tuple[Curve, ...] = ()
    left_out: int = 0


def responses(pipeline: Pipeline, only: str | None = None) -> Iterator[Response]:
    """Measure all series of a pipeline, or one.

    Parameters
    ----------
    pipeline
        To measure.
    only
        Name of the node.

    Raises
    ------
    ResponseError
        There is no such series.
    """
    names = [node.name for node in pipeline.nodes if node.is_series]
    if only is not None and only not in names:
        raise ResponseError(
            f"node {only!r}: expected a series of pipeline {pipeline.name}: {', '.join(names) or 'none'}"
        )
    return (_response(pipeline, name) for name in names if only in (None, name))


def _response(pipeline: Pipeline, name: str) -> Response:
    alone = _up_to(pipeline, name)
    settle = alone.settle_samples
    zeros = _OF_NO_END if settle >= NEVER else min(settle, LONGEST)
    samples = _OF_NO_END if settle >= NEVER else min(max(_SHORTEST, 1 << (2 * settle).bit_length()), LONGEST)
    # What is not linear mostly shows it at once, and need not be waited for.
    if fault := _fault(alone, 0, warm=False) or _fault(alone, zeros, warm=True):
        return Response(name, fault)
    curves, left_out = _curves(alone, zeros, samples)
    return Response(name, None if curves else "nothing passes it", curves, left_out)


def _up_to(pipeline: Pipeline, name: str) -> Pipeline:
    """Give the nodes that one is made of, with its values as the only feature."""
    path: list[Node] = []
    source = name
    while source != RAW_INPUT:
        path.append(pipeline.node[source])
        source = path[-1].source
    return replace(pipeline, nodes=tuple(path[::-1]), features=(Feature(name, name, None, "vector"),))


def _run(pipeline: Pipeline, zeros: int, x: Floats) -> Floats:
    """Values after each sample of ``x`` (rows, channels, samples), after zeros, less those that zeros alone give."""
    x = np.concatenate([x, np.zeros_like(x[:1])])
    rows, channels, samples = x.shape
    state = fresh_state(pipeline, rows)
    parts = []
    for begin in range(-zeros, samples, _CALL):
        part = np.zeros((rows, channels, min(_CALL, samples - begin)))
        skipped = min(max(0, -begin), part.shape[-1])
        part[..., skipped:] = x[..., begin + skipped : begin + part.shape[-1]]
        own = part.shape[-1]
        marks = Marks(np.repeat(np.arange(rows), own), np.tile(np.arange(own), rows))
        result = run_chain(pipeline, state, part, marks)
        state = result.state
        parts.append(result.features.reshape(rows, own, -1)[:, skipped:])
    y = np.moveaxis(np.concatenate(parts, axis=1), 1, 2)
    with np.errstate(invalid="ignore"):  # what is not finite is found later
        beside: Floats = y[:-1] - y[-1]
    return beside


def _fault(pipeline: Pipeline, zeros: int, *, warm: bool) -> str | None:
    """Say why a series is not linear or, once it is warm, not time-invariant; None if it is."""
    rng = np.random.default_rng(1)
    channels = pipeline.signal.channels
    small = rng.normal(size=(channels, _TESTED)) + 0.3
    large = rng.normal(size=(channels, _TESTED)) * 1e3
    later = [np.concatenate([np.zeros((channels, by)), small[:, :-by]], axis=1) for by in _LATER]
    y = _run(pipeline, zeros, np.stack([small, large, 2 * small - 3 * large, *later]))
    if not np.isfinite(y).all():
        return "its values on noise are not finite"
    if off := _off(y[2], 2 * y[0] - 3 * y[1]):
        return f"not linear: of a sum of two signals it does not give the sum, by {off} of the greatest value"
    if not warm:
        return None
    for by, own in zip(_LATER, y[3:], strict=True):
        if off := _off(own[:, by:], y[0][:, :-by]):
            if pipeline.nodes[-1].sparse:
                return "not time-invariant: its values come at another pace than the raw signal's samples"
            what = "sample" if by == 1 else "samples"
            return f"not time-invariant: {by} {what} later it gives something else, by {off} of the greatest value"
    return None


def _off(values: Floats, expected: Floats) -> str:
    """Say how great the greatest difference is beside the greatest value; nothing where it is rounding."""
    greatest = max(np.abs(values).max(), np.abs(expected).max())
    off = float(np.abs(values - expected).max())
    if off <= _TOLERANCE * greatest:
        return ""
    return f"{off / greatest:.0%}" if off > 0.01 * greatest else f"{off / greatest:.1g}"


def _curves(pipeline: Pipeline, zeros: int, samples: int) -> tuple[tuple[Curve, ...], int]:
    """Measure each pair of channels; those that are alike once, and those that nothing passes not at all."""
    channels = pipeline.signal.channels
    found: dict[bytes, list[tuple[int, int]]] = {}
    for into in range(channels):
        x = np.zeros((1, channels, samples))
        x[0, into, 0] = 1.0
        for out, h in enumerate(_run(pipeline, zeros, x)[0]):
            if h.any():
                found.setdefault(h.tobytes(), []).append((into, out))
    curves = []
    for impulse, pairs in list(found.items())[:_MOST_CURVES]:
        label = ", ".join(f"{into} → {out}" for into, out in pairs[:4]) + (", ..." if len(pairs) > 4 else "")
        single = len(found) == 1 and {into for into, _ in pairs} == set(range(channels))
        curves.append(Curve("" if single else label, pipeline.signal.sample_rate, np.frombuffer(impulse)))
    return tuple(curves), len(found) - len(curves)

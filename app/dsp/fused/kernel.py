"""The chain of `app.dsp.fused` compiled by numba, a block of one sensor at a time, all of it in the fastest cache.

Each value is made by the same operations in the same order as by the stages and what they call in numpy and scipy, and
the compiler may neither reorder nor contract them. So nothing drifts here either: a window's sum is made of its own
values alone, by doubling (`app.dsp.window.window_sums`), and variances are of two passes with pairwise sums.

Loops run over slices, since the compiler makes nothing fast of an index that might be a negative one.

What lies here must stay in one file: numba keeps compiled code, and compares the age of just the function's own file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from app.dsp.fused.compiling import compiled
from app.dsp.stage import Array, Floats, Indices

SEGMENT = 2048
"""Samples of a block that are worked on at once; with the window before them they stay in the cache."""


@compiled("float64(float64[::1])")
def _pairwise(x: Floats) -> Any:
    """Sum ``x`` in the order of `numpy.add.reduce`."""
    count = len(x)
    if count > 128:
        half = count // 2
        half -= half % 8
        return _pairwise(x[:half]) + _pairwise(x[half:])
    total, summed = 0.0, 0
    if count >= 8:
        summed = count - count % 8
        a, b, c, d, e, f, g, h = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
        for i in range(8, summed, 8):
            own = x[i : i + 8]
            a += own[0]
            b += own[1]
            c += own[2]
            d += own[3]
            e += own[4]
            f += own[5]
            g += own[6]
            h += own[7]
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(summed, count):
        total += x[i]
    return total


@compiled("float64(float64[::1], float64[::1])")
def _variance(x: Floats, work: Floats) -> Any:
    deviations = work[: len(x)]
    mean = _pairwise(x) / len(x)
    for i in range(len(x)):
        deviation = x[i] - mean
        deviations[i] = deviation * deviation
    return _pairwise(deviations) / len(x)


@compiled("float64(float64, float64)")
def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator != 0.0 else 0.0


@compiled("void(float64[::1], float64[::1], float64[::1], float64[::1])")
def _hjorth(x: Floats, differences: Floats, work: Floats, out: Floats) -> None:
    """Activity, mobility and complexity of ``x``."""
    activity = _variance(x, work)
    first, later = differences[: len(x) - 1], x[1:]
    for i in range(len(first)):
        first[i] = later[i] - x[i]
    variance_first = _variance(first, work)
    second, later = differences[: len(x) - 2], first[1:]
    for i in range(len(second)):
        second[i] = later[i] - first[i]
    mobility = np.sqrt(_ratio(variance_first, activity))
    mobility_first = np.sqrt(_ratio(_variance(second, work), variance_first))
    out[0] = activity
    out[1] = mobility
    out[2] = _ratio(mobility_first, mobility)


@compiled("void(float64[:, ::1], float64[:, ::1], float64[::1])")
def _four_sections(sos: Floats, zi: Floats, x: Floats) -> None:
    """Filter ``x`` in place; four sections' state fits the registers, and their recursions run abreast."""
    a0, a1, a2, a3, a4 = sos[0, 0], sos[0, 1], sos[0, 2], sos[0, 4], sos[0, 5]
    b0, b1, b2, b3, b4 = sos[1, 0], sos[1, 1], sos[1, 2], sos[1, 4], sos[1, 5]
    c0, c1, c2, c3, c4 = sos[2, 0], sos[2, 1], sos[2, 2], sos[2, 4], sos[2, 5]
    d0, d1, d2, d3, d4 = sos[3, 0], sos[3, 1], sos[3, 2], sos[3, 4], sos[3, 5]
    ap, aq, bp, bq = zi[0, 0], zi[0, 1], zi[1, 0], zi[1, 1]
    cp, cq, dp, dq = zi[2, 0], zi[2, 1], zi[3, 0], zi[3, 1]
    for i in range(len(x)):
        v = x[i]
        y = a0 * v + ap
        ap = a1 * v - a3 * y + aq
        aq = a2 * v - a4 * y
        v = b0 * y + bp
        bp = b1 * y - b3 * v + bq
        bq = b2 * y - b4 * v
        y = c0 * v + cp
        cp = c1 * v - c3 * y + cq
        cq = c2 * v - c4 * y
        v = d0 * y + dp
        dp = d1 * y - d3 * v + dq
        dq = d2 * y - d4 * v
        x[i] = v
    zi[0, 0], zi[0, 1], zi[1, 0], zi[1, 1] = ap, aq, bp, bq
    zi[2, 0], zi[2, 1], zi[3, 0], zi[3, 1] = cp, cq, dp, dq


@compiled("void(float64[:, ::1], float64[:, ::1], float64[::1])")
def _filter(sos: Floats, zi: Floats, x: Floats) -> None:
    """Filter ``x`` in place."""
    done = len(sos) // 4 * 4
    for s in range(0, done, 4):
        _four_sections(sos[s : s + 4], zi[s : s + 4], x)
    for s in range(done, len(sos)):
        for i in range(len(x)):
            y = sos[s, 0] * x[i] + zi[s, 0]
            zi[s, 0] = sos[s, 1] * x[i] - sos[s, 4] * y + zi[s, 1]
            zi[s, 1] = sos[s, 2] * x[i] - sos[s, 5] * y
            x[i] = y


@compiled("void(float64[::1], int64, int64, float64[:, ::1], float64[::1])")
def _rms(series: Floats, window: int, seen: int, work: Floats, out: Floats) -> None:
    """RMS over the windows that end at the last ``len(out)`` of ``series``; ``seen`` samples came before those."""
    count, length = len(out), len(series)
    sums, longer = work[0, :length], work[1, :length]
    for i in range(length):
        sums[i] = series[i] * series[i]
    width, offset = 1, 0
    while width <= window:
        if window & width:
            piece = sums[offset : offset + count]
            for i in range(count):
                out[i] = piece[i] if offset == 0 else out[i] + piece[i]
            offset += width
        if 2 * width <= window:
            length -= width
            later = sums[width : width + length]
            for i in range(length):
                longer[i] = sums[i] + later[i]
            sums, longer = longer, sums
        width *= 2
    for i in range(count):
        out[i] = np.sqrt(out[i] / min(seen + i + 1, window))


@compiled("void(float64[::1], float64[::1])")
def _copy(source: Floats, target: Floats) -> None:
    """Copy to where ``target`` begins, which may lie before ``source`` in one array."""
    for i in range(len(source)):
        target[i] = source[i]


@compiled(
    "void(float64[:, ::1], int64, boolean,"
    " Tuple((Array(float64, 1, 'C', readonly=True), int64[::1], int64[::1], int64[::1])),"
    " Tuple((float64[:, ::1], float64[:, :, :, ::1], float64[:, :, ::1], int64[::1], float64[:, :, ::1], int64[::1])),"
    " Tuple((float64[:, :, ::1], boolean[:, ::1])))"
)
def run(
    sos: Floats,
    window: int,
    is_chain: bool,
    blocks: tuple[Floats, Indices, Indices, Indices],
    state: tuple[Floats, Floats, Floats, Array, Floats, Array],
    results: tuple[Floats, Array],
) -> None:
    """Consume blocks one after another, and change their rows of the state.

    Parameters
    ----------
    sos
        (sections, 6) of the filter.
    window
        Of the moving RMS.
    is_chain
        Whether the Hjorth parameters are of the moving RMS; else they are of the filtered signal.
    blocks
        Samples, channels interleaved; (blocks,) where each block begins in them; (blocks,) where it ends; (blocks,) its
        row.
    state
        ``last`` of the raw signal, ``zi`` of the filter, and ``tail`` and ``count`` of the moving RMS and of the
        Hjorth parameters.
    results
        (blocks, channels, 5) becomes the filtered signal, its RMS, and activity, mobility and complexity at each
        block's end; (blocks, 3) becomes whether the windows of filter, RMS and Hjorth parameters were full there.
    """
    samples, begins, ends, rows = blocks
    last, zi, rms_tail, rms_count, hjorth_tail, hjorth_count = state
    values, full = results
    channels, past, hjorth_past = zi.shape[1], rms_tail.shape[2], hjorth_tail.shape[2]
    longest = 0
    for block in range(len(rows)):
        longest = max(longest, ends[block] - begins[block])
    segment = min(longest // channels, SEGMENT)
    filtered, series = np.empty(past + segment), np.empty(hjorth_past + segment)
    sums = np.empty((2, past + segment))
    differences, work = np.empty(hjorth_past + 1), np.empty(hjorth_past + 1)
    for block in range(len(rows)):
        row, length = rows[block], (ends[block] - begins[block]) // channels
        for channel in range(channels):
            own = values[block, channel]
            last[row, channel] = samples[ends[block] - channels + channel]
            _copy(rms_tail[row, channel], filtered)
            _copy(hjorth_tail[row, channel], series)
            done = 0
            while done < length:
                count = min(segment, length - done)
                begin = begins[block] + done * channels
                fresh = filtered[past : past + count]
                for i in range(count):
                    fresh[i] = samples[begin + i * channels + channel]
                _filter(sos, zi[row, channel], fresh)
                done += count
                seen = rms_count[row] + done
                if is_chain:
                    _rms(
                        filtered[: past + count], window, seen - count, sums, series[hjorth_past : hjorth_past + count]
                    )
                    own[1] = series[hjorth_past + count - 1]
                else:
                    _copy(fresh, series[hjorth_past:])
                if done == length:
                    own[0] = fresh[count - 1]
                    if not is_chain:
                        _rms(filtered[count - 1 : count + past], window, seen - 1, sums, own[1:2])
                    _hjorth(series[count - 1 : count + hjorth_past], differences, work, own[2:])
                _copy(filtered[count : count + past], filtered)
                _copy(series[count : count + hjorth_past], series)
            _copy(filtered[:past], rms_tail[row, channel])
            _copy(series[:hjorth_past], hjorth_tail[row, channel])
        rms_count[row] += length
        hjorth_count[row] += length
        full[block, 0] = True
        full[block, 1] = rms_count[row] >= window
        full[block, 2] = hjorth_count[row] > hjorth_past

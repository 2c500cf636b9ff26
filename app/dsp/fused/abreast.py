"""The chain of `app.dsp.fused` for eight sensors abreast, compiled by numba: a block of each, a lane of a vector each.

A filter waits for its own last sample, and so one sensor's block leaves most of a processor idle; those of several
sensors have nothing to wait for in each other. Lane by lane the operations and their order are those of
`app.dsp.fused.kernel`, so a block's numbers and state are the same bits in whatever company it comes.

Lanes lie innermost, eight values a sample, in vectors that the compiler is given as such (and splits where the
processor has no such long ones), so nothing here depends on what it finds out about loops.

What lies here must stay in one file: numba keeps compiled code, and compares the age of just the function's own file.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, models, register_model

from app.dsp.fused.compiling import compiled
from app.dsp.stage import Array, Floats, Indices

LANES = 8

MOST = 2048
"""Samples of the longest block and the longest window that are taken; with more, the lanes leave the cache."""

# --- Vectors ------------------------------------------------------------------------------------------------------

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)


class _Lanes(types.Type):
    """A value a lane."""

    def __init__(self) -> None:
        super().__init__("Lanes")


_LANES = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, of: Any) -> None:
        super().__init__(manager, of, _VECTOR)


def _define(operation: Any, instruction: str) -> None:
    """Have an operator work on lanes."""

    class Typing(ConcreteTemplate):
        key = operation
        cases = [_LANES(_LANES, _LANES)]  # noqa: RUF012 - numba's

    infer_global(operation)(Typing)
    lower_builtin(operation, _LANES, _LANES)(lambda _, builder, __, own: getattr(builder, instruction)(*own))


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_operation, _instruction)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def _load(_: Any, array: Any, index: Any) -> Any:
    """Give the eight values of ``array`` from ``index`` on."""

    def code(context: Any, builder: Any, signature: Any, own: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *own), align=8)

    return _LANES(array, types.intp), code


@intrinsic
def _store(_: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Put lanes into ``array`` from ``index`` on."""

    def code(context: Any, builder: Any, signature: Any, own: Any) -> Any:
        builder.store(own[2], _pointer(context, builder, signature.args[0], *own[:2]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, _LANES), code


@intrinsic
def _spread(_: Any, value: Any) -> Any:
    """Give one value to all lanes."""

    def code(_: Any, builder: Any, __: Any, own: Any) -> Any:
        one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), own[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

    return _LANES(types.float64), code


@intrinsic
def _root(_: Any, lanes: Any) -> Any:
    """Give the square roots."""

    def code(_: Any, builder: Any, __: Any, own: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{LANES}f64"), own)

    return _LANES(lanes), code


@intrinsic
def _turn(_: Any, source: Any, froms: Any, begin: Any, target: Any, tos: Any, end: Any) -> Any:
    """Transpose: the k-th values from each of ``froms + begin`` on go one by one to the k-th of ``tos + end``."""

    def code(context: Any, builder: Any, signature: Any, own: Any) -> Any:
        def pointers(first: int) -> list[Any]:
            kind, (values, places, start) = signature.args[first], own[first : first + 3]
            places = context.make_array(signature.args[first + 1])(context, builder, places).data
            numbers = [ir.Constant(ir.IntType(64), number) for number in range(LANES)]
            indices = [builder.add(builder.load(builder.gep(places, [number])), start) for number in numbers]
            return [_pointer(context, builder, kind, values, index) for index in indices]

        rows = [builder.load(pointer, align=8) for pointer in pointers(0)]
        for width in (1, 2, 4):
            for low in (number for number in range(LANES) if not number & width):
                pair = rows[low], rows[low + width]
                for row, shift in ((low, 0), (low + width, width)):
                    picks = [lane + (LANES - width if lane & width else 0) + shift for lane in range(LANES)]
                    places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), picks)
                    rows[row] = builder.shuffle_vector(*pair, places)
        for row, pointer in zip(rows, pointers(3), strict=True):
            builder.store(row, pointer, align=8)
        return context.get_dummy_value()

    return types.void(source, froms, types.intp, target, tos, types.intp), code


_STRIDES = LANES * np.arange(LANES)
"""Where eight samples of lanes begin."""

# --- The stages ---------------------------------------------------------------------------------------------------


@compiled(
    [
        "void(float64[::1], int64[::1], int64, int64, float64[::1], int64)",
        "void(Array(float64, 1, 'C', readonly=True), int64[::1], int64, int64, float64[::1], int64)",
    ]
)
def _gather(source: Floats, froms: Indices, begin: int, count: int, lanes: Floats, at: int) -> None:
    """Put ``count`` values of ``source`` from each of ``froms + begin`` on into lanes, from sample ``at`` on."""
    for i in range(0, count, LANES):
        if count < LANES:
            for j in range(count):
                for k in range(LANES):
                    lanes[(at + j) * LANES + k] = source[froms[k] + begin + j]
        else:
            own = min(i, count - LANES)  # some twice, rather than one by one
            _turn(source, froms, begin + own, lanes, _STRIDES, (at + own) * LANES)


@compiled("void(float64[::1], int64, int64, float64[::1], int64[::1])")
def _scatter(lanes: Floats, at: int, count: int, target: Floats, tos: Indices) -> None:
    """Put ``count`` samples of lanes from ``at`` on where each of ``tos`` begins in ``target``."""
    for i in range(0, count, LANES):
        if count < LANES:
            for j in range(count):
                for k in range(LANES):
                    target[tos[k] + j] = lanes[(at + j) * LANES + k]
        else:
            own = min(i, count - LANES)
            _turn(lanes, _STRIDES, (at + own) * LANES, target, tos, own)


@compiled(_LANES(_LANES, types.intp, types.intp, types.float64[::1], types.intp))
def _next_sum(x: Any, i: int, window: int, sums: Floats, ring: int) -> Any:
    """Sum the squares over the window that ends with ``x``, which lies at ``i``.

    ``sums`` holds rings of so many samples, one more apart so that they do not share a processor's cache sets: the sums
    over 1, 2, 4, ... up to each of the last samples.
    """
    mask = ring * LANES - 1
    own, total = x * x, _spread(0.0)
    _store(sums, i & mask, own)
    width, level, later = LANES, 0, window * LANES
    while True:
        if window * LANES & width:
            later -= width
            total = total + _load(sums, level + ((i - later) & mask))
        if 2 * width > window * LANES:
            return total
        own = _load(sums, level + ((i - width) & mask)) + own
        width *= 2
        level += (ring + 1) * LANES
        _store(sums, level + (i & mask), own)


@compiled(_LANES(types.float64[::1], types.intp, types.intp, types.intp, types.float64[::1], types.intp))
def _last_sum(x: Floats, begin: int, end: int, window: int, sums: Floats, ring: int) -> Any:
    """Take in samples from ``begin`` to ``end``, and give the sum of squares over the window at their end."""
    total = _spread(0.0)
    for i in range(begin * LANES, end * LANES, LANES):
        total = _next_sum(_load(x, i), i, window, sums, ring)
    return total


@compiled(
    "void(float64[:, ::1], float64[::1], float64[::1], int64, int64, boolean,"
    " Tuple((int64, float64[::1], int64, float64[::1], int64, float64[::1], int64)))"
)
def _filter(
    sos: Floats,
    zi: Floats,
    x: Floats,
    begin: int,
    end: int,
    with_rms: bool,
    rms: tuple[int, Floats, int, Floats, int, Floats, int],
) -> None:
    """Filter ``x`` in place, from sample ``begin`` to ``end``, and give the moving RMS of that on the way.

    The processor divides and takes roots for a sample while it filters the next ones: hence in one loop, and each RMS
    one sample late. ``rms`` has the window; the sums and how long a ring is; what to divide by for the sample before
    each, and whether there is one for each; and where to, with the distance from a sample to the one before there.
    """
    window, sums, ring, divisors, step, out, shift = rms
    before = _spread(0.0)
    done = len(sos) // 4 * 4
    for s in range(0, done, 4):
        is_last = with_rms and s + 4 == len(sos)
        at = s * 2 * LANES
        a0, a1, a2 = _spread(sos[s, 0]), _spread(sos[s, 1]), _spread(sos[s, 2])
        a3, a4, b0 = _spread(sos[s, 4]), _spread(sos[s, 5]), _spread(sos[s + 1, 0])
        b1, b2, b3 = _spread(sos[s + 1, 1]), _spread(sos[s + 1, 2]), _spread(sos[s + 1, 4])
        b4, c0, c1 = _spread(sos[s + 1, 5]), _spread(sos[s + 2, 0]), _spread(sos[s + 2, 1])
        c2, c3, c4 = _spread(sos[s + 2, 2]), _spread(sos[s + 2, 4]), _spread(sos[s + 2, 5])
        d0, d1, d2 = _spread(sos[s + 3, 0]), _spread(sos[s + 3, 1]), _spread(sos[s + 3, 2])
        d3, d4 = _spread(sos[s + 3, 4]), _spread(sos[s + 3, 5])
        ap, aq, bp, bq = _load(zi, at), _load(zi, at + 8), _load(zi, at + 16), _load(zi, at + 24)
        cp, cq, dp, dq = _load(zi, at + 32), _load(zi, at + 40), _load(zi, at + 48), _load(zi, at + 56)
        for i in range(begin * LANES, end * LANES, LANES):
            v = _load(x, i)
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
            _store(x, i, v)
            if is_last:
                _store(out, i + shift, _root(before / _load(divisors, i * step)))
                before = _next_sum(v, i, window, sums, ring)
        _store(zi, at, ap), _store(zi, at + 8, aq), _store(zi, at + 16, bp), _store(zi, at + 24, bq)
        _store(zi, at + 32, cp), _store(zi, at + 40, cq), _store(zi, at + 48, dp), _store(zi, at + 56, dq)
    for s in range(done, len(sos)):
        at = s * 2 * LANES
        a0, a1, a2 = _spread(sos[s, 0]), _spread(sos[s, 1]), _spread(sos[s, 2])
        a3, a4 = _spread(sos[s, 4]), _spread(sos[s, 5])
        ap, aq = _load(zi, at), _load(zi, at + LANES)
        for i in range(begin * LANES, end * LANES, LANES):
            v = _load(x, i)
            y = a0 * v + ap
            ap = a1 * v - a3 * y + aq
            aq = a2 * v - a4 * y
            _store(x, i, y)
        _store(zi, at, ap), _store(zi, at + LANES, aq)
    if with_rms and done < len(sos):
        for i in range(begin * LANES, end * LANES, LANES):
            _store(out, i + shift, _root(before / _load(divisors, i * step)))
            before = _next_sum(_load(x, i), i, window, sums, ring)
    if with_rms:
        _store(out, end * LANES + shift, _root(before / _load(divisors, end * LANES * step)))


@compiled(_LANES(types.float64[::1], types.intp, _LANES, types.boolean))
def _term(x: Floats, i: int, mean: Any, is_squared: bool) -> Any:
    own = _load(x, i)
    if is_squared:
        own = own - mean
        own = own * own
    return own


@compiled(_LANES(types.float64[::1], types.intp, types.intp, _LANES, types.boolean))
def _pairwise(x: Floats, begin: int, count: int, mean: Any, is_squared: bool) -> Any:
    """Sum ``count`` samples, or the squares of their deviations, in the order of `numpy.add.reduce`."""
    if count > 128:
        half = count // 2
        half -= half % 8
        left = _pairwise(x, begin, half, mean, is_squared)
        return left + _pairwise(x, begin + half, count - half, mean, is_squared)
    total, place = _spread(0.0), begin * LANES
    if count >= 8:
        a, b = _term(x, place, mean, is_squared), _term(x, place + 8, mean, is_squared)
        c, d = _term(x, place + 16, mean, is_squared), _term(x, place + 24, mean, is_squared)
        e, f = _term(x, place + 32, mean, is_squared), _term(x, place + 40, mean, is_squared)
        g, h = _term(x, place + 48, mean, is_squared), _term(x, place + 56, mean, is_squared)
        summed = place + count // 8 * 8 * LANES
        for i in range(place + 8 * LANES, summed, 8 * LANES):
            a = a + _term(x, i, mean, is_squared)
            b = b + _term(x, i + 8, mean, is_squared)
            c = c + _term(x, i + 16, mean, is_squared)
            d = d + _term(x, i + 24, mean, is_squared)
            e = e + _term(x, i + 32, mean, is_squared)
            f = f + _term(x, i + 40, mean, is_squared)
            g = g + _term(x, i + 48, mean, is_squared)
            h = h + _term(x, i + 56, mean, is_squared)
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
        place = summed
    for i in range(place, (begin + count) * LANES, LANES):
        total = total + _term(x, i, mean, is_squared)
    return total


@compiled(_LANES(types.float64[::1], types.intp, types.intp))
def _variance(x: Floats, begin: int, count: int) -> Any:
    divisor = _spread(float(count))
    mean = _pairwise(x, begin, count, divisor, False) / divisor
    return _pairwise(x, begin, count, mean, True) / divisor


@compiled("void(float64[::1], int64, int64, float64[::1])")
def _differences(x: Floats, begin: int, count: int, out: Floats) -> None:
    """Give each of ``count`` samples' difference to the next."""
    for i in range(0, count * LANES, LANES):
        _store(out, i, _load(x, (begin + 1) * LANES + i) - _load(x, begin * LANES + i))


@compiled("void(float64[::1], int64, int64, float64[::1], float64[:, ::1])")
def _hjorth(x: Floats, begin: int, count: int, work: Floats, out: Floats) -> None:
    """Activity, mobility and complexity of ``count`` samples, each a row of ``out``."""
    activity = _variance(x, begin, count)
    _differences(x, begin, count - 1, work)
    first = _variance(work, 0, count - 1)
    _differences(work, 0, count - 2, work)
    second = _variance(work, 0, count - 2)
    _store(work, 0, activity), _store(work, LANES, first), _store(work, 2 * LANES, second)
    for k in range(LANES):
        of_x, of_first, of_second = work[k], work[LANES + k], work[2 * LANES + k]
        mobility = np.sqrt(of_first / of_x) if of_x != 0.0 else 0.0
        mobility_first = np.sqrt(of_second / of_first) if of_first != 0.0 else 0.0
        out[0, k] = of_x
        out[1, k] = mobility
        out[2, k] = mobility_first / mobility if mobility != 0.0 else 0.0


# --- Blocks -------------------------------------------------------------------------------------------------------


@compiled("float64[::1](int64)")
def _room(count: int) -> Any:
    """Make room for ``count`` samples of lanes, each in one line of the cache rather than across two."""
    room = np.empty((count + 1) * LANES)
    begin = -(room.ctypes.data // 8) % LANES
    return room[begin : begin + count * LANES]


@compiled(
    "boolean(float64[:, ::1], int64, boolean,"
    " Tuple((Array(float64, 1, 'C', readonly=True), int64[::1], int64[::1], int64[::1])),"
    " Tuple((float64[:, ::1], float64[:, :, :, ::1], float64[:, :, ::1], int64[::1], float64[:, :, ::1], int64[::1])),"
    " Tuple((float64[:, :, ::1], boolean[:, ::1])), Tuple((int64[::1], int64[::1])))"
)
def run(
    sos: Floats,
    window: int,
    is_chain: bool,
    blocks: tuple[Floats, Indices, Indices, Indices],
    state: tuple[Floats, Floats, Floats, Array, Floats, Array],
    results: tuple[Floats, Array],
    groups: tuple[Indices, Indices],
) -> bool:
    """Consume blocks, a sensor's one after another, and change their rows of the state.

    Takes what `app.dsp.fused.kernel.run` takes, and what `app.dsp.fused.grouping.grouped` gives. Gives False, and has
    done nothing, where blocks or windows are too long or too few lanes would have work.
    """
    samples, begins, ends, rows = blocks
    last, zi, rms_tail, rms_count, hjorth_tail, hjorth_count = state
    values, full = results
    channels, past, hjorth_past = zi.shape[1], rms_tail.shape[2], hjorth_tail.shape[2]
    lengths = (ends - begins) // channels
    longest = lengths.max()
    if max(longest, past, hjorth_past) > MOST or lengths.min() < 1:
        return False
    order, sizes = groups
    vectors = 0
    for size in sizes:
        vectors += (size * channels + LANES - 1) // LANES
    if len(rows) * channels < 2 * vectors:
        return False
    zi_of, rms_of, hjorth_of = zi.ravel(), rms_tail.ravel(), hjorth_tail.ravel()
    levels, ring = 1, 1
    while 1 << levels <= window:
        levels += 1
    while ring < window:
        ring *= 2
    sums = _room(levels * (ring + 1))
    x, series, divisors = _room(past + longest), _room(hjorth_past + longest), _room(past + longest + 1)
    work, own_zi, own_rms = _room(hjorth_past + 2), _room(2 * len(sos)), _room(1)
    found = np.empty((3, LANES))
    indices = np.empty((6, LANES), np.int64)
    at_samples, at_zi, at_rms = indices[0], indices[1], indices[2]
    at_hjorth, seen, places = indices[3], indices[4], indices[5]
    first = 0
    for size in sizes:
        length, lanes = lengths[order[first]], size * channels
        for lane in range(0, lanes, LANES):
            for k in range(LANES):
                # Lanes without work do what the first one does.
                places[k] = own = lane + k if lane + k < lanes else lane
                block, channel = order[first + own // channels], own % channels
                place = rows[block] * channels + channel
                at_samples[k] = begins[block] + channel
                at_zi[k], at_rms[k], at_hjorth[k] = place * 2 * len(sos), place * past, place * hjorth_past
                seen[k] = rms_count[rows[block]]
            _gather(rms_of, at_rms, 0, past, x, 0)
            if channels == 1:
                _gather(samples, at_samples, 0, length, x, past)
            else:
                for i in range(length):
                    for k in range(LANES):
                        x[(past + i) * LANES + k] = samples[at_samples[k] + i * channels]
            _gather(zi_of, at_zi, 0, 2 * len(sos), own_zi, 0)
            begin, end = past, past + length
            is_young = is_chain and seen.min() < window
            for i in range(begin if is_young else end, end + 1):
                for k in range(LANES):
                    divisors[(i if is_young else 0) * LANES + k] = min(seen[k] + i - past, window)
            distance = (hjorth_past - past) * LANES
            rms = (window, sums, ring, divisors, 1 if is_young else 0, series, distance - LANES)
            if is_chain:
                _last_sum(x, 0, past, window, sums, ring)
                _filter(sos, own_zi, x, begin, end, True, rms)
                _store(own_rms, 0, _load(series, end * LANES + distance - LANES))
            else:
                _filter(sos, own_zi, x, begin, end, False, rms)
                for i in range(begin * LANES, end * LANES, LANES):
                    _store(series, i + distance, _load(x, i))
                total = _last_sum(x, end - window, end, window, sums, ring)
                _store(own_rms, 0, _root(total / _load(divisors, 0)))
            # Of the samples before the block just those in the window at its end.
            known = min(length - 1, hjorth_past)
            _gather(hjorth_of, at_hjorth, known, hjorth_past - known, series, known)
            _hjorth(series, length - 1, hjorth_past + 1, work, found)
            _scatter(own_zi, 0, 2 * len(sos), zi_of, at_zi)
            _scatter(x, length, past, rms_of, at_rms)
            _scatter(series, length, hjorth_past, hjorth_of, at_hjorth)
            for k in range(LANES):
                block, channel = order[first + places[k] // channels], places[k] % channels
                last[rows[block], channel] = samples[ends[block] - channels + channel]
                own = values[block, channel]
                own[0], own[1] = x[(past + length - 1) * LANES + k], own_rms[k]
                own[2], own[3], own[4] = found[0, k], found[1, k], found[2, k]
        for block in order[first : first + size]:
            row = rows[block]
            rms_count[row] += length
            hjorth_count[row] += length
            full[block, 0] = True
            full[block, 1] = rms_count[row] >= window
            full[block, 2] = hjorth_count[row] > hjorth_past
        first += size
    return True

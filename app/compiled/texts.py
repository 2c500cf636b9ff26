"""The hash table of `app.compiled.directory`: texts by their UTF-8 bytes, open addressing with linear probing.

A slot is 0 where empty, or the upper half of its text's hash above the text's entry number + 1. So a table grows, and
closes the hole of a removed entry, without a look at the texts. The hash is seeded by chance: nobody can choose texts
that fall into the same slots.

What lies here must stay in one file: numba keeps compiled code, and compares the age of just the function's own file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.dsp.fused.compiling import compiled

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Indices = NDArray[np.int64]

BYTES = "Array(uint8, 1, 'C', readonly=True)"
"""The type of bytes that are only read, as numba writes it: those of `bytes` objects cannot be changed."""

_TABLES = f"uint64, uint64[::1], int64[::1], int64[::1], {BYTES}"

_ONE = np.uint64(1)
_HALF = np.uint64(32)
_ENTRY = np.uint64(0xFFFF_FFFF)
_FACTOR = np.uint64(0x9FB2_1C65_1E98_DF25)


@compiled(f"uint64(uint64, {BYTES})")
def _hashed(seed: Any, text: Bytes) -> Any:
    """Give the upper half of a text's hash."""
    value = seed
    for number in range(len(text)):
        value = (value ^ np.uint64(text[number])) * _FACTOR
    value = (value ^ (value >> _HALF)) * _FACTOR
    return (value ^ (value >> _HALF)) & _ENTRY


@compiled(f"boolean({BYTES}, {BYTES})")
def _same(one: Bytes, other: Bytes) -> Any:
    if len(one) != len(other):
        return False
    for number in range(len(one)):  # noqa: SIM110 - numba has no `all`
        if one[number] != other[number]:
            return False
    return True


@compiled(f"int64({_TABLES}, {BYTES})")
def find(seed: Any, slots: Words, begins: Indices, ends: Indices, texts: Bytes, text: Bytes) -> Any:
    """Give the entry number of a text, -1 where it is unknown."""
    last = np.uint64(len(slots) - 1)
    hashed = _hashed(seed, text)
    place = hashed & last
    while slots[place]:
        if slots[place] >> _HALF == hashed:
            entry = np.int64((slots[place] & _ENTRY) - _ONE)
            if _same(text, texts[begins[entry] : ends[entry]]):
                return entry
        place = (place + _ONE) & last
    return -1


@compiled(f"void(Tuple(({_TABLES})), {BYTES}, int64[::1], int64[::1], int64[::1])")
def find_all(tables: tuple[Any, ...], data: Bytes, text_begins: Indices, text_ends: Indices, found: Indices) -> None:
    """Find the texts that lie in some bytes, the empty ones as -2; the bounds must lie inside the bytes."""
    seed, slots, begins, ends, texts = tables
    for number in range(len(found)):
        text = data[text_begins[number] : text_ends[number]]
        found[number] = find(seed, slots, begins, ends, texts, text) if len(text) else -2


@compiled(f"void(uint64, uint64[::1], int64, {BYTES})")
def insert(seed: Any, slots: Words, entry: Any, text: Bytes) -> None:
    """Put in an entry that is not there; a slot must be free."""
    last = np.uint64(len(slots) - 1)
    hashed = _hashed(seed, text)
    place = hashed & last
    while slots[place]:
        place = (place + _ONE) & last
    slots[place] = hashed << _HALF | (np.uint64(entry) + _ONE)


@compiled(f"void(uint64, uint64[::1], int64, {BYTES})")
def delete(seed: Any, slots: Words, entry: Any, text: Bytes) -> None:
    """Take out an entry that is there, and close the hole in its chain."""
    last = np.uint64(len(slots) - 1)
    hole = _hashed(seed, text) & last
    while slots[hole] & _ENTRY != np.uint64(entry) + _ONE:
        hole = (hole + _ONE) & last
    place = (hole + _ONE) & last
    while slots[place]:
        home = (slots[place] >> _HALF) & last
        # What may lie no nearer to its home than the hole does moves into it.
        if (place - home) & last >= (place - hole) & last:
            slots[hole] = slots[place]
            hole = place
        place = (place + _ONE) & last
    slots[hole] = np.uint64(0)


@compiled("void(uint64[::1], uint64[::1])")
def refill(old: Words, slots: Words) -> None:
    """Fill the empty slots of a table with another's entries."""
    last = np.uint64(len(slots) - 1)
    for slot in old:
        if slot:
            place = (slot >> _HALF) & last
            while slots[place]:
                place = (place + _ONE) & last
            slots[place] = slot


@compiled("int64(int64[::1], int64[::1], uint8[::1], uint8[::1])")
def compact(begins: Indices, ends: Indices, texts: Bytes, kept: Bytes) -> Any:
    """Copy the texts of all entries one after another, note where they lie now, and give their bytes' number."""
    used = 0
    for entry in range(len(begins)):
        text = texts[begins[entry] : ends[entry]]
        kept[used : used + len(text)] = text
        begins[entry] = used
        used += len(text)
        ends[entry] = used
    return used

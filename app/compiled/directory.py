"""Texts (sensor ids, names of pipelines, ids of streams) that compiled code finds by their UTF-8 bytes."""

from __future__ import annotations

import secrets
from array import array
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.compiled import texts as kernels

_SLOTS, _ENTRIES, _BYTES = 16, 8, 256


class Tables(NamedTuple):
    """What the kernels of `app.compiled.texts` look texts up in."""

    seed: np.uint64
    slots: NDArray[np.uint64]
    text_begins: NDArray[np.int64]
    text_ends: NDArray[np.int64]
    texts: NDArray[np.uint8]


class Directory:
    """Numbers texts, so that arrays may hold what belongs to them.

    An entry takes some 50 bytes beside its text's own. Calls must not overlap those in other threads.

    Attributes
    ----------
    text_begins, text_ends
        (capacity,) where each entry's text lies in `texts`; the same place twice where no entry has the number.
    texts
        UTF-8 of all texts. Like the others, another array after an `add` or a `remove`.
    """

    def __init__(self) -> None:
        self._seed = np.uint64(secrets.randbits(64))
        self._slots = np.zeros(_SLOTS, dtype=np.uint64)
        self.text_begins = np.zeros(_ENTRIES, dtype=np.int64)
        self.text_ends = np.zeros(_ENTRIES, dtype=np.int64)
        self.texts = np.zeros(_BYTES, dtype=np.uint8)
        self._numbered = 0
        """Entry numbers that were ever given away."""
        self._free = array("q")
        """Those of them that were taken back."""
        self._used = 0
        """Bytes of `texts` that are taken, by dead texts, too."""
        self._dead = 0

    def __len__(self) -> int:
        return self._numbered - len(self._free)

    @property
    def capacity(self) -> int:
        """What all entry numbers lie below."""
        return len(self.text_begins)

    @property
    def tables(self) -> Tables:
        """What a kernel looks up in, as it is now."""
        return Tables(self._seed, self._slots, self.text_begins, self.text_ends, self.texts)

    def add(self, text: str) -> int:
        """Give a text's entry number, the one it has, or else one that is free."""
        encoded = _bytes(text)
        found = self._find(encoded)
        if found >= 0:
            return found
        self._make_room(len(encoded))
        if self._free:
            entry = self._free.pop()
        else:
            entry = self._numbered
            self._numbered += 1
        begin, self._used = self._used, self._used + len(encoded)
        self.texts[begin : self._used] = encoded
        self.text_begins[entry], self.text_ends[entry] = begin, self._used
        kernels.insert(self._seed, self._slots, entry, encoded)
        return entry

    def remove(self, text: str) -> int:
        """Forget a text, and give the entry number that it had, which is free now; -1 where it is unknown."""
        encoded = _bytes(text)
        entry = self._find(encoded)
        if entry >= 0:
            kernels.delete(self._seed, self._slots, entry, encoded)
            self.text_begins[entry] = self.text_ends[entry] = 0
            self._free.append(entry)
            self._dead += len(encoded)
            if self._dead > max(_BYTES, self._used // 2):
                self._move_texts(self._used - self._dead)
        return entry

    def find(self, text: str) -> int:
        """Give a text's entry number, -1 where it is unknown."""
        return self._find(_bytes(text))

    def text(self, entry: int) -> str:
        """Give an entry's text."""
        return self.texts[self.text_begins[entry] : self.text_ends[entry]].tobytes().decode()

    def find_all(
        self, data: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Find texts that lie in some bytes.

        Parameters
        ----------
        data
            UTF-8, among other things.
        begins, ends
            (texts,) where each lies in `data`; they must lie inside.

        Returns
        -------
        (texts,) entry numbers, -1 of an unknown text, -2 of an empty one.
        """
        found = np.empty(len(begins), dtype=np.int64)
        kernels.find_all(tuple(self.tables), data, begins, ends, found)
        return found

    def _find(self, encoded: NDArray[np.uint8]) -> int:
        return int(kernels.find(*self.tables, encoded))

    def _make_room(self, size: int) -> None:
        """Make room for one more entry and its text."""
        if not self._free and self._numbered == self.capacity:
            more = np.zeros(self.capacity // 2, dtype=np.int64)
            self.text_begins = np.concatenate([self.text_begins, more])
            self.text_ends = np.concatenate([self.text_ends, more])
        if 3 * len(self) >= 2 * len(self._slots):
            slots = np.zeros(2 * len(self._slots), dtype=np.uint64)
            kernels.refill(self._slots, slots)
            self._slots = slots
        if self._used + size > len(self.texts):
            living = self._used - self._dead
            self._move_texts(max(living + living // 2, living + size))

    def _move_texts(self, room: int) -> None:
        """Move the living texts to a new place with so much room."""
        texts = np.zeros(max(_BYTES, room), dtype=np.uint8)
        self._used = int(kernels.compact(self.text_begins, self.text_ends, self.texts, texts))
        self.texts, self._dead = texts, 0


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)

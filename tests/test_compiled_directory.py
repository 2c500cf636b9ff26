"""Texts found by their bytes in compiled code: the same as a dict of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from app.compiled.directory import Directory

TEXTS = st.one_of(
    st.text("ab", max_size=3),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=64),
    st.builds(lambda letter, count: letter * count, st.sampled_from("aé€😀"), st.integers(1, 64)),
)
MOVES = st.lists(st.tuples(st.sampled_from(["add", "add", "remove"]), TEXTS), max_size=60)


def agree(directory: Directory, expected: dict[str, int], strangers: list[str]) -> None:
    """A directory holds just these texts under these numbers."""
    assert len(directory) == len(expected)
    texts = list(expected)
    for text, entry in expected.items():
        assert directory.find(text) == entry < directory.capacity
        assert directory.text(entry) == text
    for text in strangers:
        assert directory.find(text) == expected.get(text, -1)
    encoded = [text.encode() for text in texts + strangers]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    begins = ends - np.array([len(one) for one in encoded], dtype=np.int64)
    found = directory.find_all(np.frombuffer(b"".join(encoded), dtype=np.uint8), begins, ends)
    assert found.tolist() == [expected.get(text, -1) if text else -2 for text in texts + strangers]


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(moves=MOVES, strangers=st.lists(TEXTS, max_size=5))
def test_it_is_a_dict_whose_values_are_numbers_used_again(moves: list[tuple[str, str]], strangers: list[str]) -> None:
    directory, expected = Directory(), dict[str, int]()
    highest = 0
    for move, text in moves:
        if move == "remove":
            assert directory.remove(text) == expected.pop(text, -1)
            continue
        entry = directory.add(text)
        if text in expected:
            assert entry == expected[text]
        else:
            assert entry not in expected.values()
            expected[text] = entry
            highest = max(highest, len(expected))
            assert entry < highest, "a number was given though one that was taken back was free"
    agree(directory, expected, strangers + [text for _, text in moves])


def test_many_come_and_go_and_the_memory_stays() -> None:
    directory = Directory()
    chance = np.random.default_rng(7)
    expected: dict[str, int] = {}
    for round_ in range(12):
        for number in range(1000):
            text = f"sensor-{round_}-{number}"
            expected[text] = directory.add(text)
        gone = chance.permutation(list(expected))[: len(expected) if round_ == 10 else 900]
        for text in gone.tolist():
            assert directory.remove(text) == expected.pop(text)
        agree(directory, expected, gone.tolist()[:50])
    assert directory.capacity < 4500
    assert len(directory.texts) < 4500 * 15


def test_memory_of_many_sensors() -> None:
    directory = Directory()
    for number in range(20_000):
        directory.add(f"{number:08d}")
    held = sum(part.nbytes for part in directory.tables[1:])
    assert held < 20_000 * (8 * 1.6 + 75)


def test_no_two_directories_hash_alike() -> None:
    """So that texts cannot be chosen to fall into the same slots."""
    assert Directory().tables.seed != Directory().tables.seed


def test_a_text_that_is_no_text_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        Directory().add("\ud800")

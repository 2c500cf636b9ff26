"""Decimal numbers in compiled code: the same doubles, bit for bit, as Python's float() gives."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from app.compiled.numbers import decimals

CHANCE = np.random.default_rng(2021)


def taken(texts: Iterable[str], between: str = "") -> np.ndarray:
    """What the kernel takes texts for, NaN where they are not plain, in one call."""
    encoded = [text.encode() for text in texts]
    data = np.frombuffer(between.encode().join([*encoded, b""]), dtype=np.uint8)
    sizes = np.array([len(one) for one in encoded], dtype=np.int64)
    ends = np.cumsum(sizes + len(between), dtype=np.int64) - len(between)
    values = np.empty(len(sizes))
    decimals(data, ends - sizes, ends, values)
    return values


def agree(texts: list[str]) -> None:
    expected = np.array([float(text) for text in texts])
    wrong = np.flatnonzero(taken(texts, ",").view(np.uint64) != expected.view(np.uint64))
    assert not len(wrong), [texts[number] for number in wrong[:5]]


def any_doubles(count: int) -> list[float]:
    """Doubles of random bits, so of every size."""
    values = CHANCE.integers(0, 2**64, count, dtype=np.uint64).view(np.float64)
    return values[np.isfinite(values)].tolist()


def test_all_digits_of_any_doubles() -> None:
    agree([repr(value) for value in any_doubles(200_000)])


def test_all_digits_of_signals() -> None:
    agree([repr(value) for value in (CHANCE.normal(size=200_000) * 10.0 ** CHANCE.integers(-8, 6, 200_000)).tolist()])


def test_nineteen_digits_and_any_power() -> None:
    digits = CHANCE.integers(0, 10**19, 200_000, dtype=np.uint64).tolist()
    powers = CHANCE.integers(-345, 290, 200_000).tolist()
    agree([f"{number}e{power}" for number, power in zip(digits, powers, strict=True)])


def test_short_numbers() -> None:
    agree([f"{number / 1000:.3f}" for number in range(-12_000, 12_000)])
    values = (CHANCE.normal(size=100_000) * 10.0 ** CHANCE.integers(0, 7, 100_000)).tolist()
    agree(
        [f"{value:.{places}f}" for value, places in zip(values, (CHANCE.integers(1, 9, 100_000)).tolist(), strict=True)]
    )


def test_numbers_near_the_middle_of_two_doubles() -> None:
    """The first 19 digits of the middle, one more and one less; and middles that are so short that they are met."""
    texts = []
    for value in any_doubles(30_000):
        if not 1e-300 < abs(value) < 1e300:
            continue
        middle = Fraction(value) + Fraction(float(np.spacing(value))) / 2
        mantissa, exponent = f"{abs(middle.numerator) * 10**320 // middle.denominator:d}", -320
        size = len(mantissa) - 19
        first = int(mantissa[:19]) if size > 0 else int(mantissa)
        texts += [f"{number}e{exponent + max(size, 0)}" for number in (first - 1, first, first + 1)]
    agree(texts)
    odd = (2**53 + CHANCE.integers(0, 2**53, 20_000) * 2 + 1).tolist()
    agree([f"{number}{end}" for number in odd for end in ("", ".0", "e0", "e1", "e-1", "e-2", "e-4", "e3")])
    agree([f"{number * 5**power}e-{power}" for number in odd[:500] for power in range(4)])


def test_the_borders() -> None:
    agree(["1e22", "1e23", "9007199254740993", "9007199254740992e22", "9007199254740993e-22", "1e-22", "1e-23"])
    agree(
        ["5e-324", "2.5e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "4.9e-324", "1e-400", "1e-99999"]
    )
    agree(["2.2250738585072014e-308", "2.2250738585072011e-308", "2.225073858507201e-308", "0e5", "-0.0", "-0e0", "0"])
    agree(["1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "1e309", "1E+99999"])
    agree(["9999999999999999999", "0.9999999999999999999", "0.00000000000000000000000000001"])
    subnormal = CHANCE.integers(1, 2**52, 50_000, dtype=np.uint64).view(np.float64).tolist()
    agree([repr(value) for value in subnormal])
    agree([f"{value:.16e}" for value in subnormal])


def test_a_whole_zero_has_no_sign() -> None:
    """As the ordinary way has it: msgspec takes whole numbers as such."""
    assert not np.signbit(taken(["-0"]))[0]


@pytest.mark.parametrize(
    "text",
    ["", "-", "+1", ".5", "1.", "01", "-01", "1e", "1e+", "1.e5", "e5", "--1", "1-", "0x1", "NaN", "1_0", "1,2", "1 "],
)
def test_what_is_not_plain(text: str) -> None:
    assert np.isnan(taken([text])[0])


@pytest.mark.parametrize("text", ["1" * 20, "0." + "1" * 20, "1e000001"])
def test_what_is_left_to_the_ordinary_way(text: str) -> None:
    assert np.isnan(taken([text])[0])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    texts=st.lists(st.text("0123456789.-+eE", max_size=30), max_size=20), between=st.sampled_from(["", "7", ",", "e"])
)
def test_any_text(texts: list[str], between: str) -> None:
    for text, value in zip(texts, taken(texts, between).tolist(), strict=True):
        if not np.isnan(value):
            assert value == float(text)

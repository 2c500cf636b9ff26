"""The checksum by the processor's instruction: aiokafka's own, for any bytes and any length."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.record.util import calc_crc32c
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import NO_KERNEL

pytest.importorskip("numba", reason=NO_KERNEL, exc_type=ImportError)
from app.compiled import checksum


@given(st.binary(max_size=300), st.integers(0, 20_000), st.integers(0, 7))
@example(b"123456789", 0, 0)
def test_any_bytes_have_the_sum_that_aiokafka_gives(head: bytes, more: int, offset: int) -> None:
    data = head + np.random.default_rng(more).bytes(more)
    expected = calc_crc32c(data[offset:])
    assert checksum.crc32c(data[offset:]) == expected
    assert checksum.crc32c(memoryview(bytearray(data))[offset:]) == expected
    assert checksum.crc32c(np.frombuffer(data, np.uint8)[offset:]) == expected


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 3071, 3072, 3073, 3079, 3080, 6143, 6144, 9216])
def test_every_kind_of_remainder(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert checksum.crc32c(data) == calc_crc32c(data)


def test_the_sum_of_the_standard() -> None:
    """RFC 3720, B.4, and the check value of the catalogue of CRCs."""
    assert checksum.crc32c(bytes(32)) == 0x8A9136AA
    assert checksum.crc32c(b"123456789") == 0xE3069283


def test_a_processor_without_the_instruction_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "_compiled_sum", None)
    assert checksum.crc32c(b"123456789") == 0xE3069283
    assert checksum.crc32c(memoryview(b"123456789")) == 0xE3069283

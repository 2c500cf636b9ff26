"""Commands as Redis reads them."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mirror.keys import sensor_key, sensor_keys
from app.mirror.wire import encoded, packed

SIZES = st.one_of(st.integers(0, 40), st.sampled_from([2799, 65_535, 65_536, 70_000]))


@given(st.lists(st.one_of(st.binary(max_size=40), SIZES.map(bytes)), min_size=1, max_size=30))
def test_packed_as_redis_own_client_packs(arguments: list[bytes]) -> None:
    assert packed(arguments) == hiredis.pack_command(tuple(arguments))


@given(st.lists(st.one_of(st.binary(), st.text(), st.integers(), st.floats()), min_size=1))
def test_encoded_as_redis_own_client_encodes(values: list[bytes | str | int | float]) -> None:
    assert packed(encoded(*values)) == hiredis.pack_command(tuple(values))


@pytest.mark.parametrize("sensor_id", ["a", "a:b", "{a}", "}x", "%7D", "\u00dc 7"])
def test_keys_of_a_sensor_are_the_same_encoded(sensor_id: str) -> None:
    parts = ("state", "features", "meta")
    assert sensor_keys("t-", sensor_id) == tuple(sensor_key("t-", sensor_id, part).encode() for part in parts)

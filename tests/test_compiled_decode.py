"""Plain blocks in compiled code: just what `app.wire.decode` gives, or not plain."""

from __future__ import annotations

import ctypes
import json
import math
import mmap
import random
import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba")

from app.compiled.decode import PlainBlocks, decode_plain
from app.compiled.directory import Directory
from app.wire.blocks import encode_frame, encode_json, encode_msgpack, packed
from app.wire.decode import LARGEST_SAMPLE, decode
from app.wire.parse import parse


class Message(NamedTuple):
    key: bytes | None
    value: bytes | None
    offset: int = 0


class AnyRate(float):
    """A rate that any block has."""

    __hash__ = float.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


class AnyChannels(int):
    """A number of channels that any block has."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


class AnyPipeline(dict[str, Any]):
    """A pipeline of every name, which every block fits."""

    def get(self, name: str, default: Any = None) -> Any:
        return self.setdefault(name, SimpleNamespace(name=name, signal=SIGNAL, non_finite="reject"))


SIGNAL = SimpleNamespace(sample_rate=AnyRate(1), channels=AnyChannels(1))
KNOWN = ["s", "sensor-1", "é€😀", "a" * 256, "ab"]


def directory(*texts: str) -> Directory:
    known = Directory()
    for text in texts:
        known.add(text)
    return known


SENSORS, NAMES, STREAMS = directory(*KNOWN), directory("ecg", "default"), directory("day-1", "x" * 64)


def guarded(size: int) -> np.ndarray:
    """Bytes behind which lies a page that nobody may read: who reads beyond them, crashes."""
    whole = mmap.mmap(-1, (size // mmap.PAGESIZE + 2) * mmap.PAGESIZE)
    data = np.frombuffer(whole, dtype=np.uint8)
    end = len(data) - mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(data.ctypes.data + end), mmap.PAGESIZE, 0) == 0
    return data[:end]


GUARDED = guarded(8 << 20)


def plain_blocks(messages: Sequence[Message], between: bytes = b"") -> tuple[bytes, PlainBlocks]:
    """Lay messages into one array, as a broker's batch does, and decode them."""
    data, places = bytearray(between), []
    for message in messages:
        place = []
        for part in (message.key, message.value):
            place += [-1 if part is None else len(data), len(data) + len(part or b"")]
            data += (part or b"") + between
        places.append(place)
    laid = np.array(places, dtype=np.int64).reshape(-1, 4).T.copy()
    raw = GUARDED[len(GUARDED) - len(data) :]
    raw[:] = data
    raw.flags.writeable = False
    return bytes(data), decode_plain(raw, *laid, SENSORS, NAMES, STREAMS)


def same_as_the_ordinary_way(messages: Sequence[Message], between: bytes = b"") -> PlainBlocks:
    """What is plain is just what the ordinary way gives, and sound."""
    data, blocks = plain_blocks(messages, between)
    assert blocks.plain.shape == (len(messages),)
    rows: dict[str, list[Any]] = {}
    for number, record in enumerate(blocks.record.tolist()):
        start, end = blocks.bounds[number : number + 2]
        sensor_id = data[blocks.id_begins[number] : blocks.id_ends[number]].decode()
        stream = data[blocks.stream_begins[number] : blocks.stream_ends[number]].decode() or None
        assert blocks.sensor[number] == SENSORS.find(sensor_id)
        assert blocks.stream[number] == (STREAMS.find(stream) if stream else -2)
        seq = None if blocks.seq[number] < 0 else int(blocks.seq[number])
        values = blocks.values[start:end].tobytes()
        rows.setdefault(str(record), []).append((sensor_id, int(blocks.timestamp[number]), seq, stream, values))
    assert blocks.record.tolist() == sorted(blocks.record.tolist())
    assert blocks.bounds[0] == 0
    assert blocks.bounds[-1] == len(blocks.values)
    assert np.all(np.abs(blocks.values) < LARGEST_SAMPLE)
    for number, message in enumerate(messages):
        own = rows.get(str(number), [])
        assert bool(own) == blocks.plain[number]
        if own:
            decoded = decode([message], AnyPipeline(), "default")
            assert not decoded.bad
            parsed: Any = parse(message.value)
            items = parsed.blocks if hasattr(parsed, "blocks") else [parsed]
            expected: dict[str, list[Any]] = {}
            for columns in decoded.columns:
                expected[columns.pipeline.name] = [
                    (*row, columns.values[start:end].tobytes())
                    for *row, start, end in zip(
                        columns.sensor_ids,
                        columns.timestamps,
                        columns.seqs,
                        columns.streams,
                        columns.bounds,
                        columns.bounds[1:],
                        strict=False,
                    )
                ]
            assert own == [expected[item.pipeline or "default"].pop(0) for item in items]
            at = np.flatnonzero(blocks.record == number)
            assert blocks.channels[at].tolist() == [item.channels or 0 for item in items]
            rates = [math.nan if item.sample_rate is None else item.sample_rate for item in items]
            np.testing.assert_array_equal(blocks.rate[at], rates)
            assert blocks.pipeline[at].tolist() == [NAMES.find(it.pipeline) if it.pipeline else -2 for it in items]
    return blocks


FLOATS = st.one_of(
    st.floats(-10, 10).map(lambda value: round(value, 3)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(2**65), 2**65),
    st.integers(-200, 70_000),
    st.sampled_from([0.0, -0.0, 5e-324, 1e22, 1e23, 9.999e149, 1e150, -1e150, math.nan, math.inf]),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
IDS = st.one_of(st.sampled_from([*KNOWN, "", "a" * 257, "new", 'quo"te', "tab\t"]), TEXT)
WHOLES = st.one_of(st.integers(0, 2**53), st.sampled_from([-1, 0, 2**53 + 1, 2**64 - 1, None, 1.0, 250]), st.integers())
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "seq": WHOLES,
    "sampleRate": st.one_of(FLOATS, st.none()),
    "channels": st.sampled_from([1, 2, 0, -1, 65_536, 65_537, 2**70, None, 1.5]),
    "pipeline": st.one_of(st.sampled_from(["ecg", "", "other", None]), TEXT),
    "stream": st.one_of(st.sampled_from(["day-1", "", None, "x" * 64, "x" * 65, "é" * 33]), TEXT),
    "unknown": st.just(3),
}
BLOCKS = st.fixed_dictionaries(
    {
        "sensorId": IDS,
        "samples": st.lists(FLOATS, max_size=20),
        "timestamp": st.one_of(st.integers(0, 2**53), WHOLES),
    },
    optional=OPTIONAL,
)
SOUND = st.fixed_dictionaries(
    {
        "sensorId": st.sampled_from([*KNOWN, "new"]),
        "samples": st.lists(FLOATS.filter(lambda value: abs(value) < 1e150), min_size=1, max_size=20),
        "timestamp": st.integers(0, 2**53),
    },
    optional={"seq": st.integers(0, 2**53), "stream": st.sampled_from(["day-1", "", None, "new"])},
)
CHANCE = st.randoms(use_true_random=False)


def shuffled(block: dict[str, Any], chance: random.Random) -> list[tuple[str, Any]]:
    """The fields in any order, now and then one twice, or not there."""
    items = list(block.items())
    chance.shuffle(items)
    if chance.random() < 0.05:
        items.append(chance.choice(items))
    if chance.random() < 0.05:
        items.pop(chance.randrange(len(items)))
    return items


def as_json(block: dict[str, Any], chance: random.Random) -> bytes:
    """A block as JSON, with spaces and numbers as any writer may write them."""

    def space() -> str:
        return chance.choice(["", "", "", " ", "\n\t", "\r  "])

    def number(value: float) -> str:
        forms = [repr(value), repr(value)]
        if math.isfinite(value):
            exact = abs(value) < 1e300 and isinstance(value, float)
            forms += [f"{value:.3f}", f"{value:.17g}", f"{value:.0e}", f"{value:.25E}"] if exact else [f"{value}"]
        return chance.choice(forms)

    def written(value: Any) -> str:
        if isinstance(value, list):
            return f"[{space()}" + f"{space()},{space()}".join(number(one) for one in value) + f"{space()}]"
        if isinstance(value, float):
            return number(value)
        return json.dumps(value, ensure_ascii=chance.random() < 0.1)

    fields = [f'"{name}"{space()}:{space()}{written(value)}{space()}' for name, value in shuffled(block, chance)]
    return f"{space()}{{{space()}{f',{space()}'.join(fields)}}}{space()}".encode()


def header(size: int, few: tuple[int, int] | None, many: Sequence[tuple[int, str]], chance: random.Random) -> bytes:
    """The head of a MessagePack text, array or map, in any of its forms that hold the size."""
    forms = [bytes([few[0] + size])] if few and size < few[1] else []
    for head, width in many:
        if size < 256 ** struct.calcsize(width):
            forms.append(bytes([head]) + struct.pack(width, size))
    return forms[0] if chance.random() < 0.5 else chance.choice(forms)


def whole_as_msgpack(value: int, chance: random.Random) -> bytes:
    forms = [struct.pack("b", value)] if -32 <= value < 128 else []
    for head, width in [(0xCC, ">B"), (0xCD, ">H"), (0xCE, ">I"), (0xCF, ">Q")]:
        if 0 <= value < 256 ** struct.calcsize(width):
            forms.append(bytes([head]) + struct.pack(width, value))
    for head, width in [(0xD0, ">b"), (0xD1, ">h"), (0xD2, ">i"), (0xD3, ">q")]:
        if -(256 ** struct.calcsize(width)) <= 2 * value < 256 ** struct.calcsize(width):
            forms.append(bytes([head]) + struct.pack(width, value))
    return chance.choice(forms)


def as_msgpack(value: Any, chance: random.Random) -> bytes:
    """Anything as MessagePack, in any of its forms."""
    if isinstance(value, str):
        text = value.encode()
        return header(len(text), (0xA0, 32), [(0xD9, ">B"), (0xDA, ">H"), (0xDB, ">I")], chance) + text
    if isinstance(value, dict):
        head = header(len(value), (0x80, 16), [(0xDE, ">H"), (0xDF, ">I")], chance)
        return head + b"".join(as_msgpack(part, chance) for item in value.items() for part in item)
    if isinstance(value, list):
        head = header(len(value), (0x90, 16), [(0xDC, ">H"), (0xDD, ">I")], chance)
        return head + b"".join(as_msgpack(item, chance) for item in value)
    if isinstance(value, bytes):
        return header(len(value), None, [(0xC4, ">B"), (0xC5, ">H"), (0xC6, ">I")], chance) + value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return whole_as_msgpack(value, chance)
    if isinstance(value, int | float):
        if chance.random() < 0.5 and abs(value) < 3e38:
            return b"\xca" + struct.pack(">f", value)
        return b"\xcb" + struct.pack(">d", value)
    return b"\xc0"


def as_packed(block: dict[str, Any], chance: random.Random) -> bytes:
    """A block as MessagePack, its samples now and then as bytes."""
    block = dict(block)
    if chance.random() < 0.5:
        with np.errstate(over="ignore"):
            block["samples"] = np.array([float(one) for one in block["samples"]], dtype="<f4").tobytes()
        block["samples"] += b"\0" * (chance.random() < 0.05)
    items = shuffled(block, chance)
    head = header(len(items), (0x80, 16), [(0xDE, ">H"), (0xDF, ">I")], chance)
    return head + b"".join(as_msgpack(part, chance) for item in items for part in item)


@st.composite
def messages(draw: st.DrawFn, blocks: st.SearchStrategy[dict[str, Any]]) -> Message:
    chance = draw(CHANCE)
    form = draw(st.sampled_from(["json", "packed", "frame"]))
    block = draw(blocks)
    if form == "frame":
        several = [block, *draw(st.lists(blocks, max_size=3))]
        head = header(len(several), (0x90, 16), [(0xDC, ">H"), (0xDD, ">I")], chance)
        first = header(1, (0x80, 16), [(0xDE, ">H"), (0xDF, ">I")], chance) + as_msgpack("blocks", chance)
        value = first + head + b"".join(as_packed(one, chance) for one in several)
        return Message(chance.choice([b"gateway", b"g", b"", None] if chance.random() < 0.1 else [b"g"]), value)
    value = as_json(block, chance) if form == "json" else as_packed(block, chance)
    key = str(block["sensorId"]).encode()
    return Message(key if chance.random() < 0.95 else chance.choice([None, b"", key + b"x"]), value)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(batch=st.lists(messages(st.one_of(SOUND, BLOCKS)), max_size=6), between=st.sampled_from([b"", b"7", b"]}"]))
def test_any_messages(batch: list[Message], between: bytes) -> None:
    same_as_the_ordinary_way(batch, between)


def test_what_devices_and_gateways_send_is_plain() -> None:
    """Any count of digits, all encodings in one batch, with and without the optional fields."""
    chance = np.random.default_rng(3)
    batch = []
    for number in range(300):
        sensor_id, optional = KNOWN[number % len(KNOWN)], {"seq": number, "stream": "day-1", "pipeline": "ecg"}
        samples = chance.normal(size=1 + number % 70) * 10.0 ** (number % 7 - 1)
        given_ = optional if number % 2 else {}
        block = packed(sensor_id, samples.astype(np.float32) if number % 3 else samples, number, **given_)
        texts = [f"{sample:.{number % 11}f}" for sample in samples]
        batch += [
            Message(sensor_id.encode(), encode_json(sensor_id, samples, number, **given_)),
            Message(
                sensor_id.encode(),
                json.dumps({"sensorId": sensor_id, "samples": [1], "timestamp": 2}, ensure_ascii=False).encode(),
            ),
            Message(
                sensor_id.encode(), f'{{"samples":[{",".join(texts)}],"timestamp":3,"sensorId":"{sensor_id}"}}'.encode()
            ),
            Message(sensor_id.encode(), encode_msgpack(block)),
            Message(b"gateway", encode_frame([block] * (1 + number % 9))),
        ]
    assert same_as_the_ordinary_way(batch).plain.all()


def test_room_is_made_for_more_blocks_and_values_than_most_batches_hold() -> None:
    tiny = packed("s", np.zeros(1, dtype=np.float32), 0)
    batch = [
        Message(b"g", encode_frame([tiny] * 3000)),
        Message(b"s", b'{"sensorId":"s","timestamp":0,"samples":[%s1]}' % (b"7," * 5000)),
    ]
    blocks = same_as_the_ordinary_way(batch * 2)
    assert blocks.plain.all()
    assert len(blocks.record) == 6002


@pytest.mark.parametrize("count", [1, 65_536, 65_537])
def test_the_most_samples(count: int) -> None:
    samples = np.ones(count, dtype=np.float32)
    batch = [
        Message(b"s", encode_msgpack(packed("s", samples, 0))),
        Message(b"s", encode_msgpack(packed("s", samples.astype(np.float64), 0))),
        Message(b"s", encode_json("s", samples, 0)),
    ]
    assert same_as_the_ordinary_way(batch).plain.tolist() == [count <= 65_536] * 3


def test_one_doubtful_block_makes_its_whole_frame_not_plain() -> None:
    sound, doubtful = (packed("s", np.array([value], dtype=np.float32), 0) for value in (1, np.nan))
    batch = [Message(b"g", encode_frame(blocks)) for blocks in ([sound] * 3, [sound, doubtful, sound], [sound])]
    blocks = same_as_the_ordinary_way(batch)
    assert blocks.plain.tolist() == [True, False, True]
    assert blocks.record.tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize(
    ("number", "is_plain"), [("250", True), ("2.5e2", True), ("null", True), ("1e400", False), ("1,", False)]
)
def test_rates_of_json(number: str, is_plain: bool) -> None:
    value = f'{{"sensorId":"s","samples":[1],"sampleRate":{number} ,"timestamp":1}}'.encode()
    assert same_as_the_ordinary_way([Message(b"s", value)]).plain[0] == is_plain


def test_places_that_lie_outside_the_bytes_are_not_plain() -> None:
    value = encode_msgpack(packed("s", np.zeros(4, dtype=np.float32), 0))
    data = np.frombuffer(b"s" + value, dtype=np.uint8)
    end = len(data)
    places = np.array(
        [[0, 1, 1, end], [0, 1, 1, end + 1], [-1, 0, 1, end], [0, end + 9, 1, end], [0, 1, -9, end], [0, 1, 9, 1]]
    )
    blocks = decode_plain(data, *places.T.copy(), SENSORS, NAMES, STREAMS)
    assert blocks.plain.tolist() == [True] + [False] * 5


@settings(max_examples=60, deadline=None, derandomize=True)
@given(message=messages(SOUND), chance=CHANCE, between=st.sampled_from([b"", b"5", b"\xff"]))
def test_broken_messages(message: Message, chance: random.Random, between: bytes) -> None:
    """Every prefix, and bytes changed, taken away and put in by chance."""
    value = message.value or b""
    broken = [value[:size] for size in range(len(value) + 1)]
    for _ in range(60):
        changed = bytearray(value)
        for _ in range(chance.choice([1, 1, 2, 4])):
            place = chance.randrange(len(changed) + 1)
            some = bytes([chance.choice([chance.randrange(256), *b'0123456789.,-+eE"]}{ \xc0\xca\xc6\xdf'])])
            changed[place : place + chance.choice([0, 1, 1, 2])] = chance.choice([some, some, b""])
        broken.append(bytes(changed))
    same_as_the_ordinary_way([Message(message.key, one) for one in broken], between)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(values=st.lists(st.one_of(st.binary(max_size=80), st.binary(max_size=20).map(b"\x81\xa6blocks".__add__))))
def test_random_bytes(values: list[bytes]) -> None:
    same_as_the_ordinary_way([Message(b"s", value) for value in [*values, None]])

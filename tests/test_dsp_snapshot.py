"""Snapshots: the same bytes for ever, refused whole when damaged or of another pipeline."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.dsp.engine import Engine
from app.dsp.errors import SnapshotError
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.snapshot import ArrayLayout, Behind, Codec, Header, Position, decode, read_header
from app.offline import ecg_features
from app.pipelines import shipped_pipelines
from tests.feeding import TOPIC, Block, Partition, two_channels

GOLDEN = Path(__file__).parent / "golden"
PIPELINES = {"ecg": shipped_pipelines()["ecg"], "two-channels": two_channels()}
REMEDY = "restore it from another copy (table, changelog or mirror)"


def triangle(samples: int, start: int = 0) -> np.ndarray:
    """A signal that every machine computes alike: multiples of 1/64."""
    n = np.arange(start, start + samples)
    return (np.abs(n % 100 - 50) + n * n % 37 - 40) / 64


def golden_blocks(pipeline: Pipeline) -> list[Block]:
    """What the sensor of the golden snapshots had sent: a stream, and another: 1000 samples, a gap of 24, 300 samples.

    Then came what was behind, and yet later.
    """
    c = pipeline.signal.channels
    begin = 1_700_000_000_000
    return [
        Block("golden", triangle(500 * c), 7, begin - 9000, offset=39, stream="boot-1"),
        Block("golden", triangle(1000 * c), 0, begin, offset=40, stream="boot-2"),
        Block("golden", triangle(300 * c, 1024 * c), 1024, begin + 4096, offset=41, stream="boot-2"),
        Block("golden", triangle(100 * c), 50, begin + 6000, offset=42, stream="boot-2"),
    ]


def golden_engine(pipeline: Pipeline) -> Engine:
    partition = Partition(Engine(pipeline), number=7)
    partition.feed(*golden_blocks(pipeline))
    return partition.engine


def a_snapshot(pipeline: Pipeline = PIPELINES["ecg"]) -> bytes:
    engine = golden_engine(pipeline)
    return engine.snapshots([engine.sensors["golden"]])[0]


def golden(version: int, name: str) -> bytes:
    return (GOLDEN / f"snapshot-v{version}-{name}.bin").read_bytes()


# --- Golden bytes -------------------------------------------------------------------------------------------------

#: Of version 2; version 1 had the same but for what it did not know.
HEADER = Header(
    b"", 0, 1324, 1_700_000_005_296.0, Position(TOPIC, 7, 43), 1024, 1, "boot-2", "boot-1", Behind(1, 100, 150, 1.7e12)
)


@pytest.mark.parametrize("name", PIPELINES)
def test_version_2_decodes_and_encodes_to_the_same_bytes(name):
    engine = Engine(PIPELINES[name])
    (sensor,) = engine.restore({"golden": golden(2, name)})
    assert (sensor.age, sensor.next_time, sensor.position) == ((1, 1324), HEADER.time, HEADER.position)
    assert engine.snapshots([sensor]) == [golden(2, name)]


@pytest.mark.parametrize("name", PIPELINES)
def test_version_2_says_where_the_stream_stood(name):
    header = read_header(golden(2, name))
    behind = Behind(1, 100, 150, 1_700_000_006_400.0)
    expected = msgspec.structs.replace(HEADER, fingerprint=PIPELINES[name].fingerprint, behind=behind)
    assert msgspec.structs.asdict(expected).items() <= msgspec.structs.asdict(header).items()
    assert header.age == (1, 1324)


@pytest.mark.parametrize("name", PIPELINES)
def test_version_1_is_upgraded(name):
    """Restarts, stream ids and the last sample are unknown then; all else is kept."""
    engine = Engine(PIPELINES[name])
    (sensor,) = engine.restore({"golden": golden(1, name)})
    assert (sensor.age, sensor.next_time) == ((0, 1324), HEADER.time)
    assert (sensor.epoch, sensor.stream, sensor.previous, sensor.since, sensor.behind) == (0, "", "", 1324, None)
    assert sensor.position == Position(TOPIC, 7, 42)
    (upgraded,) = engine.snapshots([sensor])
    header, arrays = decode(upgraded)
    assert header == decode(golden(1, name)).header == read_header(golden(1, name))
    assert header.age == (0, 1324)
    assert arrays["input"]["last"].tolist() == [0.0] * PIPELINES[name].signal.channels
    assert data_of(upgraded) == data_of(golden(1, name)) + bytes(8 * PIPELINES[name].signal.channels)


def data_of(snapshot: bytes) -> bytes:
    """Give all that lies between a snapshot's header and its checksum."""
    return snapshot[8 + int.from_bytes(snapshot[6:8], "little") : -4]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", PIPELINES)
def test_snapshots_hold_what_the_stages_had_seen(name, version):
    channels = PIPELINES[name].signal.channels
    header, arrays = decode(golden(version, name))
    assert header.fingerprint == PIPELINES[name].fingerprint
    shapes = {(node, key): values.shape for node, own in arrays.items() for key, values in own.items()}
    assert shapes == {
        ("bandpass", "zi"): (channels, 4, 2),
        ("rms", "tail"): (channels, 49),
        ("rms", "count"): (),
        ("hjorth", "tail"): (channels, 255),
        ("hjorth", "count"): (),
        ("input", "last"): (channels,),
    }
    assert (arrays["rms"]["count"], arrays["hjorth"]["count"]) == (300, 300)
    last = triangle(300 * channels, 1024 * channels)[-channels:] if version == 2 else np.zeros(channels)
    assert arrays["input"].pop("last").tolist() == last.tolist()
    now = decode(a_snapshot(PIPELINES[name])).arrays
    for node, own in arrays.items():
        for key, values in own.items():
            np.testing.assert_allclose(values, now[node][key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("version", [1, 2])
def test_a_golden_snapshot_goes_on_where_it_stood(version):
    engine = Engine(PIPELINES["ecg"])
    engine.restore({"golden": golden(version, "ecg")})
    x = triangle(556, 1024)
    features = Partition(engine, number=7).feed(Block("golden", x[300:], 1324, offset=43))
    np.testing.assert_allclose(features.values, ecg_features(x, [556]), rtol=1e-9)


def test_golden_fingerprint():
    """A pipeline whose fingerprint changes loses the state of all its sensors."""
    assert PIPELINES["ecg"].fingerprint.hex() == "31cf416eefa2f4b41d7a785a99236ed5"


# --- Damage -------------------------------------------------------------------------------------------------------


def test_every_changed_byte_is_refused():
    good = a_snapshot()
    codec = Engine(PIPELINES["ecg"])
    for at in range(len(good)):
        for change in (0x01, 0x80, 0xFF):
            damaged = bytearray(good)
            damaged[at] ^= change
            for read in (decode, read_header):
                with pytest.raises(SnapshotError):
                    read(bytes(damaged))
            with pytest.raises(SnapshotError):
                codec.restore({"s": bytes(damaged)})
    assert not codec.sensors


def test_every_truncation_and_addition_is_refused():
    good = a_snapshot()
    for end in range(len(good)):
        with pytest.raises(SnapshotError, match="snapshot"):
            decode(good[:end])
    for extra in (b"\0", good):
        with pytest.raises(SnapshotError, match="damaged snapshot: CRC-32"):
            decode(good + extra)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    versions = [b"CTNM\x01\x00" + data, b"CTNM\x02\x00" + data]
    for snapshot in (data, *versions, *(sealed(version) for version in versions)):
        with pytest.raises(SnapshotError):
            decode(snapshot)
        with pytest.raises(SnapshotError):
            Engine(PIPELINES["ecg"]).restore({"s": snapshot})


def sealed(body: bytes) -> bytes:
    """Give bytes the checksum that makes them look sound."""
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize(
    ("snapshot", "text"),
    [
        (b"", f"not a snapshot: 0 bytes that begin with b'', expected b'CTNM'; {REMEDY}"),
        (b"PK\x03\x04" * 20, f"not a snapshot: 80 bytes that begin with b'PK\\x03\\x04', expected b'CTNM'; {REMEDY}"),
        (sealed(b"CTNM\x01\x00\x02\x00\x80\x80"), "damaged snapshot: header: Object missing required field"),
        (sealed(b"CTNM\x01\x00\xff\xff\x80"), "damaged snapshot: header: Object missing required field"),
        (
            sealed(b"CTNM\x03\x00\x00\x00"),
            "snapshot of format version 3: this release reads versions 1 to 2; run the release that wrote it, or",
        ),
    ],
)
def test_refusals_say_what_to_do(snapshot, text):
    with pytest.raises(SnapshotError) as refused:
        decode(snapshot)
    assert text in str(refused.value)


@pytest.mark.parametrize("change", [-8, -1, 1, 8])
def test_arrays_of_another_length_are_refused(change):
    """Sealed with the right checksum, as by a program with a fault."""
    body = a_snapshot()[:-4]
    other = sealed(body[:change] if change < 0 else body + bytes(change))
    with pytest.raises(SnapshotError, match="damaged snapshot"):
        decode(other)
    with pytest.raises(SnapshotError, match=r"damaged snapshot: \d+ bytes of arrays, expected \d+"):
        Engine(PIPELINES["ecg"]).restore({"s": other})


@pytest.mark.parametrize("dtype", ["O", "V0", "<f7", "", "x"])
def test_arrays_that_are_no_numbers_are_refused(dtype):
    layout = (ArrayLayout("n", "a", dtype, (2,)),)
    header = {"fingerprint": b"f", "epoch": 0, "next": 0, "time": 0.0, "position": ["t", 0, 0], "arrays": layout}
    for version, more in ((b"\1", {}), (b"\2", {"since": 0})):
        fields = msgspec.msgpack.encode(header | more)
        with pytest.raises(SnapshotError, match="damaged snapshot"):
            decode(sealed(b"CTNM" + version + b"\0" + struct.pack("<H", len(fields)) + fields + bytes(16)))


@pytest.mark.parametrize("channels", [-1, 0, 65_537, 2**40])
def test_version_1_of_an_impossible_number_of_channels_is_refused(channels):
    layout = (ArrayLayout("n", "a", "<f8", (channels, 0)),)
    header = {"fingerprint": b"f", "epoch": 0, "next": 0, "time": 0.0, "position": ["t", 0, 0], "arrays": layout}
    fields = msgspec.msgpack.encode(header)
    with pytest.raises(SnapshotError, match=f"damaged snapshot: arrays of {channels} channels; {re.escape(REMEDY)}"):
        read_header(sealed(b"CTNM\1\0" + struct.pack("<H", len(fields)) + fields))


def test_a_snapshot_of_another_pipeline_is_refused():
    other = parse_pipeline(
        'name="ecg"\nsample_rate=250\n[[stages]]\ntype="moving_rms"\nwindow=50\n[features]\nrms="moving_rms"', "t"
    )
    engine = Engine(other)
    with pytest.raises(SnapshotError) as refused:
        engine.restore({"s": a_snapshot()})
    assert str(refused.value) == (
        f"snapshot of pipeline {PIPELINES['ecg'].fingerprint.hex()} does not fit {other.fingerprint.hex()};"
        " run the pipeline that made it, or give the changed pipeline and its sensors new names"
    )
    assert decode(a_snapshot()).header.next == 1324, "any pipeline's can be shown"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_refused_restore_leaves_the_engine_as_it_was(place):
    """One of three is bad: none is taken in, and those in memory go on as if nothing had been."""
    engine, reference = (golden_engine(PIPELINES["ecg"]) for _ in range(2))
    snapshots = {f"s{n}": a_snapshot() for n in range(3)}
    snapshots[f"s{place}"] = snapshots[f"s{place}"][:-1]
    for _ in range(70):
        with pytest.raises(SnapshotError):
            engine.restore(snapshots)
    assert list(engine.sensors) == ["golden"]
    following = Block("golden", triangle(256, 1324), 1324, offset=43)
    features, expected = (Partition(one, number=7).feed(following) for one in (engine, reference))
    assert features.values.tobytes() == expected.values.tobytes()
    assert engine.snapshots([engine.sensors["golden"]]) == reference.snapshots([reference.sensors["golden"]])


# --- Round trips --------------------------------------------------------------------------------------------------


@given(
    epoch=st.integers(0, 2**40),
    following=st.integers(0, 2**60),
    time=st.floats(allow_nan=False),
    topic=st.text(max_size=20),
    offset=st.integers(0, 2**60),
    since=st.integers(0, 2**60),
    restarts=st.integers(0, 2**40),
    stream=st.text(max_size=20),
    behind=st.none() | st.builds(Behind, st.integers(0, 9), st.integers(0, 2**40), st.integers(-1, 9), st.just(2.5)),
    seed=st.integers(0, 99),
)
def test_headers_and_arrays_round_trip(epoch, following, time, topic, offset, since, restarts, stream, behind, seed):
    layout = (
        ArrayLayout("a", "x", "<f8", (2, 3)),
        ArrayLayout("a", "n", "<i8", ()),
        ArrayLayout("b", "none", "<f8", (1, 0)),
    )
    codec = Codec(b"0123456789abcdef", layout)
    headers = [
        Header(
            b"0123456789abcdef",
            epoch + n,
            following,
            time,
            Position(topic, n, offset),
            since,
            restarts,
            stream,
            stream[::-1],
            behind,
        )
        for n in range(3)
    ]
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=(3, 2, 3)), random.integers(-(2**62), 2**62, 3), np.zeros((3, 1, 0))]
    snapshots = codec.encode(headers, arrays)
    decoded, columns = codec.decode(snapshots)
    fields = Header.__struct_fields__
    for one, header, snapshot in zip(decoded, headers, snapshots, strict=True):
        assert [getattr(one, name) for name in fields] == [getattr(header, name) for name in fields]
        assert read_header(snapshot) == one
    for column, array in zip(columns, arrays, strict=True):
        assert (column.dtype, column.tobytes()) == (array.dtype, array.tobytes())
    for n, snapshot in enumerate(snapshots):
        one = decode(snapshot)
        np.testing.assert_array_equal(one.arrays["a"]["x"], arrays[0][n])
        assert one.arrays["a"]["n"] == arrays[1][n]
        assert one.arrays["b"]["none"].shape == (1, 0)
        with pytest.raises(ValueError, match="read-only"):
            one.arrays["a"]["x"][:] = 0


def test_size():
    """4 sections, 49 and 255 doubles, two counts; a header that does not grow with the windows."""
    arrays = 8 * (4 * 2 + 49 + 255 + 2)
    assert arrays < len(a_snapshot()) < arrays + 400

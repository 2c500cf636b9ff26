"""The express lane: the same records and states as the ordinary way gives, whatever comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import compiled
from app.dsp.snapshot import Position, decode
from app.runtime import lanes
from app.sensors.metadata import SensorMeta
from app.wire.blocks import JsonBlock, PackedBlock, encode_frame, encode_msgpack
from tests.lanes import OneTier, raw_records

pytestmark = pytest.mark.skipif(not compiled.AVAILABLE, reason="numba is not installed")

SENSORS = [f"sensor-{number}" for number in range(5)]
KINDS = (
    *["follows"] * 8,
    "no_seq",
    "gap",
    "again",
    "clock",
    "wrong_rate",
    "right_rate",
    "other_pipeline",
    "own_pipeline",
    "stream",
    "not_finite",
    "wrong_key",
    "malformed",
    "late",
)

Message = tuple[bytes, bytes]


@dataclass
class Device:
    """A sensor as it sends."""

    id: str
    partition: int
    seq: int = 0
    time: int = 1_700_000_000_000
    stream: str | None = None
    sent: list[PackedBlock] = field(default_factory=list)

    def block(self, kind: str, samples: Sequence[float]) -> PackedBlock:
        """Send a block, or the one before again."""
        if kind == "again" and self.sent:
            return self.sent[-1]
        if kind == "late" and len(self.sent) > 1:
            return self.sent[-2]
        if kind == "gap":
            self.seq, self.time = self.seq + 600, self.time + 2400
        if kind == "stream":
            self.stream = f"{self.stream or ''}x"[-9:]
            self.seq = 0
        values = np.array(samples, dtype=np.float32)
        if kind == "not_finite":
            values[0] = np.nan
        block = PackedBlock(
            self.id,
            memoryview(values.tobytes()),
            self.time + (5000 if kind == "clock" else 0),
            seq=None if kind == "no_seq" else self.seq,
            sample_rate={"wrong_rate": 10.0, "right_rate": 250.0}.get(kind),
            pipeline={"other_pipeline": "ecg-branched", "own_pipeline": "ecg"}.get(kind),
            stream=self.stream,
        )
        if kind not in {"wrong_rate", "not_finite", "wrong_key", "malformed"}:
            self.seq, self.time = self.seq + len(samples), self.time + 4 * len(samples)
            self.sent.append(block)
        return block


@dataclass(frozen=True)
class Sending:
    """A block that a device sends."""

    sensor: int
    kind: str
    length: int
    as_json: bool
    in_frame: bool


def sendings_of(kinds: Sequence[str]) -> st.SearchStrategy[Sending]:
    return st.builds(
        Sending,
        st.integers(0, len(SENSORS) - 1),
        st.sampled_from(kinds),
        st.sampled_from([1, 3, 64, 256, 300]),
        st.booleans(),
        st.booleans(),
    )


sendings = sendings_of(KINDS)
#: Which of a new sensor's two pipelines comes first depends on what else a batch holds.
of_one_pipeline = sendings_of([kind for kind in KINDS if kind != "other_pipeline"])


def as_json(block: PackedBlock) -> bytes:
    fields = msgspec.structs.asdict(block)
    fields["samples"] = np.frombuffer(block.samples, np.float32).tolist()
    return msgspec.json.encode(JsonBlock(**fields))


class Ward:
    """Devices, and the messages of what they send, by partition."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.devices = [Device(id_, number % 2) for number, id_ in enumerate(SENSORS)]
        self.offsets = [0, 0]

    def stretch(self, some: Sequence[Sending]) -> list[tuple[int, object]]:
        """Send, a batch for each partition."""
        messages: list[list[Message]] = [[], []]
        gathered: list[list[PackedBlock]] = [[], []]
        for sending in some:
            device = self.devices[sending.sensor]
            block = device.block(sending.kind, self.random.normal(size=sending.length))
            own = messages[device.partition]
            if sending.in_frame and sending.kind not in {"wrong_key", "malformed"}:
                gathered[device.partition].append(block)
                continue
            if gathered[device.partition]:
                own.append((b"gateway", encode_frame(gathered[device.partition])))
                gathered[device.partition] = []
            sound = sending.as_json and sending.kind != "not_finite"
            value = as_json(block) if sound else encode_msgpack(block)
            key = b"another" if sending.kind == "wrong_key" else device.id.encode()
            own.append((key, value[:-3] if sending.kind == "malformed" else value))
        batches: list[tuple[int, object]] = []
        for partition, own in enumerate(messages):
            if gathered[partition]:
                own.append((b"gateway", encode_frame(gathered[partition])))
            # Two batches of one partition may come together.
            cut = int(self.random.integers(0, len(own) + 1))
            for part in (own[:cut], own[cut:]):
                if part:
                    batches.append((partition, raw_records(partition, self.offsets[partition], part)))
                    self.offsets[partition] += len(part)
        return batches


def states(tier: OneTier, partition: int) -> dict[str, object]:
    """Take what has changed, but for how far the partition has been consumed: to a batch's end, or a stretch's."""
    found = {}
    for id_, state in tier.states(partition).items():
        header, arrays = decode(state.snapshot)
        values = {(node, name): array.tobytes() for node, own in arrays.items() for name, array in own.items()}
        same = msgspec.structs.replace(header, position=Position("", 0, 0))
        found[id_] = (same, values, state._replace(snapshot=b"", position=same.position))
    return found


async def both(
    stretches: Sequence[Sequence[Sending]], metas: dict[str, SensorMeta], seed: int
) -> tuple[OneTier, OneTier]:
    """Let both ways process the same, and compare all that comes out."""
    tiers = OneTier(express=True, metas=metas), OneTier(express=False, metas=metas)
    ward = Ward(seed)
    first = [Sending(number, "follows", 300, as_json=False, in_frame=False) for number in range(len(SENSORS))]
    for number, some in enumerate([first, *stretches]):
        batches = ward.stretch(some)
        for tier in tiers:
            await tier.process(batches)
        assert tiers[0].kept.by_key == tiers[1].kept.by_key
        assert tiers[0].emitter.events == tiers[1].emitter.events
        if number % 3 == 2:
            for partition in range(2):
                assert states(tiers[0], partition) == states(tiers[1], partition)
    for partition in range(2):
        assert states(tiers[0], partition) == states(tiers[1], partition)
    assert tiers[0].emitter.blocks == tiers[1].emitter.blocks
    assert tiers[0].emitter.samples == tiers[1].emitter.samples
    return tiers


@settings(max_examples=120, deadline=None)
@given(st.lists(st.lists(sendings, min_size=1, max_size=12), min_size=1, max_size=6), st.integers(0, 2**32))
async def test_both_ways_give_the_same(stretches, seed):
    await both(stretches, {"sensor-4": SensorMeta(pipeline="ecg-branched")}, seed)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(of_one_pipeline, min_size=1, max_size=12), min_size=1, max_size=6), st.integers(0, 2**32))
async def test_what_is_left_goes_a_few_at_a_time(monkeypatch, stretches, seed):
    monkeypatch.setattr(lanes, "FIRST_LEFT", 1)
    monkeypatch.setattr(lanes, "MORE_LEFT", 2)
    tiers = OneTier(express=True, at_once=2), OneTier(express=False)
    ward = Ward(seed)
    for some in stretches:
        batches = ward.stretch(some)
        for tier in tiers:
            await tier.process(batches)
        assert tiers[0].kept.by_key == tiers[1].kept.by_key
    for partition in range(2):
        assert states(tiers[0], partition) == states(tiers[1], partition)


async def test_plain_blocks_go_the_express_way():
    """Or the property above would say nothing."""
    some = [
        [Sending(number, "follows", 256, as_json=bool(turn % 2), in_frame=turn % 3 == 0) for number in range(5)]
        for turn in range(6)
    ]
    express, _ = await both(some, {}, 1)
    assert express.express_blocks == 30, "all but the first of each"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("gap", "before which samples are missing"),
        ("again", "that has been consumed"),
        ("wrong_rate", "of another rate"),
        ("other_pipeline", "of another pipeline"),
        ("stream", "of a stream that begins anew"),
        ("not_finite", "with a sample that is no number"),
        ("malformed", "that cannot be read"),
    ],
)
async def test_what_is_not_plain_goes_the_ordinary_way(kind, why):
    some = [Sending(0, "follows", 64, as_json=False, in_frame=False), Sending(1, "follows", 64, False, False)]
    odd = Sending(0, kind, 64, as_json=False, in_frame=False)
    express, _ = await both([some, [*some, odd, *some]], {}, 3)
    assert express.express_blocks == 2 + 2, f"a sensor that sends one {why} sends none of the stretch that way"


async def test_a_sensor_comes_back_after_its_gap():
    plain = [Sending(0, "follows", 64, as_json=False, in_frame=False)]
    express, _ = await both([plain, [Sending(0, "gap", 64, as_json=False, in_frame=False)], plain, plain], {}, 3)
    assert express.express_blocks == 3


async def test_what_is_set_of_a_sensor_takes_it_off_the_lane():
    metas: dict[str, SensorMeta] = {}
    plain = [Sending(0, "follows", 64, as_json=False, in_frame=False)]
    express, _ = await both([plain], metas, 3)
    lane = express.processor.express
    assert lane is not None
    lane.refuse(["sensor-0"])
    before = express.express_blocks
    ward = Ward(3)
    ward.stretch([Sending(0, "follows", 300, False, False)])
    await express.process(ward.stretch(plain))
    assert express.express_blocks == before

"""A replay: what arrives is what the plan says, each sensor's in order, load spread evenly."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import subprocess
import sys
import uuid
from collections import defaultdict

import msgspec
import numpy as np
import pytest
import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from app.cli.replay import replay
from app.kafka_client import BrokerError, client_options, started
from app.pipelines import shipped_pipelines
from app.replay import (
    ENCODINGS,
    Plan,
    ReplayError,
    Sent,
    check_fits,
    new_producer,
    plan_builtin,
    plan_replay,
    play,
)
from app.replay.messages import message_source
from app.settings import TIERS, load_settings
from app.sources import Recording, RecordingError, builtin_ecg
from app.tiers import TIER_DEFAULTS
from app.wire.blocks import Frame, JsonBlock, PackedBlock, encode_json
from app.wire.decode import decode
from tests.decoding import Message
from tests.feeding import two_channels

BEGIN = 1_700_000_000_000.4
PARTITIONS = 7


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).normal(size=samples)


def recording(samples: np.ndarray, sample_rate: float = 250.0) -> Recording:
    return Recording("rec", sample_rate, ("ECG",), samples[np.newaxis], None)


def ids(count: int) -> tuple[str, ...]:
    return tuple(f"s-{number}" for number in range(count))


@st.composite
def plans(draw: st.DrawFn, *, holes: bool = False) -> Plan:
    length, block, channels = draw(st.integers(1, 200)), draw(st.integers(1, 60)), draw(st.sampled_from([1, 1, 2, 3]))
    samples = noise(length * channels)
    if holes:
        samples[draw(st.lists(st.integers(0, length * channels - 1), min_size=1, max_size=4))] = np.nan
    shape = (length,) if channels == 1 else (length, channels)
    plan = (
        samples.reshape(shape),
        draw(st.sampled_from([250.0, 10.0, 0.01, 1 / 3])),
        ids(draw(st.integers(1, 70))),
        block,
        draw(st.integers(1, 6)),
        draw(st.sampled_from(ENCODINGS)),
        draw(st.sampled_from([None, "ecg"])),
    )
    try:
        return Plan(*plan)
    except ReplayError:
        return Plan(noise(length * channels).reshape(shape), *plan[1:])


def decoded(value: bytes) -> list[JsonBlock] | list[PackedBlock]:
    if value[:1] == b"{":
        return [msgspec.json.decode(value, type=JsonBlock)]
    content = msgspec.msgpack.decode(value)
    if "blocks" in content:
        return msgspec.msgpack.decode(value, type=Frame).blocks
    return [msgspec.msgpack.decode(value, type=PackedBlock)]


def values(block: JsonBlock | PackedBlock) -> np.ndarray:
    if isinstance(block.samples, list):
        return np.array(block.samples)
    return np.frombuffer(block.samples, dtype="<f4").astype(np.float64)


def check_arrived(plan: Plan, arrived: list[bytes]) -> None:
    """Check that the messages hold exactly the plan's blocks, each sensor's in order."""
    streams = defaultdict(list)
    for value in arrived:
        for block in decoded(value):
            streams[block.sensor_id].append(block)
    planned = defaultdict(list)
    for due in plan.blocks():
        planned[plan.sensors[due.sensor]].append(due.block * plan.block)
    assert {sensor: [block.seq for block in blocks] for sensor, blocks in streams.items()} == planned
    for number, sensor in enumerate(plan.sensors):
        expected = plan.signal(number)
        for block in streams[sensor]:
            np.testing.assert_array_equal(values(block), expected[block.seq : block.seq + plan.block].ravel())
            assert (block.sample_rate, block.pipeline) == (plan.sample_rate, plan.pipeline)
            assert block.channels == (plan.channels if plan.channels > 1 else None)


# --- The plan --------------------------------------------------------------------------------------------------


@given(plan=st.one_of(plans(), plans(holes=True)))
def test_messages_hold_exactly_what_the_plan_says(plan):
    messages = list(message_source(plan)(BEGIN))
    check_arrived(plan, [message.value for message in messages])
    assert sum(message.blocks for message in messages) == plan.total_blocks
    for message in messages:
        blocks = decoded(message.value)
        assert len(blocks) == message.blocks
        if plan.encoding != "frame":
            assert message.key.decode() == blocks[0].sensor_id


@given(plan=st.one_of(plans(), plans(holes=True)))
def test_messages_are_in_order_of_time_and_timestamps_follow_the_samples(plan):
    messages = list(message_source(plan)(BEGIN))
    times = [message.time for message in messages]
    assert times == sorted(times)
    delays = {}
    for message in messages:
        for block in decoded(message.value):
            since = block.timestamp - BEGIN
            assert since == pytest.approx(message.time * 1000, abs=0.51)
            delay = message.time - block.seq / plan.sample_rate
            assert delays.setdefault(block.sensor_id, delay) == pytest.approx(delay, abs=1e-9 * (1 + message.time))
            assert -1e-6 <= delay < plan.duration


@given(plan=plans(holes=True))
def test_only_blocks_without_a_valid_value_somewhere_are_left_out(plan):
    sent = {(due.sensor, due.block) for due in plan.blocks()}
    for sensor in range(len(plan.sensors)):
        whole = np.isfinite(plan.signal(sensor).reshape(-1, plan.block * plan.channels)).all(axis=1)
        assert [(sensor, block) in sent for block in range(plan.blocks_per_sensor)] == whole.tolist()
    assert plan.total_blocks == len(sent)


@given(plan=plans())
def test_a_signal_is_the_recording_from_the_sensors_start_round_its_end(plan):
    rounded = plan.recording if plan.encoding == "json" else plan.recording.astype(np.float32).astype(np.float64)
    for sensor, start in enumerate(plan.starts):
        expected = [rounded[(start + place) % len(rounded)] for place in range(plan.blocks_per_sensor * plan.block)]
        np.testing.assert_array_equal(plan.signal(sensor), expected)


def test_starts_are_spread_over_the_recording_and_blocks_over_their_duration():
    plan = Plan(noise(1000), 250.0, ids(8), 50, 3)
    assert plan.starts == (0, 125, 250, 375, 500, 625, 750, 875)
    np.testing.assert_allclose([due.time for due in plan.blocks()], np.arange(24) * 0.2 / 8, rtol=1e-12)


def test_a_gateway_sends_its_sensors_together():
    plan = Plan(noise(1000), 250.0, ids(70), 50, 2, "frame")
    messages = list(message_source(plan)(BEGIN))
    assert [message.blocks for message in messages] == [50, 20] * 2
    assert [message.key for message in messages[:2]] == [b"gateway-s-0", b"gateway-s-50"]
    np.testing.assert_allclose([message.time for message in messages], np.arange(4) * 0.2 / 2, rtol=1e-12)


def test_a_sensor_stays_with_its_gateway_where_others_have_gaps():
    samples = noise(400)
    samples[:100] = np.nan
    plan = Plan(samples, 250.0, ids(60), 50, 8, "frame")
    gateways = defaultdict(set)
    for message in message_source(plan)(BEGIN):
        for block in decoded(message.value):
            gateways[block.sensor_id].add(message.key)
    assert gateways == {f"s-{n}": {b"gateway-s-0" if n < 50 else b"gateway-s-50"} for n in range(60)}


def test_frames_of_the_longest_blocks_stay_below_a_brokers_limit():
    plan = Plan(noise(1000), 250.0, ids(3), 65_536, 1, "frame")
    assert max(len(message.value) for message in message_source(plan)(BEGIN)) < 1_000_000


def test_json_is_what_the_plain_encoder_makes():
    plan = Plan(noise(300), 250.0, ("s",), 256, 1, "json", "ecg")
    (message,) = message_source(plan)(BEGIN)
    plain = json.loads(encode_json("s", plan.recording[:256], 1_700_000_000_000, seq=0, pipeline="ecg"))
    assert json.loads(message.value) == {**plain, "sampleRate": 250.0}


def test_a_long_recording_is_encoded_as_one():
    plan = Plan(noise(200_000), 250.0, ids(3), 1000, 67)
    check_arrived(plan, [message.value for message in message_source(plan)(BEGIN)])


@pytest.mark.parametrize(
    ("seconds", "blocks"), [(None, 2), (10.24, 10), (10.25, 10), (11.263, 10), (11.264, 11), (3000, 2929)]
)
def test_seconds_become_whole_blocks(seconds, blocks):
    plan = plan_replay(recording(noise(600)), seconds=seconds, sensors=2, name="bed")
    assert (plan.blocks_per_sensor, plan.sensors) == (blocks, ("bed-1", "bed-2"))
    assert plan_replay(recording(noise(600))).sensors == ("rec-1",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"sensors": 0}, "0 sensors: expected at least 1"),
        ({"block": 0}, "0 samples a block: expected 1 to 65536"),
        ({"block": 65_537}, "65537 samples a block: expected 1 to 65536"),
        ({"seconds": 1.0}, "1 s to send: expected at least a block, 1.024 s; give more --seconds or a smaller --block"),
        ({"seconds": math.nan}, "nan s to send"),
        ({"seconds": math.inf}, "inf s to send"),
        ({"block": 601}, "2.4 s to send: expected at least a block, 2.404 s"),
        ({"name": "x" * 255}, "expected 1 to 256 bytes; give a shorter --name"),
        ({"name": "ä" * 128}, "expected 1 to 256 bytes"),
        ({"encoding": "xml"}, "encoding 'xml': expected json, msgpack, frame"),
        ({"channels": ["V5"]}, "rec has no channel 'V5'; it has 0 'ECG'"),
    ],
)
def test_impossible_plans_are_refused(wrong, message):
    with pytest.raises((ReplayError, RecordingError), match=message):
        plan_replay(recording(noise(600)), **wrong)


def test_a_recording_without_enough_valid_samples_is_refused():
    samples = noise(600)
    samples[::255] = np.nan
    with pytest.raises(ReplayError, match="no 256 samples in a row are valid"):
        plan_replay(recording(samples))
    with pytest.raises(ReplayError, match="no 10 samples in a row are valid"):
        plan_replay(recording(np.full(600, 1e300)), block=10, encoding="msgpack")
    with pytest.raises(ReplayError, match="0 sensors: expected at least one, with different ids"):
        Plan(noise(10), 250.0, (), 1, 1)
    with pytest.raises(ReplayError, match="2 sensors: expected at least one, with different ids"):
        Plan(noise(10), 250.0, ("a", "a"), 1, 1)


# --- Through Kafka ---------------------------------------------------------------------------------------------


@pytest.fixture
def environment(services, tmp_path, monkeypatch):
    """Settings as a shell would have them, with topics of the test's own."""
    monkeypatch.setenv("CONTINUUM_KAFKA_BOOTSTRAP", services.kafka_bootstrap)
    monkeypatch.setenv("CONTINUUM_TOPIC_PREFIX", f"replay-{uuid.uuid4().hex[:8]}.")
    monkeypatch.setenv("CONTINUUM_DATADIR", str(tmp_path))
    return load_settings()


async def make_topic(settings, tier: str = "rt") -> str:
    admin = AIOKafkaAdminClient(**client_options(settings))
    await admin.start()
    try:
        topic = f"{settings.topic_prefix}{tier}-sensors"
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
        return topic
    finally:
        await admin.close()


@pytest.fixture
def topic(environment):
    return asyncio.run(make_topic(environment))


async def read_topic(settings, topic: str) -> list:
    """Give all records of a topic, each partition's in order."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    records = []
    async with started(
        AIOKafkaConsumer(**client_options(settings), auto_offset_reset="earliest"), settings
    ) as consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                records += batch
    return records


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("speed", [math.inf, 200.0])
def test_what_is_played_arrives(environment, topic, encoding, speed):
    plan = plan_replay(builtin_ecg(), sensors=40, seconds=100, encoding=encoding, pipeline="ecg")
    seen = []

    async def run():
        async with started(new_producer(environment), environment) as producer:
            sent = await play(plan, producer, topic, speed=speed, on_progress=lambda now: seen.append(now.blocks))
        return sent, await read_topic(environment, topic)

    sent, records = asyncio.run(run())
    check_arrived(plan, [record.value for record in records])
    assert (sent.blocks, sent.messages) == (plan.total_blocks, len(records))
    assert sent.bytes == sum(len(record.value) for record in records)
    assert (seen[0], seen[-1]) == (0, plan.total_blocks)
    assert seen == sorted(seen)


def test_keys_go_where_every_default_producer_puts_them(environment, topic):
    plan = Plan(noise(1000), 250.0, (*ids(60), "Bett-ä", "心電図"), 10, 2)

    async def run():
        async with started(new_producer(environment), environment) as producer:
            await play(plan, producer, topic, speed=math.inf)
            plain = [await producer.send_and_wait(topic, b"x", key=sensor.encode()) for sensor in plan.sensors]
        return plain, await read_topic(environment, topic)

    plain, records = asyncio.run(run())
    expected = dict(zip([sensor.encode() for sensor in plan.sensors], [meta.partition for meta in plain], strict=True))
    assert len(set(expected.values())) == PARTITIONS
    assert {(record.key, record.partition) for record in records} == set(expected.items())


def test_a_cancelled_replay_knows_what_it_sent(environment, topic):
    plan = plan_replay(builtin_ecg(), sensors=200, seconds=250)

    async def run():
        counted = Sent()
        enough = asyncio.Event()

        def watch(now: Sent) -> None:
            nonlocal counted
            counted = now
            if now.blocks > 500:
                enough.set()

        async with started(new_producer(environment), environment) as producer:
            playing = asyncio.create_task(play(plan, producer, topic, speed=20, on_progress=watch))
            await enough.wait()
            playing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await playing
        return counted, await read_topic(environment, topic)

    counted, records = asyncio.run(run())
    assert 500 < counted.blocks < plan.total_blocks
    assert counted.blocks == len(records)
    streams = defaultdict(list)
    for record in records:
        streams[record.key].append(decoded(record.value)[0].seq)
    assert all(seqs == list(range(0, 256 * len(seqs), 256)) for seqs in streams.values())


def test_blocks_larger_than_the_topic_takes_are_refused_with_the_remedy(environment, topic):
    plan = Plan(noise(1000), 250.0, ("s",), 65_536, 1)

    async def run():
        async with started(new_producer(environment), environment) as producer:
            await play(plan, producer, topic, speed=math.inf)

    with pytest.raises(
        ReplayError, match=r"65536 samples as json are larger than .*-sensors takes; give a smaller --block"
    ):
        asyncio.run(run())


# --- The command -----------------------------------------------------------------------------------------------


def command(*arguments: str):
    cli = typer.Typer()
    cli.command()(replay)
    return CliRunner().invoke(cli, arguments)


def test_the_command_plays_a_file_and_says_what_it_sent(environment, topic, tmp_path):
    samples = noise(2000)
    path = tmp_path / "walk.csv"
    path.write_text("ECG,V5\n" + "\n".join(f"{value!r},0" for value in samples.tolist()))
    arguments = [str(path), "--rate", "250", "--channel", "ECG", "--sensors", "3", "--name", "bed", "--speed", "max"]
    result = command(
        *arguments, "--block", "100", "--seconds", "12", "--encoding", "msgpack", "--pipeline", "ecg", "--json"
    )
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    plan = plan_replay(
        recording(samples), sensors=3, name="bed", seconds=12, block=100, encoding="msgpack", pipeline="ecg"
    )
    records = asyncio.run(read_topic(environment, topic))
    check_arrived(plan, [record.value for record in records])
    assert (said["topic"], said["blocks"], said["sensors"], said["blocksLeftOut"]) == (topic, 90, 3, 0)
    assert said["bytes"] == sum(len(record.value) for record in records)
    assert said["interrupted"] is False


def test_the_command_resamples_and_tells_people_about_gaps(environment, topic, tmp_path):
    samples = noise(2000)
    samples[1000] = np.nan
    path = tmp_path / "walk.csv"
    path.write_text("\n".join("" if math.isnan(value) else repr(value) for value in samples.tolist()))
    result = command(
        str(path), "--rate", "500", "--resample", "250", "--block", "100", "--speed", "max", "--name", "bed"
    )
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert f"sent 9 of 9 blocks of 100 samples (250 Hz) from sensor bed-1 to {topic} in" in said
    assert "blocks left out, as they touch invalid samples: 1" in said


def test_ctrl_c_ends_the_command_cleanly(environment, topic):
    program = "import typer; from app.cli.replay import replay; cli = typer.Typer(); cli.command()(replay); cli()"
    arguments = ["--builtin", "--sensors", "50", "--json"]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        while not asyncio.run(read_topic(environment, topic)):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = json.loads(process.communicate(timeout=60)[0])
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert said["interrupted"] is True
    assert 0 < said["blocks"] == len(asyncio.run(read_topic(environment, topic))) < said["blocksPlanned"]


def test_a_missing_topic_names_the_command_that_creates_it(environment):
    result = command("--builtin", "--speed", "max", "--tier", "nrt")
    assert isinstance(result.exception, ReplayError)
    expected = f"there is no topic {environment.topic_prefix}nrt-sensors; create it with `continuum topics create`"
    assert str(result.exception) == expected


def test_without_a_broker_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTINUUM_DATADIR", str(tmp_path))
    result = command("--builtin")
    assert isinstance(result.exception, BrokerError)
    assert "no Kafka is configured; start the embedded one with `continuum up`" in str(result.exception)
    monkeypatch.setenv("CONTINUUM_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    result = command("--builtin")
    assert isinstance(result.exception, BrokerError)
    assert "no Kafka answers at 127.0.0.1:1; start" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either a file or --builtin"),
        (["x.csv", "--builtin"], "expected either a file or --builtin"),
        (["--builtin", "--speed", "fast"], "--speed fast: expected a number above 0, or max"),
        (["--builtin", "--speed", "0"], "expected a number above 0"),
        (["--builtin", "--speed", "nan"], "expected a number above 0"),
        (
            ["--builtin", "--pipeline", "eeg"],
            "--pipeline eeg: expected one of audio-mfcc, ecg, ecg-beats, ecg-branched, eeg-bands, ",
        ),
        (["--builtin", "--channel", "V5"], "no channel 'V5'"),
        (["absent.csv"], "absent.csv is not there"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(environment, arguments, message):
    result = command(*arguments)
    assert isinstance(result.exception, ReplayError | RecordingError)
    assert message in str(result.exception)


@pytest.mark.parametrize("pipeline", [[], ["--pipeline", "ecg-branched"]])
def test_another_rate_is_refused_before_anything_is_sent(environment, topic, tmp_path, pipeline):
    """Each block would be a dead letter."""
    path = tmp_path / "walk.csv"
    path.write_text("\n".join(["0.5"] * 3600))
    arguments = [str(path), "--rate", "360", "--speed", "max", *pipeline]
    result = command(*arguments)
    assert isinstance(result.exception, ReplayError)
    name = pipeline[-1] if pipeline else "ecg"
    expected = f"the recording has 360 Hz, and pipeline {name} takes 250 Hz; resample it: --resample 250"
    assert str(result.exception) == expected
    assert asyncio.run(read_topic(environment, topic)) == []
    assert command(*arguments, "--resample", "250").exit_code == 0
    assert len(asyncio.run(read_topic(environment, topic))) == 9


def test_another_number_of_channels_is_refused():
    one = builtin_ecg()
    with pytest.raises(ReplayError, match="1 channels: pipeline two-channels takes 2; name as many, each with --chan"):
        check_fits(plan_replay(one), two_channels())
    two = Recording("rec", 250.0, ("a", "b"), np.vstack([one.signals, one.signals]), None)
    check_fits(plan_replay(two, channels=["b", 0]), two_channels())
    with pytest.raises(ReplayError, match="2 channels: pipeline ecg takes 1"):
        check_fits(plan_replay(two, channels=[0, 1]), shipped_pipelines()["ecg"])


@pytest.mark.parametrize("tier", TIERS)
def test_what_is_built_in_fits_each_tier(tier):
    pipeline = shipped_pipelines()[TIER_DEFAULTS[tier].pipeline]
    plan = plan_builtin(tier, sensors=3)
    check_fits(plan, pipeline)
    messages = [Message(message.key, message.value) for message in message_source(plan)(BEGIN)]
    taken = decode(messages, {pipeline.name: pipeline}, pipeline.name)
    assert not taken.bad
    assert sum(len(columns.sensor_ids) for columns in taken.columns) == plan.total_blocks
    assert plan.duration == {"rt": 1.024, "nrt": 1.0, "batch": 100.0}[tier], "a second's samples, or one"


def test_the_command_plays_what_is_built_in_for_the_tier(environment):
    """With three axes, at a thousand times their pace: the timestamps stay those of the samples."""
    topic = asyncio.run(make_topic(environment, "nrt"))
    result = command("--builtin", "--tier", "nrt", "--sensors", "2", "--seconds", "20", "--speed", "1000", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["topic"], said["blocks"], said["block"], said["sampleRate"]) == (topic, 40, 10, 10.0)
    times = defaultdict(list)
    for record in asyncio.run(read_topic(environment, topic)):
        (block,) = decoded(record.value)
        assert (block.channels, len(block.samples)) == (3, 30)
        times[block.sensor_id].append(block.timestamp)
    assert [np.diff(own).tolist() for own in times.values()] == [[1000] * 19] * 2


def test_sensors_without_a_name_are_new_in_every_replay(topic) -> None:
    names = []
    for _ in range(2):
        result = command("--builtin", "--seconds", "2", "--speed", "max", "--sensors", "2", "--json")
        assert result.exit_code == 0, result.output
        names.append(json.loads(result.stdout)["names"])
    assert len({name for run in names for name in run}) == 4

"""Dead letters: listed, shown, and sent again to where they came from, on a real Kafka and to a real worker."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections import Counter, defaultdict

import msgspec
import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from app.dead_letters.contents import contents, hex_dump
from app.dead_letters.errors import DeadLetterError
from app.dead_letters.letter import LetterId, Source, parse_name
from app.dead_letters.selection import parse_since
from app.kafka_reader import Stretch, read, retained, topic_reader
from app.pipelines import shipped_pipelines
from app.runtime.outbox import partition_of
from app.sources import builtin_ecg
from app.topics import TopicError, dead_letter_topic, features_topic, sensor_topic
from app.verify import FeatureVerifier
from app.wire.blocks import encode_frame, encode_json, packed
from tests.bad_messages import BAD_MESSAGES, as_json
from tests.command import continuum
from tests.system import System, ecg_blocks, noise


async def put_letters(
    system: System,
    letters: list[tuple[bytes | None, bytes | None, str, str, bytes]],
    more: tuple[tuple[str, bytes], ...] = (),
) -> list[str]:
    """Write dead letters (key, value, reason, source, detail) as a worker does, and give their ids."""
    topic = dead_letter_topic(system.settings)
    async with system.producer(max_request_size=16 << 20, compression_type="gzip") as producer:
        sent = []
        for key, value, reason, source, detail in letters:
            headers = [("reason", reason.encode()), ("detail", detail), ("source", source.encode()), *more]
            partition = partition_of(key or b"", 10)
            sent.append(await producer.send(topic, value, key, partition, headers=headers))
        metadata = await asyncio.gather(*sent)
    return [f"{own.partition}-{own.offset}" for own in metadata]


async def on_topic(system: System, topic: str) -> list:
    """All that a topic holds, by partition and offset."""
    async with topic_reader(system.settings) as consumer:
        stretches = await retained(consumer, system.settings, topic)
        records = [record async for batch in read(consumer, stretches) for record in batch]
    return sorted(records, key=lambda record: (record.partition, record.offset))


# -- names and times


def test_names():
    assert parse_name("3-17") == LetterId(3, 17)
    assert parse_name("t-1-rt-sensors-41-1234") == Source("t-1-rt-sensors", 41, 1234)
    for text in (str(LetterId(3, 17)), str(Source("rt-sensors", 4, 5))):
        assert str(parse_name(text)) == text
    for text in ("", "3", "-", "a-3", "3-", "3-x", "rt-sensors-1"):
        with pytest.raises(DeadLetterError, match="partition-offset"):
            parse_name(text)


def test_since():
    assert parse_since("2026-01-31T08:00:00+00:00") == 1_769_846_400_000
    assert parse_since("2026-01-31T09:00:00+01:00") == parse_since("2026-01-31T08:00:00") == 1_769_846_400_000
    for text, seconds in (("90s", 90), ("30m", 1800), ("2h", 7200), ("7d", 604_800)):
        assert abs(parse_since(text) - (time.time() - seconds) * 1000) < 5_000
    for text in ("yesterday", "3", "-1s", "1w"):
        with pytest.raises(DeadLetterError, match="expected how long ago"):
            parse_since(text)


# -- decoding


@pytest.mark.parametrize("number", range(len(BAD_MESSAGES)))
def test_a_bad_message_shows_why_it_is_bad(number: int) -> None:
    reason, key, value = BAD_MESSAGES[number]
    found = contents(key, value, shipped_pipelines(), "ecg")
    if found.blocks:
        assert found.blocks[0].reason == reason
    else:
        assert reason == ("empty-samples" if found.kind == "frame" else "malformed")
    assert len(msgspec.json.encode(found)) < 20_000, "long values are cut short"


@given(st.one_of(st.binary(max_size=200), st.sampled_from([b"[" * 100_000, b"\x91" * 100_000, b'{"a":' * 50_000])))
def test_any_bytes_can_be_shown(value: bytes) -> None:
    found = contents(b"key", value, shipped_pipelines(), "ecg")
    msgspec.json.encode(found)
    assert hex_dump(value, 64).count("\n") <= 4


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


@given(st.dictionaries(st.sampled_from(["sensorId", "samples", "timestamp", "blocks", "x"]), values))
def test_any_map_can_be_shown(fields: dict) -> None:
    found = contents(b"key", msgspec.msgpack.encode(fields), shipped_pipelines(), "ecg")
    assert found.kind in {"MessagePack", "frame"}
    msgspec.json.encode(found)


def test_which_blocks_of_a_frame_are_bad():
    good = packed("a", noise(16, 1).astype("f4"), 1_700_000_000_000)
    blocks = [msgspec.to_builtins(good, builtin_types=(memoryview,)) for _ in range(5)]
    blocks[1] = {**blocks[1], "sampleRate": 10}
    blocks[3] = 7
    found = contents(b"gateway", msgspec.msgpack.encode({"blocks": blocks}), shipped_pipelines(), "ecg")
    assert found.kind == "frame"
    assert [block.reason for block in found.blocks] == ["", "wrong-rate", "", "malformed", ""]
    assert found.blocks[0].fields["samples"] == [*noise(16, 1).astype("f4").tolist()[:8], "… 16 in all"]


def test_hex_dump():
    lines = hex_dump(bytes(range(0x30, 0x50)) + b"\x00\xff", 1000).splitlines()
    assert lines[0] == "00000000  30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f  0123456789:;<=>?"
    assert lines[2] == f"00000020  {'00 ff':<47}  .."
    assert hex_dump(b"x" * 40, 16).splitlines()[1:] == ["… 40 bytes in all"]


# -- the commands


async def test_list_counts_and_shows_the_newest(system: System) -> None:
    letters = [
        (f"s{number % 7}".encode(), as_json(samples=[]), reason, f"rt-sensors-1-{number}", b"\xff[bold]detail")
        for number, reason in enumerate(["empty-samples"] * 40 + ["malformed"] * 25 + ["from-another-release"])
    ]
    begun = time.time()
    ids = await put_letters(system, letters)
    settings = system.settings
    done = await continuum(settings, "dead-letters", "list", "--json", "--limit", "3")
    assert done.code == 0, done.notes
    listing = done.json
    assert (listing["retained"], listing["read"]) == (66, 66)
    assert listing["reasons"] == {"empty-samples": 40, "malformed": 25, "from-another-release": 1}
    assert len(listing["letters"]) == 3
    times = [letter["time"] for letter in listing["letters"]]
    assert times == sorted(times, reverse=True)

    done = await continuum(settings, "dead-letters", "list", "--json", "--reason", "malformed", "--sensor", "s3")
    numbers = [number for number in range(40, 65) if number % 7 == 3]
    assert sorted(letter["id"] for letter in done.json["letters"]) == sorted(ids[number] for number in numbers)
    first = next(letter for letter in done.json["letters"] if letter["id"] == ids[numbers[0]])
    assert first["source"] == f"rt-sensors-1-{numbers[0]}"
    assert (first["key"], first["size"], first["detail"]) == ("s3", len(as_json(samples=[])), "\\xff[bold]detail")

    assert (await continuum(settings, "dead-letters", "list", "--json", "--since", "1h")).json["read"] == 66
    later = f"{int(begun) + 3600}"
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(int(later)))
    assert (await continuum(settings, "dead-letters", "list", "--json", "--since", stamp)).json["letters"] == []

    shown = (await continuum(settings, "dead-letters", "list")).out.decode()
    assert "empty-samples" in shown
    assert "[bold]" in shown, "what came from outside is not markup"


async def test_the_largest_and_the_empty(system: System) -> None:
    large, key = b"[" * ((2 << 20) - 600), b"large"
    ids = await put_letters(
        system,
        [
            (key, large, "malformed", "rt-sensors-1-1", b""),
            (b"none", None, "malformed", "rt-sensors-1-2", b""),
            (None, b"", "malformed", "rt-sensors-1-3", b""),
        ],
    )
    settings = system.settings
    listing = (await continuum(settings, "dead-letters", "list", "--json")).json
    sizes = {letter["id"]: letter["size"] for letter in listing["letters"]}
    assert sizes == dict(zip(ids, [len(large), None, 0], strict=True))
    (shown,) = (await continuum(settings, "dead-letters", "show", ids[0], "--json")).json
    assert base64.b64decode(shown["valueBase64"]) == large
    (shown,) = (await continuum(settings, "dead-letters", "show", ids[1], "--json")).json
    assert (shown["valueBase64"], shown["contents"]["kind"]) == (None, "nothing")
    assert "no value" in (await continuum(settings, "dead-letters", "show", ids[1])).out.decode()
    assert "2,096,552 bytes in all" in (await continuum(settings, "dead-letters", "show", ids[0])).out.decode()


async def test_show_finds_by_id_and_by_source(system: System) -> None:
    frame = encode_frame([packed("a", noise(8, 1), 1_700_000_000_000)])
    source = f"{sensor_topic(system.settings, 'rt')}-7-11"
    ids = await put_letters(
        system,
        [
            (b"g", frame, "wrong-rate", source, b"block 1 of 1"),
            (b"g", frame, "malformed", source, b"block 2 of 1"),
            (b"x", b"\x00\x01", "malformed", "rt-sensors-7-12", b""),
        ],
    )
    settings = system.settings
    by_source = (await continuum(settings, "dead-letters", "show", source, "--json")).json
    assert [letter["id"] for letter in by_source] == ids[:2]
    assert by_source[0]["contents"]["kind"] == "frame"
    dumped = (await continuum(settings, "dead-letters", "show", ids[2])).out.decode()
    assert "00000000  00 01" in dumped
    for name, says in (
        ("9-1000", "holds offsets 0 up to"),
        ("99-0", "partitions 0 to 9"),
        ("rt-sensors-7-13", "no dead letter has the source"),
        ("nonesuch", "names no dead letter"),
    ):
        done = await continuum(settings, "dead-letters", "show", name)
        assert done.code == 1
        assert says in done.notes


async def test_replay_sends_all_to_their_sources_in_order(system: System) -> None:
    settings, topic = system.settings, sensor_topic(system.settings, "rt")
    before = [(f"k{number % 5}".encode(), f"original {number}".encode()) for number in range(100)]
    async with system.producer() as producer:
        sent = [await producer.send(topic, value, key) for key, value in before]
        null = await (await producer.send(topic, b"without a key", None, 33))
        sources = [await future for future in sent]
    # In any order, as the partitions of dead letters are others than the sources'.
    letters = [
        (key, value, "malformed", f"{topic}-{source.partition}-{source.offset}", b"")
        for (key, value), source in zip(before, sources, strict=True)
    ]
    random.Random(5).shuffle(letters)
    letters.append((None, b"without a key", "malformed", f"{topic}-33-{null.offset}", b""))
    letters.append((*letters[0][:2], "wrong-rate", *letters[0][3:]))  # the same message, for another reason
    letters.append((b"k", b"v", "malformed", "some-other-topic-1-1", b""))
    letters.append((b"k", b"v", "malformed", f"{topic}-50-1", b""))
    letters.append((b"k", b"v", "malformed", "", b""))
    ids = await put_letters(system, letters)

    done = await continuum(settings, "dead-letters", "replay", "--all", "--dry-run", "--json")
    assert (done.json["selected"], done.json["sent"]) == (101, 0)
    assert Counter(done.json["held"].values()) == {
        "another dead letter has the same message": 1,
        "its source is not a partition of a sensor topic": 3,
    }
    refused = await continuum(settings, "dead-letters", "replay", "--all", stdin=b"n\n")
    assert refused.code == 1
    assert "Send 101 messages" in refused.notes
    assert len(await on_topic(system, topic)) == 101, "nothing has been sent yet"

    done = await continuum(settings, "dead-letters", "replay", "--all", "--yes")
    assert done.code == 0, done.notes
    assert "sent 101 of 101 messages" in done.out.decode()
    found: defaultdict[int, list] = defaultdict(list)
    for record in await on_topic(system, topic):
        found[record.partition].append(record)
    assert sum(map(len, found.values())) == 202
    for records in found.values():
        half = len(records) // 2
        assert [(r.key, r.value) for r in records[:half]] == [(r.key, r.value) for r in records[half:]]
        assert all(not record.headers for record in records[:half])
        for record in records[half:]:
            ((name, value),) = record.headers
            assert name == "replayed-from"
            letter = ids.index(value.decode())
            assert (letters[letter][0], letters[letter][1]) == (record.key, record.value)


async def test_what_came_compressed_goes_back_so_and_what_was_cut_does_not(system: System) -> None:
    settings, topic = system.settings, sensor_topic(system.settings, "rt")
    large = as_json(samples=[0] * 4_000_000)  # the topic takes 1 MB
    await put_letters(system, [(b"k", large, "too-many-samples", f"{topic}-3-1", b"")])
    (cut,) = await put_letters(
        system, [(b"k", large[:1000], "too-many-samples", f"{topic}-3-2", b"")], (("truncated", b"12000000"),)
    )
    done = await continuum(settings, "dead-letters", "replay", "--all", "--yes", "--json")
    assert done.code == 0, done.notes
    assert done.json["held"] == {cut: "only the beginning of its message was kept"}
    (record,) = await on_topic(system, topic)
    assert (record.partition, record.key, record.value) == (3, b"k", large)
    assert "truncated" in (await continuum(settings, "dead-letters", "show", cut)).out.decode()


async def test_replay_of_some(system: System) -> None:
    settings, topic = system.settings, sensor_topic(system.settings, "nrt")
    ids = await put_letters(
        system,
        [
            (b"a", b"1", "malformed", f"{topic}-1-1", b""),
            (b"b", b"2", "wrong-rate", f"{topic}-1-2", b""),
            (b"b", b"3", "malformed", f"{topic}-1-3", b""),
            (b"c", None, "malformed", f"{topic}-1-4", b""),
        ],
    )

    async def replayed(*arguments: str) -> tuple[int, list]:
        known = len(await on_topic(system, topic))
        done = await continuum(settings, "dead-letters", "replay", *arguments, "--json")
        return done.code, [record.value for record in (await on_topic(system, topic))[known:]]

    assert await replayed(ids[2], ids[0]) == (0, [b"1", b"3"])
    assert await replayed("--reason", "wrong-rate") == (0, [b"2"])
    assert await replayed("--sensor", "b", "--reason", "malformed") == (0, [b"3"])
    assert await replayed(ids[3]) == (0, [None])
    assert await replayed("--since", "1h") == (0, [b"1", b"2", b"3", None])
    assert await replayed(ids[0], "7-99999") == (1, [b"1"])
    for arguments in ([], [ids[0], "--all"], ["rt-sensors-1-1"]):
        done = await continuum(settings, "dead-letters", "replay", *arguments)
        assert done.code == 1
        assert done.notes.startswith("error: ")


async def test_without_the_topic(settings) -> None:
    own = settings()
    with pytest.raises(TopicError, match="continuum topics create"):
        async with topic_reader(own) as consumer:
            await retained(consumer, own, dead_letter_topic(own))
    done = await continuum(own, "dead-letters", "list")
    assert done.code == 2
    assert "there is no topic" in done.notes


async def test_reading_many_parts_from_the_middle(system: System) -> None:
    topic = dead_letter_topic(system.settings)
    await put_letters(system, [(b"k", b"%d" % number, "malformed", "", b"") for number in range(3000)])
    partition = TopicPartition(topic, partition_of(b"k", 10))
    async with topic_reader(system.settings) as consumer:
        for start, end in ((0, 3000), (1, 2), (1499, 2999), (2999, 3000), (5, 5)):
            batches = [batch async for batch in read(consumer, {partition: Stretch(start, end)})]
            assert [int(record.value) for batch in batches for record in batch] == list(range(start, end))


# -- with a worker


async def test_what_was_refused_is_processed_when_sent_again(system: System) -> None:
    """Blocks that an earlier release refused: sent again to this one, every feature is there and right."""
    settings, topic = system.settings, sensor_topic(system.settings, "rt")
    ecg = builtin_ecg().channel(0)
    verifier, letters = FeatureVerifier(), []
    for number in range(8):
        sensor_id = f"refused-{number}"
        signal, blocks = ecg[number * 300 :][: 20 * 256], ecg_blocks(20)
        verifier.expect(sensor_id, signal, blocks)
        key = sensor_id.encode()
        for offset, (start, length) in enumerate(blocks):
            value = encode_json(sensor_id, signal[start : start + length], 1_700_000_000_000 + start * 4, seq=start)
            source = f"{topic}-{partition_of(key, 50)}-{offset * 8 + number}"
            letters.append((key, value, "unknown-pipeline", source, b""))
    await put_letters(system, letters)
    bad = [(b"bad", as_json(samples=[]), "empty-samples", f"{topic}-{partition_of(b'bad', 50)}-0", b"")]
    (bad_id,) = await put_letters(system, bad)

    worker = await system.worker()
    done = await continuum(settings, "dead-letters", "replay", "--all", "--yes", "--json")
    assert (done.json["sent"], done.json["held"]) == (161, {})
    verdict = await system.verify(verifier)
    assert verdict.passed, verdict

    # The bad one has failed again, and is known by it.
    (again,) = [letter for letter in await system.dead_letters(162) if dict(letter.headers).get("replayed-from")]
    assert dict(again.headers)["replayed-from"].decode() == bad_id
    again_id = f"{again.partition}-{again.offset}"
    for arguments in ([bad_id], [again_id], ["--reason", "empty-samples"]):
        done = await continuum(settings, "dead-letters", "replay", *arguments, "--json")
        assert done.json["sent"] == 0
        assert set(done.json["held"].values()) == {"sent again before, and failed again"}
    done = await continuum(settings, "dead-letters", "replay", "--reason", "empty-samples", "--again", "--json")
    assert (done.json["sent"], list(done.json["held"])) == (1, [bad_id])
    replayed = [dict(letter.headers).get("replayed-from", b"").decode() for letter in await system.dead_letters(163)]
    assert sorted(filter(None, replayed)) == sorted([bad_id, again_id])

    # Sent once more, the good ones are behind their sensors' states: late, and no state counts them twice.
    done = await continuum(settings, "dead-letters", "replay", "--reason", "unknown-pipeline", "--json")
    assert done.json["sent"] == 160
    async with asyncio.timeout(30):
        while (await worker.status()).tiers["rt"].late < 160:  # noqa: ASYNC110 - it is another process that counts
            await asyncio.sleep(0.1)
    assert await worker.stop() == 0
    assert len(await on_topic(system, features_topic(settings, "ecg"))) == 160

"""Bad input among good: each becomes a dead letter with its reason, and nothing else notices."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from app.sources import builtin_ecg
from app.topics import features_topic, sensor_topic
from app.verify import FeatureVerifier
from app.wire.blocks import encode_json, encode_msgpack, packed
from tests.bad_messages import BAD_MESSAGES
from tests.system import System, ecg_blocks

SENSORS, BLOCKS, BAD = 100, 100, 300


async def test_bad_messages_among_good_ones(system: System) -> None:
    ecg = builtin_ecg().channel(0)
    blocks = ecg_blocks(BLOCKS)
    verifier = FeatureVerifier()
    good: list[list[tuple[bytes, bytes]]] = []
    for number in range(SENSORS):
        sensor_id = f"good-{number}"
        signal = ecg[number * 200 :][: BLOCKS * 256]
        if number % 2:
            signal = signal.astype("f4")
        verifier.expect(sensor_id, signal.astype(float), blocks)
        messages = []
        for start, length in blocks:
            samples, time = signal[start : start + length], 1_700_000_000_000 + start * 4
            if number % 2:
                value = encode_msgpack(packed(sensor_id, samples, time, seq=start))
            else:
                value = encode_json(sensor_id, samples, time, seq=start)
            messages.append((sensor_id.encode(), value))
        good.append(messages)
    # Block by block over the sensors, with bad messages anywhere in between.
    messages = [own[number] for number in range(BLOCKS) for own in good]
    chance = random.Random(3)
    bad = [BAD_MESSAGES[number % len(BAD_MESSAGES)] for number in range(BAD)]
    for _, key, value in bad:
        messages.insert(chance.randrange(len(messages) + 1), (key, value))

    worker = await system.worker()
    await system.send(messages)
    verdict = await system.verify(verifier)
    assert verdict.expected == SENSORS * BLOCKS
    assert verdict.passed, verdict

    letters = await system.dead_letters(BAD)
    found = Counter()
    for letter in letters:
        headers = {name: value.decode() for name, value in letter.headers}
        assert headers["detail"]
        topic, partition, offset = headers["source"].rsplit("-", 2)
        assert topic == f"{system.settings.topic_prefix}rt-sensors"
        assert 0 <= int(partition) < 50
        assert int(offset) >= 0
        found[headers["reason"], letter.key, letter.value] += 1
    assert found == Counter((str(reason), key, value) for reason, key, value in bad)

    status = await worker.status()
    assert status.tiers["rt"].dead_letters == dict(Counter(str(reason) for reason, _, _ in bad))
    assert await worker.stop() == 0
    assert await system.lag() == 0


@pytest.mark.parametrize("incompressible", [False, True], ids=["bomb", "noise"])
async def test_a_message_larger_than_a_topic_takes_becomes_a_dead_letter(system: System, incompressible: bool) -> None:
    """Brokers limit what is sent; a compressed message may be many times larger once it is read."""
    bad = b"{" + (random.Random(4).randbytes(1_040_000) if incompressible else b" " * 5_000_000)
    worker = await system.worker()
    async with system.producer(compression_type="gzip", max_request_size=6_000_000) as producer:
        topic = sensor_topic(system.settings, "rt")
        await producer.send_and_wait(topic, bad, key=b"bomb")
        good = encode_json("good", builtin_ecg().channel(0)[:256], 1_700_000_000_000, seq=0)
        await producer.send_and_wait(topic, good, key=b"good")
    (letter,) = await system.dead_letters(1)
    assert (letter.key, letter.value) == (b"bomb", bad)
    assert dict(letter.headers)["reason"] == b"malformed"
    await system.read(features_topic(system.settings, "ecg"), 1)
    assert await worker.stop() == 0
    assert await system.lag() == 0

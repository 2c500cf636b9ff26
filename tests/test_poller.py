"""The poller on a real Kafka: what it makes of records, in which order, and when it commits."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError

from app.kafka_client import admin_client
from app.preflight import GroupConflictError, check_function_groups, check_groups, group_subscriptions
from app.serverless.environment import Invocation
from app.serverless.event_source import CLUSTER_ARN, Batch, encode_event
from app.serverless.events import decode_event
from app.serverless.poller import Batching, Poller
from app.serverless.runtime_api import MAX_PAYLOAD, InvocationError
from app.settings import Settings
from app.topics import Topic, create_topics, sensor_topic
from tests.pages import until
from tests.system import System

Place = tuple[int, int]
"""Partition and offset."""


def record(partition: int, offset: int, **fields: Any) -> ConsumerRecord:
    given = {"key": b"s1", "value": b"\x00\xff", "headers": (), "timestamp": 1_700_000_000_000, "timestamp_type": 0}
    rest = {"checksum": None, "serialized_key_size": 0, "serialized_value_size": 0}
    return ConsumerRecord(topic="a-b", partition=partition, offset=offset, **{**given, **rest, **fields})


def batch(*counts: int) -> Batch:
    """So many records in each partition, from offset 10."""
    return Batch(
        {
            TopicPartition("a-b", number): [record(number, 10 + place) for place in range(count)]
            for number, count in enumerate(counts)
        }
    )


def places(own: Batch) -> list[Place]:
    return [(tp.partition, record.offset) for tp, records in own.records.items() for record in records]


def failures(*items: Any) -> bytes:
    return msgspec.json.encode({"batchItemFailures": [{"itemIdentifier": item} for item in items]})


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("self-managed", {"eventSource": "SelfManagedKafka", "bootstrapServers": "k1:9092,k2:9092"}),
        (
            "msk",
            {
                "eventSource": "aws:kafka",
                "eventSourceArn": CLUSTER_ARN,
                "bootstrapServers": "k1:9092,k2:9092",
            },
        ),
    ],
)
def test_events_are_those_of_lambda(source, names):
    records = {
        TopicPartition("a-b", 3): [
            record(3, 7, headers=(("reason", b"\x00\xe9"), ("reason", b""), ("reason", None))),
            record(3, 9, key=None, value=None, timestamp_type=1),
        ]
    }
    made = msgspec.json.decode(encode_event(records, "k1:9092,k2:9092", source))
    place = {"topic": "a-b", "partition": 3, "timestamp": 1_700_000_000_000}
    assert made == {
        **names,
        "records": {
            "a-b-3": [
                {
                    **place,
                    "offset": 7,
                    "timestampType": "CREATE_TIME",
                    "key": base64.b64encode(b"s1").decode(),
                    "value": "AP8=",
                    "headers": [{"reason": [0, 233]}, {"reason": []}, {"reason": []}],
                },
                {**place, "offset": 9, "timestampType": "LOG_APPEND_TIME", "headers": []},
            ]
        },
    }
    ((read, own),) = decode_event(made).items()
    assert (read.topic, read.partition, [one.offset for one in own]) == ("a-b", 3, [7, 9])


@pytest.mark.parametrize(
    ("response", "left"),
    [
        (failures(), []),
        (b"null", []),
        (b"{}", []),
        (b'{"batchItemFailures": null}', []),
        (failures({"partition": "a-b-0", "offset": 11}), [(0, 11), (0, 12)]),
        (failures({"partition": "a-b-0", "offset": 12}, {"partition": "a-b-0", "offset": 11}), [(0, 11), (0, 12)]),
        (failures({"partition": "a-b-1", "offset": 11}, {"partition": "a-b-0", "offset": 12}), [(0, 12), (1, 11)]),
        # What is not understood, or was not in the event, is a failure of everything.
        (failures({"partition": "a-b-0", "offset": 99}), None),
        (failures({"partition": "a-b-7", "offset": 10}), None),
        (failures("a-b-0-11"), None),
        (failures({"partition": "a-b-0"}), None),
        (b'{"batchItemFailures": [{"itemIdentifer": {"partition": "a-b-0", "offset": 11}}]}', None),
        (b'"fine"', None),
        (b"", None),
    ],
)
def test_what_a_response_leaves_to_be_sent_again(response, left):
    own = batch(3, 2)
    done, rest = own.after(response)
    everything = places(own)
    assert places(rest) == (everything if left is None else left)
    assert sorted(places(done) + places(rest)) == everything


def test_halves():
    assert [places(half) for half in batch(2, 3, 1).split()] == [
        [(0, 10), (0, 11)],
        [(1, 10), (1, 11), (1, 12), (2, 10)],
    ]
    assert [places(half) for half in batch(3).split()] == [[(0, 10), (0, 11)], [(0, 12)]]
    assert [places(half) for half in batch(1).split()] == [[(0, 10)]]


class Watched:
    """A function whose invocations fail as they are told to; it remembers what it processed, and checks the order."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.events: list[list[Place]] = []
        self.processed: dict[int, list[int]] = defaultdict(list)
        self.fate: Callable[[list[Place]], Any] = lambda places: None
        self.seconds = 0.0
        self._busy: Counter[int] = Counter()

    async def __call__(self, event: bytes) -> Invocation:
        assert len(event) <= MAX_PAYLOAD
        batches = decode_event(msgspec.json.decode(event))
        asked = [(source.partition, one.offset) for source, own in batches.items() for one in own]
        self.events.append(asked)
        partitions = {partition for partition, _ in asked}
        self._busy.update(partitions)
        assert not self._busy or max(self._busy.values()) == 1, "one batch of a partition at a time"
        await asyncio.sleep(self.seconds)
        self._busy.subtract(partitions)
        fate = self.fate(asked)
        if isinstance(fate, str):
            return Invocation("r", None, InvocationError("as told", fate), 0.01, None, None)
        failed = dict(fate or {})
        for partition, offset in asked:
            if offset < failed.get(partition, offset + 1):
                self.processed[partition].append(offset)
        items = [
            {"partition": f"{sensor_topic(self.settings, 'batch')}-{partition}", "offset": offset}
            for partition, offset in failed.items()
        ]
        return Invocation("", failures(*items), None, 0.01, None, None)


async def committed(settings: Settings) -> dict[int, int]:
    async with admin_client(settings) as admin:
        try:
            offsets = await admin.list_consumer_group_offsets(settings.function_group("batch"))
        except GroupCoordinatorNotAvailableError:  # the brokers' first group
            return {}
    return {tp.partition: meta.offset for tp, meta in offsets.items()}


@asynccontextmanager
async def polling(watched: Watched, **batching: Any) -> AsyncIterator[Poller]:
    poller = Poller(watched.settings, "batch", watched, Batching(**{"window": 0.05, **batching}))
    task = asyncio.create_task(poller.run())
    try:
        yield poller
    finally:
        poller.stop()
        async with asyncio.timeout(20):
            await task


@pytest.fixture
async def watched(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr("app.serverless.poller.FIRST_PAUSE", 0.01)
    monkeypatch.setattr("app.serverless.poller.LONGEST_PAUSE", 0.1)
    own = settings()
    topic = sensor_topic(own, "batch")
    await create_topics(own, [Topic(topic, 6)])
    yield Watched(own)
    async with admin_client(own) as admin:
        await admin.delete_topics([topic])


async def fill(watched: Watched, count: int, partitions: int = 6, value: bytes = b"x", headers: Any = ()) -> None:
    async with System(watched.settings).producer() as producer:
        topic = sensor_topic(watched.settings, "batch")
        sent = [
            await producer.send(topic, value, partition=number % partitions, headers=headers) for number in range(count)
        ]
        await asyncio.gather(*sent)


async def all_committed(watched: Watched, count: int) -> None:
    async def reached() -> bool:
        return sum((await committed(watched.settings)).values()) == count

    await until(reached, f"{count} messages are committed")


async def test_everything_once_in_order_in_batches(watched: Watched) -> None:
    await fill(watched, 300)
    async with polling(watched, size=40, concurrency=2) as poller:
        await all_committed(watched, 300)
        assert poller.lag == 0
        assert poller.partitions == list(range(6))
        status = poller.figures.status()
    assert watched.processed == {partition: list(range(50)) for partition in range(6)}
    assert max(map(len, watched.events)) <= 40
    assert any(len({partition for partition, _ in event}) > 1 for event in watched.events)
    assert (status.invocations, status.records, status.retried) == (len(watched.events), 300, 0)


async def test_what_fails_comes_again_and_nothing_is_committed_before_it_is_processed(watched: Watched) -> None:
    random_ = random.Random(7)

    def fate(asked: list[Place]) -> Any:
        kind = random_.choice(["fine", "fine", "ValueError", "Sandbox.Timedout", "Runtime.ExitError", "partial"])
        if kind == "partial":
            return dict(random_.sample(asked, 1))
        return None if kind == "fine" else kind

    watched.fate = fate
    await fill(watched, 240)
    async with polling(watched, size=30) as poller:
        while sum((now := await committed(watched.settings)).values()) < 240:
            for partition, offset in now.items():
                assert set(range(offset)) <= set(watched.processed[partition])
            await asyncio.sleep(0.05)
        status = poller.figures.status()
    assert watched.processed == {partition: list(range(40)) for partition in range(6)}, "once: no batch failed late"
    assert status.errors
    assert status.partial
    assert status.retried
    assert status.last_error is not None


async def test_only_what_may_have_been_too_large_is_halved(watched: Watched) -> None:
    watched.fate = lambda asked: "Runtime.ExitError" if len(asked) > 3 else None
    await fill(watched, 20, partitions=1)
    async with polling(watched, size=20):
        await all_committed(watched, 20)
    assert [len(event) for event in watched.events][:3] == [20, 10, 5]
    assert watched.processed == {0: list(range(20))}
    watched.events.clear()
    tries = iter(["ValueError", "ValueError"])
    watched.fate = lambda asked: next(tries, None)
    await fill(watched, 20, partitions=1)
    async with polling(watched, size=20):
        await all_committed(watched, 40)
    assert [len(event) for event in watched.events] == [20, 20, 20], "Redis is no better with smaller batches"


async def test_a_partition_that_fails_holds_up_no_other(watched: Watched) -> None:
    watched.fate = lambda asked: {0: 0} if (0, 0) in asked else None
    await fill(watched, 60)
    async with polling(watched, size=60) as poller:
        await all_committed(watched, 50)
        await fill(watched, 60)
        await all_committed(watched, 100)
        assert poller.lag == 20
    assert 0 not in watched.processed
    assert (await committed(watched.settings)).get(0) is None


async def test_a_window_waits_for_a_batch_to_fill(watched: Watched) -> None:
    async with polling(watched, size=4, window=60.0) as poller:
        await until_assigned(poller)
        await fill(watched, 3)
        await asyncio.sleep(0.5)
        assert not watched.events
        await fill(watched, 1, partitions=1)
        await all_committed(watched, 4)
    assert len(watched.events) == 1


async def test_events_stay_below_the_quota(watched: Watched) -> None:
    value = bytes(900_000)  # 1.2 MB in base64
    await fill(watched, 9, value=value, headers=[("of nothing", None)])
    async with polling(watched, size=100):
        await all_committed(watched, 9)
    assert max(map(len, watched.events)) <= 5
    assert sum(map(len, watched.events)) == 9


async def until_assigned(poller: Poller) -> None:
    async def assigned() -> bool:
        return bool(poller.partitions)

    await until(assigned, "the poller has its partitions")


async def test_pollers_come_and_go(watched: Watched) -> None:
    watched.seconds = 0.02
    total = 0

    async def more() -> None:
        nonlocal total
        await fill(watched, 120)
        total += 120

    async with polling(watched, size=5) as first:
        await until_assigned(first)
        await more()
        async with polling(watched, size=5) as second:
            await more()
            await until_assigned(second)
            assert not set(first.partitions) & set(second.partitions)
            await more()
        await more()
        await all_committed(watched, total)
    assert watched.processed == {partition: list(range(total // 6)) for partition in range(6)}, (
        "each once: all went well"
    )


async def test_a_stop_finishes_what_is_in_flight_and_commits_it(watched: Watched) -> None:
    watched.seconds = 1.0
    await fill(watched, 12)
    async with polling(watched, size=6, concurrency=1) as poller:

        async def begun() -> bool:
            return bool(watched.events)

        await until(begun, "an event is processed")
        poller.stop()
    assert len(watched.events) == 1
    assert sum((await committed(watched.settings)).values()) == 6


async def test_a_stop_does_not_wait_for_ever(watched: Watched) -> None:
    watched.settings = watched.settings.model_copy(update={"shutdown_seconds": 0.1})
    watched.seconds = 600.0
    await fill(watched, 6)
    async with polling(watched) as poller:

        async def begun() -> bool:
            return bool(watched.events)

        await until(begun, "an event is in flight")
        poller.stop()
    assert not watched.processed
    assert not await committed(watched.settings)


async def test_a_topic_belongs_to_workers_or_to_the_function(watched: Watched) -> None:
    own, worker_only = watched.settings, watched.settings.model_copy(update={"tiers": ("rt", "batch")})
    topic, group = sensor_topic(own, "batch"), own.function_group("batch")
    async with polling(watched) as poller:
        await until_assigned(poller)
        subscriptions = await group_subscriptions(own)
        assert subscriptions == {group: {topic}}
        check_function_groups(own, "batch", subscriptions)  # one more poller is welcome
        check_function_groups(own, "nrt", subscriptions)
        with pytest.raises(GroupConflictError, match=rf"group {group} has a living poller on {topic}"):
            check_groups(worker_only, {topic}, subscriptions)
        with pytest.raises(GroupConflictError, match=r"or run a worker of the other tiers: CONTINUUM_TIERS=rt$"):
            check_groups(worker_only, {topic, sensor_topic(own, "rt")}, subscriptions)
        with pytest.raises(GroupConflictError, match="the same CONTINUUM_TOPIC_PREFIX everywhere"):
            check_function_groups(own, "batch", {group: {"other"}})
    worker = f"{own.app_id}-rt-batch"
    with pytest.raises(
        GroupConflictError,
        match=rf"group {worker} has a living worker on {topic}, and the function would join {group}: .*"
        r" without the tier batch: CONTINUUM_TIERS=rt$",
    ):
        check_function_groups(own, "batch", {worker: {topic}})

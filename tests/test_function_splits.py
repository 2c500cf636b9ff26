"""Whatever way a stream comes to the function - split, again, late again, twice at once - its features are the same.

Two environments stand for Lambda's. Events come in the partition's order, as an event source mapping keeps it, but some
come again later, whole or in part, and some while the one after them is under way; what fails comes again, either just
the messages named or all from the first of them on.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.dsp.engine import Engine
from app.dsp.snapshot import Position
from app.dsp.stream import Blocks
from app.pipelines import shipped_pipelines
from app.serverless.function import Function
from app.topics import features_topic
from app.wire.blocks import encode_frame, encode_json, packed
from tests.serverless import Context, Outputs, event, expecting, offsets, timestamp_of
from tests.system import noise

PARTITION = 4
_examples = itertools.count(1)


@dataclass(frozen=True)
class Plan:
    """A partition of three sensors' blocks, and how it comes."""

    lengths: list[list[int]]
    """Of each sensor's blocks."""
    order: list[int]
    """Which sensor's block each message has."""
    framed: bool
    """Whether the blocks come in frames of a gateway."""
    cuts: list[int]
    """Messages of each event."""
    again: list[tuple[int, int, bool]]
    """After which event, from how many messages before its end, and whether beside the next event."""
    twice: list[bool]
    """Whether each event goes to both environments at once."""
    only_named: bool
    """Whether just the messages that failed come again."""


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    lengths = draw(st.lists(st.lists(st.integers(1, 300), min_size=1, max_size=6), min_size=1, max_size=3))
    order = draw(st.permutations([sensor for sensor, own in enumerate(lengths) for _ in own]))
    events = draw(st.integers(1, 5))
    return Plan(
        lengths,
        list(order),
        draw(st.booleans()),
        draw(st.lists(st.integers(1, 6), min_size=events, max_size=events)),
        draw(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 8), st.booleans()), max_size=3)),
        draw(st.lists(st.booleans(), min_size=20, max_size=20)),
        draw(st.booleans()),
    )


@pytest.fixture(scope="module")
def environments(outputs: Outputs):
    made = [
        Function(outputs.settings.model_copy(update={"function_warm": warm})) for warm in (False, False, True, True)
    ]
    yield made
    for own in made:
        own.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans(), warm=st.booleans())
def test_features_are_those_of_one_pass(outputs: Outputs, environments: list[Function], plan: Plan, warm: bool) -> None:
    stream = Stream(f"e{next(_examples)}", plan)
    first, second = environments[2:] if warm else environments[:2]
    asyncio.run(deliver(stream, plan, first, second, outputs.settings.topic_prefix + "batch-sensors"))
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for record in asyncio.run(outputs.read(features_topic(outputs.settings, "ecg"))):
        fields = msgspec.json.decode(record.value)
        if fields["sensorId"] in stream.signals:
            before = found.setdefault((fields["sensorId"], fields["seq"]), fields)
            assert before == fields, "a repeat is alike"
    assert {name: [own[field] for field in FEATURES] for name, own in found.items()} == stream.expected()
    assert all(own["gap"] == 0 for own in found.values())


FEATURES = ("rms", "hjorth_mobility", "hjorth_complexity", "hjorth_activity")


class Stream:
    """The messages of a plan, and what they should give."""

    def __init__(self, name: str, plan: Plan) -> None:
        self.lengths = {f"{name}-{number}": own for number, own in enumerate(plan.lengths)}
        self.signals = {own: noise(sum(self.lengths[own]), number) for number, own in enumerate(self.lengths)}
        names, at = list(self.lengths), dict.fromkeys(self.lengths, 0)
        starts = {own: [0, *np.cumsum(self.lengths[own]).tolist()] for own in names}
        self.messages: list[tuple[int, bytes, bytes]] = []
        for offset, sensor in enumerate(plan.order):
            own, number = names[sensor], at[names[sensor]]
            at[own] += 1
            start, end = starts[own][number], starts[own][number + 1]
            samples = self.signals[own][start:end]
            if plan.framed:
                block = packed(own, samples, timestamp_of(start), seq=start, pipeline="ecg")
                self.messages.append((offset, b"gateway", encode_frame([block])))
            else:
                encoded = encode_json(own, samples, timestamp_of(start), seq=start, pipeline="ecg")
                self.messages.append((offset, own.encode(), encoded))

    def expected(self) -> dict[tuple[str, int], list[float | None]]:
        """Values of each record of the engine itself, in one pass, to the last bit."""
        engine, expected = Engine(shipped_pipelines()["ecg"], fuse=False), {}
        for own, lengths in self.lengths.items():
            (sensor,) = engine.admit([own])
            starts = [0, *np.cumsum(lengths).tolist()]
            count = len(lengths)
            times = [timestamp_of(start) for start in starts[:-1]]
            blocks = Blocks(
                [sensor] * count, times, starts[:-1], [None] * count, range(count), self.signals[own], starts
            )
            features = engine.process(blocks, Position("", 0, count), confirmed=True)
            for seq, values, full in zip(features.seq, features.values.tolist(), features.full.tolist(), strict=True):
                expected[own, seq] = [value if known else None for value, known in zip(values, full, strict=True)]
        return expected


async def deliver(stream: Stream, plan: Plan, first: Function, second: Function, topic: str) -> None:
    """Hand a stream over as its plan says."""

    async def invoke(function: Function, messages: list[Any]) -> list[int]:
        response = await asyncio.to_thread(function, event(topic, {PARTITION: messages}), Context())
        return offsets(response).get(f"{topic}-{PARTITION}", [])

    async def until_done(function: Function, messages: list[Any]) -> None:
        while messages:
            failed = await invoke(function, messages)
            assert set(failed) <= {offset for offset, *_ in messages}
            messages = [
                own for own in messages if failed and (own[0] in failed if plan.only_named else own[0] >= min(failed))
            ]

    end, turns = 0, itertools.cycle([first, second])
    for number, (size, twice) in enumerate(zip(itertools.cycle(plan.cuts), plan.twice, strict=False)):
        own = stream.messages[end : end + size]
        if not own:
            break
        begin, end = end, end + size
        function, other = next(turns), next(turns)
        next(turns)
        replays = [(back, beside) for after, back, beside in plan.again if after == number]
        beside = [stream.messages[max(0, begin - back) : begin] for back, at_once in replays if at_once]
        # An environment has one invocation at a time.
        others = [*([own] if twice else []), *(messages for messages in beside if messages)]

        async def all_of(function: Function, many: list[list[Any]]) -> None:
            for messages in many:
                await until_done(function, messages)

        await asyncio.gather(until_done(function, own), all_of(other, others))
        for back, at_once in replays:
            if not at_once:
                await until_done(other, stream.messages[max(0, end - back) : end])
    assert end >= len(stream.messages)


async def test_the_offline_reference_agrees(outputs: Outputs, environments: list[Function]) -> None:
    """The engine in one pass is checked by plain scipy."""
    name, signal = "reference", noise(8 * 256, 11)
    from tests.serverless import blocks_of

    topic = outputs.settings.topic_prefix + "batch-sensors"
    for number, message in enumerate(blocks_of(name, signal)):
        await asyncio.to_thread(environments[number % 2], event(topic, {0: [message]}), Context())
    verdict = await outputs.verify(expecting(name, signal))
    assert verdict.passed, (verdict, verdict.examples)

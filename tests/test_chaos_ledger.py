"""The ledger passes what is right, and finds whatever is not: each check fails on its own kind of fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.chaos.ledger import Findings, Ledger, Silences
from app.chaos.report import Happened, Pauses, pauses_after
from app.dsp.engine import Engine
from app.pipelines import shipped_pipelines
from app.replay import Plan
from app.sources import builtin_ecg
from app.wire.decode import BlockColumns
from app.wire.features import FeatureEncoder
from tests.feeding import Block, Partition

BLOCKS = 4
PLAN = Plan(builtin_ecg().channel(0), 250.0, ("a", "b"), 256, BLOCKS, "msgpack")


def stream(number: int) -> list[bytes]:
    """Give the records of a sensor of the plan, as the worker makes them."""
    pipeline = shipped_pipelines()["ecg"]
    sensor, signal = PLAN.sensors[number], PLAN.signal(number).reshape(BLOCKS, 256)
    features = Partition(Engine(pipeline)).feed(*(Block(sensor, one, at * 256) for at, one in enumerate(signal)))
    return FeatureEncoder(pipeline, "rt").encode(BlockColumns(pipeline, [sensor] * BLOCKS, [0] * BLOCKS), features)


A, B = stream(0), stream(1)


def found(records: list[bytes]) -> Findings:
    ledger = Ledger(PLAN)
    for number, record in enumerate(records, 1):
        ledger.add(record, 1000 * number)
    return ledger.findings


def test_right_records_pass_repeated_or_not():
    assert found([*A, *B]).passed
    findings = found([*A[:3], *A[1:3], *B, *A[2:]])
    assert findings.passed
    assert findings.repeated == 3


def changed(record: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    fields = json.loads(record)
    change(fields)
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ([*A[:2], A[3], *B], "lost"),
        ([*A[:2], changed(A[2], lambda fields: fields.update(rms=fields["rms"] * (1 + 3e-9))), A[3], *B], "wrong"),
        ([*A[:2], changed(A[2], lambda fields: fields.update(hjorth_activity=None)), A[3], *B], "wrong"),
        ([*A[:2], changed(A[2], lambda fields: fields.update(gap=1)), A[3], *B], "wrong"),
        ([*A[:2], changed(B[2], lambda fields: fields.update(sensorId="a")), A[3], *B], "wrong"),
        ([*A, *B, changed(A[2], lambda fields: fields.update(rms=np.nextafter(fields["rms"], 0)))], "unlike"),
        ([A[0], A[2], A[1], A[3], *B], "out_of_order"),
        ([*A, *B, changed(A[0], lambda fields: fields.update(sensorId="c"))], "unexpected"),
        ([*A, *B, changed(A[0], lambda fields: fields.update(seq=1))], "unexpected"),
        ([*A, *B, changed(A[0], lambda fields: fields.update(seq=256 * BLOCKS))], "unexpected"),
    ],
)
def test_each_fault_is_found(records, fault):
    findings = found(records)
    assert not findings.passed
    assert getattr(findings, fault) == 1
    others = {"lost", "wrong", "unlike", "out_of_order", "unexpected"} - {fault}
    assert not any(getattr(findings, other) for other in others)


def test_missing_blocks_are_named():
    ledger = Ledger(PLAN)
    for record in [*A[1:], *B[:3]]:
        ledger.add(record, 1)
    assert ledger.missing() == ["a block 0", "b block 3"]


def test_a_silence_is_that_between_two_records_whatever_is_missing():
    # Sensor 0 is silent from 2 to 9 s, without its third record; sensor 1 never for more than 2 s.
    silences = Silences(np.array([[1000, 2000, 0, 9000], [1000, 3000, 5000, 7000]]))
    assert silences.longest == 7.0
    assert silences.longest_begun(1.5, 2.5) == 7.0
    assert silences.longest_begun(2.5, 4.0) == 2.0
    assert silences.longest_begun(9.0, 99.0) == 0.0
    assert silences.end == 9.0


def test_a_pause_is_the_fault_s_that_it_began_with():
    silences = Silences(np.array([[10_000, 12_000, 21_000, 23_000], [11_000, 13_000, 15_000, 18_000]]))
    happened = [Happened("kill", 1, 12.5, 12.6), Happened("kill", 2, 15.5, 16.0), Happened("term", 1, 22.0, 22.5)]
    pauses = pauses_after(happened, silences, usual=2.0, aftermath=1.0)
    assert pauses == {"kill": Pauses(2, 6.0, 9.0), "term": Pauses(1, 2.0, 2.0)}

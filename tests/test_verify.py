"""The verifier: it passes what is right, and finds whatever is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.dsp.engine import Engine
from app.offline import OFFLINE
from app.pipelines import shipped_pipelines
from app.sources import builtin_ecg
from app.verify import FeatureVerifier, Sent, Verdict
from app.wire.decode import BlockColumns
from app.wire.features import FeatureEncoder
from tests.feeding import Block, Partition

ECG = builtin_ecg().channel(0)
#: With a gap of 100 samples after the third block; 200 samples alone fill no window of Hjorth's.
SENT = [Sent(0, 256), Sent(256, 7), Sent(263, 256), Sent(619, 200), Sent(819, 1000)]


def stream(sensor: str, sent: list[Sent] = SENT, *, pipeline: str = "ecg", shift: int = 0) -> list[bytes]:
    """Give the records of a sensor, as the worker makes them."""
    of = shipped_pipelines()[pipeline]
    partition = Partition(Engine(of))
    features = partition.feed(*(Block(sensor, ECG[shift + start :][:length], start) for start, length in sent))
    columns = BlockColumns(of, sensor_ids=[sensor] * len(sent), timestamps=[start * 4 for start, _ in sent])
    return FeatureEncoder(of, "rt").encode(columns, features)


def verified(records: list[bytes], *, branched: bool = False, **labels: str) -> Verdict:
    """Verify the records of sensor `a`, and of sensor `b` that begins 5000 samples later."""
    verifier = FeatureVerifier(OFFLINE["ecg-branched" if branched else "ecg"], **labels)
    timestamps = [start * 4 for start, _ in SENT]
    verifier.expect("a", ECG, SENT, timestamps)
    verifier.expect("b", ECG[5000:], SENT, timestamps)
    for record in records:
        verifier.add(record)
    return verifier.verdict


def right(pipeline: str = "ecg") -> list[bytes]:
    return [*stream("a", pipeline=pipeline), *stream("b", pipeline=pipeline, shift=5000)]


def changed(record: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(record), **fields}).encode()


def counts(verdict: Verdict) -> dict[str, int]:
    names = ("verified", "missing", "wrong", "unexpected", "repeated", "unlike", "out_of_order")
    return {name: getattr(verdict, name) for name in names if getattr(verdict, name)}


@pytest.mark.parametrize("pipeline", ["ecg", "ecg-branched"])
def test_a_right_stream_passes(pipeline):
    verdict = verified(right(pipeline), branched=pipeline == "ecg-branched")
    assert (verdict.passed, verdict.expected, counts(verdict)) == (True, 10, {"verified": 10})
    assert verdict.examples == []


def test_sensors_may_be_interleaved():
    records = right()
    assert verified([record for pair in zip(records[:5], records[5:], strict=True) for record in pair]).passed


def test_the_other_pipeline_is_wrong():
    verdict = verified(right("ecg-branched"))
    assert not verdict.passed
    assert verdict.wrong == 8, "the blocks whose Hjorth window is full"


BREAKS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], dict[str, int], str]] = {
    "a missing record": (lambda own: own[:3] + own[4:], {"verified": 9, "missing": 1}, ""),
    "the last record missing": (lambda own: own[:-1], {"verified": 9, "missing": 1}, ""),
    "nothing": (lambda own: [], {"missing": 10}, ""),
    "a wrong value": (
        lambda own: [changed(own[0], rms=json.loads(own[0])["rms"] * (1 + 3e-9)), *own[1:]],
        {"verified": 9, "wrong": 1},
        "a at 0: ",
    ),
    "a value where there should be none": (
        lambda own: [*own[:3], changed(own[3], hjorth_mobility=0.5), *own[4:]],
        {"verified": 9, "wrong": 1},
        "a at 619: ",
    ),
    "no value where there should be one": (
        lambda own: [*own[:4], changed(own[4], hjorth_activity=None), *own[5:]],
        {"verified": 9, "wrong": 1},
        "a at 819: ",
    ),
    "a gap that was not": (
        lambda own: [own[0], changed(own[1], gap=5), *own[2:]],
        {"verified": 9, "wrong": 1},
        "a at 256: ",
    ),
    "a gap that is not told": (
        lambda own: [*own[:3], changed(own[3], gap=0), *own[4:]],
        {"verified": 9, "wrong": 1},
        "a at 619: ",
    ),
    "a gap of another length": (
        lambda own: [*own[:3], changed(own[3], gap=99), *own[4:]],
        {"verified": 9, "wrong": 1},
        "a at 619: ",
    ),
    "a quality that was not": (
        lambda own: [*own[:3], changed(own[3], quality=0.5), *own[4:]],
        {"verified": 9, "wrong": 1},
        "a at 619: ",
    ),
    "another timestamp": (
        lambda own: [own[0], changed(own[1], timestamp=1025), *own[2:]],
        {"verified": 9, "wrong": 1},
        "a at 256: ",
    ),
    "another sensor's record": (
        lambda own: [changed(own[5], sensorId="a"), *own[1:]],
        {"verified": 9, "wrong": 1},
        "a at 0: ",
    ),
    "a record that comes again, with another value": (
        lambda own: [*own, changed(own[4], rms=1.0)],
        {"verified": 10, "unlike": 1},
        "a at 819 came again as ",
    ),
    "a wrong record, then the right one": (
        lambda own: [changed(own[0], rms=1.0), *own],
        {"verified": 9, "wrong": 1, "unlike": 1},
        "a at 0: ",
    ),
    "a record of a block that was not sent": (
        lambda own: [*own, changed(own[4], seq=1819)],
        {"verified": 10, "unexpected": 1},
        "a at 1819: no such block was sent",
    ),
    "records out of order": (
        lambda own: [own[0], own[2], own[1], *own[3:]],
        {"verified": 10, "out_of_order": 1},
        "a at 256 came after 263",
    ),
}


@pytest.mark.parametrize(("spoil", "found", "example"), BREAKS.values(), ids=BREAKS)
def test_what_is_not_right_is_found(spoil, found, example):
    verdict = verified(spoil(right()))
    assert not verdict.passed
    assert counts(verdict) == found
    assert bool(verdict.examples) == bool(example)
    assert all(text.startswith(example) for text in verdict.examples[:1])


@pytest.mark.parametrize("label", ["tier", "pipeline"])
def test_what_a_record_names_is_compared_where_it_is_given(label):
    records = [changed(right()[0], **{label: "other"}), *right()[1:]]
    assert verified(records).passed
    verdict = verified(records, tier="rt", pipeline="ecg")
    assert counts(verdict) == {"verified": 9, "wrong": 1}
    assert verified(right(), tier="rt", pipeline="ecg").passed


def test_a_timestamp_is_compared_where_it_is_given():
    verifier = FeatureVerifier()
    verifier.expect("a", ECG, SENT)
    for record in stream("a"):
        verifier.add(changed(record, timestamp=7))
    assert verifier.verdict.passed


def test_what_a_crash_repeats_alike_passes():
    records = right()
    verdict = verified([*records[:4], *records[1:4], *records[2:]])
    assert (verdict.passed, counts(verdict)) == (True, {"verified": 10, "repeated": 5})


def test_within_the_tolerance_passes():
    records = right()
    assert verified([changed(records[0], rms=json.loads(records[0])["rms"] * (1 + 5e-10)), *records[1:]]).passed


def test_sensors_that_are_not_expected_are_passed_over():
    verifier = FeatureVerifier()
    verifier.expect("a", ECG, SENT)
    mine, other = stream("a"), stream("z")
    assert [verifier.add(record) for record in other] == [None] * 5
    assert [verifier.add(record) for record in mine] == [json.loads(record) for record in mine]
    assert verifier.verdict.passed


def test_missing_blocks_are_named():
    verifier = FeatureVerifier()
    verifier.expect("a", ECG, SENT)
    for record in stream("a")[::2]:
        verifier.add(record)
    assert verifier.missing() == [("a", 256), ("a", 619)]


def test_only_some_faults_are_kept_in_words():
    verdict = verified([changed(record, rms=1.0) for record in right()])
    assert (verdict.wrong, len(verdict.examples)) == (10, 5)


def test_nothing_expected_and_nothing_come_is_passed():
    """Whoever verifies must also look at how many were expected."""
    assert FeatureVerifier().verdict.passed
    assert FeatureVerifier().verdict.expected == 0


def test_a_stream_that_begins_later():
    sent = [Sent(512, 256), Sent(768, 256)]
    verifier = FeatureVerifier()
    verifier.expect("a", ECG, sent)
    for record in stream("a", sent):
        verifier.add(record)
    assert verifier.verdict.passed
    assert np.isfinite(json.loads(stream("a", sent)[1])["hjorth_mobility"])

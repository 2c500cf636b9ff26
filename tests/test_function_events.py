"""Events of Kafka event sources: both shapes, and whatever is not one."""

from __future__ import annotations

import pytest

from app.serverless.events import EventError, EventRecord, Source, decode_event, partial_response
from tests.serverless import MSK, SELF_MANAGED, event, record


@pytest.mark.parametrize("shape", [MSK, SELF_MANAGED], ids=["msk", "self-managed"])
def test_messages_are_those_that_a_consumer_would_give(shape):
    own = event("t", {3: [(5, b"k", b"v"), (6, None, None)], 11: [(7, b"\xff", b"")]}, shape)
    assert decode_event(own) == {
        Source("t", 3): [EventRecord(5, b"k", b"v", []), EventRecord(6, None, None, [])],
        Source("t", 11): [EventRecord(7, b"\xff", b"", [])],
    }


def test_headers_are_bytes_signed_or_not():
    own = record("t", 0, (1, b"k", b"v"), {"a": b"\x00\x7f\xff", "b": b""})
    own["headers"].append({"a": [-1, -128, 0]})
    (read,) = decode_event({**MSK, "records": {"t-0": [own]}})[Source("t", 0)]
    assert read.headers == [("a", b"\x00\x7f\xff"), ("b", b""), ("a", b"\xff\x80\x00")]


def test_headers_may_be_missing_and_may_lack_a_value():
    own = [{**record("t", 0, (1, b"k", b"v")), "headers": headers} for headers in (None, [{"a": None}])]
    own[1]["offset"] = 2
    first, second = decode_event({**MSK, "records": {"t-0": own}})[Source("t", 0)]
    assert (first.headers, second.headers) == ([], [("a", b"")])


def test_a_partition_is_in_order_and_each_message_there_once():
    records = [record("t-1", 2, (offset, b"k", b"%d" % offset)) for offset in (9, 4, 9, 5)]
    decoded = decode_event({**MSK, "records": {"t-1-2": records}})
    assert [own.offset for own in decoded[Source("t-1", 2)]] == [4, 5, 9]


def test_what_aws_adds_later_does_no_harm():
    own = event("t", {0: [(1, b"k", b"v")]}) | {"new": {"a": 1}}
    own["records"]["t-0"][0]["valueSchemaMetadata"] = {"dataFormat": "JSON"}
    assert len(decode_event(own)[Source("t", 0)]) == 1


def broken(**changes):
    return {**MSK, "records": {"t-0": [{**record("t", 0, (1, b"k", b"v")), **changes}]}}


@pytest.mark.parametrize(
    ("own", "place"),
    [
        ({}, "eventSource"),
        ({"eventSource": "aws:sqs", "records": {}}, r"\$\.eventSource"),
        ({"eventSource": "aws:kafka"}, "records"),
        ({"eventSource": "aws:kafka", "records": []}, r"\$\.records"),
        (broken(value="&&&"), r"base64.*\$\.records\[\.\.\.\]\[0\]\.value"),
        (broken(key="a"), r"base64.*\.key"),
        (broken(offset="1"), r"\.offset"),
        (broken(headers=[{"a": "text"}]), r"\.headers"),
    ],
)
def test_what_is_no_event_says_where_and_what_was_expected(own, place):
    with pytest.raises(EventError, match=f"(?s){place}.*expected eventSource aws:kafka or SelfManagedKafka"):
        decode_event(own)


def test_the_answer_names_each_message_once_in_order():
    failures = {Source("t", 10): [7], Source("t", 2): [6, 5, 6]}
    assert partial_response(failures) == {
        "batchItemFailures": [
            {"itemIdentifier": {"partition": "t-2", "offset": 5}},
            {"itemIdentifier": {"partition": "t-2", "offset": 6}},
            {"itemIdentifier": {"partition": "t-10", "offset": 7}},
        ]
    }
    assert partial_response({}) == {"batchItemFailures": []}

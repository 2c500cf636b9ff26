"""Copies of a sensor's state agree only where all are there, whole, at the stream's end, and the same."""

from __future__ import annotations

import numpy as np
import pytest

from app.chaos.agreement import disagreement
from app.dsp.engine import Engine
from app.pipelines import shipped_pipelines
from tests.feeding import Block, Partition


def snapshot(blocks: int = 2, *, epoch: int = 0, offset: int = 0) -> bytes:
    """Give a sensor's snapshot after some blocks of 256 samples."""
    engine = Engine(shipped_pipelines()["ecg"])
    partition = Partition(engine)
    partition.end = offset
    partition.feed(*(Block("s", np.arange(256.0), number * 256) for number in range(blocks)))
    engine.sensors["s"].epoch = epoch
    return engine.snapshots([engine.sensors["s"]])[0]


RIGHT = snapshot()


@pytest.mark.parametrize("redis", [RIGHT, snapshot(epoch=1)])
def test_copies_that_agree(redis):
    """Redis alone may be an epoch ahead: a claim raises it there first."""
    assert disagreement({"table": RIGHT, "changelog": RIGHT, "redis": redis}, 512) is None


@pytest.mark.parametrize(
    ("copies", "named"),
    [
        ({"table": None}, "not in table"),
        ({"redis": None}, "not in redis"),
        ({"changelog": snapshot(1)}, "changelog stands at sample 256 of 512"),
        ({"redis": snapshot(3)}, "redis stands at sample 768 of 512"),
        ({"table": RIGHT[:-1] + bytes([RIGHT[-1] ^ 1])}, "table: damaged"),
        ({"redis": snapshot(offset=7)}, "table and changelog and redis differ at epoch 0"),
        ({"table": snapshot(epoch=1), "redis": snapshot(epoch=1)}, "table and changelog differ"),
    ],
)
def test_copies_that_do_not(copies, named):
    fault = disagreement({"table": RIGHT, "changelog": RIGHT, "redis": RIGHT, **copies}, 512)
    assert fault is not None
    assert named in fault

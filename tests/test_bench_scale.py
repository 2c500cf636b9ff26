"""The bench of scale: a tiny run of each part on real services, and runs that are wrong are no figures."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from app.bench import scale as bench
from app.bench import streaming as streams
from app.bench.conditions import conditions
from app.bench.cores import shared_out
from app.bench.errors import BenchError
from app.bench.filling import BEGIN, Filler
from app.bench.result import SuiteResult
from app.bench.scale import Scale, measure_cost, measure_memory, measure_workers
from app.bench.streaming import memory_of, streaming
from app.bench.surroundings import Surroundings
from app.own_process import ProcessFailedError
from app.pipelines import shipped_pipelines
from app.replay import Plan
from app.settings import Settings
from app.sources import builtin_ecg
from app.wire.decode import decode

BLOCK = 256


class Message(msgspec.Struct):
    """A message as decoding takes it."""

    key: bytes
    value: bytes
    offset: int = 0
    timestamp: int = 0
    headers: tuple[()] = ()


@pytest.mark.parametrize("encoding", ["msgpack", "frame"])
def test_a_filled_topic_has_the_blocks_of_its_plan(encoding):
    # Ids of several lengths, so that messages have several layouts.
    ids = tuple(f"s-{number}" for number in range(105))
    plan = Plan(np.round(builtin_ecg().channel(0), 3), 250.0, ids, BLOCK, 300, encoding)
    signals = {sensor_id: plan.signal(number) for number, sensor_id in enumerate(ids)}
    filler = Filler(plan, 7)
    for number in (0, 1, 255, 256, 257, 299):  # an index takes 1, 3 and 5 bytes in these
        messages = list(filler.messages(number))
        assert {partition for partition, _, _ in messages} <= set(range(7))
        decoded = decode([Message(key, value) for _, key, value in messages], shipped_pipelines(), "ecg")
        assert not decoded.bad
        (columns,) = decoded.columns
        assert sorted(columns.sensor_ids) == sorted(ids)
        assert set(columns.seqs) == {number * BLOCK}
        assert set(columns.timestamps) == {BEGIN + number * 1024}
        for place, sensor_id in enumerate(columns.sensor_ids):
            values = columns.values[columns.bounds[place] : columns.bounds[place + 1]]
            assert (values == signals[sensor_id][number * BLOCK : (number + 1) * BLOCK]).all()


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "WINDOW_SECONDS", 0.5)
        patch.setattr(bench, "MEMORY_CHECKPOINTS", 1)
        patch.setattr(bench, "QUIET_SECONDS", 0.0)
        patch.setattr(bench, "REFERENCE", 20)
        patch.setattr(bench, "WORKERS_SENSORS", 100)
        patch.setattr(streams, "BACKLOG", 2_000)
        patch.setattr(streams, "_AT_ONCE", 1_000)
        yield


@pytest.fixture
def scale(quick: None, settings: Callable[..., Settings]) -> Scale:
    own = settings(tiers=("rt",), checkpoint_seconds=0.3)
    result = SuiteResult.begin("scale", conditions())
    return Scale(Surroundings(own, frozenset(), None, None), shared_out(), "frame", 1, result, lambda _: None)


@pytest.mark.slow
async def test_two_workers_are_measured_beside_one(scale):
    await measure_workers(scale)
    assert [own.contender for own in scale.result.measurements] == ["1 worker", "2 workers"]
    assert all(own.figures["throughput"].spread.min > 0 for own in scale.result.measurements)
    (ratio,) = scale.result.ratios
    assert (ratio.contender, ratio.to_contender, ratio.figure) == ("2 workers", "1 worker", "throughput")


@pytest.mark.parametrize("sizes", [[20], pytest.param([20, 200], marks=pytest.mark.slow)])
async def test_the_cost_of_a_block_is_measured_as_sensors_grow(scale, sizes):
    await measure_cost(scale, sizes)
    assert {(own.case, own.contender) for own in scale.result.measurements} == {
        (f"cost of a block, checkpoints {when}", f"{size} sensors") for when in ("every 0.3 s", "off") for size in sizes
    }
    assert all(next(iter(own.figures)) == "CPU" for own in scale.result.measurements)
    compared = {(ratio.contender, ratio.to_contender) for ratio in scale.result.ratios}
    assert compared == {("200 sensors", "20 sensors")} if 200 in sizes else not compared
    shares = [own.details["share of checkpoints"] for own in scale.result.measurements if "every" in own.case]
    assert len(shares) == len(sizes)


async def test_memory_is_that_above_an_empty_worker(scale):
    await measure_memory(scale, [2000])
    (own,) = scale.result.measurements
    # The state alone has 2.5 kB.
    assert 2_000 < own.figures["resident"].spread.min < 100_000
    assert own.figures["peak"].spread.min >= own.figures["resident"].spread.min
    assert own.details["empty worker, MB"] > 50


class Shifted(Filler):
    """Sends other samples than its plan has."""

    def __init__(self, plan: Plan, partitions: int) -> None:
        recording = plan.recording + 1
        super().__init__(replace(plan, recording=recording), partitions)


async def test_wrong_features_and_workers_that_end_are_no_figures(scale, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "Filler", Shifted)
    async with streaming(scale.own.part("wrong"), 20, "msgpack") as sensors:
        worker = await sensors.start_worker(scale.cores.measured)
        await sensors.send(1)
        await sensors.all_done()
        with pytest.raises(BenchError, match="nothing was measured"):
            await sensors.verify()
        worker.kill()
        await sensors.send(1)
        with pytest.raises(ProcessFailedError, match="exited with -9"):
            await sensors.all_done()


def test_memory_of_a_process_is_what_it_has_touched():
    size = 32 << 20
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as kept:
        before = memory_of(os.getpid())
        kept.write(bytes(size))
        after = memory_of(os.getpid())
    assert after["resident"] - before["resident"] >= 0.9 * size
    assert after["private"] - before["private"] >= 0.9 * size
    assert after["peak"] >= after["resident"] * 0.99
    assert 0 < after["proportional"] <= after["resident"]

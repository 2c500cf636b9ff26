"""The benches of throughput and latency: every contender runs, and nothing that is wrong counts as measured."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import msgspec
import numpy as np
import pytest

from app.bench.conditions import conditions
from app.bench.contenders import Continuum
from app.bench.errors import BenchError
from app.bench.expected import Expected
from app.bench.latency import LatencyPlan, measure_latency
from app.bench.load import Load, Shape
from app.bench.open_loop import sendings
from app.bench.result import SuiteResult
from app.bench.run import run_once
from app.bench.surroundings import Surroundings
from app.bench.throughput import BARE, DSP, PLAIN, Plan, continuum, measure_throughput
from app.offline.ecg import FEATURES, ecg_features
from app.settings import Settings

SMALL = Shape("json", 4, 100)


def given(settings: Settings) -> Surroundings:
    return Surroundings(settings, frozenset({"kafka_bootstrap", "redis_url"}), None, None)


def records(blocks: int = 3) -> list[dict[str, object]]:
    """All records of `SMALL`, block by block."""
    plan = SMALL.plan(blocks)
    found = []
    for number, sensor_id in enumerate(plan.sensors):
        values = ecg_features(plan.signal(number), np.arange(1, blocks + 1) * 100)
        for block, row in enumerate(values.tolist()):
            fields = {name: None if value != value else value for name, value in zip(FEATURES, row, strict=True)}
            labels = {"timestamp": 0, "seq": block * 100, "tier": "rt", "pipeline": "ecg", "gap": 0, "quality": 1.0}
            found.append({"sensorId": sensor_id, **fields, **labels})
    return sorted(found, key=lambda own: own["seq"])


def check(changed: list[dict[str, object]]) -> None:
    Expected.of(SMALL.plan(3)).check("own", [msgspec.json.encode(record) for record in changed])


def test_right_records_pass_in_any_order_of_the_sensors():
    own = records()
    check(own)
    check(sorted(own, key=lambda record: record["sensorId"]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rms", 0.1),
        ("rms", None),
        ("hjorth_activity", 1e-3),
        ("gap", 1),
        ("quality", 0.99),
        ("tier", "nrt"),
        ("pipeline", "ecg-branched"),
        ("seq", 50),
        ("sensorId", "s000003"),
        ("sensorId", "stranger"),
        ("seq", "x"),
    ],
)
def test_a_record_with_one_wrong_field_is_found(field, value):
    own = records()
    # The second block has no Hjorth parameters yet.
    own[5] = {**own[5], field: value}
    with pytest.raises(BenchError, match="nothing was measured"):
        check(own)


def test_records_that_are_missing_repeated_or_out_of_order_are_found():
    own = records()
    for wrong in (own[:-1], [*own, own[-1]], [*own[:-1], own[0]], own[::-1]):
        with pytest.raises(BenchError, match="nothing was measured"):
            check(wrong)
    shuffled = own.copy()
    random.Random(1).shuffle(shuffled)
    with pytest.raises(BenchError, match="nothing was measured"):
        check(shuffled)


@pytest.mark.parametrize("encoding", ["msgpack", "frame"])
@pytest.mark.parametrize("rate", [100.0, 5_000.0, 100_000.0])
def test_blocks_are_due_at_a_steady_rate_each_sensor_s_in_order(encoding, rate):
    plan = Shape(encoding, 120, 256).plan(6)
    found = sendings(plan, 2, 3, rate, by_sensor=True)
    assert [own.due for own in found] == sorted(own.due for own in found)
    counts = np.cumsum([0, *(len(own.names) for own in found)])
    assert counts[-1] == 120 * 3
    assert [own.due for own in found] == pytest.approx([count / rate for count in counts[:-1]])
    decoded = [msgspec.msgpack.decode(own.value) for sending in found for own in sending.messages]
    blocks = [block for own in decoded for block in own.get("blocks", [own])]
    assert [block["sensorId"].encode() for block in blocks] == [name for own in found for name in own.names]
    for sensor in plan.sensors:
        assert [block["seq"] for block in blocks if block["sensorId"] == sensor] == [512, 768, 1024]


async def test_every_contender_is_measured(settings: Callable[..., Settings]) -> None:
    result = SuiteResult.begin("throughput", conditions())
    shape = Shape("json", 50, 256)
    plan = Plan([shape], [10.0], seconds=0.001, repeats=1, warm_up=300)
    await measure_throughput(plan, given(settings()), result, lambda _: None)
    ours = continuum(10.0)
    rates = {(own.case, own.contender): own.figures["throughput"].spread.min for own in result.measurements}
    assert rates.keys() == {
        *((shape.case, name) for name in (ours, BARE, PLAIN)),
        ("50 sensors, blocks of 256", DSP),
    }
    assert min(rates.values()) > 0
    assert {ratio.to_contender for ratio in result.ratios} == {PLAIN, BARE, DSP}
    (capacity,) = result.capacity
    assert (capacity.encoding, capacity.sensors, capacity.checkpoint_seconds) == ("json", 50, 10.0)
    assert capacity.users_per_vcpu.median == pytest.approx(rates[shape.case, ours] * 256 / 250)


async def test_a_wrong_feature_is_no_measurement(settings: Callable[..., Settings], tmp_path: Path) -> None:
    pipelines = tmp_path / "pipelines"
    pipelines.mkdir()
    text = files("app.pipelines").joinpath("ecg.toml").read_text()
    assert "cutoff = [0.5, 100.0]" in text
    (pipelines / "ecg.toml").write_text(text.replace("[0.5, 100.0]", "[0.5, 99.0]"))
    own = settings(pipelines=pipelines)
    load = Load(Shape("msgpack", 50, 256), own, 3)
    await load.create_topics()
    await load.fill()
    with pytest.raises(BenchError, match="150 of 150 records are not the offline pass's"):
        await run_once(Continuum("own", load, frozenset({0}), None), given(own))


async def test_latency_is_of_all_blocks_of_both_contenders(settings: Callable[..., Settings]) -> None:
    result = SuiteResult.begin("latency", conditions())
    plan = LatencyPlan(Shape("frame", 100, 256), (0.5, 1.0), 200.0, 0.5, 10.0, 1)
    await measure_latency(plan, given(settings()), result, lambda _: None)
    assert {(own.case, own.contender) for own in result.measurements} == {
        (f"frames of 50, 100 sensors, blocks of 256, at {rate} blocks/s", name)
        for rate in (100, 200)
        for name in (continuum(10.0), BARE)
    }
    for own in result.measurements:
        quantiles = [own.figures[name].spread.median for name in ("p50", "p99", "p99.9", "max")]
        assert quantiles[0] > 0
        assert quantiles == sorted(quantiles)
        # The broker's clock ticks in milliseconds.
        assert own.figures["append to readable, p50"].spread.median <= quantiles[0] + 1
    assert {(ratio.figure, ratio.to_contender) for ratio in result.ratios} == {("p99", BARE), ("p50", BARE)}

"""Results of benchmarks: their form, their ratios, and what they say beside a baseline and in a drawing."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import jsonschema
import msgspec
import pytest
from typer.testing import CliRunner

from app.bench.baseline import compare
from app.bench.capacity import capacity_of, read_capacity
from app.bench.conditions import Service, conditions
from app.bench.load import Shape
from app.bench.plot import save_result_plot
from app.bench.result import ResultError, SuiteResult, json_schema, read_result, save_result
from app.cli.bench import bench
from app.cli.bench.output import Report

SHAPE = Shape("msgpack", 1000, 256)
NOW = conditions()


def result(ours: tuple[float, ...] = (40.0, 60.0, 50.0)) -> SuiteResult:
    made = SuiteResult.begin("throughput", copy.deepcopy(NOW))
    made.conditions.services["Kafka"] = Service("4.1.2", "embedded at 127.0.0.1:20001")
    made.conditions.settings["checkpoint_seconds"] = 10.0
    for contender, runs in {"Continuum": ours, "bare aiokafka": (80.0, 80.0, 200.0)}.items():
        for run in runs:
            own = made.measurement(SHAPE.case, contender)
            own.add("throughput", run, "blocks/s", "higher")
            own.add("CPU", 1 / run, "µs/block", "lower")
    made.compare("throughput", *made.measurements)
    made.capacity.append(capacity_of(SHAPE, 10.0, ours))
    return made


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    save_result(result(), path)
    return path


def test_a_result_comes_back_as_it_was_kept(saved):
    assert read_result(saved) == result()


def test_a_result_is_of_the_schema_that_is_printed():
    printed = msgspec.json.decode(CliRunner().invoke(bench, ["schema"], catch_exceptions=False).stdout)
    assert printed == json_schema()
    document = msgspec.to_builtins(result())
    jsonschema.validate(document, printed)
    document["measurements"][0]["figures"]["throughput"]["runs"] = ["fast"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, printed)


def test_ratios_are_run_by_run_where_runs_were_in_turn():
    (ratio,) = result().ratios
    assert (ratio.spread.min, ratio.spread.median, ratio.spread.max) == (0.25, 0.5, 0.75)
    (ratio,) = result(ours=(40.0, 60.0)).ratios
    assert ratio.spread.min == ratio.spread.max == 50 / 80


def test_users_are_the_blocks_that_they_send():
    (capacity,) = result().capacity
    assert (capacity.encoding, capacity.pipeline, capacity.block, capacity.sensors) == ("msgpack", "ecg", 256, 1000)
    users = capacity.users_per_vcpu
    assert (users.min, users.median, users.max) == pytest.approx((40 * 1.024, 50 * 1.024, 60 * 1.024))
    assert capacity.utilisation == 1.0


def test_capacity_is_read_with_where_it_comes_from(saved):
    read = read_capacity(saved)
    assert read.capacity == result().capacity
    assert read.conditions.cpu == conditions().cpu


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read"),
        (b"", "is no result of a bench"),
        (b"[1, 2]", "is no result of a bench"),
        (b'{"schema_version": 2, "suite": "throughput"}', "schema version 2: expected 1"),
        (b'{"schema_version": 1, "suite": "throughput"}', "is no result of a bench"),
        (msgspec.json.encode(SuiteResult.begin("latency", conditions())), "bench latency` and has no capacity"),
    ],
)
def test_what_is_no_capacity_is_refused(tmp_path, content, told):
    path = tmp_path / "capacity.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ResultError, match=told) as refused:
        read_capacity(path)
    assert str(path) in str(refused.value)
    assert "--save FILE" in str(refused.value)


def test_a_change_counts_where_the_spreads_do_not_touch():
    before = result()
    faster = compare(result(ours=(61.0, 70.0, 80.0)), before)
    verdicts = {(own.contender, own.figure): own.verdict for own in faster.changes}
    assert verdicts == {
        ("Continuum", "throughput"): "better",
        ("Continuum", "CPU"): "better",
        ("bare aiokafka", "throughput"): "within the spread",
        ("bare aiokafka", "CPU"): "within the spread",
    }
    assert faster.changes[0].ratio == 70 / 50
    slower = compare(result(ours=(20.0, 30.0, 39.0)), before)
    assert {own.verdict for own in slower.changes if own.contender == "Continuum"} == {"worse"}
    assert {own.verdict for own in compare(result(), before).changes} == {"within the spread"}


def test_a_baseline_tells_what_was_other_then():
    before = result()
    before.conditions.settings["checkpoint_seconds"] = 1.0
    before.conditions.libraries["numpy"] = "1.0"
    # Another port, and another load, are nothing.
    before.conditions.services["Kafka"] = Service("4.1.2", "embedded at 127.0.0.1:1")
    before.conditions.load = 99.0
    numpy = conditions().libraries["numpy"]
    assert compare(result(), before).differences == [
        f"numpy: 1.0 then, {numpy} now",
        "checkpoint_seconds: 1.0 then, 10.0 now",
    ]
    before.measurement("another case", "Continuum").add("throughput", 1.0, "blocks/s", "higher")
    assert compare(result(), before).missing == ["another case: Continuum"]


def test_a_baseline_of_something_else_is_refused(saved):
    with pytest.raises(ResultError, match="is of the suite throughput: expected one of latency"):
        Report(baseline=saved).check("latency")
    other = SuiteResult.begin("latency", conditions())
    with pytest.raises(ResultError, match="of the suite throughput: expected latency"):
        compare(other, read_result(saved))
    with pytest.raises(ResultError, match="no figure of this run's cases"):
        compare(SuiteResult.begin("throughput", conditions()), read_result(saved))


def test_a_drawing_names_every_contender_and_is_the_same_each_time(tmp_path):
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    made = result()
    save_result_plot(made, first)
    save_result_plot(made, second)
    text = first.read_text()
    assert text == second.read_text()
    assert text.lstrip().startswith("<?xml")
    for label in (
        f"{SHAPE.case}: Continuum",
        f"{SHAPE.case}: bare aiokafka",
        "throughput, blocks/s (higher is better)",
    ):
        assert f"<!-- {label} -->" in text


@pytest.mark.parametrize(
    ("plot", "told"), [("result.png", "expected a name that ends with .svg"), ("nosuch/result.svg", "does not exist")]
)
def test_a_drawing_that_cannot_be_is_refused_before_anything_is_measured(tmp_path, plot, told):
    with pytest.raises(ResultError, match=told):
        Report(plot=tmp_path / plot).check("throughput")
    with pytest.raises(ResultError, match="does not exist"):
        Report(save=tmp_path / "nosuch" / "result.json").check("throughput")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ResultError, match=r"continuum\[plot\]"):
        Report(plot=tmp_path / "result.svg").check("throughput")


def test_a_report_prints_ratios_users_and_the_baseline(saved, capsys, monkeypatch):
    Report(baseline=saved).show(result(ours=(61.0, 70.0, 80.0)))
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("× bare", "71.7 users a vCPU", "better", "within the spread", "Kafka: 4.1.2, embedded"):
        assert text in shown, shown
    Report(as_json=True, baseline=saved).show(result())
    printed = msgspec.json.decode(capsys.readouterr().out)
    assert {change["ratio"] for change in printed.pop("baseline")["changes"]} == {1.0}
    assert msgspec.convert(printed, SuiteResult) == result()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["throughput", "--encoding", "xml"], "--encoding 'xml': expected json, msgpack, frame"),
        (["throughput", "--sensors", "1000,none"], "--sensors '1000,none': expected whole numbers"),
        (["throughput", "--checkpoints", "-1"], "--checkpoints '-1': expected seconds above 0, or off"),
        (["latency", "--encoding", "frames"], "--encoding 'frames': expected"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments, told):
    done = CliRunner().invoke(bench, arguments)
    assert told in str(done.exception)

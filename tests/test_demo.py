"""The demo: one command, a verdict on every feature, and an exit code that tells."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import pytest
from pydantic import SecretStr

from app.cli import demo as command
from app.demo import session
from app.demo.latency import Latencies
from app.demo.session import Course, Progress, replay_and_verify
from app.demo.streams import MOVING, Stream, plan_demo
from app.pipelines import shipped_pipelines
from app.replay import plan_builtin
from app.replay.messages import message_source
from app.run import Run
from app.runtime.instance import living_workers
from app.services import down, running, start, temporary_services
from app.services.lifecycle import addresses_of
from app.settings import Settings, TierName, as_environment, load_settings
from app.sources import Recording
from app.topics import features_topic
from app.verify import FeatureVerifier
from tests.system import System

CONTINUUM = [sys.executable, "-m", "app"]


def run(datadir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CONTINUUM_DATADIR": str(datadir)}
    return subprocess.run(
        [*CONTINUUM, *arguments], env=environment, capture_output=True, text=True, timeout=200, check=False
    )


@contextmanager
def started(*arguments: str, datadir: Path, output: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*CONTINUUM, *arguments],
        env={**os.environ, "CONTINUUM_DATADIR": str(datadir)},
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not holds():
        assert process.poll() is None
        time.sleep(0.05)


@pytest.fixture
def shared_services(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let commands use the shared Kafka and Redis, with topics of their own; gives their data folder."""
    for name, value in as_environment(settings()).items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_demo_verifies_every_feature_and_leaves_nothing_running(tmp_path: Path, stopped_at_end: object) -> None:
    datadir = stopped_at_end(tmp_path / "data")
    done = run(datadir, "demo", "--sensors", "50", "--seconds", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "features verified 2900/2900" in done.stdout
    assert "blocks in 2,900 of 2,900 · features out 2,900 · lag 0" in done.stdout
    assert "latest features" in done.stdout
    assert "web pages at http://127.0.0.1:" in done.stderr
    assert running(datadir) is None
    assert not living_workers(datadir)

    # Again, on the same data, each tier by itself, and kept.
    done = run(
        datadir, "demo", "--tiers", "rt,nrt,batch", "--sensors", "12", "--seconds", "60", "--speed", "10", "--keep"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    blocks = 3 * 58 + 3 * 60 + 3 * 6 + 3 * 58
    assert f"features verified {blocks}/{blocks}" in done.stdout
    assert "on-demand function" in done.stdout
    assert re.search(r"moving: 3 sensors, features by tier: batch \d+, nrt \d+, rt \d+", done.stdout)
    assert running(datadir)
    assert len(living_workers(datadir)) == 3
    done = run(datadir, "down")
    assert done.returncode == 0
    assert done.stdout.count("worker worker-") == 2
    assert "function-" in done.stdout
    assert not living_workers(datadir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "starting Kafka"),
        (signal.SIGTERM, "starting Redis"),
        (signal.SIGTERM, "blocks in"),
        (signal.SIGHUP, "worker ready"),
    ],
)
def test_told_to_stop_it_leaves_nothing_running(
    tmp_path: Path, stopped_at_end: Callable[[Path], Path], number: signal.Signals, moment: str
) -> None:
    datadir, log = stopped_at_end(tmp_path / "data"), tmp_path / "log"
    with log.open("w") as output, started("demo", "--speed", "2", datadir=datadir, output=output) as demo:
        wait_for(lambda: moment in log.read_text(), demo)
        demo.send_signal(number)
        time.sleep(0.3)
        demo.send_signal(number)  # as `make` does, and who is impatient
        assert demo.wait(60) == 128 + number, log.read_text()
    assert f"interrupted by {number.name}" in log.read_text()
    assert "stopped Redis" in log.read_text()
    assert addresses_of(datadir) == {}
    assert not living_workers(datadir)


@pytest.mark.slow
def test_bench_told_to_stop_leaves_nothing_running(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> None:
    datadir, log = stopped_at_end(tmp_path / "data"), tmp_path / "log"
    with log.open("w") as output, started("bench", "throughput", datadir=datadir, output=output) as bench:
        wait_for(lambda: bool(list((datadir / "bench").rglob("workers/1/url"))), bench)
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(60) == 128 + signal.SIGTERM, log.read_text()
    assert addresses_of(datadir) == {}
    assert not [worker for own in (datadir / "bench").rglob("workers") for worker in living_workers(own.parent)]


def test_a_service_that_cannot_start_leaves_nothing_running(tmp_path: Path) -> None:
    datadir = tmp_path / "data"
    (datadir / "kafka").mkdir(parents=True)
    (datadir / "kafka" / "server.properties").mkdir()  # where Kafka's configuration is to be written
    done = run(datadir, "demo")
    assert done.returncode != 0
    assert "Redis is ready" in done.stderr
    assert "stopped Redis" in done.stderr
    assert addresses_of(datadir) == {}


def test_what_ran_before_runs_on(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> None:
    datadir = stopped_at_end(tmp_path / "data")
    before = start(datadir, ["redis_url"])
    with temporary_services(datadir, progress=print):
        assert set(addresses_of(datadir)) == {"redis_url", "kafka_bootstrap"}
    assert addresses_of(datadir) == before
    assert load_settings(datadir=datadir).redis_url == SecretStr(before["redis_url"]), "and is still found"
    assert down(datadir) == ["Redis"]


def test_a_worker_that_dies_is_told_at_once(shared_services: Path) -> None:
    log = shared_services / "log"
    arguments = ("demo", "--seconds", "3600", "--speed", "1", "--sensors", "5")
    with log.open("w") as output, started(*arguments, datadir=shared_services, output=output) as demo:
        wait_for(lambda: "blocks in" in log.read_text(), demo)
        (worker,) = living_workers(shared_services)
        os.kill(worker.pid, signal.SIGKILL)
        assert demo.wait(60) == 1  # an hour of blocks is left to send
    text = log.read_text()
    assert "error: worker was ended by SIGKILL while blocks were sent; of its log, " in text
    assert f"[{worker.pid}] [INFO]" in text
    assert "+--" not in text, "Faust's tables tell nothing here"


def test_demo_fails_on_a_feature_that_differs(
    shared_services: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = Stream.expectations

    def other_signal(stream: Stream, begin: float | None) -> FeatureVerifier:
        verifier = right(stream, begin)
        name, expected = next(iter(verifier._expected.items()))
        values = [value if value is None else value * (1 + 3e-9) for value in expected.values]
        verifier._expected[name] = expected._replace(values=values)
        return verifier

    monkeypatch.setattr(Stream, "expectations", other_signal)
    with pytest.raises(SystemExit) as ended:
        command.demo(sensors=5, seconds=20, speed=50, keep=False)
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "features verified 94/95" in printed
    assert "wrong: 1" in printed
    assert not living_workers(shared_services)


@pytest.mark.parametrize("extra", ["repeated", "unexpected"])
async def test_demo_counts_what_comes_after_the_last_record(
    system: System, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a worker: the records are sent here, as soon as all blocks are."""
    monkeypatch.setattr(session, "EXTRA_SECONDS", 5.0)  # as the machine may be busy
    settings, (stream,) = system.settings, plan_demo(["rt"], 1, 10, 50.0)
    begin = 1_700_000_000_000.0
    plan, pipeline = stream.plan, shipped_pipelines()["ecg"]
    (sensor,) = plan.sensors
    recording = Recording("rec", 250.0, ("ECG",), plan.signal(0)[np.newaxis], datetime.fromtimestamp(begin / 1000, UTC))
    made = [record for part in Run(pipeline, recording, plan.block, sensor).records() for record in part]
    records = [msgspec.json.encode({**msgspec.json.decode(record), "tier": "rt"}) for record in made]
    last = msgspec.json.decode(records[-1])
    after = records[-1] if extra == "repeated" else msgspec.json.encode({**last, "seq": last["seq"] + plan.block})
    verifier = stream.expectations(begin)
    progress = Progress([Course(stream, verifier)])
    async with system.producer() as producer:
        verifying = asyncio.create_task(replay_and_verify(settings, begin, progress))
        while progress.sent < plan.total_blocks:
            assert not verifying.done()
            await asyncio.sleep(0.01)
        for record in records:
            await producer.send_and_wait(features_topic(settings, "ecg"), record, key=sensor.encode())
        while progress.finished is None:  # noqa: ASYNC110 - a field, not an event
            await asyncio.sleep(0.01)
        await producer.send_and_wait(features_topic(settings, "ecg"), after, key=sensor.encode())
        await verifying
    verdict = verifier.verdict
    assert verdict.verified == verdict.expected == plan.total_blocks, verdict
    assert getattr(verdict, extra) == 1


def test_each_demo_has_sensors_of_its_own() -> None:
    def sensors() -> set[str]:
        return {sensor for stream in plan_demo(["rt", "nrt"], 30, 10, 1.0) for sensor in stream.plan.sensors}

    assert len(sensors()) == 30
    assert not sensors() & sensors()


def test_sensors_that_move_stay_on_each_tier_and_come_back() -> None:
    streams = {stream.name: stream for stream in plan_demo(["rt", "nrt", "batch"], 40, 120, 20.0)}
    assert list(streams) == ["rt", "nrt", "batch", MOVING]
    assert {stream.pipeline for stream in streams.values()} == {"ecg", "wearable", "report"}
    moving = streams[MOVING]
    stays: dict[bytes, list[str]] = {}
    for message in message_source(moving.plan)(0.0):
        stays.setdefault(message.key, []).append(moving.tier_of(message))
    assert len(stays) == 10
    for tiers in stays.values():
        runs = [tier for number, tier in enumerate(tiers) if number == 0 or tiers[number - 1] != tier]
        assert runs == ["rt", "nrt", "batch", "rt"]
    # In the same time, though a report comes every 100 s.
    ends = {
        name: stream.plan.blocks_per_sensor * stream.plan.duration / stream.speed for name, stream in streams.items()
    }
    assert all(5.0 < end <= 6.0 for end in ends.values()), ends


@pytest.mark.parametrize("tier", ["rt", "nrt", "batch"])
def test_every_block_is_measured_once(tier: TierName, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_builtin(tier, sensors=7, seconds=900 if tier == "batch" else 9)
    latencies, clock = Latencies(plan), [0.0]
    monkeypatch.setattr("app.demo.latency.time.monotonic", lambda: clock[0])
    messages = list(message_source(plan)(0.0))
    blocks = [msgspec.json.decode(message.value) for message in messages]
    assert latencies.figures() is None
    for number, (message, block) in enumerate(zip(messages, blocks, strict=True)):
        latencies.sent(message)
        clock[0] += 0.5 if number == 0 else 0.25
        latencies.received(block["sensorId"], block["seq"])
        latencies.received(block["sensorId"], block["seq"])  # again, after a crash: it does not count
    measured = latencies.figures()
    assert measured is not None
    assert (measured.first, measured.blocks) == (0.5, len(blocks) - 1)
    assert (measured.p50, measured.p99, measured.worst) == (0.25, 0.25, 0.25)


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "demo", "--sensors", "0")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 0 sensors: expected at least 1")
    assert len(done.stderr.splitlines()) == 1

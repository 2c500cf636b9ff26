"""The function behind its poller, with everything that may go wrong going wrong: features as if nothing had."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from app.mirror.keys import sensor_key
from app.redis_client import redis_client
from app.serverless.environment import Environments, FunctionConfig, Invocation
from app.serverless.poller import Batching, Poller
from app.services import down, start
from app.services.redis import RedisServer
from app.settings import Settings, load_settings
from app.topics import dead_letter_topic
from app.verify import FeatureVerifier, Sent
from app.wire.blocks import encode_json
from tests.pages import until
from tests.system import System, noise

LENGTH = 256
TIMEOUT = 4.0
SEED = 11

#: How often of a hundred invocations each fault comes.
FAULTS = {
    "raise before": 5,
    "raise after": 5,
    "kill before": 3,
    "kill during": 3,
    "kill after": 3,
    "sleep after": 1,
    "partial": 8,
    "twice": 8,
    "replay": 8,
}


class Troubled:
    """Hands events to environments, with faults at random."""

    def __init__(self, environments: Environments, faults: dict[str, int] = FAULTS) -> None:
        self._environments = environments
        self._faults = faults
        self._random = random.Random(SEED)
        self._before: list[bytes] = []
        self.met: Counter[str] = Counter()

    async def __call__(self, event: bytes) -> Invocation:
        kinds = [*self._faults, None]
        weights = [*self._faults.values(), 100 - sum(self._faults.values())]
        (kind,) = self._random.choices(kinds, weights)
        if kind is None:
            invocation = await self._environments.invoke(event)
        elif kind == "twice":  # two at once, on one partition
            invocation, _ = await asyncio.gather(self._environments.invoke(event), self._environments.invoke(event))
        elif kind == "replay":  # beside one that has long been processed
            earlier = self._random.choice(self._before) if self._before else event
            invocation, _ = await asyncio.gather(self._environments.invoke(event), self._environments.invoke(earlier))
        else:
            invocation = await self._environments.invoke(self._with_fault(event, kind))
        if kind is not None:
            self.met[kind] += 1
        if len(self._before) < 50:
            self._before.append(event)
        return invocation

    def _with_fault(self, event: bytes, kind: str) -> bytes:
        decoded: dict[str, Any] = msgspec.json.decode(event)
        decoded["fault"] = kind
        decoded["after"] = self._random.uniform(0.0, 0.05)
        name = self._random.choice(list(decoded["records"]))
        decoded["failure"] = {"partition": name, "offset": self._random.choice(decoded["records"][name])["offset"]}
        return msgspec.json.encode(decoded)


async def run_with_faults(
    system: System, *, sensors: int, blocks: int, size: int, warm: bool = False
) -> tuple[Troubled, Poller]:
    """Send blocks to the batch tier, poll them with faults until all is committed, and verify every feature."""
    settings = system.settings.model_copy(update={"function_warm": warm})
    verifier = FeatureVerifier(tier="batch", pipeline="ecg")
    signals = {f"patient-{number}": noise(blocks * LENGTH, seed=number) for number in range(sensors)}
    for sensor, signal_ in signals.items():
        verifier.expect(sensor, signal_, [Sent(block * LENGTH, LENGTH) for block in range(blocks)])
    await system.send(messages(signals, blocks), "batch")
    config = FunctionConfig(settings, settings.datadir / "function.log", TIMEOUT, "tests.faulty_handler.handler")
    async with Environments(config, 3) as environments:
        troubled = Troubled(environments)
        poller = Poller(settings, "batch", troubled, Batching(size, 0.05, 2))
        polling = asyncio.create_task(poller.run())
        await trouble_redis(settings.datadir)

        async def all_done() -> bool:
            return polling.done() or poller.figures.status().records == sensors * blocks

        await until(all_done, "all is committed", seconds=900)
        poller.stop()
        await polling
    verdict = await system.verify(verifier, quiet=0.5)
    assert verdict.passed, verdict
    assert not await system.read(dead_letter_topic(settings), 1, seconds=1.0)
    async with redis_client(settings) as redis:
        for sensor in signals:
            following = await redis.hget(sensor_key(settings.topic_prefix, sensor, "state"), "next")
            assert int(following) == blocks * LENGTH
    return troubled, poller


def messages(signals: dict[str, NDArray[np.float64]], blocks: int) -> Iterator[tuple[bytes, bytes]]:
    """Blocks of all sensors in turn, as messages."""
    for block in range(blocks):
        first = block * LENGTH
        for sensor, signal_ in signals.items():
            samples = signal_[first : first + LENGTH]
            yield (
                sensor.encode(),
                encode_json(sensor, samples, 1_700_000_000_000 + block * 1024, seq=first, pipeline="ecg"),
            )


@pytest.fixture
async def with_own_redis(
    settings: Callable[..., Settings], tmp_path: Path, stopped_at_end: Callable[[Path], Path]
) -> AsyncIterator[System]:
    """A system whose Redis is this test's own, which it may treat badly."""
    folder = stopped_at_end(tmp_path / "own-redis")
    start(folder, ["redis_url"])
    system = System(settings(redis_url=load_settings(datadir=folder).redis_url, datadir=folder))
    await system.create()
    yield system
    await system.delete()
    down(folder)


async def trouble_redis(folder: Path) -> None:
    """Pause Redis for longer than its clients wait, then kill it and start it again."""
    pid = RedisServer(folder).daemon.pid()
    assert pid is not None
    await asyncio.sleep(1.0)
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(3.0)
    os.kill(pid, signal.SIGCONT)
    await asyncio.sleep(1.0)
    os.kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(start, folder, ["redis_url"])


async def test_faults_of_every_kind_change_no_feature(with_own_redis: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.serverless.poller.LONGEST_PAUSE", 0.5)
    troubled, poller = await run_with_faults(with_own_redis, sensors=25, blocks=20, size=15)
    status = poller.figures.status()
    assert status.cold_starts > 3
    assert len(troubled.met) >= len(FAULTS) - 2, troubled.met


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("warm", [False, True])
async def test_ten_thousand_records_with_faults(with_own_redis: System, warm: bool) -> None:
    troubled, _ = await run_with_faults(with_own_redis, sensors=100, blocks=100, size=50, warm=warm)
    assert set(troubled.met) == set(FAULTS), troubled.met

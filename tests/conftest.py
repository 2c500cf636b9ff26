"""What the tests share: a real Kafka and a real Redis, and settings that keep tests apart."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from pydantic import SecretStr

from app.chaos.redis_cluster import RedisCluster
from app.dsp.fused import load_kernel
from app.services import Endpoints, down, up
from app.settings import PREFIX, Settings, load_settings
from tests.serverless import Outputs
from tests.system import System

# Reads folders until its input ends, which it does however this test run ends, then ends what runs in them.
_GUARD = """
import os, signal, sys
from pathlib import Path
from app.runtime.instance import living_workers
from app.services import down
from app.services.daemon import Daemon

for folder in [Path(line.rstrip("\\n")) for line in sys.stdin]:
    for worker in living_workers(folder):
        os.kill(worker.pid, signal.SIGKILL)
    down(folder)
    for pid in folder.glob("*/pid"):
        Daemon(pid.parent).kill()
"""

NO_KERNEL = "no numba that fits is installed: pip install '.[fast]'"

_numbers = itertools.count(1)

# Where several processes share a run, each is told a width, which the commands that tests start would keep to.
os.environ.pop("COLUMNS", None)

# Whoever starts us in the background lets us ignore Ctrl-C, and so would all processes that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, however long each takes.
hypothesis.settings.register_profile("continuum", derandomize=True, deadline=None, max_examples=80)
hypothesis.settings.load_profile("continuum")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep settings of whoever runs the tests out of them."""
    for name in os.environ:
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module", params=["stage by stage", "fused"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a module's engines stage by stage, then in one pass where they can."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "stage by stage":
            patch.setattr("app.dsp.engine.fused", lambda pipeline: None)
        elif load_kernel() is None:
            pytest.skip(NO_KERNEL)
        yield


@pytest.fixture(scope="session")
def stopped_at_end() -> Iterator[Callable[[Path], Path]]:
    """Give a function that marks a data folder: what runs in it is ended with the run, even if that is killed."""
    guard = subprocess.Popen([sys.executable, "-c", _GUARD], stdin=subprocess.PIPE, text=True, start_new_session=True)
    assert guard.stdin is not None

    def mark(datadir: Path) -> Path:
        print(datadir, file=guard.stdin, flush=True)
        return datadir

    yield mark
    guard.stdin.close()
    assert guard.wait() == 0


@pytest.fixture(scope="session")
def services_datadir(tmp_path_factory: pytest.TempPathFactory, stopped_at_end: Callable[[Path], Path]) -> Path:
    """Data folder of `services`."""
    return stopped_at_end(tmp_path_factory.mktemp("services"))


@pytest.fixture(scope="session")
def services(services_datadir: Path) -> Endpoints:
    """Kafka and Redis, started once a run."""
    return up(services_datadir)


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory, stopped_at_end: Callable[[Path], Path]) -> RedisCluster:
    """A Redis Cluster, started once a run; whoever kills a node restarts it and waits until all is whole."""
    cluster = RedisCluster(stopped_at_end(tmp_path_factory.mktemp("redis-cluster")))
    cluster.start()
    return cluster


@pytest.fixture
def own_services(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> Iterator[Path]:
    """Give the data folder of a Kafka and a Redis of this test's own, which it may treat badly."""
    datadir = stopped_at_end(tmp_path / "own-services")
    up(datadir)
    yield datadir
    down(datadir)


@pytest.fixture
async def own_system(own_services: Path) -> AsyncIterator[System]:
    """As `system`, on services of this test's own, in whose data folder the workers are too."""
    under_test = System(load_settings(datadir=own_services, checkpoint_seconds=1.0))
    await under_test.create()
    yield under_test
    under_test.close()


@pytest.fixture
def settings(services: Endpoints, tmp_path: Path) -> Callable[..., Settings]:
    """Give a function that makes settings of this test's own topics, keys, groups and data folder."""
    name = f"t{next(_numbers)}"

    def make(**overrides: Any) -> Settings:
        own = {
            "kafka_bootstrap": services.kafka_bootstrap,
            "redis_url": services.redis_url,
            "topic_prefix": f"{name}-",
            "app_id": name,
            "datadir": tmp_path,
        }
        return load_settings(**{**own, **overrides})

    return make


@pytest.fixture(scope="module")
def outputs(services: Endpoints) -> Outputs:
    """Give topics of a module's own that the function writes to; its tests' sensors have names of their own."""
    name = f"t{next(_numbers)}"
    made = Outputs(
        Settings(
            kafka_bootstrap=services.kafka_bootstrap,
            redis_url=SecretStr(services.redis_url),
            topic_prefix=f"{name}-",
            app_id=name,
            handoff_wait=0.5,
        )
    )
    asyncio.run(made.create())
    return made


@pytest.fixture
async def system(settings: Callable[..., Settings]) -> AsyncIterator[System]:
    """Topics of this test's own; workers that it starts are ended with it."""
    under_test = System(settings(checkpoint_seconds=1.0))
    await under_test.create()
    yield under_test
    under_test.close()
    await under_test.delete()

"""What a run's workers live among: Kafka, the network to it, Redis and disks, as far as they can be made to fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from app.chaos.disk import SmallDisk
from app.chaos.kafka_cluster import KafkaCluster
from app.chaos.plan import Kind
from app.chaos.proxy import Network
from app.chaos.redis_cluster import RedisCluster
from app.services.service import Progress
from app.settings import Settings


@dataclass
class Surroundings:
    """What is there.

    Attributes
    ----------
    settings
        Of clients that no fault cuts off; the workers' are made from them.
    kafka, network, redis
        None where it is somebody else's, which faults must leave alone.
    disks
        By the number of the worker that has one of its own.
    """

    settings: Settings
    kafka: KafkaCluster | None = None
    network: Network | None = None
    redis: RedisCluster | None = None
    disks: dict[int, SmallDisk] = field(default_factory=dict)

    def worker_folder(self, number: int) -> Path:
        """Give the data folder of a worker, which no other worker has."""
        return self.settings.datadir / f"worker-{number}"

    def worker_settings(self, number: int) -> Settings:
        """Give the settings of a worker, from 1."""
        own = {"datadir": self.worker_folder(number), "instance": f"chaos-{number}"}
        if self.kafka is not None and self.network is not None:
            own["kafka_bootstrap"] = self.kafka.entrance(number - 1)
        return self.settings.model_copy(update=own)

    def lacking(self, kind: Kind) -> str | None:
        """Say what is not there for a kind of fault; None where it can happen."""
        if kind in {"cut", "stall"} and self.network is None:
            return "no network of its own"
        if kind == "broker" and self.kafka is None:
            return "no Kafka of its own"
        if kind.startswith("redis-") and self.redis is None:
            return "no Redis of its own"
        if kind == "disk-full" and not self.disks:
            return "mounting a file system needs root"
        return None


@contextmanager
def surroundings(
    settings: Settings, folder: Path, workers: int, progress: Progress, *, disks: bool
) -> Iterator[Surroundings]:
    """Start all of it for the time of a `with` block; nothing stays behind but what lies in the folder.

    Parameters
    ----------
    settings
        Everything but addresses and folders is taken from them.
    folder
        Where all data goes.
    workers
        How many can live at a time.
    progress
        Told what is started.
    disks
        Give each worker a disk of its own, where that is permitted.
    """
    with ExitStack() as stack:
        redis = RedisCluster(folder)
        stack.callback(redis.stop)
        progress("starting a Redis Cluster")
        redis.start()
        kafka = KafkaCluster(folder, entrances=workers)
        stack.callback(kafka.stop)
        kafka.start(progress)
        network = stack.enter_context(Network([kafka.routes(number) for number in range(workers)]))
        own = {"kafka_bootstrap": kafka.bootstrap, "redis_url": SecretStr(redis.url), "datadir": folder}
        found = Surroundings(settings.model_copy(update=own), kafka, network, redis)
        if disks and SmallDisk.permitted():
            for number in range(1, workers + 1):
                found.disks[number] = SmallDisk(found.worker_folder(number))
                stack.callback(found.disks[number].close)
        yield found

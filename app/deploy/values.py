"""What deployment files are filled in with: names, ports, partition counts and times, from where they are defined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from app.deploy.render import Values
from app.errors import ContinuumError
from app.settings import TIERS, Settings, TierName
from app.tiers import TIER_DEFAULTS, in_force
from app.topics import dead_letter_topic, sensor_topic
from app.web.address import FIRST_PORT

#: Blocks a second that a worker is meant to carry: a third of what one worker of JSON blocks has been measured to do.
BLOCKS_A_WORKER = 5_000

#: From SIGTERM until the kill: past the worker's own limit, so that its exit code and its log say what was wrong.
GRACE_SECONDS = 20

#: CPUs, GiB of memory and GiB of disk for a worker, and how many there are at least. Two where the tier promises low
#: latency, so that one takes over while the other is started anew.
_SIZES: dict[TierName, tuple[float, int, int, int]] = {
    "rt": (1.0, 2, 10, 2),
    "nrt": (0.5, 1, 10, 2),
    "batch": (0.5, 1, 10, 1),
}


class DeployError(ContinuumError):
    """What is to be exported does not fit together, or would overwrite something."""


@dataclass(frozen=True)
class Deployment:
    """What is deployed.

    Parameters
    ----------
    settings
        Whose names of topics and groups, and whose times, hold in the deployment.
    image
        Container image of workers and function.
    workers, functions
        Tiers that workers run, and those that the on-demand function runs.
    repartitioned
        Partition counts of tiers whose topics have been given more than they are created with.

    Raises
    ------
    DeployError
        There is no tier, or workers and function would share one, or a topic would have fewer partitions.
    """

    settings: Settings
    image: str
    workers: tuple[TierName, ...]
    functions: tuple[TierName, ...]
    repartitioned: Mapping[TierName, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.workers and not self.functions:
            raise DeployError("no tiers: give some to workers (--workers) or to the function (--functions)")
        if both := set(self.workers) & set(self.functions):
            raise DeployError(
                f"tiers {', '.join(sorted(both))} both by workers and by the function: a topic belongs to one consumer"
                " group, so leave each out of --workers or of --functions"
            )
        created = {tier: own.partitions for tier, own in TIER_DEFAULTS.items()}
        for tier, count in self.repartitioned.items():
            if count < created[tier]:
                raise DeployError(
                    f"--partitions={tier}={count}: the tier's topic is created with {created[tier]}, and partitions are"
                    " never taken away; give the count that `continuum topics list` shows"
                )

    @property
    def values(self) -> Values:
        """What holds for the whole deployment."""
        settings = self.settings
        return {
            "image": self.image,
            "app_id": settings.app_id,
            "topic_prefix": settings.topic_prefix,
            "port": str(FIRST_PORT),
            "dead_letters": dead_letter_topic(settings),
            "shutdown_seconds": f"{settings.shutdown_seconds:g}",
            "grace_seconds": str(ceil(settings.shutdown_seconds) + GRACE_SECONDS),
            # Empty, and so unset, where each tier has its own.
            "set_checkpoint_seconds": "" if settings.checkpoint_seconds is None else f"{settings.checkpoint_seconds:g}",
            "checkpoint_seconds": f"{max(in_force(settings, tier).checkpoint_seconds for tier in TIERS):g}",
            "blocks_a_worker": str(BLOCKS_A_WORKER),
        }

    @property
    def blocks(self) -> Mapping[str, Sequence[Values]]:
        """For each block of a template its tiers' values."""
        return {
            "workers": [self._tier(tier) for tier in self.workers],
            "functions": [self._tier(tier) for tier in self.functions],
            "tiers": [self._tier(tier) for tier in TIERS],
        }

    def _tier(self, tier: TierName) -> Values:
        settings = self.settings
        cpus, memory, disk, least = _SIZES[tier]
        partitions = self.repartitioned.get(tier, TIER_DEFAULTS[tier].partitions)
        return {
            "tier": tier,
            "topic": sensor_topic(settings, tier),
            "partitions": str(partitions),
            "group": settings.model_copy(update={"tiers": (tier,)}).group_id,
            "function_group": settings.function_group(tier),
            # A group commits at its checkpoints, so what it has processed since the last one counts as lag.
            "lag_a_worker": str(ceil(BLOCKS_A_WORKER * in_force(settings, tier).checkpoint_seconds)),
            "cpus": f"{cpus:g}",
            "cpu_units": f"{cpus * 1024:g}",
            "memory_gib": str(memory),
            "memory_mib": str(memory * 1024),
            "disk_gib": str(disk),
            "least": str(least),
            "published_port": str(FIRST_PORT + TIERS.index(tier)),
        }

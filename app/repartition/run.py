"""Repartitioning a tier: its changelog first, then the states, and last the topic of its sensors.

Each step may be interrupted anywhere and done again:

1. The repartition is marked as begun, so that no worker starts.
2. The changelog gets its partitions.
3. Each state that belongs elsewhere is offered through Redis, copied to its partition there, and deleted here.
4. The changelog is read again: every state once, where it belongs, with the bytes that it had.
5. The sensors' topic gets its partitions: producers send there once they have noticed. Until then their blocks come
   from the old partitions, and meet their state through Redis; the switch is a handoff, as any move is.
6. The mark is removed. Workers read new partitions from the beginning, as nothing of them has been committed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.commits import backlog
from app.kafka_reader import retained, topic_reader
from app.preflight import application_groups, group_subscriptions
from app.redis_client import REDIS_ERRORS, explain, redis_client
from app.repartition.marker import RepartitionError, Unfinished, mark, unfinished, unmark
from app.repartition.move import Mover
from app.repartition.survey import Counts, survey
from app.settings import Settings, SettingsError, TierName
from app.state_copies.verify_all import OnStage
from app.topics import Topic, changelog_topic, partition_counts, raise_partitions, sensor_topic

FAULTS_SHOWN = 5


class VerificationError(RepartitionError):
    """After the move a state is missing, not where it belongs, or not what it was."""

    exit_code = 1


@dataclass
class Outcome:
    """What a repartition did, or would do.

    Attributes
    ----------
    tier, before, after
        Which, and its partition counts.
    resumed
        It had begun before, or the topic had been raised by other means.
    states
        Sensors that have a state on the changelog.
    moved
        Of those, how many belonged to another partition.
    in_frames
        How many come in frames, perhaps from another partition now: they meet their state through Redis.
    stale
        Older states left over in partitions that their sensors had been moved from before.
    waiting
        Blocks on the topic that have not been consumed.
    mirrored
        States that Redis did not have.
    """

    tier: TierName
    before: int
    after: int
    resumed: bool
    states: int = 0
    moved: int = 0
    in_frames: int = 0
    stale: int = 0
    waiting: int = 0
    mirrored: int = 0


@dataclass(frozen=True)
class _Tier:
    """A tier's topics, and how many partitions they have."""

    tier: TierName
    sensors: str
    sensor_partitions: int
    changelog: str
    changelog_partitions: int


async def repartition(
    settings: Settings,
    tier: TierName,
    partitions: int,
    *,
    dry_run: bool,
    on_stage: OnStage,
    on_waiting: Callable[[int], object],
) -> Outcome:
    """Raise the partition count of a tier's topic and table, and bring each state to its partition.

    Parameters
    ----------
    settings, tier
        Which.
    partitions
        The new count.
    dry_run
        Only look what would be done.
    on_stage
        Told of the progress.
    on_waiting
        Told of blocks that have not been consumed, where that can no longer be helped.

    Raises
    ------
    RepartitionError
        It cannot be done now, and why.
    VerificationError
        It went wrong; the sensors' topic has not been raised.
    """
    found = await _look(settings, tier)
    begun = next((own for own in await unfinished(settings) if own.tier == tier), None)
    counts = _counts(found, begun, partitions)
    outcome = Outcome(tier, *counts, resumed=begun is not None or found.sensor_partitions != found.changelog_partitions)
    if counts.before == counts.after and begun is None:
        return outcome
    await _refuse_living(settings, found)
    waiting = await backlog(settings, application_groups(settings), found.sensors, found.sensor_partitions)
    outcome.waiting = sum(waiting.values())
    if outcome.waiting and not outcome.resumed:
        raise RepartitionError(
            f"{outcome.waiting:,} messages in {len(waiting)} partitions of {found.sensors} have not been consumed: a"
            " sensor's later blocks would come from another partition, and perhaps before them. Stop the producers, let"
            " the workers go on until nothing is left, stop them, and try again"
        )
    if outcome.waiting:
        on_waiting(outcome.waiting)
    async with topic_reader(settings) as consumer:
        stretches = await retained(consumer, settings, found.changelog)
        before = await survey(consumer, stretches, tier, counts, on_stage, "reading the changelog")
        outcome.states, outcome.moved = len(before.states), sum(1 for _ in before.moving())
        outcome.in_frames, outcome.stale = sum(1 for _ in before.in_frames()), sum(1 for _ in before.stale())
        if dry_run:
            return outcome
        await _check_redis(settings)
        await mark(settings, Unfinished(tier, *counts))
        await _refuse_living(settings, found)  # one that started before the mark
        await raise_partitions(settings, found.changelog, counts.after)
        try:
            async with Mover(settings, tier, before) as mover:
                outcome.mirrored = await mover.move(consumer, on_stage)
        except REDIS_ERRORS as error:
            raise RepartitionError(f"{explain(error)}; try again, and it goes on") from error
        stretches = await retained(consumer, settings, found.changelog)
        after = await survey(consumer, stretches, tier, counts, on_stage, "reading it again")
    await _refuse_living(settings, found)
    _check(after.faults(before), found)
    await raise_partitions(settings, found.sensors, counts.after)
    await unmark(settings, tier)
    return outcome


async def _look(settings: Settings, tier: TierName) -> _Tier:
    sensors, changelog = sensor_topic(settings, tier), changelog_topic(settings, tier)
    counts = await partition_counts(settings, [Topic(sensors, 0), Topic(changelog, 0)])
    missing = [name for name, count in counts.items() if count is None]
    if missing:
        raise RepartitionError(
            f"missing topics: {', '.join(missing)}. `continuum topics create` makes those that are missing, a tier's"
            " with one partition count"
        )
    return _Tier(tier, sensors, counts[sensors] or 0, changelog, counts[changelog] or 0)


def _counts(found: _Tier, begun: Unfinished | None, partitions: int) -> Counts:
    """Tell between which counts the states are to be moved."""
    if begun is not None:
        if partitions != begun.after:
            raise RepartitionError(
                f"--partitions {partitions}: a repartition of {found.tier} from {begun.before} to {begun.after} has"
                f" begun, and must end first: --partitions {begun.after}"
            )
        return Counts(begun.before, begun.after)
    highest = max(found.sensor_partitions, found.changelog_partitions)
    if partitions < highest:
        raise RepartitionError(
            f"--partitions {partitions}: {found.sensors} has {found.sensor_partitions} partitions and"
            f" {found.changelog} {found.changelog_partitions}, and Kafka can only raise a count. Expected {highest} or"
            " more; for fewer, make another set of topics (CONTINUUM_TOPIC_PREFIX)"
        )
    # Whichever was raised by other means, the states have been put where they are by the lower count.
    return Counts(min(found.sensor_partitions, found.changelog_partitions), partitions)


async def _refuse_living(settings: Settings, found: _Tier) -> None:
    topics = {found.sensors, found.changelog}
    for group, read in (await group_subscriptions(settings)).items():
        if topics & read:
            raise RepartitionError(
                f"group {group} has living members that read {', '.join(sorted(topics & read))}: stop all workers and"
                f" functions of tier {found.tier}, and try again (Kafka takes one that was killed for living for"
                f" CONTINUUM_SESSION_TIMEOUT, {settings.session_timeout:g} s)"
            )


async def _check_redis(settings: Settings) -> None:
    """Refuse to begin without Redis, through which late blocks and those in frames meet their states."""
    try:
        async with redis_client(settings) as redis:
            await redis.ping()
    except (SettingsError, *REDIS_ERRORS) as error:
        why = str(error) if isinstance(error, SettingsError) else explain(error)
        raise RepartitionError(
            f"{why}. Late blocks and those in frames meet their state there: nothing has been changed, try again when"
            " it answers"
        ) from error


def _check(faults: list[str], found: _Tier) -> None:
    if faults:
        some = "; ".join(faults[:FAULTS_SHOWN])
        raise VerificationError(
            f"{len(faults):,} states on {found.changelog} are not as they should be: {some}. {found.sensors} has not"
            " been raised, and no worker starts; try again, and it goes on with what it finds"
        )

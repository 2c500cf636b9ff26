"""`continuum sensors`: where each sensor is, what it runs, what is set of it, and moving it to another tier."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from app.cli.output import JsonOption, note, out, print_json
from app.cli.progress import stages
from app.errors import ContinuumError
from app.pipelines import known_pipelines
from app.redis_client import REDIS_ERRORS, explain, redis_client
from app.sensors.listing import SensorRow, all_rows, matching, read_rows
from app.sensors.metadata import NOTHING_SET, MetadataError, SensorMeta, check_meta, check_sensor_id
from app.sensors.move import Moved, move_sensors
from app.sensors.registry import change_set, read_set
from app.settings import Settings, TierName, load_settings
from app.topics import sensor_topic

sensors = typer.Typer(help="List, describe and move sensors.", no_args_is_help=True)

UNMOVED, UNKNOWN_SENSOR = 1, 1
"""Exit codes: some sensor is not on its new tier; nobody knows the sensor."""

SensorArgument = Annotated[str, typer.Argument(metavar="SENSOR", help="Id of the sensor.")]
SensorsArgument = Annotated[list[str], typer.Argument(metavar="SENSOR...", help="Ids of sensors.")]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label; may be repeated.")
]


class RedisDownError(ContinuumError):
    """Redis, which has what was asked for, does not answer."""


def _labels(given: Sequence[str] | None) -> dict[str, str]:
    labels = {}
    for text in given or []:
        name, separator, value = text.partition("=")
        if not separator:
            raise MetadataError(f"label {text!r}: expected NAME=VALUE")
        labels[name] = value
    return labels


def _run(work: Any) -> Any:
    """Run what asks Redis to its end."""
    try:
        return asyncio.run(work)
    except REDIS_ERRORS as error:
        raise RedisDownError(f"{explain(error)}: see CONTINUUM_REDIS_URL, or `continuum up`") from None


@sensors.command("list")
def list_sensors(
    *,
    tier: Annotated[TierName | None, typer.Option(help="Only those on this tier.", show_default=False)] = None,
    pipeline: Annotated[str | None, typer.Option(help="Only those that run it.", show_default=False)] = None,
    label: LabelOption = None,
    as_json: JsonOption = False,
) -> None:
    """List sensors: those that a worker has met, and those of which something is set."""
    settings, labels = load_settings(), _labels(label)
    rows: list[SensorRow] = _run(_all(settings))
    found = sorted(matching(rows, tier, pipeline, labels), key=lambda row: row.sensor_id)
    if as_json:
        print_json([_as_map(row) for row in found])
        return
    table = Table(
        "sensor",
        "owner",
        "goes to",
        "pipeline",
        Column("next", justify="right"),
        Column("updated (UTC)", no_wrap=True),
        "labels",
    )
    for row in found:
        table.add_row(
            escape(row.sensor_id),
            row.owner,
            row.goes_to + (" (set)" if row.meta.tier else ""),
            escape(row.runs) + (" (set)" if row.meta.pipeline else ""),
            "" if row.next is None else f"{row.next:,}",
            _time(row.updated),
            escape(_shown(row.meta.labels)),
        )
    if found:
        out.print(table)
    note(f"{len(found):,} of {len(rows):,} sensors")


async def _all(settings: Settings) -> list[SensorRow]:
    async with redis_client(settings) as redis:
        return [row async for rows in all_rows(redis, settings.topic_prefix) for row in rows]


@sensors.command()
def show(sensor_id: SensorArgument, as_json: JsonOption = False) -> None:
    """Show a sensor: what is set, what runs, and where it is. Exit code 1 if nobody knows it."""
    check_sensor_id(sensor_id)
    settings = load_settings()
    row, meta = _run(_one(settings, sensor_id))
    # The table has what was set even where Redis does not have it yet.
    row = row._replace(meta=meta)
    if not meta and row.epoch is None and not row.tier:
        note(f"nobody has met sensor {sensor_id!r}, and nothing is set of it")
        raise typer.Exit(UNKNOWN_SENSOR)
    if as_json:
        print_json(_as_map(row))
        return
    table = Table("", "", show_header=False)
    for name, value in _as_map(row).items():
        shown = _shown(value) if isinstance(value, dict) else "" if value is None else str(value)
        table.add_row(name, escape(_time(value) if name == "updated" else shown))
    out.print(table)


async def _one(settings: Settings, sensor_id: str) -> tuple[SensorRow, SensorMeta]:
    async with redis_client(settings) as redis:
        (row,) = await read_rows(redis, settings.topic_prefix, [sensor_id])
    return row, (await read_set(settings)).get(sensor_id, NOTHING_SET)


@sensors.command("set")
def set_(
    sensor_ids: SensorsArgument,
    *,
    pipeline: Annotated[str | None, typer.Option(help="Of blocks that name none.", show_default=False)] = None,
    tier: Annotated[
        TierName | None, typer.Option(help="To which ingest sends; `move` moves the state too.", show_default=False)
    ] = None,
    label: LabelOption = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="pipeline, tier, or a label's name; may be repeated.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Set what is to hold of sensors; what is not named stays.

    Running workers know it within a second. A sensor whose pipeline is set to another goes on in that from its next
    block that names none: warmed up from what its topic retains, as after a change of its pipeline's definition.
    """
    for sensor_id in sensor_ids:
        check_sensor_id(sensor_id)
    labels, gone = _labels(label), set(unset or [])
    if not (pipeline or tier or labels or gone):
        raise MetadataError("nothing to set: give --pipeline, --tier, --label or --unset")
    if both := gone & {*labels, *(["pipeline"] if pipeline else []), *(["tier"] if tier else [])}:
        raise MetadataError(f"{', '.join(sorted(both))}: to be set and to be unset; expected one of them")
    settings = load_settings()
    known = asyncio.run(read_set(settings))
    metas = {}
    for sensor_id in sensor_ids:
        before = known.get(sensor_id, NOTHING_SET)
        meta = SensorMeta(
            pipeline or ("" if "pipeline" in gone else before.pipeline),
            tier or ("" if "tier" in gone else before.tier),
            {name: value for name, value in {**before.labels, **labels}.items() if name not in gone},
        )
        check_meta(meta, known_pipelines(settings.pipelines))
        metas[sensor_id] = meta
    why = asyncio.run(change_set(settings, metas))
    if why is not None:
        note(f"set, and workers will tell Redis: {why}")
    if as_json:
        print_json([{"sensorId": id_, "set": msgspec.to_builtins(meta)} for id_, meta in metas.items()])
        return
    for sensor_id, meta in metas.items():
        out.print(f"{sensor_id}: {_in_words(meta)}", markup=False, soft_wrap=True)


@sensors.command()
def move(
    sensor_ids: SensorsArgument,
    *,
    to: Annotated[TierName, typer.Option(help="Tier that is to have them.", show_default=False)],
    timeout: Annotated[float, typer.Option(min=0, help="Seconds that their owners may take.")] = 30.0,
    force: Annotated[
        bool, typer.Option("--force", help="Take them from owners that have not processed all, or are gone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Move sensors to a tier, with their state: set the tier, drain, release, claim.

    Exit code 0: each sensor's next block may go to the new tier, and continues its state there. 1: some are not moved:
    blocks of theirs lie on the old tier's topic and nobody reads them (refused, and nothing changed), or their owners
    have not come to the end in time (undrained).
    """
    for sensor_id in sensor_ids:
        check_sensor_id(sensor_id)
    settings = load_settings()
    with stages() as on_stage:
        on_progress = partial(on_stage, "moving")
        moved: list[Moved] = _run(
            move_sensors(settings, sensor_ids, to, seconds=timeout, force=force, on_progress=on_progress)
        )
    topic = sensor_topic(settings, to)
    if as_json:
        print_json({"tier": to, "topic": topic, "sensors": msgspec.to_builtins(moved)})
    else:
        _print_moved(moved, to, topic)
    if not all(own.done for own in moved):
        raise typer.Exit(UNMOVED)


def _print_moved(moved: Sequence[Moved], tier: str, topic: str) -> None:
    table = Table(
        "sensor", "outcome", "from", Column("next", justify="right"), "epoch", Column("s", justify="right"), "remarks"
    )
    for own in moved:
        left = f"{own.left:,} blocks on the old topic are not in its state" if own.left else ""
        table.add_row(
            escape(own.sensor_id),
            own.outcome,
            own.tier_before,
            "" if own.next is None else f"{own.next:,}",
            "" if own.epoch is None else str(own.epoch),
            f"{own.seconds:.2f}",
            escape("; ".join(filter(None, [own.detail, left]))),
        )
    out.print(table)
    done = sum(own.done for own in moved)
    out.print(f"{done:,} of {len(moved):,} sensors are tier {tier}'s: send their next blocks to {topic}", markup=False)
    if any(own.outcome == "refused" for own in moved):
        note("start a worker of the old tier and move again, or --force: what is left then comes late, and is dropped")
    if any(own.outcome == "undrained" for own in moved):
        note("their tier is set; the tiers hand them over when their next blocks come, or move again")


def _as_map(row: SensorRow) -> dict[str, Any]:
    return {
        "sensorId": row.sensor_id,
        "owner": row.owner,
        "tier": row.goes_to,
        "pipeline": row.runs,
        "ranLast": row.pipeline,
        "setTier": row.meta.tier,
        "setPipeline": row.meta.pipeline,
        "labels": row.meta.labels,
        "rate": row.rate,
        "next": row.next,
        "restarts": row.restarts,
        "epoch": row.epoch,
        "updated": row.updated,
        "position": "-".join(map(str, row.position)) if row.position else None,
    }


def _time(milliseconds: int | None) -> str:
    return "" if milliseconds is None else f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def _shown(labels: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _in_words(meta: SensorMeta) -> str:
    given = {"pipeline": meta.pipeline, "tier": meta.tier, "labels": _shown(meta.labels)}
    return "; ".join(f"{name} {value}" for name, value in given.items() if value) or "nothing is set"

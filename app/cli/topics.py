"""`continuum topics`: create, list, check and repartition the topics of the system."""

from __future__ import annotations

import asyncio

import typer
from rich.table import Table

from app.cli.output import JsonOption, note, out, print_json
from app.cli.repartition import repartition
from app.pipelines import known_pipelines
from app.repartition.marker import check_unfinished, unfinished
from app.settings import Settings, load_settings
from app.topics import Topic, check_topics, create_topics, disagreeing, needed_topics, partition_counts

topics = typer.Typer(help="Create, list, check and repartition the topics of the system.", no_args_is_help=True)
topics.command()(repartition)


def _needed() -> tuple[Settings, list[Topic]]:
    settings = load_settings()
    return settings, needed_topics(settings, known_pipelines(settings.pipelines))


@topics.command()
def create(as_json: JsonOption = False) -> None:
    """Create the topics that do not exist yet, a tier's with one partition count."""
    settings, needed = _needed()
    created = asyncio.run(create_topics(settings, needed))
    if as_json:
        print_json([{"topic": topic.name, "partitions": topic.partitions} for topic in created])
    else:
        for topic in created:
            out.print(f"created {topic.name} with {topic.partitions} partitions", soft_wrap=True)
        note(f"{len(needed) - len(created)} of {len(needed)} topics existed already")
    asyncio.run(check_topics(settings, needed))


@topics.command("list")
def list_topics(as_json: JsonOption = False) -> None:
    """List the topics of the system, and how many partitions each has."""
    settings, needed = _needed()
    counts = asyncio.run(partition_counts(settings, needed))
    wrong = {name: max(own.values()) for own in disagreeing(needed, counts).values() for name in own}
    if as_json:
        print_json(
            [
                {
                    "topic": topic.name,
                    "partitions": counts[topic.name],
                    "default": topic.partitions,
                    "tier": topic.tier,
                    "agrees": topic.name not in wrong,
                }
                for topic in needed
            ]
        )
        return
    table = Table("topic", "partitions", "created with")
    for topic in needed:
        count = counts[topic.name]
        if count is None:
            shown = "[red]missing[/]"
        elif count < wrong.get(topic.name, 0):
            shown = f"[red]{count}, expected {wrong[topic.name]}[/]"
        else:
            shown = str(count)
        table.add_row(topic.name, shown, str(topic.partitions))
    out.print(table)


@topics.command()
def check() -> None:
    """Check that all topics exist, with one partition count a tier; exit code 2 and the remedy if not."""
    settings, needed = _needed()
    asyncio.run(check_topics(settings, needed))
    check_unfinished(asyncio.run(unfinished(settings)))
    out.print(f"{len(needed)} topics exist as the state tables need them")

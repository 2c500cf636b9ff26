"""What the demo shows while it runs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.demo.session import Progress
from app.settings import TierName

REFRESH_SECONDS = 0.25
LINE_SECONDS = 2.0
"""Between two lines where there is no terminal to draw on."""

#: Fields of a record that are no features.
_OTHERS = {"sensorId", "timestamp", "seq", "tier", "pipeline", "gap", "quality"}


async def show(progress: Progress, console: Console, urls: str) -> None:
    """Show a demo's progress until cancelled: live on a terminal, else a line now and then."""
    if not console.is_terminal:
        with suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(LINE_SECONDS)
                console.print(_figures(progress), soft_wrap=True)
        console.print(_figures(progress), soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False) as live, suppress(asyncio.CancelledError):
        while True:
            live.update(_screen(progress, urls), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)
    console.print(_figures(progress), soft_wrap=True)


def _figures(progress: Progress) -> Text:
    return Text(
        f"blocks in {progress.sent:,} of {progress.total:,} · features out {progress.features:,}"
        f" · lag {progress.lag:,} · {progress.rate:,.0f} blocks/s"
    )


def _screen(progress: Progress, urls: str) -> Group:
    return Group(Text(f"web pages: {urls}", style="bold"), _figures(progress), latest_features(progress))


def latest_features(progress: Progress) -> Table:
    """Draw the newest feature records as a table."""
    table = Table("sensor", "tier", "seq", "features", title="latest features")
    table.columns[2].justify = "right"
    for record in progress.latest:
        values = [
            f"{name} {'–' if value is None else f'{value:.6g}'}"
            for name, value in record.items()
            if name not in _OTHERS
        ]
        table.add_row(Text(record["sensorId"]), record["tier"], f"{record['seq']:,}", " · ".join(values))
    return table


def latencies(progress: Progress, runs_as: Mapping[TierName, str]) -> Table:
    """Draw what the features of each stream took, from a block's being sent to its record's being read.

    Parameters
    ----------
    progress
        Of the demo.
    runs_as
        What runs each tier, in words.
    """
    table = Table("stream", "runs as", "pipeline", "features", "first, ms", "p50", "p99", "most", title="latency")
    for column in table.columns[3:]:
        column.justify = "right"
    for course in progress.courses:
        stream, took = course.stream, course.latencies.figures()
        ways = " → ".join(stream.stays) if len(stream.stays) > 1 else runs_as[stream.stays[0]]
        shown = ["–"] * 4 if took is None else [_ms(each) for each in (took.first, took.p50, took.p99, took.worst)]
        table.add_row(stream.name, ways, stream.pipeline, f"{course.features:,}", *shown)
    return table


def _ms(seconds: float) -> str:
    return "–" if math.isnan(seconds) else f"{seconds * 1000:,.1f}"

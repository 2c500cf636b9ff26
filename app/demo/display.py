"""What the demo shows while it runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.demo.session import Progress

REFRESH_SECONDS = 0.25
LINE_SECONDS = 2.0
"""Between two lines where there is no terminal to draw on."""


async def show(progress: Progress, console: Console, url: str) -> None:
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
            live.update(_screen(progress, url), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)
    console.print(_figures(progress), soft_wrap=True)


def _figures(progress: Progress) -> Text:
    return Text(
        f"blocks in {progress.sent.blocks:,} of {progress.total:,} · features out {progress.features:,}"
        f" · lag {progress.lag:,} · {progress.rate:,.0f} blocks/s"
    )


def _screen(progress: Progress, url: str) -> Group:
    return Group(Text(f"web pages: {url}", style="bold"), _figures(progress), latest_features(progress))


def latest_features(progress: Progress) -> Table:
    """Draw the newest feature records as a table."""
    table = Table("sensor", "seq", "rms", "mobility", "complexity", "activity", title="latest features")
    for column in table.columns[1:]:
        column.justify = "right"
    for record in progress.latest:
        values = [record[name] for name in ("rms", "hjorth_mobility", "hjorth_complexity", "hjorth_activity")]
        shown = ["–" if value is None else f"{value:.6g}" for value in values]
        table.add_row(Text(record["sensorId"]), f"{record['seq']:,}", *shown)
    return table

"""`continuum dead-letters`: what was refused, why, and sending it again."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from aiokafka import ConsumerRecord
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from app.cli.output import JsonOption, notes, out, print_json
from app.dead_letters.browse import Listing, find_letters, newest_letters
from app.dead_letters.contents import Contents, contents, hex_dump
from app.dead_letters.errors import DeadLetterError
from app.dead_letters.letter import DeadLetter, LetterId, Source, parse_name
from app.dead_letters.replay import Held, Replay, plan_replay, send_again
from app.dead_letters.selection import OnProgress, Selection, parse_since
from app.pipelines import known_pipelines
from app.settings import load_settings
from app.tiers import TIER_DEFAULTS
from app.topics import tier_of
from app.wire.reasons import Reason

dead_letters = typer.Typer(help="Show what was refused, and send it again.", no_args_is_help=True)

KEY_SHOWN, DETAIL_SHOWN = 40, 160
"""Characters in a table; a key may have half a million."""

DUMPED = 512
"""Bytes in a hex dump."""

BLOCKS_SHOWN = 20

ReasonOption = Annotated[Reason | None, typer.Option(help="Only those refused for this reason.", show_default=False)]
KeyOption = Annotated[
    str | None,
    typer.Option("--sensor", "--key", help="Only those with this key: the sensor's id, or a gateway's."),
]
SinceOption = Annotated[
    str | None, typer.Option(help="Only those since a time (ISO 8601), or so long ago: 90s, 30m, 2h, 7d.")
]

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
)


def _selection(
    reason: Reason | None, key: str | None, since: str | None, ids: frozenset[LetterId] = frozenset()
) -> Selection:
    return Selection(
        ids,
        None if reason is None else str(reason),
        None if key is None else key.encode(),
        None if since is None else parse_since(since),
    )


@contextmanager
def _progress(what: str) -> Iterator[OnProgress]:
    with Progress(*_COLUMNS, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@dead_letters.command("list")
def list_letters(
    *,
    reason: ReasonOption = None,
    key: KeyOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=0, help="How many to show, the newest.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Count dead letters by reason, and show the newest.

    Without --since the newest 2,000 of each partition are looked at.
    """
    settings = load_settings()
    with _progress("reading dead letters") as on_progress:
        listing = asyncio.run(newest_letters(settings, _selection(reason, key, since), limit, on_progress))
    if as_json:
        print_json(
            {
                "retained": listing.retained,
                "read": listing.read,
                "reasons": dict(listing.reasons.most_common()),
                "letters": [_as_map(letter) for letter in listing.newest],
            }
        )
        return
    _print_listing(listing, since)


def _print_listing(listing: Listing, since: str | None) -> None:
    if listing.reasons:
        counts = Table("reason", Column("dead letters", justify="right"))
        for name, count in listing.reasons.most_common():
            counts.add_row(escape(name), f"{count:,}")
        out.print(counts)
    if listing.newest:
        table = Table(
            Column("id", no_wrap=True),
            "time (UTC)",
            "reason",
            "detail",
            "source",
            "key",
            Column("size", justify="right"),
        )
        for letter in listing.newest:
            key = (letter.key or b"").decode(errors="backslashreplace")
            again = f" [sent again from {letter.replayed_from}]" if letter.replayed_from else ""
            table.add_row(
                str(letter.id),
                f"{letter.time:%Y-%m-%d %H:%M:%S}",
                escape(letter.reason),
                escape(_short(letter.detail, DETAIL_SHOWN) + again),
                escape(letter.origin),
                escape(_short(key, KEY_SHOWN)),
                "none" if letter.size is None else decimal(letter.size),
            )
        out.print(table)
    matching = listing.reasons.total()
    more = "; --since looks further back" if listing.read < listing.retained and not since else ""
    notes.print(f"{matching:,} of {listing.read:,} dead letters looked at; the topic holds {listing.retained:,}{more}")


@dead_letters.command()
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="ID", help="partition-offset, as list shows it, or the source topic-partition-offset."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show a dead letter: its headers, and its bytes decoded as far as possible."""
    settings = load_settings()
    with _progress("looking for it") as on_progress:
        records = asyncio.run(find_letters(settings, parse_name(name), on_progress))
    pipelines = known_pipelines(settings.pipelines)
    source = DeadLetter.of(records[0]).source
    tier = None if source is None else tier_of(settings, source.topic)
    default = TIER_DEFAULTS[tier or "rt"].pipeline
    found = contents(records[0].key, records[0].value, pipelines, default)
    if as_json:
        print_json([_whole(record, found) for record in records])
        return
    for record in records:
        table = Table("", "", show_header=False)
        for field, value in _as_map(DeadLetter.of(record)).items():
            table.add_row(field, "" if value is None else escape(str(value)))
        for header, value in record.headers:
            if header not in {"reason", "detail", "source"}:
                table.add_row(escape(header), escape(value.decode(errors="backslashreplace")))
        out.print(table)
    _print_contents(found, records[0].value)


def _print_contents(found: Contents, value: bytes | None) -> None:
    if value is None:
        out.print("the message has no value")
        return
    bad = [block for block in found.blocks if block.reason]
    if found.kind == "frame":
        out.print(f"a frame of {len(found.blocks):,} blocks, of which this release refuses {len(bad):,}")
    else:
        out.print(f"{found.kind}, {len(value):,} bytes")
    for block in (bad or found.blocks)[:BLOCKS_SHOWN]:
        if found.kind == "frame":
            out.print(f"block {block.number}")
        if isinstance(block.fields, dict):
            table = Table("field", "value")
            for field, shown in block.fields.items():
                table.add_row(escape(field), escape(str(shown)))
            out.print(table)
        else:
            out.print(str(block.fields), markup=False)
        verdict = f"refused: {block.reason}: {block.detail}" if block.reason else "nothing is wrong with it now"
        out.print(_short(verdict, 600), markup=False)
    if found.kind == "bytes":
        out.print(hex_dump(value, DUMPED), markup=False)


@dead_letters.command()
def replay(  # noqa: PLR0913 - an argument for each option
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="partition-offset, as list shows it.")
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Send all that the topic holds.")] = False,
    reason: ReasonOption = None,
    key: KeyOption = None,
    since: SinceOption = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was sent again before, and failed again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --all.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters again to the partitions they came from, in the order in which they came.

    Key and bytes are the original ones; a header replayed-from names the dead letter, so that one which fails again
    is known, and not sent once more unless --again is given.

    Stream time goes on meanwhile: a block from before its sensor's next sample is dropped as late, and counted as
    such. So this helps sensors whose state has not gone beyond what was refused: all of their blocks were, for a
    pipeline or rate that is known now, or they have stopped since. Good blocks of a frame are not counted twice.
    """
    if not (ids or everything or reason or key or since):
        raise DeadLetterError("nothing selected: give ids, --reason, --sensor or --since, or --all")
    if ids and everything:
        raise DeadLetterError("ids and --all: expected one of them")
    names = [parse_name(text) for text in ids or []]
    if sources := [str(name) for name in names if isinstance(name, Source)]:
        raise DeadLetterError(
            f"{sources[0]}: expected an id (partition-offset); `continuum dead-letters show {sources[0]}` tells it"
        )
    selection = _selection(reason, key, since, frozenset(name for name in names if isinstance(name, LetterId)))
    settings = load_settings()
    with _progress("reading dead letters") as on_progress:
        planned = asyncio.run(plan_replay(settings, selection, again=again, on_progress=on_progress))
    if everything and planned.letters and not (yes or dry_run):
        typer.confirm(f"Send {len(planned.letters):,} messages ({decimal(planned.bytes)}) again?", abort=True, err=True)
    sent = 0
    if planned.letters and not dry_run:
        with _progress("sending") as on_progress:
            sent = asyncio.run(send_again(settings, planned.letters, on_progress))
    _summarise(planned, sent, dry_run=dry_run, as_json=as_json)
    if Held.MISSING in planned.held.values():
        raise typer.Exit(DeadLetterError.exit_code)


def _summarise(planned: Replay, sent: int, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "dryRun": dry_run,
                "selected": len(planned.letters),
                "bytes": planned.bytes,
                "sent": sent,
                "held": {str(letter): str(why) for letter, why in sorted(planned.held.items())},
            }
        )
        return
    selected = f"{len(planned.letters):,} messages ({decimal(planned.bytes)})"
    out.print(f"would send {selected}" if dry_run else f"sent {sent:,} of {selected}")
    for why, count in planned.held_by_reason().items():
        out.print(f"held back {count:,}: {why}", markup=False)
    if Held.FAILED_AGAIN in planned.held.values():
        notes.print("--again sends those that failed again once more")


def _as_map(letter: DeadLetter) -> dict[str, Any]:
    key = None if letter.key is None else _short(letter.key.decode(errors="backslashreplace"), 300)
    return {
        "id": str(letter.id),
        "time": letter.time.isoformat(timespec="milliseconds"),
        "reason": letter.reason,
        "detail": letter.detail,
        "source": letter.origin or None,
        "key": key,
        "size": letter.size,
        "truncated": letter.truncated,
        "replayedFrom": letter.replayed_from,
    }


def _whole(record: ConsumerRecord, found: Contents) -> dict[str, Any]:
    encoded = {
        "keyBase64": None if record.key is None else base64.b64encode(record.key).decode(),
        "valueBase64": None if record.value is None else base64.b64encode(record.value).decode(),
    }
    headers = {name: value.decode(errors="backslashreplace") for name, value in record.headers}
    return {**_as_map(DeadLetter.of(record)), "headers": headers, "contents": found, **encoded}


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"

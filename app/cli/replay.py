"""`continuum replay`: a recording, played to a sensor topic by simulated sensors."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.output import JsonOption, note, notes, out, print_json
from app.cli.recording_options import ChannelOption, FileArgument, RateOption, ResampleOption
from app.dsp.pipeline import Pipeline
from app.dsp.stage import Signal
from app.kafka_client import started
from app.pipelines import known_pipelines
from app.replay import (
    Encoding,
    Plan,
    ReplayError,
    Sent,
    builtin_recording,
    check_fits,
    new_producer,
    plan_replay,
    play,
    usual_block,
)
from app.settings import Settings, TierName, load_settings
from app.sources import Recording, read_recording, resampled
from app.tiers import TIER_DEFAULTS
from app.topics import sensor_topic

#: What a shell reports for a program that Ctrl-C ended.
_INTERRUPTED = 130

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("blocks"),
    TimeElapsedColumn(),
)


def _speed(text: str) -> float:
    try:
        return math.inf if text == "max" else float(text)
    except ValueError:
        raise ReplayError(f"--speed {text}: expected a number above 0, or max") from None


def replay(  # noqa: PLR0913 - an argument for each option
    file: FileArgument = None,
    *,
    builtin: Annotated[
        bool, typer.Option("--builtin", help="Play what is built in for the pipeline: ECG, movement or reports.")
    ] = False,
    channel: ChannelOption = None,
    rate: RateOption = None,
    resample: ResampleOption = None,
    sensors: Annotated[int, typer.Option(help="Simulated sensors, each beginning elsewhere in the recording.")] = 1,
    name: Annotated[
        str | None,
        typer.Option(
            help="Sensors are called NAME-1, NAME-2, ...; else after the recording, and new ones in every replay.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="How much each sensor sends, s; else the recording once.", show_default=False)
    ] = None,
    speed: Annotated[str, typer.Option(help="Multiple of true speed, or max.")] = "1",
    block: Annotated[
        int | None,
        typer.Option(help="Samples a block; else 256, or of slow signals about a second's.", show_default=False),
    ] = None,
    encoding: Annotated[
        Encoding, typer.Option(help="json sends samples exactly; the others round them to float32.")
    ] = "json",
    tier: Annotated[TierName, typer.Option(help="Tier whose topic the sensors send to.")] = "rt",
    pipeline: Annotated[
        str | None, typer.Option(help="Pipeline the blocks ask for; else the tier's.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Play a recording to a sensor topic as many simulated sensors."""
    settings = load_settings()
    taken = _pipeline(pipeline, tier, known_pipelines(settings.pipelines))
    channels = channel or [str(number) for number in range(taken.signal.channels)]
    recording = _read(file, taken.signal, builtin=builtin, channels=channels, rate=rate, resample=resample)
    # A stream that begins at 0 again, under a known name and before its time, would be taken for a duplicate.
    name = name or f"{recording.name}-{secrets.token_hex(2)}"
    plan = plan_replay(
        recording,
        channels=[0] if len(channels) == 1 else channels,
        sensors=sensors,
        name=name,
        seconds=seconds,
        block=usual_block(taken.signal) if block is None else block,
        encoding=encoding,
        pipeline=pipeline,
    )
    check_fits(plan, taken)
    topic = sensor_topic(settings, tier)
    multiple = _speed(speed)
    sent = Sent()
    interrupted = False
    began = time.monotonic()
    with Progress(*_COLUMNS, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        task = progress.add_task(f"to {topic}", total=plan.total_blocks)

        def show(acknowledged: Sent) -> None:
            nonlocal sent
            sent = acknowledged
            progress.update(task, completed=sent.blocks)

        try:
            asyncio.run(_play(plan, settings, topic, multiple, show))
        except KeyboardInterrupt:
            interrupted = True
    _summarise(plan, topic, sent, time.monotonic() - began, interrupted=interrupted, as_json=as_json)
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


def _read(
    file: Path | None,
    signal: Signal,
    *,
    builtin: bool,
    channels: list[str],
    rate: float | None,
    resample: float | None,
) -> Recording:
    if (file is None) == (not builtin):
        raise ReplayError("nothing to play, or two things: expected either a file or --builtin")
    # An EDF file with signals of several rates is readable one channel at a time.
    only = channels[0] if len(channels) == 1 else None
    if file is None:
        recording = builtin_recording(signal)
        recording = recording if only is None else recording.only(only)
    else:
        recording = read_recording(file, sample_rate=rate, channel=only)
    return recording if resample is None else resampled(recording, resample)


def _pipeline(name: str | None, tier: TierName, known: Mapping[str, Pipeline]) -> Pipeline:
    """Give the pipeline that will take the blocks."""
    if name is not None and name not in known:
        raise ReplayError(f"--pipeline {name}: expected one of {', '.join(sorted(known))}, which workers have")
    return known[name or TIER_DEFAULTS[tier].pipeline]


async def _play(plan: Plan, settings: Settings, topic: str, speed: float, on_progress: Callable[[Sent], None]) -> None:
    async with started(new_producer(settings), settings) as producer:
        await play(plan, producer, topic, speed=speed, on_progress=on_progress)


def _summarise(plan: Plan, topic: str, sent: Sent, elapsed: float, *, interrupted: bool, as_json: bool) -> None:
    left_out = len(plan.sensors) * plan.blocks_per_sensor - plan.total_blocks
    if as_json:
        print_json(
            {
                "topic": topic,
                "sensors": len(plan.sensors),
                "names": [plan.sensors[0], plan.sensors[-1]],
                "sampleRate": plan.sample_rate,
                "block": plan.block,
                "encoding": plan.encoding,
                "blocks": sent.blocks,
                "blocksPlanned": plan.total_blocks,
                "blocksLeftOut": left_out,
                "messages": sent.messages,
                "bytes": sent.bytes,
                "seconds": elapsed,
                "interrupted": interrupted,
            }
        )
        return
    sensors = f"{len(plan.sensors):,} sensors, {plan.sensors[0]} to {plan.sensors[-1]},"
    if len(plan.sensors) == 1:
        sensors = f"sensor {plan.sensors[0]}"
    out.print(
        f"sent {sent.blocks:,} of {plan.total_blocks:,} blocks of {plan.block} samples ({plan.sample_rate:g} Hz) from"
        f" {sensors} to {topic} in {elapsed:.1f} s: {sent.blocks / elapsed:,.0f} blocks/s, {sent.bytes / 1e6:,.1f} MB",
        soft_wrap=True,
    )
    if left_out:
        out.print(f"blocks left out, as they touch invalid samples: {left_out:,}")
    if interrupted:
        note("interrupted; all that was sent is acknowledged")

"""`continuum run`: a recording through a pipeline, to a file or a pipe, without a broker."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.output import note, notes
from app.cli.recording_options import ChannelOption, FileArgument, RateOption, ResampleOption
from app.memory import keep_freed_memory
from app.run import Run, RunError, find_pipeline
from app.settings import load_settings
from app.sources import Recording, builtin_ecg, read_recording, resampled

Format = Literal["jsonl", "csv"]

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("records"),
    TimeElapsedColumn(),
)


def run(  # noqa: PLR0913 - an argument for each option
    file: FileArgument = None,
    *,
    builtin: Annotated[bool, typer.Option("--builtin", help="Run the built-in ECG, five minutes at 250 Hz.")] = False,
    pipeline: Annotated[str, typer.Option(help="Name of a pipeline, or path of a TOML file.")] = "ecg",
    channel: ChannelOption = None,
    rate: RateOption = None,
    resample: ResampleOption = None,
    block: Annotated[int, typer.Option(help="Samples a block; each block gives a record.")] = 256,
    sensor: Annotated[
        str | None, typer.Option(help="Name of the sensor in the records; else the recording's.", show_default=False)
    ] = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="jsonl is what workers send; csv has empty fields for null.")
    ] = "jsonl",
    output: Annotated[
        Path | None, typer.Option(help="File to write, or write over; else stdout.", show_default=False)
    ] = None,
) -> None:
    """Run a recording through a pipeline, without a broker."""
    keep_freed_memory()
    chosen = find_pipeline(pipeline, load_settings().pipelines)
    wanted = channel or [str(number) for number in range(chosen.signal.channels)]
    recording = _read(file, builtin=builtin, channels=wanted, rate=rate, resample=resample)
    planned = Run(chosen, recording, block, recording.name if sensor is None else sensor)
    if output and file and output.exists() and file.exists() and output.samefile(file):
        raise RunError(f"--output {output} is the recording itself; give another file")
    hidden = not notes.is_terminal or (output is None and sys.stdout.isatty())
    with Progress(*_COLUMNS, console=notes, transient=True, disable=hidden) as progress:
        task = progress.add_task(recording.name, total=planned.total_blocks - planned.left_out)

        def counted() -> Iterator[list[bytes]]:
            for records in planned.records():
                yield records
                progress.advance(task, len(records))

        _write(_as_csv(counted()) if output_format == "csv" else _as_lines(counted()), output)
    _summarise(planned)


def _read(
    file: Path | None, *, builtin: bool, channels: list[str], rate: float | None, resample: float | None
) -> Recording:
    if (file is None) == (not builtin):
        raise RunError("nothing to run, or two things: expected either a file or --builtin")
    # An EDF file with signals of several rates is readable one channel at a time.
    only = channels[0] if len(channels) == 1 else None
    if file is None:
        recording = builtin_ecg(resample or 250.0)
        recording = recording if only is None else recording.only(only)
    else:
        recording = read_recording(file, sample_rate=rate, channel=only)
    if only is None:
        signals = np.stack([recording.channel(which) for which in channels])
        recording = replace(recording, channels=tuple(channels), signals=signals)
    return recording if resample is None else resampled(recording, resample)


def _write(parts: Iterable[bytes], output: Path | None) -> None:
    try:
        if output is None:
            sys.stdout.buffer.writelines(parts)
            sys.stdout.buffer.flush()
        else:
            with output.open("wb") as file:
                file.writelines(parts)
    except BrokenPipeError:
        raise  # whoever reads has seen enough, which Typer knows how to take
    except OSError as error:
        raise RunError(
            f"{output or 'stdout'} cannot be written ({error.strerror}); make room, or give another --output"
        ) from None


def _as_lines(batches: Iterable[list[bytes]]) -> Iterator[bytes]:
    for records in batches:
        yield b"".join(record + b"\n" for record in records)


def _as_csv(batches: Iterable[list[bytes]]) -> Iterator[bytes]:
    """Write numbers so that they read back exactly."""
    header = True
    for records in batches:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for record in records:
            fields = msgspec.json.decode(record, type=dict[str, str | int | float | None])
            if header:
                writer.writerow(fields)
                header = False
            writer.writerow(fields.values())
        yield text.getvalue().encode()


def _summarise(done: Run) -> None:
    records = done.total_blocks - done.left_out
    rate = done.pipeline.signal.sample_rate
    note(
        f"{records:,} records of sensor {done.sensor}: pipeline {done.pipeline.name}, blocks of {done.block} samples at"
        f" {rate:g} Hz"
    )
    if done.left_out:
        note(f"blocks left out, as they touch invalid samples: {done.left_out:,} of {done.total_blocks:,}")

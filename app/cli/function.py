"""`continuum function`: the on-demand function on this machine, run as Lambda runs it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.live import Live
from rich.table import Table

from app.cli.interruption import told_to_stop
from app.cli.output import JsonOption, note, notes, out, print_json
from app.errors import ContinuumError
from app.serverless.environment import ExecutionEnvironment, FunctionConfig, Invocation
from app.serverless.event_source import Source
from app.serverless.poller import Batching
from app.serverless.runtime_api import MAX_PAYLOAD
from app.settings import TIERS, Settings, TierName, load_settings, tiers_in

_FAILED = 1
_Row = dict[str, Any]
_SHOW_SECONDS = 1.0
_BESIDE_WAITING = 3.0
"""Seconds that an invocation needs beside the longest wait for a sensor that another tier has."""

function = typer.Typer(no_args_is_help=True, help="The on-demand function: invoke it, or let it serve a tier, here.")

TimeoutOption = Annotated[float, typer.Option(min=1.5, help="Seconds an invocation may take, as Lambda's Timeout.")]


class FunctionInputError(ContinuumError):
    """What was given is not an event, or not a tier."""


@function.command()
def invoke(
    file: Annotated[Path, typer.Argument(help="Event of a Kafka event source, JSON; - for stdin.", allow_dash=True)],
    *,
    timeout: TimeoutOption = 30.0,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Run it here, for a debugger, not in a process of its own.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Let the function process an event, and print its response.

    Exit code 0 if it gave one, 1 if the invocation failed.
    """
    settings = load_settings()
    event = _read(file)
    logged: list[str] = []
    if in_process:
        from app.serverless.in_process import invoke_in_process  # noqa: PLC0415 - it brings the function along

        invocation = invoke_in_process(settings, event, timeout)
    else:
        log = _log(settings)
        begin = log.stat().st_size if log.exists() else 0
        invocation = asyncio.run(_invoke(FunctionConfig(settings, log, timeout), event))
        logged = log.read_bytes()[begin:].decode(errors="replace").replace("\r", "\n").splitlines()
    if as_json:
        print_json({"response": _response(invocation), **_described(invocation), "log": logged})
    else:
        for line in logged:
            note(line)
        if invocation.error is None:
            sys.stdout.write(f"{(invocation.response or b'null').decode()}\n")
        else:
            note(f"{invocation.error.error_type}: {invocation.error.error_message}")
        note(_in_words(invocation))
    if invocation.error is not None:
        sys.exit(_FAILED)


@function.command()
def serve(
    *,
    tiers: Annotated[str, typer.Option(help="Tiers whose topics the function processes, e.g. nrt,batch.")] = "batch",
    concurrency: Annotated[int, typer.Option(min=1, help="Most events processed at once.")] = 2,
    batch_size: Annotated[int, typer.Option(min=1, max=10_000, help="Most messages of an event.")] = 100,
    window: Annotated[float, typer.Option(min=0, max=300, help="Longest wait for an event to fill, s.")] = 0.5,
    timeout: TimeoutOption = 30.0,
    source: Annotated[Source, typer.Option(help="Whose events are made.")] = "self-managed",
    log_to_stderr: Annotated[
        bool, typer.Option("--log-to-stderr", help="The function's log goes there, not into a file: for containers.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Poll tiers' topics and let the function process them, until told to stop (SIGTERM or Ctrl-C).

    What is in flight then is finished and committed, or ended after CONTINUUM_SHUTDOWN_SECONDS, and comes again. With
    --json, a line of figures each second.
    """
    # The heartbeat's figures are a worker's, and bring Faust with them: a second that `invoke` does not wait for.
    from app.serverless.serving import Serving  # noqa: PLC0415

    settings = load_settings()
    if timeout < settings.handoff_wait + _BESIDE_WAITING:
        raise FunctionInputError(
            f"--timeout {timeout:g}: expected at least {settings.handoff_wait + _BESIDE_WAITING:g}, which is"
            f" CONTINUUM_HANDOFF_WAIT and {_BESIDE_WAITING:g} s more; what waits so long would come again for ever"
        )
    config = FunctionConfig(settings, None if log_to_stderr else _log(settings), timeout)
    serving = Serving(config, _tiers(tiers), Batching(batch_size, window, concurrency, source))

    def rows() -> list[_Row]:
        return [
            {"tier": name, "lag": tier.lag, "partitions": tier.partitions, **msgspec.to_builtins(tier.function)}
            for name, tier in serving.status().tiers.items()
        ]

    async def run() -> None:
        stop = told_to_stop()
        note(f"polling {tiers}" + (f"; the function's log is {config.log}" if config.log else ""))
        work = asyncio.create_task(serving.run(stop))
        with _shown(as_json=as_json) as show:
            while not work.done():
                await asyncio.wait([work], timeout=_SHOW_SECONDS)
                show(rows())
        await work

    asyncio.run(run())
    if not as_json and rows():
        out.print(_table(rows()))


@function.command()
def sample_event(
    *,
    tier: Annotated[TierName, typer.Option(help="Tier whose topic the event is from.")] = "batch",
    sensors: Annotated[int, typer.Option(min=1, help="Simulated sensors.")] = 1,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks of each sensor.")] = 1,
    samples: Annotated[int, typer.Option(min=1, help="Samples a block.")] = 256,
    pipeline: Annotated[str | None, typer.Option(help="Pipeline that the blocks name.", show_default=False)] = None,
    source: Annotated[Source, typer.Option(help="Whose event: self-managed Kafka's or Amazon MSK's.")] = "self-managed",
) -> None:
    """Print an event of simulated sensors, to invoke the function with."""
    from app.serverless import samples as made  # noqa: PLC0415 - numpy, which the others do not need

    event = made.sample_event(
        load_settings(), tier, sensors=sensors, blocks=blocks, samples=samples, pipeline=pipeline, source=source
    )
    sys.stdout.write(f"{event.decode()}\n")


def _log(settings: Settings) -> Path:
    return settings.datadir.absolute() / "logs" / "function.log"


def _tiers(text: str) -> tuple[TierName, ...]:
    if not (tiers := tiers_in(text)):
        raise FunctionInputError(f"--tiers {text}: expected one or more of {', '.join(TIERS)}, each once, with commas")
    return tiers


def _read(file: Path) -> bytes:
    try:
        event = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise FunctionInputError(f"{file} cannot be read ({error.strerror}): expected a file of an event") from None
    if len(event) > MAX_PAYLOAD:
        raise FunctionInputError(f"{file} has {len(event):,} bytes: an event has at most {MAX_PAYLOAD:,}; split it")
    try:
        msgspec.json.decode(event, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise FunctionInputError(
            f"{file} is not an event ({error}): expected a JSON object; `continuum function sample-event` makes one"
        ) from None
    return event


async def _invoke(config: FunctionConfig, event: bytes) -> Invocation:
    environment = await ExecutionEnvironment.start(config)
    try:
        return await environment.invoke(event)
    finally:
        await environment.close()


def _response(invocation: Invocation) -> Any:
    return None if invocation.response is None else msgspec.json.decode(invocation.response)


def _described(invocation: Invocation) -> dict[str, Any]:
    return {
        "error": invocation.error,
        "request_id": invocation.request_id,
        "seconds": invocation.seconds,
        "init_seconds": invocation.init_seconds,
        "memory": invocation.memory,
    }


def _in_words(invocation: Invocation) -> str:
    memory = "" if invocation.memory is None else f", {invocation.memory / (1 << 20):.0f} MiB"
    return f"{invocation.seconds * 1000:.0f} ms after a cold start of {invocation.init_seconds or 0:.2f} s{memory}"


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Callable[[list[_Row]], None]]:
    """Give what shows the figures each second: lines for machines, a table for whoever watches, nothing else."""
    if as_json:
        yield _print_rows
        return
    with Live(console=notes, transient=True, auto_refresh=False) as live:
        yield lambda rows: live.update(_table(rows), refresh=notes.is_terminal)


def _print_rows(rows: list[_Row]) -> None:
    for row in rows:
        print_json(row)


def _table(rows: list[_Row]) -> Table:
    labels = ("tier", "partitions", "invocations", "cold", "errors", "partial", "messages", "retried", "lag")
    table = Table(*labels, "p50 ms", "p99 ms", "cold s", "MiB")
    for row in rows:
        counts = ("invocations", "cold_starts", "errors", "partial", "records", "retried", "lag")
        scaled = (("p50", 1000.0, 0), ("p99", 1000.0, 0), ("init", 1.0, 2), ("memory", 1 / (1 << 20), 0))
        table.add_row(
            row["tier"],
            str(len(row["partitions"])),
            *(f"{row[name]:,}" for name in counts),
            *("–" if row[name] is None else f"{row[name] * factor:.{digits}f}" for name, factor, digits in scaled),
        )
    return table

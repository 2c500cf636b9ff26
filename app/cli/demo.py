"""`continuum demo`: the whole system on real signals, with every feature verified."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from app.cli.interruption import Interruption
from app.cli.output import note, out
from app.demo.display import latencies, latest_features, show
from app.demo.fleet import Fleet
from app.demo.session import Course, Progress, replay_and_verify
from app.demo.streams import Stream, plan_demo
from app.pipelines import known_pipelines
from app.services import temporary_services
from app.settings import Settings, TierName, load_settings
from app.topics import check_topics, create_topics, needed_topics
from app.verify import Verdict

_FAILED = 1


def demo(
    *,
    tiers: Annotated[
        str | None, typer.Option(help="Tiers to run apart, e.g. rt,nrt,batch; else one worker runs all.")
    ] = None,
    sensors: Annotated[int, typer.Option(help="Simulated sensors, each beginning elsewhere in the recording.")] = 200,
    seconds: Annotated[float, typer.Option(help="How much each sensor sends, s.")] = 120.0,
    speed: Annotated[float, typer.Option(help="Multiple of true speed.")] = 20.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave Kafka, Redis and the workers running.")] = False,
) -> None:
    """Start everything, replay real signals, and verify every feature against an offline pass.

    With --tiers each tier runs in a process of its own, the batch tier as the on-demand function; sensors of each send
    to it, and others go from tier to tier while they stream.

    Exit code 0 if every feature is there and right, 1 if not.
    """
    began = time.monotonic()
    chosen = None if tiers is None else load_settings(tiers=tiers).tiers
    streams = plan_demo(chosen or ("rt",), sensors, seconds, speed)
    datadir = load_settings().datadir
    with Interruption() as interruption, temporary_services(datadir, keep=keep, progress=note):
        passed = interruption.run(_run(load_settings(), chosen, streams, keep=keep))
    note(f"{time.monotonic() - began:.0f} s in all")
    if not passed:
        sys.exit(_FAILED)


async def _run(settings: Settings, tiers: Sequence[TierName] | None, streams: Sequence[Stream], *, keep: bool) -> bool:
    topics = needed_topics(settings, known_pipelines(settings.pipelines))
    created = await create_topics(settings, topics)
    await check_topics(settings, topics)
    note(f"created {len(created)} topics" if created else "all topics exist")
    fleet = Fleet(settings, tiers)
    try:
        # The offline pass takes a core for some seconds, which the workers' start leaves free.
        begin = time.time() * 1000
        courses, _ = await asyncio.gather(asyncio.to_thread(_courses, streams, begin), fleet.ready())
        note(f"{_ready(fleet)}; web pages at {fleet.urls}")
        passed = await _watched(settings, begin, Progress(courses), fleet)
        if keep:
            _tell_how_to_go_on(fleet)
        else:
            await fleet.stop()
        return passed
    finally:
        if not keep:
            fleet.kill()


def _courses(streams: Sequence[Stream], begin: float) -> list[Course]:
    return [Course(stream, stream.expectations(begin)) for stream in streams]


def _ready(fleet: Fleet) -> str:
    workers = f"{len(fleet.workers)} workers ready" if len(fleet.workers) > 1 else "worker ready"
    return workers + (", and the function" if fleet.functions else "")


async def _watched(settings: Settings, begin: float, progress: Progress, fleet: Fleet) -> bool:
    display = asyncio.create_task(show(progress, out, fleet.urls))
    work = asyncio.create_task(replay_and_verify(settings, begin, progress))
    ended = asyncio.create_task(fleet.one_ended())
    try:
        await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            process, how = await ended
            raise process.failed(f"{how} while blocks were sent")
        await work
    finally:
        work.cancel()
        ended.cancel()
        await asyncio.wait([work, ended])
        display.cancel()
        await display
    out.print(latest_features(progress))
    out.print(latencies(progress, fleet.runs_as))
    for course in progress.courses:
        if len(course.stream.stays) > 1:
            shares = ", ".join(f"{tier} {count:,}" for tier, count in sorted(course.by_tier.items()))
            out.print(f"{course.stream.name}: {len(course.stream.plan.sensors)} sensors, features by tier: {shares}")
    return _report([course.verifier.verdict for course in progress.courses])


def _report(verdicts: Sequence[Verdict]) -> bool:
    """Print what all records amount to, and tell whether all is right."""
    passed = all(verdict.passed for verdict in verdicts)
    faults = {
        "missing": sum(verdict.missing for verdict in verdicts),
        "wrong": sum(verdict.wrong for verdict in verdicts),
        "out of order": sum(verdict.out_of_order for verdict in verdicts),
        "unexpected": sum(verdict.unexpected for verdict in verdicts),
        "repeated with other values": sum(verdict.unlike for verdict in verdicts),
    }
    verified, expected = (sum(getattr(each, name) for each in verdicts) for name in ("verified", "expected"))
    out.print(f"[bold {'green' if passed else 'red'}]features verified {verified}/{expected}[/]")
    for fault, count in faults.items():
        if count:
            out.print(f"[red]{fault}: {count}[/]")
    if repeated := sum(verdict.repeated for verdict in verdicts):
        out.print(f"came again, alike: {repeated}")
    for verdict in verdicts:
        for example in verdict.examples:
            out.print(example, markup=False, soft_wrap=True)
    return passed


def _tell_how_to_go_on(fleet: Fleet) -> None:
    for process in fleet.processes:
        note(f"{process.kind} {process.process.pid} runs on; its log is {process.log}")
    note("feed it: continuum replay --builtin --sensors 20")
    note("stop it all: continuum down")

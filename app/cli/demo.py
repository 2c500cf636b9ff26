"""`continuum demo`: the whole system on real ECG, with every feature verified."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated

import typer

from app.cli.interruption import Interruption
from app.cli.output import note, out
from app.demo.display import latest_features, show
from app.demo.session import Progress, expectations, plan_demo, replay_and_verify
from app.pipelines import known_pipelines
from app.replay import Plan
from app.services import temporary_services
from app.settings import Settings, load_settings
from app.topics import check_topics, create_topics, needed_topics
from app.verify import FeatureVerifier, Verdict
from app.worker_process import WorkerProcess

_FAILED = 1


def demo(
    *,
    sensors: Annotated[int, typer.Option(help="Simulated sensors, each beginning elsewhere in the recording.")] = 200,
    seconds: Annotated[float, typer.Option(help="How much each sensor sends, s.")] = 120.0,
    speed: Annotated[float, typer.Option(help="Multiple of true speed.")] = 20.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave Kafka, Redis and the worker running.")] = False,
) -> None:
    """Start everything, replay real ECG, and verify every feature against an offline pass.

    Exit code 0 if every feature is there and right, 1 if not.
    """
    began = time.monotonic()
    plan = plan_demo(sensors, seconds)
    datadir = load_settings().datadir
    with Interruption() as interruption, temporary_services(datadir, keep=keep, progress=note):
        passed = interruption.run(_run(load_settings(), plan, speed, keep=keep))
    note(f"{time.monotonic() - began:.0f} s in all")
    if not passed:
        sys.exit(_FAILED)


async def _run(settings: Settings, plan: Plan, speed: float, *, keep: bool) -> bool:
    topics = needed_topics(settings, known_pipelines(settings.pipelines))
    created = await create_topics(settings, topics)
    await check_topics(settings, topics)
    note(f"created {len(created)} topics" if created else "all topics exist")
    logs = settings.datadir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    worker = WorkerProcess(settings, logs / "demo-worker.log")
    try:
        # The offline pass takes a core for some seconds, which the worker's start leaves free.
        begin = time.time() * 1000
        verifier, _ = await asyncio.gather(asyncio.to_thread(expectations, plan, begin), worker.ready())
        note(f"worker ready; web pages at {worker.url}/")
        verdict = await _watched(settings, plan, begin, verifier, speed, worker)
        if keep:
            _tell_how_to_go_on(worker)
        elif await worker.stop() != 0:
            raise worker.failed(f"{await worker.ended()}, told to stop")
        return verdict.passed
    finally:
        if not keep:
            worker.kill()


async def _watched(
    settings: Settings, plan: Plan, begin: float, verifier: FeatureVerifier, speed: float, worker: WorkerProcess
) -> Verdict:
    progress = Progress(plan.total_blocks)
    display = asyncio.create_task(show(progress, out, f"{worker.url}/"))
    work = asyncio.create_task(replay_and_verify(settings, plan, begin, verifier, speed, progress))
    ended = asyncio.create_task(worker.ended())
    try:
        await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise worker.failed(f"{await ended} while blocks were sent")
        await work
    finally:
        work.cancel()
        ended.cancel()
        await asyncio.wait([work, ended])
        display.cancel()
        await display
    out.print(latest_features(progress))
    return _report(verifier.verdict)


def _report(verdict: Verdict) -> Verdict:
    faults = {
        "missing": verdict.missing,
        "wrong": verdict.wrong,
        "out of order": verdict.out_of_order,
        "unexpected": verdict.unexpected,
        "repeated with other values": verdict.unlike,
    }
    colour = "green" if verdict.passed else "red"
    out.print(f"[bold {colour}]features verified {verdict.verified}/{verdict.expected}[/]")
    for fault, count in faults.items():
        if count:
            out.print(f"[red]{fault}: {count}[/]")
    if verdict.repeated:
        out.print(f"came again, alike: {verdict.repeated}")
    for example in verdict.examples:
        out.print(example, markup=False, soft_wrap=True)
    return verdict


def _tell_how_to_go_on(worker: WorkerProcess) -> None:
    note(f"worker {worker.process.pid} runs on; its log is {worker.log}")
    note("feed it: continuum replay --builtin --sensors 20")
    note("stop it all: continuum down")

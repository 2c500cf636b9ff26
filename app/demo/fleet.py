"""The processes of a demo: workers, and the on-demand function for reports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.own_process import OwnProcess
from app.serverless.process import FunctionProcess
from app.settings import Settings, TierName
from app.worker_process import WorkerProcess

ON_DEMAND: TierName = "batch"
"""The tier that a function serves, where the demo's tiers run apart."""

PATIENCE = 20.0
"""Longest wait for a sensor that another tier has, s: everything shares this machine, which may be a slow one."""


class Fleet:
    """What runs the tiers.

    Parameters
    ----------
    settings
        Of the demo; its processes' logs go to `logs` in the data folder.
    tiers
        Tiers that run apart, each in a process of its own; None for one worker with those of the settings.
    """

    def __init__(self, settings: Settings, tiers: Sequence[TierName] | None) -> None:
        logs = settings.datadir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        self.workers: list[WorkerProcess] = []
        self.functions: list[FunctionProcess] = []
        self.runs_as: dict[TierName, str] = dict.fromkeys(tiers or settings.tiers, "worker")
        """What runs each tier, in words."""
        try:
            if tiers is None:
                self.workers.append(WorkerProcess(settings, logs / "demo-worker.log"))
            for tier in tiers or ():
                wait = max(settings.handoff_wait, PATIENCE)
                own = settings.model_copy(update={"tiers": (tier,), "handoff_wait": wait})
                log = logs / f"demo-{tier}.log"
                if tier == ON_DEMAND:
                    self.functions.append(FunctionProcess(own, log))
                    self.runs_as[tier] = "on-demand function"
                else:
                    self.workers.append(WorkerProcess(own, log))
        except BaseException:
            self.kill()
            raise

    @property
    def processes(self) -> list[OwnProcess]:
        """All processes."""
        return [*self.workers, *self.functions]

    @property
    def urls(self) -> str:
        """Addresses of the web pages."""
        return ", ".join(f"{worker.url}/" for worker in self.workers)

    async def ready(self) -> None:
        """Wait until all tiers run.

        Raises
        ------
        ProcessFailedError
            One ended, or took too long.
        """
        await asyncio.gather(*(process.ready() for process in self.processes))

    async def one_ended(self) -> tuple[OwnProcess, str]:
        """Wait until one of them has ended, and give it and how, in words."""
        waiting = {asyncio.create_task(process.ended()): process for process in self.processes}
        try:
            (task, *_), _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return waiting[task], await task
        finally:
            for task in waiting:
                task.cancel()

    async def stop(self) -> None:
        """Stop all.

        Raises
        ------
        ProcessFailedError
            One did not end with 0.
        """
        codes = await asyncio.gather(*(process.stop() for process in self.processes))
        for process, code in zip(self.processes, codes, strict=True):
            if code != 0:
                raise process.failed(f"{await process.ended()}, told to stop")

    def kill(self) -> None:
        """End at once what still runs."""
        for process in self.processes:
            process.kill()

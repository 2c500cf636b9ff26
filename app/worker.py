"""The worker process: what `faust -A app worker` and `continuum worker` run."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from typing import Any, NoReturn, cast

import faust

from app.errors import ContinuumError
from app.faust_app import ContinuumApp
from app.memory import collect_less_often, keep_freed_memory
from app.preflight import check_before_start
from app.runtime.instance import claim_instance
from app.web.address import bind

UNFINISHED_EXIT = 1


class Worker(faust.Worker):
    """Faust's worker, with an identity of its own, checks before the start, and an end in time."""

    app: ContinuumApp

    def __init__(self, app: ContinuumApp, *args: Any, **kwargs: Any) -> None:
        settings = app.settings
        try:
            self.instance = claim_instance(settings)
            app.web_socket = bind(settings.web_host, settings.web_port)
        except ContinuumError as error:
            _refuse(error)
        app.conf.datadir = self.instance.folder
        app.conf.consumer_group_instance_id = self.instance.name
        app.conf.web_port = app.web_socket.getsockname()[1]
        app.on_given_up = partial(_end_unfinished, "the brokers did not answer in time")
        app.web_url = f"http://{settings.web_host}:{app.conf.web_port}"
        self.instance.announce(app.web_url)
        # Faust's assignor knows members by this address. Kafka hands a static member that comes back its old
        # assignment, so the address must be the old one too, whatever port the pages have got this time.
        app.conf.canonical_url = cast("Any", f"http://{self.instance.name}")
        keep_freed_memory()
        collect_less_often()
        super().__init__(app, *args, **kwargs)

    def execute_from_commandline(self) -> NoReturn:
        """Check that the worker may run, then run it until it is told to stop."""
        try:
            self.loop.run_until_complete(check_before_start(self.app))
        except ContinuumError as error:
            _refuse(error)
        super().execute_from_commandline()

    async def on_startup_finished(self) -> None:
        """Say that the worker is ready, and where to see it."""
        await super().on_startup_finished()
        self.log.info("web pages at %s/", self.app.web_url)

    def _schedule_shutdown(self, signal: Any) -> None:
        # Faust waits for its services without end. What a deadline cuts off has not been committed.
        seconds = self.app.settings.shutdown_seconds
        overdue = threading.Timer(seconds, _end_unfinished, [f"not stopped {seconds} s after the signal"])
        overdue.daemon = True
        overdue.start()
        super()._schedule_shutdown(signal)


def _end_unfinished(why: str) -> NoReturn:
    sys.stderr.write(f"continuum: {why}; exiting with {UNFINISHED_EXIT}. What was not committed will be read again\n")
    sys.stderr.flush()
    os._exit(UNFINISHED_EXIT)


def _refuse(error: ContinuumError) -> NoReturn:
    sys.stderr.write(f"error: {error}\n")
    raise SystemExit(error.exit_code)

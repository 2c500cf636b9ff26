"""Execution environments: child processes that run the function's handler, each one event at a time.

What Lambda does with them is done here with real processes of Amazon's runtime interface client: a cold start where
none is free, reuse where one is, the end of one whose invocation takes too long, and its report where it dies.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from signal import Signals
from typing import IO, Self

from app.errors import ContinuumError
from app.serverless.runtime_api import FUNCTION_NAME, FUNCTION_VERSION, InvocationError, RuntimeApi
from app.settings import PREFIX, Settings, as_environment

HANDLER = "app.serverless.handler.handler"
ROOT = Path(__file__).parents[2]

INIT_SECONDS = 60.0
"""Longest wait for a runtime's first question. Lambda has 10 s for it; a busy developer's machine may need more."""

MEMORY_MB = 1024
"""What the handler is told of the memory it has; nothing here holds it to that."""

_STDERR = 2


class FunctionMissingError(ContinuumError):
    """Amazon's runtime interface client is not installed."""


@dataclass(frozen=True)
class FunctionConfig:
    """A function and how it is run.

    Parameters
    ----------
    settings
        Of the function.
    log
        File that the output of its processes is appended to; None for this process's own standard error.
    timeout
        Seconds an invocation may take.
    handler
        Module and name of the handler, with a dot between.
    python, root
        Interpreter, and folder of the code: where the processes run.
    """

    settings: Settings
    log: Path | None
    timeout: float = 30.0
    handler: str = HANDLER
    python: str = sys.executable
    root: Path = ROOT

    def __post_init__(self) -> None:
        if self.python == sys.executable and find_spec("awslambdaric") is None:
            raise FunctionMissingError(
                "no module awslambdaric, Amazon's runtime for functions in Python: pip install awslambdaric"
            )

    def output(self) -> AbstractContextManager[IO[bytes] | int]:
        """Open what the output of a process goes to."""
        if self.log is None:
            return nullcontext(_STDERR)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return self.log.open("ab")

    def environment(self, api: str) -> dict[str, str]:
        """Environment variables of a process whose Runtime API has an address."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "AWS_LAMBDA_"))}
        initialization = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        return {
            **inherited,
            **as_environment(self.settings),
            "AWS_LAMBDA_RUNTIME_API": api,
            "AWS_LAMBDA_FUNCTION_NAME": FUNCTION_NAME,
            "AWS_LAMBDA_FUNCTION_VERSION": FUNCTION_VERSION,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MB),
            "AWS_LAMBDA_INITIALIZATION_TYPE": initialization,
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{FUNCTION_NAME}",
            "AWS_LAMBDA_LOG_STREAM_NAME": f"local/[{FUNCTION_VERSION}]{api}",
            "LAMBDA_TASK_ROOT": str(self.root),
            "_HANDLER": self.handler,
        }


@dataclass(frozen=True)
class Invocation:
    """An invocation that has ended.

    Attributes
    ----------
    request_id
        Its name, as the handler's context has it too.
    response
        JSON that the handler returned; None where there is an error.
    error
        What went wrong.
    seconds
        From the event's delivery to the answer, without the cold start.
    init_seconds
        What the cold start took; None in an environment that was warm.
    memory
        Most memory that the process has had so far, bytes; None where the system does not tell.
    """

    request_id: str
    response: bytes | None
    error: InvocationError | None
    seconds: float
    init_seconds: float | None
    memory: int | None


class ExecutionEnvironment:
    """A process that runs the handler, and its Runtime API; made by `start`.

    Parameters
    ----------
    function
        What it runs.
    api
        Which the process speaks to.
    process
        Just started.
    """

    def __init__(self, function: FunctionConfig, api: RuntimeApi, process: asyncio.subprocess.Process) -> None:
        self._function = function
        self._api = api
        self._process = process
        self._started = time.perf_counter()
        self._init_seconds: float | None = None

    @classmethod
    async def start(cls, function: FunctionConfig) -> Self:
        """Start a process; it initialises itself while its first event is on its way."""
        api = RuntimeApi()
        await api.start()
        with function.output() as output:
            process = await asyncio.create_subprocess_exec(
                function.python,
                "-m",
                "awslambdaric",
                function.handler,
                env=function.environment(api.address),
                cwd=function.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that Ctrl-C does not end what is still to be finished
            )
        return cls(function, api, process)

    async def close(self) -> None:
        """End the process and its Runtime API."""
        await self._end()
        await self._api.stop()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can take another event."""
        return self._process.returncode is None

    async def invoke(self, event: bytes) -> Invocation:
        """Let the handler process an event.

        Parameters
        ----------
        event
            JSON, at most `MAX_PAYLOAD` bytes.

        Returns
        -------
        What became of it. After an error of which the process died, or for which it was killed, `alive` is False.
        """
        cold = self._init_seconds is None
        error = await self._initialised() if cold else None
        if error is not None:
            return self._ended("", None, error, 0.0, cold=cold)
        timeout = self._function.timeout
        began = time.perf_counter()
        request_id, answer = self._api.give(event, timeout)
        died = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait((answer, died), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            died.cancel()
        seconds = time.perf_counter() - began
        if answer.done():
            return self._ended(request_id, answer.result().response, answer.result().error, seconds, cold=cold)
        if self.alive:
            message = f"RequestId: {request_id} Error: Task timed out after {timeout:.2f} seconds"
            error = InvocationError(message, "Sandbox.Timedout")
        else:
            error = self._exit_error(request_id)
        invocation = self._ended(request_id, None, error, seconds, cold=cold)
        await self._end()
        return invocation

    async def _initialised(self) -> InvocationError | None:
        """Wait until the runtime asks for its first event; give what was wrong where it never does."""
        asked = asyncio.create_task(self._api.asked.wait())
        died = asyncio.create_task(self._process.wait())
        try:
            await asyncio.wait((asked, died), timeout=INIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            died.cancel()
        self._init_seconds = time.perf_counter() - self._started
        if self._api.asked.is_set():
            return None
        if not self.alive:
            return self._api.init_error or self._exit_error("")
        await self._end()
        return InvocationError(f"Initialisation timed out after {INIT_SECONDS:.2f} seconds", "Sandbox.Timedout")

    def _ended(
        self, request_id: str, response: bytes | None, error: InvocationError | None, seconds: float, *, cold: bool
    ) -> Invocation:
        init = self._init_seconds if cold else None
        return Invocation(request_id, response, error, seconds, init, _peak_memory(self._process.pid))

    def _exit_error(self, request_id: str) -> InvocationError:
        code = self._process.returncode or 0
        how = f"signal: {Signals(-code).name}" if code < 0 else f"exit status {code}"
        return InvocationError(f"RequestId: {request_id} Error: Runtime exited with error: {how}", "Runtime.ExitError")

    async def _end(self) -> None:
        if self.alive:
            self._process.kill()
        await self._process.wait()


class Environments:
    """As many environments as events are processed at once, up to a limit; kept and used again.

    Parameters
    ----------
    function
        What they run.
    limit
        Most environments; further events wait.
    """

    def __init__(self, function: FunctionConfig, limit: int) -> None:
        self._function = function
        self._free = asyncio.Semaphore(limit)
        self._warm: list[ExecutionEnvironment] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._warm:
            await self._warm.pop().close()

    async def invoke(self, event: bytes) -> Invocation:
        """Let the function process an event, in an environment that is warm if one is free."""
        async with self._free:
            environment = await self._warm_or_new()
            try:
                invocation = await environment.invoke(event)
            except BaseException:  # cancelled: the handler is at work still, and would be in the next event's way
                await environment.close()
                raise
            if environment.alive:
                self._warm.append(environment)
            else:
                await environment.close()
            return invocation

    async def _warm_or_new(self) -> ExecutionEnvironment:
        while self._warm:
            environment = self._warm.pop()  # the one used last, so that some stay idle
            if environment.alive:
                return environment
            await environment.close()
        return await ExecutionEnvironment.start(self._function)


def _peak_memory(pid: int) -> int | None:
    """Most memory that a process has had; None once it has died, or where there is no procfs."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)

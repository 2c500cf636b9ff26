"""A local AWS Lambda Runtime API: what a runtime asks for its next event, and tells what became of it.

One server belongs to one execution environment, as in Lambda. The paths, headers and status codes are those that AWS
documents (version 2018-06-01), so that Amazon's own runtime interface client for Python runs a handler against it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from typing import NamedTuple

import msgspec
from aiohttp import web

VERSION = "2018-06-01"
FUNCTION_NAME = "continuum"
FUNCTION_VERSION = "$LATEST"
FUNCTION_ARN = f"arn:aws:lambda:local:000000000000:function:{FUNCTION_NAME}"

MAX_PAYLOAD = 6 << 20
"""Bytes of an event or of a response, at most: Lambda's quota for synchronous invocations."""

ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"


class InvocationError(msgspec.Struct, frozen=True, rename="camel"):
    """What went wrong with an invocation, as the runtime reports it or as Lambda itself would."""

    error_message: str = ""
    error_type: str = ""
    stack_trace: list[str] = []


class Answer(NamedTuple):
    """What became of an event: exactly one of the two."""

    response: bytes | None
    """JSON that the handler returned."""
    error: InvocationError | None


class _Event(NamedTuple):
    request_id: str
    body: bytes
    deadline: float
    answer: asyncio.Future[Answer]


class RuntimeApi:
    """The server of one execution environment, which has at most one event in hand."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """Set once the runtime has asked for its first event: its initialisation is over."""
        self.init_error: InvocationError | None = None
        """Why the runtime could not be initialised, where it said so."""
        self._waiting: asyncio.Queue[_Event] = asyncio.Queue()
        self._in_hand: _Event | None = None
        application = web.Application(client_max_size=MAX_PAYLOAD)
        runtime = f"/{VERSION}/runtime"
        application.add_routes(
            [
                web.get(f"{runtime}/invocation/next", self._next),
                web.post(f"{runtime}/invocation/{{request_id}}/response", self._response),
                web.post(f"{runtime}/invocation/{{request_id}}/error", self._error),
                web.post(f"{runtime}/init/error", self._init_error),
            ]
        )
        # A runtime that asks for its next event when the server stops gets none. (0 would be to wait for ever.)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01)

    async def start(self) -> None:
        """Begin to serve, on a free port of the loopback interface."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()

    async def stop(self) -> None:
        """Serve no longer."""
        await self._runner.cleanup()

    @property
    def address(self) -> str:
        """Host and port, as `AWS_LAMBDA_RUNTIME_API` takes them."""
        host, port = self._runner.addresses[0][:2]
        return f"{host}:{port}"

    def give(self, body: bytes, timeout: float) -> tuple[str, asyncio.Future[Answer]]:
        """Give the runtime an event.

        Parameters
        ----------
        body
            JSON of the event.
        timeout
            Seconds that the handler is told it has.

        Returns
        -------
        The request id, and what becomes of the event; nothing ever does if the runtime dies.
        """
        request_id = str(uuid.uuid4())
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait(_Event(request_id, body, time.time() + timeout, answer))
        return request_id, answer

    async def _next(self, _: web.Request) -> web.Response:
        self.asked.set()
        event = self._in_hand = await self._waiting.get()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": event.request_id,
            "Lambda-Runtime-Deadline-Ms": str(round(event.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)};Sampled=0",
        }
        return web.Response(body=event.body, content_type="application/json", headers=headers)

    async def _response(self, request: web.Request) -> web.Response:
        event = self._event_of(request)
        if event is None:
            return _refused(400, "InvalidRequestID", "Invalid request ID")
        try:
            response = await request.read()
        except web.HTTPRequestEntityTooLarge:
            message = f"Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD} bytes)."
            self._settle(event, Answer(None, InvocationError(message, "Function.ResponseSizeTooLarge")))
            return _refused(413, "RequestEntityTooLarge", message)
        self._settle(event, Answer(response, None))
        return _accepted()

    async def _error(self, request: web.Request) -> web.Response:
        event = self._event_of(request)
        if event is None:
            return _refused(400, "InvalidRequestID", "Invalid request ID")
        self._settle(event, Answer(None, await _reported(request)))
        return _accepted()

    async def _init_error(self, request: web.Request) -> web.Response:
        self.init_error = await _reported(request)
        return _accepted()

    def _event_of(self, request: web.Request) -> _Event | None:
        event = self._in_hand
        return event if event is not None and event.request_id == request.match_info["request_id"] else None

    def _settle(self, event: _Event, answer: Answer) -> None:
        self._in_hand = None
        if not event.answer.done():  # nobody waits any longer for what comes after the time limit
            event.answer.set_result(answer)


async def _reported(request: web.Request) -> InvocationError:
    """Read what a runtime says went wrong; the header names the error's type where the body does not."""
    try:
        error = msgspec.json.decode(await request.read(), type=InvocationError)
    except msgspec.DecodeError as problem:
        error = InvocationError(f"the runtime's report of an error cannot be read: {problem}")
    return error if error.error_type else msgspec.structs.replace(error, error_type=request.headers.get(ERROR_TYPE, ""))


def _accepted() -> web.Response:
    return web.json_response({"status": "OK"}, status=202)


def _refused(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"errorType": kind, "errorMessage": message}, status=status)

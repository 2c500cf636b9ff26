"""`POST /v1/blocks`: blocks over HTTP, answered once Kafka has them."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from app import metrics
from app.ingest.check import Checked, Checker, Refused
from app.ingest.content import MAX_BLOCKS, as_message, split
from app.ingest.errors import UnavailableError
from app.ingest.routes import Routes
from app.ingest.sender import Outgoing, Sender
from app.settings import TIERS, TierName
from app.topics import sensor_topic
from app.wire.reasons import LONGEST_DETAIL, Rejected

if TYPE_CHECKING:
    from app.faust_app import ContinuumApp

MAX_BODY = 2 << 20
"""Bytes of a request's body: the largest block as JSON, or a thousand usual ones."""

MOST_UNDER_WAY = 32 << 20
"""Bytes of requests that are not answered, or whose blocks Kafka does not have, at a time."""

BODY_SECONDS, ANSWER_SECONDS, STOP_SECONDS = 20.0, 10.0, 2.0
"""Longest waits: for a request's body, for Redis and Kafka, and for what is still under way when the worker stops."""

_LATER = {"Retry-After": "1"}

#: None is among those that a page of another site may send without asking.
CONTENT_TYPES = ("application/json", "application/msgpack", "application/vnd.msgpack", "application/x-msgpack")


class _Refusal(Exception):  # noqa: N818 - not an error of ours: an answer
    """A request that is refused as a whole."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = {401: {"WWW-Authenticate": "Bearer"}, 408: _LATER, 429: _LATER, 503: _LATER}.get(status)


class BlockIntake:
    """Takes blocks for the worker's application.

    Parameters
    ----------
    app
        Names topics, pipelines and Redis; the token is in its settings.
    """

    def __init__(self, app: ContinuumApp) -> None:
        self._app = app
        self._checker = Checker(app.pipelines, Routes(app.redis, app.settings.topic_prefix))
        self._sender = Sender(app.settings, "ingest")
        self._open = 0
        """Bytes of the requests in hand."""

    async def stop(self) -> None:
        """Send what is under way, and stop."""
        await self._sender.stop(STOP_SECONDS)

    async def post(self, request: web.Request) -> web.Response:
        """Answer a request."""
        try:
            return await self._respond(request)
        except _Refusal as refusal:
            return _json(refusal.status, {"error": refusal.text}, refusal.headers)

    async def _respond(self, request: web.Request) -> web.Response:
        self._check_sender(request)
        if request.content_type not in CONTENT_TYPES:
            raise _Refusal(415, f"content type {request.content_type}: expected one of {', '.join(CONTENT_TYPES)}")
        tier = request.query.get("tier")
        if (tier is not None and tier not in TIERS) or set(request.query) - {"tier"}:
            raise _Refusal(400, f"query {request.query_string}: expected none, or tier={', tier='.join(TIERS)}")
        size = request.content_length
        if size is None or "Content-Encoding" in request.headers:
            size = MAX_BODY  # what is compressed may become as much as is taken at all
        if size > MAX_BODY:
            raise _too_large()
        if (under_way := self._open + self._sender.under_way) + size > MOST_UNDER_WAY:
            raise _Refusal(429, f"{under_way} bytes are under way already: send the same blocks again later")
        self._open += size
        try:
            return await self._take(await _read(request), tier)
        finally:
            self._open -= size

    def _check_sender(self, request: web.Request) -> None:
        """Refuse whoever may not send; without a token only this machine may, and no page of another site."""
        token = self._app.settings.web_token
        if token is not None:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            expected = token.get_secret_value().encode()
            # Header values may hold any bytes.
            if hmac.compare_digest(given.encode(errors="surrogateescape"), expected) and scheme.lower() == "bearer":
                return
            raise _Refusal(
                401, "no token, or not that of CONTINUUM_WEB_TOKEN: expected the header Authorization: Bearer <token>"
            )
        address = self._app.web_socket.getsockname()[0]
        if not _is_loopback(address):
            raise _Refusal(
                403,
                f"the worker listens on {address} and has no token: set CONTINUUM_WEB_TOKEN for it, or"
                " CONTINUUM_WEB_HOST=127.0.0.1",
            )
        # A name that a page's own server points at this machine makes the page's requests ones to its own site.
        host = request.url.host or ""
        if host != "localhost" and not _is_loopback(host):
            raise _Refusal(403, f"host {host!r}: without CONTINUUM_WEB_TOKEN, expected localhost or a loopback address")

    async def _take(self, content: bytes, tier: TierName | None) -> web.Response:
        try:
            values = split(content)
        except Rejected as rejected:
            return _answer(0, [Refused(0, None, rejected.reason, rejected.detail, content)])
        if len(values) > MAX_BLOCKS:
            raise _Refusal(413, f"{len(values)} blocks: expected at most {MAX_BLOCKS} a request")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                checked = await self._checker.check(values, tier)
                await self._sender.send(self._records(checked))
        except UnavailableError as error:
            raise _Refusal(503, str(error)) from error
        except TimeoutError:
            raise _Refusal(
                503,
                f"Kafka and Redis have not answered within {ANSWER_SECONDS:g} s: send the same blocks again later;"
                " those that it took all the same are known by their seq or timestamp, and dropped",
            ) from None
        for block in checked.accepted:
            metrics.INGEST_BLOCKS.labels("http", block.tier).inc()
        return _answer(len(checked.accepted), checked.refused)

    def _records(self, checked: Checked) -> Iterable[Outgoing]:
        for block in checked.accepted:
            topic = sensor_topic(self._app.settings, block.tier)
            yield Outgoing(topic, block.sensor_id.encode(), as_message(block.value), [])


async def _read(request: web.Request) -> bytes:
    """Read a body, which may turn out too large however few bytes of it are sent, as it may be compressed."""
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.content.iter_any():
                content += piece
                if len(content) > MAX_BODY:
                    raise _too_large()
    except web.RequestPayloadError as error:
        raise _Refusal(400, f"the body cannot be read ({error}): expected it as Content-Encoding says") from None
    except TimeoutError:
        raise _Refusal(408, f"no whole body within {BODY_SECONDS:g} s") from None
    return bytes(content)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _answer(accepted: int, refused: Sequence[Refused]) -> web.Response:
    for block in refused:
        metrics.INGEST_REFUSED.labels("http", block.reason).inc()
    errors = [
        {
            "index": block.place,
            "sensorId": block.sensor_id,
            "reason": block.reason,
            "detail": block.detail[:LONGEST_DETAIL],
        }
        for block in refused
    ]
    return _json(422 if refused else 202, {"accepted": accepted, "refused": len(refused), "errors": errors})


def _too_large() -> _Refusal:
    return _Refusal(413, f"the body is too large: expected at most {MAX_BODY} bytes; send the blocks in several")


def _json(status: int, value: object, headers: Mapping[str, str] | None = None) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)

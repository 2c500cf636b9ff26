"""Commands as Redis reads them: many arguments packed at once, and sent past the client's own packing.

The client packs a command argument by argument, which for a script over many sensors costs more than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ResponseError

from app.redis_client import REDIS_ERRORS

_CACHED_LENGTHS = 1 << 16


class _Heads(dict[int, bytes]):
    """What goes between two arguments, by the length of the second."""

    def __missing__(self, length: int) -> bytes:
        head = b"\r\n$%d\r\n" % length
        if length < _CACHED_LENGTHS:
            self[length] = head
        return head


_heads = _Heads()


def encoded(*values: bytes | str | float) -> tuple[bytes, ...]:
    """Give values as arguments of a command."""
    return tuple(value if isinstance(value, bytes) else str(value).encode() for value in values)


def packed(arguments: Sequence[bytes]) -> bytes:
    """Pack a command, its name first."""
    pieces: list[bytes] = [b""] * (2 * len(arguments) + 2)
    pieces[0] = b"*%d" % len(arguments)
    pieces[1:-1:2] = map(_heads.__getitem__, map(len, arguments))
    pieces[2:-1:2] = arguments
    pieces[-1] = b"\r\n"
    return b"".join(pieces)


async def ask(redis: Redis, commands: Sequence[bytes]) -> list[Any]:
    """Send packed commands together, again if the connection turns out to be closed.

    Returns
    -------
    list
        The answer to each, or the error where Redis refused it.

    Raises
    ------
    REDIS_ERRORS
        Redis did not answer.
    """
    pool = redis.connection_pool
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]

    async def attempt() -> list[Any]:
        await connection.send_packed_command(commands)
        return [await _answer_or(ResponseError, connection) for _ in commands]

    try:
        return cast(
            "list[Any]", await connection.retry.call_with_retry(attempt, lambda _error: connection.disconnect())
        )
    finally:
        await pool.release(connection)


async def ask_node(node: ClusterNode, commands: Sequence[bytes]) -> list[Any]:
    """Send packed commands to a node of a cluster; gives the answer to each, or the error."""
    connection = node.acquire_connection()
    try:
        await node.disconnect_if_needed(connection)
        await connection.send_packed_command(commands)
        return [await _answer_or(REDIS_ERRORS, connection) for _ in commands]
    except REDIS_ERRORS as error:
        return [error] * len(commands)
    finally:
        node.release(connection)


async def _answer_or(errors: type[Exception] | tuple[type[Exception], ...], connection: Any) -> Any:
    try:
        return await connection.read_response()
    except errors as error:
        return error

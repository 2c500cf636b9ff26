"""Lua scripts that serve many sensors, in as few calls as the kind of Redis allows."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError, TryAgainError

from app.mirror.wire import ask, ask_node, packed
from app.redis_client import REDIS_ERRORS, RedisClient, learn_nodes, may_have_lost_writes

SENSORS_A_CALL = 100
"""Redis serves nobody else during a script: this many saves take it some 2 ms."""

SENSORS_TOGETHER = 500
"""Of these the calls are packed and sent in one go: saves of that many hold up the event loop for some 3 ms."""

_MOVED = (AskError, MovedError, TryAgainError)


@cache
def _text_of(name: str) -> bytes:
    return files(__package__).joinpath(f"{name}.lua").read_bytes()


class Call(NamedTuple):
    """One sensor's part of a script's input."""

    keys: Sequence[bytes]
    """On one node of a cluster."""
    arguments: Sequence[bytes]


class Script:
    """A script of this package, ``<name>.lua``: takes keys and arguments of many sensors, gives one value for each.

    A single Redis runs one script for up to 100 sensors. In a cluster a script may touch one node's keys only, so
    there is one a sensor, all that go to a node together; nodes that do not answer do not spoil the others' results.

    Parameters
    ----------
    redis
        Client that gives bytes.
    name
        Of the file, without its ending.
    """

    def __init__(self, redis: RedisClient, name: str) -> None:
        self._redis = redis
        self._text = _text_of(name)
        self._sha = hashlib.sha1(self._text).hexdigest().encode()  # noqa: S324 - Redis's name for it

    async def __call__(self, calls: Sequence[Call]) -> list[Any]:
        """Run it; gives a value for each call, in order: an exception where Redis refused it or did not answer."""
        results: list[Any] = []
        for start in range(0, len(calls), SENSORS_TOGETHER):
            results += await self._together(calls[start : start + SENSORS_TOGETHER])
        return results

    async def _together(self, calls: Sequence[Call]) -> list[Any]:
        try:
            if isinstance(self._redis, RedisCluster):
                return await self._by_node(self._redis, calls)
            return await self._by_call(self._redis, calls)
        except REDIS_ERRORS as error:
            return [error] * len(calls)

    async def _by_call(self, redis: Redis, calls: Sequence[Call]) -> list[Any]:
        parts = [calls[start : start + SENSORS_A_CALL] for start in range(0, len(calls), SENSORS_A_CALL)]
        answers = await ask(redis, [self._packed(part) for part in parts])
        results: list[Any] = []
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        for number in unknown:  # it was flushed, restarted, or has never seen it; now it knows it
            (answers[number],) = await ask(redis, [self._packed(parts[number], with_text=True)])
        for part, answer in zip(parts, answers, strict=True):
            if type(answer) is ResponseError and len(part) > 1:
                # Something under one of the keys is not ours: the others must not suffer.
                results += [result for call in part for result in await self._by_call(redis, [call])]
            elif isinstance(answer, Exception):
                results += [answer] * len(part)
            else:
                results += answer
        return results

    def _command(self, calls: Sequence[Call], *, with_text: bool = False) -> list[bytes]:
        keys = [key for call in calls for key in call.keys]
        script = (b"EVAL", self._text) if with_text else (b"EVALSHA", self._sha)
        return [*script, b"%d" % len(keys), *keys, *chain.from_iterable(call.arguments for call in calls)]

    def _packed(self, calls: Sequence[Call], *, with_text: bool = False) -> bytes:
        return packed(self._command(calls, with_text=with_text))

    async def _by_node(self, redis: RedisCluster, calls: Sequence[Call]) -> list[Any]:
        numbers: defaultdict[ClusterNode, list[int]] = defaultdict(list)
        await redis.initialize()
        for number, call in enumerate(calls):
            numbers[cast("ClusterNode", redis.get_node_from_key(call.keys[0]))].append(number)  # type: ignore[arg-type]
        results: list[Any] = [None] * len(calls)
        answers = await asyncio.gather(
            *(self._of_node(redis, node, [calls[n] for n in own]) for node, own in numbers.items())
        )
        for own, answer in zip(numbers.values(), answers, strict=True):
            for number, result in zip(own, answer, strict=True):
                results[number] = result
        # Afterwards, as the client may close all connections when it learns where slots are now.
        for number, result in enumerate(results):
            if isinstance(result, _MOVED):
                results[number] = await self._elsewhere(redis, calls[number])
        return results

    async def _of_node(self, redis: RedisCluster, node: ClusterNode, calls: Sequence[Call]) -> list[Any]:
        answers = await ask_node(node, [self._packed([call]) for call in calls])
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            again = await ask_node(node, [self._packed([calls[number]], with_text=True) for number in unknown])
            for number, answer in zip(unknown, again, strict=True):
                answers[number] = answer
        if any(isinstance(answer, Exception) and may_have_lost_writes(answer) for answer in answers):
            await learn_nodes(redis)
        return [answer[0] if isinstance(answer, list) else answer for answer in answers]

    async def _elsewhere(self, redis: RedisCluster, call: Call) -> Any:
        """Run it for a sensor whose slot has moved: the client follows it, and learns where it is now."""
        _, *arguments = self._command([call], with_text=True)
        try:
            (result,) = await redis.execute_command("EVAL", *arguments)
        except REDIS_ERRORS as error:
            return error
        return result

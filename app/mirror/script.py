"""Lua scripts that serve many sensors, in as few calls as the kind of Redis allows."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from app.redis_client import REDIS_ERRORS, RedisClient, learn_nodes, may_have_lost_writes

SENSORS_A_CALL = 200
"""Redis serves nobody else during a script: this many saves take it some 4 ms."""


class Call(NamedTuple):
    """One sensor's part of a script's input."""

    keys: Sequence[str]
    """On one node of a cluster."""
    arguments: Sequence[Any]


class Script:
    """A script of this package, ``<name>.lua``: takes keys and arguments of many sensors, gives one value for each.

    A single Redis runs one script for up to 200 sensors. In a cluster a script may touch one node's keys only, so
    there is one a sensor, in one pipeline a node; nodes that do not answer do not spoil the others' results.

    Parameters
    ----------
    redis
        Client that gives bytes.
    name
        Of the file, without its ending.
    """

    def __init__(self, redis: RedisClient, name: str) -> None:
        self._redis = redis
        self._text = files(__package__).joinpath(f"{name}.lua").read_text()
        self._sha = hashlib.sha1(self._text.encode()).hexdigest()  # noqa: S324 - Redis's name for it

    async def __call__(self, calls: Sequence[Call]) -> list[Any]:
        """Run it; gives a value for each call, in order: an exception where Redis refused it or did not answer."""
        results: list[Any] = []
        for start in range(0, len(calls), SENSORS_A_CALL):
            some = calls[start : start + SENSORS_A_CALL]
            if isinstance(self._redis, RedisCluster):
                results += await self._by_node(self._redis, some)
            else:
                results += await self._at_once(self._redis, some)
        return results

    async def _at_once(self, redis: Redis, calls: Sequence[Call]) -> list[Any]:
        keys = [key for call in calls for key in call.keys]
        arguments = [argument for call in calls for argument in call.arguments]
        try:
            try:
                results = await redis.evalsha(self._sha, len(keys), *keys, *arguments)
            except NoScriptError:  # it was flushed, restarted, or has never seen it; now it knows it
                results = await redis.eval(self._text, len(keys), *keys, *arguments)
        except REDIS_ERRORS as error:
            if type(error) is ResponseError and len(calls) > 1:
                # Something under one of the keys is not ours: the others must not suffer.
                return [result for call in calls for result in await self._at_once(redis, [call])]
            return [error] * len(calls)
        return cast("list[Any]", results)

    async def _by_node(self, redis: RedisCluster, calls: Sequence[Call]) -> list[Any]:
        nodes: defaultdict[str, list[int]] = defaultdict(list)
        try:
            await redis.initialize()
            for number, call in enumerate(calls):
                nodes[redis.get_node_from_key(call.keys[0]).name].append(number)  # type: ignore[union-attr]
        except REDIS_ERRORS as error:
            return [error] * len(calls)
        results: list[Any] = [None] * len(calls)
        answers = await asyncio.gather(*(self._pipeline(redis, [calls[n] for n in own]) for own in nodes.values()))
        for own, answer in zip(nodes.values(), answers, strict=True):
            for number, result in zip(own, answer, strict=True):
                results[number] = result
        return results

    async def _pipeline(self, redis: RedisCluster, calls: Sequence[Call]) -> list[Any]:
        results = await self._send(redis, "EVALSHA", self._sha, calls)
        unknown = [number for number, result in enumerate(results) if isinstance(result, NoScriptError)]
        if unknown:
            again = await self._send(redis, "EVAL", self._text, [calls[number] for number in unknown])
            for number, result in zip(unknown, again, strict=True):
                results[number] = result
        return results

    async def _send(self, redis: RedisCluster, command: str, script: str, calls: Sequence[Call]) -> list[Any]:
        pipeline = redis.pipeline()
        for call in calls:
            pipeline.execute_command(command, script, len(call.keys), *call.keys, *call.arguments)
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except REDIS_ERRORS as error:
            answers = [error] * len(calls)
        if any(isinstance(answer, Exception) and may_have_lost_writes(answer) for answer in answers):
            await learn_nodes(redis)
        return [answer[0] if isinstance(answer, list) else answer for answer in answers]

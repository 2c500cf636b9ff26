"""The definitions of pipelines by fingerprint, kept so that one that has been changed can still be run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import cast

from mode import Service

from app.dsp.errors import PipelineError
from app.dsp.pipeline import Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.mirror.keys import pipeline_key
from app.redis_client import REDIS_ERRORS, RedisClient

logger = logging.getLogger(__name__)

REGISTER_SECONDS = 60.0
"""How often they are written to Redis, which may have been down, or have lost them."""

ANSWER_SECONDS = 2.0


class Definitions(Service):
    """Keeps the TOML text of this worker's pipelines in Redis and in the data folder, and finds others' there.

    Parameters
    ----------
    redis, prefix
        Client, and what goes before every key.
    folder
        For copies.
    pipelines
        This worker's.
    """

    def __init__(self, redis: RedisClient, prefix: str, folder: Path, pipelines: Iterable[Pipeline]) -> None:
        super().__init__()
        self._redis = redis
        self._prefix = prefix
        self._folder = folder
        self._pipelines = list(pipelines)
        self._names: dict[bytes, str] = {}

    async def on_start(self) -> None:
        """Keep copies in the data folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for pipeline in self._pipelines:
            path = self._path(pipeline.fingerprint)
            whole = path.with_suffix(f".{id(self)}")  # workers may share the folder
            whole.write_text(pipeline.text, encoding="utf-8")
            whole.replace(path)

    @Service.task
    async def _register(self) -> None:
        while not self.should_stop:
            with suppress(*REDIS_ERRORS, TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    for pipeline in self._pipelines:
                        await self._redis.set(pipeline_key(self._prefix, pipeline.fingerprint), pipeline.text)
            await self.sleep(REGISTER_SECONDS)

    async def find(self, fingerprint: bytes) -> Pipeline | None:
        """Give the pipeline of a fingerprint; None where nobody has kept it."""
        path = self._path(fingerprint)
        texts = [path.read_text(encoding="utf-8")] if path.exists() else []
        with suppress(*REDIS_ERRORS, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                text = await self._redis.get(pipeline_key(self._prefix, fingerprint))
                texts += [cast("bytes", text).decode()] if text else []
        for text in texts:
            try:
                pipeline = parse_pipeline(text, f"the definition kept of pipeline {fingerprint.hex()}")
            except PipelineError as error:
                logger.warning("%s", error)
                continue
            if pipeline.fingerprint == fingerprint:
                return pipeline
        return None

    def name_of(self, fingerprint: bytes) -> str:
        """Name of the pipeline of a fingerprint, as far as the data folder knows it; else empty."""
        if fingerprint not in self._names:
            path = self._path(fingerprint)
            name = ""
            with suppress(OSError, PipelineError):
                name = parse_pipeline(path.read_text(encoding="utf-8"), str(path)).name
            self._names[fingerprint] = name
        return self._names[fingerprint]

    def _path(self, fingerprint: bytes) -> Path:
        return self._folder / f"{fingerprint.hex()}.toml"

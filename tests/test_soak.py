"""Minutes of workers that come, go and are killed, on a fixed random plan."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from app.own_process import ProcessFailedError
from app.replay import plan_replay
from app.sources import builtin_ecg
from tests.replaying import replay, verifier_of
from tests.system import System

MOST_WORKERS = 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2])
async def test_random_joins_leaves_and_kills(system: System, seed: int) -> None:
    chance = random.Random(seed)
    plan = plan_replay(builtin_ecg(), sensors=150, seconds=900)
    verifier = await asyncio.to_thread(verifier_of, plan)
    living = [await system.worker()]
    sending = asyncio.create_task(replay(system, plan, speed=5))
    kills = leaves = 0
    while not sending.done():
        await asyncio.sleep(chance.uniform(0.5, 5))
        action = chance.choice(["join", "leave", "kill"])
        if action == "join" and len(living) < MOST_WORKERS:
            living.append(await system.worker())
        elif len(living) > 1 or action == "kill":
            worker = living.pop(chance.randrange(len(living)))
            if action == "kill":
                worker.kill()
                kills += 1
            else:
                assert await worker.stop() == 0
                leaves += 1
            if not living:
                living.append(await system.worker())
    await sending
    for worker in living:
        with suppress(ProcessFailedError):
            await worker.ready(90)
    verdict = await system.verify(verifier, seconds=120)
    assert verdict.passed, (verdict, kills, leaves, verifier.missing()[:20])
    assert kills >= 3
    assert leaves >= 3
    for worker in living:
        assert await worker.stop() == 0
    assert await system.lag() == 0

"""A topic belongs to one group: a worker that would break that refuses to start, and says which."""

from __future__ import annotations

import pytest

from app.own_process import ProcessFailedError
from app.preflight import GroupConflictError, check_groups, group_subscriptions
from tests.system import System


async def test_another_group_of_ours_on_the_topic(system: System) -> None:
    topic = f"{system.settings.topic_prefix}rt-sensors"
    await system.worker()
    subscriptions = await group_subscriptions(system.settings)
    assert topic in subscriptions[system.settings.app_id]
    with pytest.raises(ProcessFailedError, match=f"group {system.settings.app_id} has a living worker on {topic}"):
        await system.worker(tiers=("rt",))
    with pytest.raises(GroupConflictError, match=r"run its tiers here too: CONTINUUM_TIERS=rt,nrt,batch$"):
        check_groups(system.settings.model_copy(update={"tiers": ("rt",)}), {topic}, subscriptions)
    with pytest.raises(GroupConflictError, match=r"run its tiers here too: CONTINUUM_TIERS=rt,batch$"):
        check_groups(system.settings, {topic}, {f"{system.settings.app_id}-rt-batch": {topic}})
    await system.worker()  # one more of the same group is welcome
    with pytest.raises(GroupConflictError, match="set another CONTINUUM_APP_ID"):
        check_groups(system.settings, {"other-rt-sensors"}, subscriptions)


async def test_a_group_without_members_is_no_conflict(system: System) -> None:
    worker = await system.worker()
    assert await worker.stop() == 0
    worker = await system.worker(tiers=("rt",))
    assert await worker.stop() == 0


async def test_one_name_one_worker(system: System) -> None:
    await system.worker(instance="ward-7")
    with pytest.raises(ProcessFailedError, match=r"CONTINUUM_INSTANCE=ward-7: a worker of this name is running"):
        await system.worker(instance="ward-7")

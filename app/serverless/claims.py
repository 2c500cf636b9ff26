"""The function's claims: all sensors of an event asked for at once, and no going on without Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from app.mirror.ownership import Ownership
from app.mirror.states import Claim, Claimed
from app.serverless.errors import FunctionError


class EventClaims:
    """Claims on behalf of one invocation after another.

    Every sensor of an event is claimed in one call before any is processed; the answers are kept until they are asked
    for. Redis is all the memory that a function has, so where it gives no answer the event has to come again.

    Parameters
    ----------
    ownership
        What asks.
    """

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._answers: dict[str, Claimed] = {}
        self.held: dict[str, int] = {}
        """Epoch of each sensor that was claimed and has not been given up."""
        self.invocation = ""
        """Goes with the source of every claim: two invocations on one partition are two owners; empty: they are one."""

    async def prefetch(self, claims: Iterable[Claim]) -> Mapping[str, Claimed]:
        """Claim sensors, and keep the answers; gives them too.

        Raises
        ------
        FunctionError
            Redis gave no answer for one of them.
        REDIS_ERRORS
            It gave none at all.
        """
        self._answers = await self._claim(list(claims), force=False)
        return self._answers

    async def claim(self, claims: Sequence[Claim], *, force: bool = False) -> dict[str, Claimed]:
        """Give what Redis says of sensors, as `prefetch` does where that has not been asked before."""
        known = {claim.sensor_id: self._answers.pop(claim.sensor_id, None) for claim in claims}
        answers = {} if force else {id_: answer for id_, answer in known.items() if answer is not None}
        rest = [claim for claim in claims if claim.sensor_id not in answers]
        return answers | await self._claim(rest, force=force)

    async def _claim(self, claims: Sequence[Claim], *, force: bool) -> dict[str, Claimed]:
        own = [claim._replace(source=claim.source + self.invocation) for claim in claims]
        answers = {answer.sensor_id: answer for answer in await self._ownership.claim(own, force=force)}
        if missing := [claim.sensor_id for claim in claims if claim.sensor_id not in answers]:
            raise FunctionError(
                f"Redis did not answer for {len(missing)} of {len(claims)} sensors ({missing[0]!r}, ...): check its"
                " nodes, and that their keys are the application's; the event is retried"
            )
        self.held |= {answer.sensor_id: answer.epoch for answer in answers.values() if answer.taken}
        return answers

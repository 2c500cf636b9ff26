"""Asking brokers again that do not answer as they should. A function, which starts cold, has no time for it."""

from __future__ import annotations

from aiokafka.errors import KafkaError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_fixed

PATIENCE = 10.0
"""Seconds for which brokers are asked again that do not answer as they should."""


def _passes(error: BaseException) -> bool:
    """Whether it may be another answer in a moment.

    A broker that has just died is still asked for a while, and on a new one nobody coordinates groups until asked to.
    """
    return isinstance(error, KafkaError) and error.retriable


patient = retry(retry=retry_if_exception(_passes), stop=stop_after_delay(PATIENCE), wait=wait_fixed(0.5), reraise=True)
"""Decorates what asks brokers, and may ask again."""

"""What AWS Lambda calls: `app.serverless.handler.handler`."""

from __future__ import annotations

import atexit
from functools import cache
from typing import Any

from app.serverless.function import Context, Function
from app.settings import load_settings


@cache
def function() -> Function:
    """Give this environment's function, made for the first event."""
    made = Function(load_settings())
    atexit.register(made.close)
    return made


def handler(event: dict[str, Any], context: Context | None = None) -> dict[str, Any]:
    """Process an event of a Kafka event source; gives the partial batch response (`ReportBatchItemFailures`).

    Parameters
    ----------
    event
        Of Amazon MSK or of self-managed Kafka.
    context
        Lambda's; its remaining time bounds every wait.

    Raises
    ------
    ContinuumError
        The event has to come again, whole: Kafka or Redis is down, the settings are wrong, or it is no such event.
    """
    return function()(event, context)

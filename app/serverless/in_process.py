"""The function in this very process, where a debugger and a profiler see it."""

from __future__ import annotations

import resource
import sys
import time
import uuid
from contextlib import closing

import msgspec
from awslambdaric.lambda_context import LambdaContext

from app.serverless.environment import Invocation
from app.serverless.runtime_api import FUNCTION_ARN
from app.settings import Settings


def invoke_in_process(settings: Settings, event: bytes, timeout: float) -> Invocation:
    """Let our function process an event, with the context that Lambda's runtime would give it.

    Parameters
    ----------
    settings
        Of the function.
    event
        JSON.
    timeout
        Seconds that the function is told it has.

    Raises
    ------
    EventError
        It is not an event of a Kafka event source, or not of a tier's topic.
    FunctionError
        Kafka or Redis did not do what was needed.
    """
    began = time.perf_counter()
    from app.serverless.function import Function  # noqa: PLC0415 - a cold start begins with it

    with closing(Function(settings)) as function:
        loaded = time.perf_counter()
        request_id = str(uuid.uuid4())
        context = LambdaContext(request_id, None, None, round((time.time() + timeout) * 1000), FUNCTION_ARN)
        response = msgspec.json.encode(function(msgspec.json.decode(event), context))
        seconds = time.perf_counter() - loaded
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = peak if sys.platform == "darwin" else peak * 1024
    return Invocation(request_id, response, None, seconds, loaded - began, memory)

"""Handlers that tests let a function run in place of ours: each does what its event says."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any


def act(event: dict[str, Any], context: Any) -> Any:
    """Answer, fail, sleep or die."""
    match event:
        case {"raise": message}:
            raise ValueError(message)
        case {"sleep": seconds}:
            time.sleep(seconds)
        case {"kill": True}:
            os.kill(os.getpid(), signal.SIGKILL)
        case {"exit": code}:
            sys.stdout.flush()
            os._exit(code)
        case {"bytes": count}:
            return "x" * count
    return {
        "event": event,
        "pid": os.getpid(),
        "request": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "remaining": context.get_remaining_time_in_millis(),
        "environment": {name: os.environ[name] for name in os.environ if name.startswith(("AWS_", "CONTINUUM_"))},
    }

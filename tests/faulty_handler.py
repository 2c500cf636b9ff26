"""Our handler, on which the event itself calls a fault down: what a test wants to happen to the invocation."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from app.serverless.handler import handler as ours


def handler(event: dict[str, Any], context: Any) -> Any:
    """Process an event, with the fault that its `fault` names."""
    fault = event.pop("fault", None)
    match fault:
        case "raise before":
            raise RuntimeError("told to fail")
        case "kill before":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill during":
            threading.Timer(event.pop("after"), os.kill, (os.getpid(), signal.SIGKILL)).start()
    response = ours(event, context)
    match fault:
        case "raise after":
            raise RuntimeError("told to fail, with everything done")
        case "kill after" | "kill during":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep after":
            time.sleep(60)
        case "partial":
            return {"batchItemFailures": [{"itemIdentifier": event.pop("failure")}]}
    return response

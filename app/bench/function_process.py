"""A function in a process of its own: reads events, one JSON text a line, and says how long each took.

``python -m app.bench.function_process``; what it imports beside the function would count as the function's.
"""

from __future__ import annotations

import json
import sys
import time


def _peak() -> int:
    """Most memory that this process has had, bytes; `getrusage` would count what it was forked from."""
    with open("/proc/self/status") as status:  # noqa: PTH123 - to import pathlib would count
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def main() -> None:
    """Answer each line of the input with one of the output."""
    started = time.perf_counter()
    from app.serverless.handler import handler  # noqa: PLC0415 - this is what is measured

    imported = time.perf_counter() - started
    for line in sys.stdin:
        event = json.loads(line)
        started = time.perf_counter()
        response = handler(event)
        seconds = time.perf_counter() - started
        answer = {"imported": imported, "seconds": seconds, "memory": _peak(), "failed": response["batchItemFailures"]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

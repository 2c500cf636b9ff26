"""Whether this container's worker lives: `python -m app.web.probe` exits with 0 if it does, for health checks.

It loads nothing but the standard library, for it runs every few seconds beside the worker.
"""

from __future__ import annotations

import os
import sys
import urllib.request

from app.web.address import FIRST_PORT

TIMEOUT_SECONDS = 5.0


def main() -> int:
    """Ask for the liveness page on the port that the worker was given."""
    port = os.environ.get("CONTINUUM_WEB_PORT") or FIRST_PORT
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=TIMEOUT_SECONDS):
            return 0
    except OSError as error:
        sys.stderr.write(f"no worker answers on port {port}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())

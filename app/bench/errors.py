"""What a benchmark says when it has measured nothing."""

from __future__ import annotations

from app.errors import ContinuumError


class BenchError(ContinuumError):
    """A run did not give what it must, so it measured nothing."""

    exit_code = 1

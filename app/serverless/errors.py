"""What the function raises, so that its event comes again."""

from __future__ import annotations

from app.errors import ContinuumError


class FunctionError(ContinuumError):
    """Kafka or Redis did not do what an event needs; nothing of it is lost, and to repeat it does no harm."""

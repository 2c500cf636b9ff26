"""What the commands on dead letters refuse."""

from app.errors import ContinuumError


class DeadLetterError(ContinuumError):
    """A dead letter does not exist, or cannot be sent again."""

    exit_code = 1

"""What the commands on states refuse."""

from app.errors import ContinuumError


class StateError(ContinuumError):
    """A sensor has no state, or the state cannot be used as asked."""

    exit_code = 1

"""Why blocks cannot be taken at the moment, though nothing is wrong with them."""

from app.errors import ContinuumError


class UnavailableError(ContinuumError):
    """Kafka or Redis does not do what is needed now; the same blocks may be sent again."""

    exit_code = 1

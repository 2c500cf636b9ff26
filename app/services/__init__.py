"""A Kafka and a Redis of our own, for the demo, the tests and a first try: no Docker, no Java to install.

They belong to a data folder. `up` starts them, `down` stops them, and in between they run by themselves, on
loopback ports that only this machine reaches. In the folder lie, for Kafka and for Redis: configuration, data,
`log`, and `pid`, the process id; and `services.json`, where the settings find the addresses.
"""

from app.services.errors import ServiceError
from app.services.lifecycle import SETTINGS, Endpoints, down, running, start, up
from app.services.missing import given_addresses, start_missing, temporary_services

__all__ = [
    "SETTINGS",
    "Endpoints",
    "ServiceError",
    "down",
    "given_addresses",
    "running",
    "start",
    "start_missing",
    "temporary_services",
    "up",
]

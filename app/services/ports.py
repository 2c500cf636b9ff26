"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import errno
import secrets
import socket

LOOPBACK = "127.0.0.1"

# Below the ranges from which systems take the local ports of outgoing connections (from 32768 on Linux, 49152
# elsewhere): inside them, a client that keeps trying a server that is down can end up connected to itself, and then
# holds the server's port. Drawn at random, so that clients of a stopped service do not find another's in its place.
_FIRST, _LAST = 20_000, 29_999


def is_free(port: int) -> bool:
    """Say whether a server could listen on a loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections that linger after a crash do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
        return True


def free_ports(count: int) -> list[int]:
    """Draw that many different free ports."""
    drawn: list[int] = []
    while len(drawn) < count:
        port = _FIRST + secrets.randbelow(_LAST - _FIRST + 1)
        if port not in drawn and is_free(port):
            drawn.append(port)
    return drawn

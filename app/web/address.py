"""The address that the web pages are served on."""

from __future__ import annotations

import errno
import socket

from app.errors import ContinuumError

FIRST_PORT, PORTS = 6066, 1000


def bind(host: str, port: int | None) -> socket.socket:
    """Bind a socket for the web pages; bound at once, so that of two workers that start together none is in the way.

    Parameters
    ----------
    host
        Name or address to listen on.
    port
        Port; None for the first free one from 6066.

    Raises
    ------
    ContinuumError
        The port is taken, the host is not ours, or no port is free.
    """
    failure = OSError("no port tried")
    for candidate in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]:
        try:
            return socket.create_server((host, candidate), reuse_port=False)
        except OSError as error:
            failure = error
            if error.errno != errno.EADDRINUSE:
                break  # the host's fault, so that of every port
    raise ContinuumError(
        f"the web pages cannot listen on {host}:{port or f'{FIRST_PORT} or the {PORTS} ports after it'} ({failure});"
        " set CONTINUUM_WEB_PORT and CONTINUUM_WEB_HOST to an address of this machine that is free"
    )

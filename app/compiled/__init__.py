"""The express lane: plain blocks from the broker's bytes to feature records as arrays, compiled by numba.

Nothing here is needed: where numba is not installed, and for whatever is not plain, blocks go the ordinary way.
"""

from __future__ import annotations

from importlib import import_module


def _usable() -> bool:
    try:
        import_module("numba")
    except (ImportError, OSError):  # also of a numba that does not fit the numpy that is there, or is broken
        return False
    return True


AVAILABLE = _usable()
"""Whether there is a numba that can be used; the modules with kernels are imported only then."""

"""How kernels are compiled by numba: when their module is loaded, and once a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(signature: object) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function when it is defined, or take it from numba's cache.

    What such a function calls must lie in its own file: numba keeps compiled code, and compares the age of just that
    file. It runs without the interpreter's lock, so that another thread may read from the network meanwhile.
    """

    def made(function: Callable[..., Any]) -> Any:
        try:
            return njit(signature, cache=True, error_model="numpy", nogil=True)(function)
        except (RuntimeError, OSError):  # no folder that numba may write to
            return njit(signature, error_model="numpy", nogil=True)(function)

    return made

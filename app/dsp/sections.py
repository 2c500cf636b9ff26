"""Filtering with second-order sections by scipy's compiled loop, without importing all of `scipy.signal`.

That takes ten times as long as numpy, which a cold function would wait for before its first feature; the loop alone is
there at once. It is the very one behind `scipy.signal.sosfilt`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import cast

import numpy as np

from app.dsp.stage import Floats

_LOOP = "scipy.signal._sosfilt"


def sosfilt(sos: Floats, x: Floats, zi: Floats) -> tuple[Floats, Floats]:
    """Filter along the last axis.

    Parameters
    ----------
    sos
        (sections, 6)
    x
        (..., samples)
    zi
        (..., sections, 2) memory before the first sample.

    Returns
    -------
    The filtered samples, and the memory after the last; new arrays of the same shapes.
    """
    y = np.array(x, dtype=np.float64, order="C")
    after = np.array(zi, dtype=np.float64, order="C")
    _loop()(sos, y.reshape(-1, y.shape[-1]), after.reshape(-1, *after.shape[-2:]))
    return y, after


@cache
def _loop() -> Callable[[Floats, Floats, Floats], None]:
    """Load the module of the loop; its package's own `__init__` is what takes long."""
    module = sys.modules.get(_LOOP)
    package = find_spec("scipy.signal")  # imports just `scipy`
    if module is None and package is not None:
        spec = PathFinder.find_spec(_LOOP, package.submodule_search_locations)
        if spec is not None and spec.loader is not None:
            # Where the package is imported later, it finds its module.
            module = sys.modules[_LOOP] = module_from_spec(spec)
            spec.loader.exec_module(module)
    if module is None:
        raise ImportError(f"{_LOOP}: not in the scipy that is installed; install the release that is locked")
    return cast("Callable[[Floats, Floats, Floats], None]", module._sosfilt)  # noqa: SLF001 - see above

"""The chain of the `ecg` pipelines in one pass, where numba is installed: the same numbers, in a fraction of the time.

A pipeline is known by its wiring, whatever it is called: a Butterworth filter of the raw signal, a moving RMS of
that, and Hjorth parameters of either, all of which features take at the blocks' ends. The state is the stages' own,
so that a snapshot made with numba goes on without it, and the other way round.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from app.dsp.fused.chain import Fused, Kernels
    from app.dsp.pipeline import Pipeline

_TYPES = ["butterworth", "hjorth", "moving_rms"]


def fused(pipeline: Pipeline) -> Fused | None:
    """Give the step of a pipeline that is wired so; None for any other, and without numba."""
    if sorted(node.type for node in pipeline.nodes) != _TYPES:
        return None
    kernels = load_kernel()
    # Imported here, as it imports stages that other pipelines do not need.
    return (
        None if kernels is None else cast("Fused | None", import_module(f"{__name__}.chain").wired(pipeline, kernels))
    )


@cache
def load_kernel() -> Kernels | None:
    """Load the kernels, which numba compiles, or takes from its cache; None where there is no numba that fits.

    An engine does so when it is made, so that no batch waits for it.
    """
    try:
        alone, abreast, grouping = (import_module(f"{__name__}.{name}") for name in ("kernel", "abreast", "grouping"))
    except ImportError:
        return None
    return cast("Kernels", import_module(f"{__name__}.chain").Kernels(alone.run, abreast.run, grouping.grouped))

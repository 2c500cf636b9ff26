"""Users a vCPU: found by `continuum bench throughput`, read by a plan of costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app.bench.load import PIPELINE, SAMPLE_RATE, Shape
from app.bench.result import Capacity, ResultError, Spread, SuiteResult, read_result


def capacity_of(shape: Shape, checkpoint_seconds: float | None, blocks_per_second: Sequence[float]) -> Capacity:
    """Work out users from the blocks that one core took.

    Parameters
    ----------
    shape
        Of the blocks.
    checkpoint_seconds
        Between checkpoints; None where there were none.
    blocks_per_second
        Of each run.
    """
    rates = Spread.of(blocks_per_second)
    seconds = shape.block / SAMPLE_RATE
    users = Spread(rates.min * seconds, rates.median * seconds, rates.max * seconds)
    return Capacity(
        shape.encoding, PIPELINE, SAMPLE_RATE, shape.block, shape.sensors, checkpoint_seconds, 1.0, rates, users
    )


def read_capacity(path: Path) -> SuiteResult:
    """Read a result of `continuum bench throughput`; its `capacity` has the figures, the rest where they come from.

    Raises
    ------
    ResultError
        The file is no such result, or has no capacity.
    """
    result = read_result(path)
    if not result.capacity:
        raise ResultError(
            f"{path} is a result of `continuum bench {result.suite}` and has no capacity: expected one of"
            " `continuum bench throughput --save FILE`"
        )
    return result

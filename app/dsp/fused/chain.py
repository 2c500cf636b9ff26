"""The wiring of `app.dsp.fused`, and the step of a pipeline that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from app.dsp.pipeline import RAW_INPUT, Feature, Pipeline
from app.dsp.stage import Floats, Indices, State
from app.dsp.stages.descriptive import hjorth
from app.dsp.stages.filters import butterworth
from app.dsp.stream import Samples
from app.dsp.window import HasWindow

_VALUES = 2 + len(hjorth.OUTPUTS)


class Kernels(NamedTuple):
    """The compiled code: for one block at a time, and for eight abreast, with the same bits."""

    alone: Callable[..., None]
    """`app.dsp.fused.kernel.run`."""
    abreast: Callable[..., bool]
    """`app.dsp.fused.abreast.run`, which does not begin where it would not be faster."""
    grouped: Callable[..., tuple[Indices, Indices]]
    """`app.dsp.fused.grouping.grouped`."""


class Fused(NamedTuple):
    """The stages of a pipeline as one step, which changes state where it lies."""

    order: tuple[str, str, str]
    """Names of filter, moving RMS and Hjorth parameters."""
    is_chain: bool
    """Whether the Hjorth parameters are of the moving RMS; else they are of the filtered signal."""
    sos: Floats
    window: int
    """Of the moving RMS."""
    places: Indices
    """(values of a record,) where each lies in what the kernel gives for a block."""
    windows: Indices
    """(values of a record,) whose window each looks through, by the place in `order`."""
    kernels: Kernels

    def step(
        self, state: Mapping[str, State], samples: Samples, numbers: Indices, rows: Indices
    ) -> tuple[Floats, NDArray[np.bool_]]:
        """Consume blocks one after another.

        Parameters
        ----------
        state
            Of each node, and the raw signal's; the blocks' rows are changed.
        samples
            The blocks lie in these,
        numbers
            (blocks,) under these numbers.
        rows
            (blocks,) row of each block's state.

        Returns
        -------
        (blocks, values) the features at each block's end, and which are full.
        """
        bandpass, rms, own = (state[name] for name in self.order)
        last, zi = state[RAW_INPUT]["last"], bandpass["zi"]
        values = np.empty((len(rows), zi.shape[1], _VALUES))
        full = np.empty((len(rows), len(self.order)), dtype=np.bool_)
        begins, ends = samples.begins[numbers], samples.ends[numbers]
        given = (
            self.sos,
            self.window,
            self.is_chain,
            (samples.values, begins, ends, rows),
            (last, zi, rms["tail"], rms["count"], own["tail"], own["count"]),
            (values, full),
        )
        # A block of one channel alone has no company.
        is_single = len(rows) * zi.shape[1] <= 1
        if is_single or not self.kernels.abreast(*given, self.kernels.grouped(ends - begins, rows)):
            self.kernels.alone(*given)
        return values.reshape(len(rows), -1)[:, self.places], full[:, self.windows]


def wired(pipeline: Pipeline, kernels: Kernels) -> Fused | None:
    """Give the step of a pipeline of one filter, one moving RMS and Hjorth parameters; None where it is wired else."""
    nodes = {node.type: node for node in pipeline.nodes}
    bandpass, rms, own = nodes["butterworth"], nodes["moving_rms"], nodes["hjorth"]
    if bandpass.source != RAW_INPUT or rms.source != bandpass.name or own.source == RAW_INPUT:
        return None
    if any(node.hop is not None for node in pipeline.nodes):
        return None
    if any(feature.take not in {"last", "vector"} for feature in pipeline.features):
        return None
    order = (bandpass.name, rms.name, own.name)
    places = [place for feature in pipeline.features for place in _places(feature, order, pipeline.signal.channels)]
    return Fused(
        order,
        own.source == rms.name,
        butterworth.design(cast("butterworth.Params", bandpass.params), pipeline.signal.sample_rate),
        cast("HasWindow", rms.params).window,
        np.array([place for _, place in places]),
        np.array([window for window, _ in places]),
        kernels,
    )


def _places(feature: Feature, order: Sequence[str], channels: int) -> Iterator[tuple[int, int]]:
    """Say whose window each value of a feature looks through, and where it lies in what the kernel gives."""
    stage = order.index(feature.node)
    if feature.node != order[-1]:
        own = [stage]
    elif feature.output is None:
        own = [stage + number for number in range(len(hjorth.OUTPUTS))]
    else:
        own = [stage + hjorth.OUTPUTS.index(feature.output)]
    for channel in range(channels):
        for place in own:
            yield stage, channel * _VALUES + place

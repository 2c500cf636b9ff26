"""What a linear time-invariant stage does to a frequency: its complex gain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import freqz, freqz_sos

from app.dsp.pipeline import Node
from app.dsp.stage import Floats


def response(node: Node, frequencies: Floats) -> NDArray[np.complex128]:
    """Give the gain of a node's stage at frequencies of what enters it.

    Of a stage that changes the pace it is that of its filter, before what it leaves out.

    Parameters
    ----------
    node
        Whose stage is a filter, that is, has a design.
    frequencies
        (n,) in Hz, up to half the rate of what enters.

    Returns
    -------
    (n,) gains; of a bank (filters, n).

    Raises
    ------
    ValueError
        The stage is not linear and time-invariant.
    """
    if node.stage.design is None:
        raise ValueError(f"stage {node.name} ({node.type}): expected a linear time-invariant filter")
    rate = node.takes.sample_rate
    design = node.stage.design(node.params, rate)
    if design.ndim == 1:
        return np.asarray(freqz(design, worN=frequencies, fs=rate)[1], dtype=np.complex128)
    if design.ndim == 2:
        return np.asarray(freqz_sos(design, frequencies, fs=rate)[1], dtype=np.complex128)
    return np.stack([np.asarray(freqz_sos(sos, frequencies, fs=rate)[1], dtype=np.complex128) for sos in design])

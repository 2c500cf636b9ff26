"""What stands in for `scipy.signal` at a cold start is scipy's own, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from app.dsp import sections
from app.dsp.designs import AT_HAND, at_hand
from app.dsp.stages.filters import butterworth
from app.dsp.stages.filters._sos import HALF_POWER, as_asked
from app.dsp.stages.physiology.activity import STRIDE
from app.pipelines import shipped_pipelines


@pytest.mark.parametrize("key", AT_HAND, ids=str)
def test_a_design_at_hand_is_what_scipy_makes(key):
    order, cutoff, btype, rate = key
    known = at_hand(*key)
    made = butter(order, cutoff if len(cutoff) > 1 else cutoff[0], btype, fs=rate, output="sos")
    assert np.array_equal(known, made)
    as_asked(known, order, cutoff, rate, HALF_POWER)


def test_the_designs_at_hand_are_those_of_the_shipped_pipelines():
    used = set()
    for pipeline in shipped_pipelines().values():
        for node in pipeline.nodes:
            if node.type == "butterworth":
                assert isinstance(node.params, butterworth.Params)
                used.add((node.params.order, node.params.cutoff, node.params.btype, node.takes.sample_rate))
            elif node.type == "activity":
                used.add((2, STRIDE, "bandpass", node.takes.sample_rate))
    assert used == set(AT_HAND)


def test_any_other_is_made():
    assert at_hand(3, (40.0,), "lowpass", 250.0) is None
    made = butterworth.design(butterworth.Params(3, (40.0,)), 250.0)
    assert np.array_equal(made, butter(3, 40.0, fs=250.0, output="sos"))


@given(
    st.lists(st.integers(1, 4), max_size=2),
    st.integers(1, 50),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_the_loop_is_that_of_sosfilt(lead, samples, order, seed):
    random = np.random.default_rng(seed)
    sos = butter(order, [0.1, 0.4], "bandpass", output="sos")
    x, zi = random.normal(size=(*lead, samples)), random.normal(size=(*lead, len(sos), 2))
    before = x.copy(), zi.copy()
    y, after = sections.sosfilt(sos, x, zi)
    expected, memory = sosfilt(sos, x, axis=-1, zi=np.moveaxis(zi, -2, 0))
    assert np.array_equal(y, expected)
    assert np.array_equal(after, np.moveaxis(memory, 0, -2))
    assert np.array_equal(x, before[0])
    assert np.array_equal(zi, before[1])


def test_it_takes_what_lies_otherwise_in_memory():
    sos = butter(2, 0.2, output="sos")
    x, zi = np.random.default_rng(1).normal(size=(60, 4)).T, np.zeros((4, 1, 2))
    y, _ = sections.sosfilt(sos, x, zi)
    assert np.array_equal(y, sosfilt(sos, x))

"""Measured responses of pipelines, beside those that scipy computes from the coefficients."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from scipy.signal import butter, firwin, group_delay, sosfreqz

from app.dsp.pipeline import RAW_INPUT, Feature, Node, Pipeline
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import NEVER, Result, Signal, Stage
from app.pipelines.plot import save_plot
from app.pipelines.response import Curve, Response, responses

RATE = 250.0


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


def pipeline_of(step, init=lambda params, signal, rows: {}, channels: int = 1, settle: int = 0, **stage) -> Pipeline:
    """One stage made of a function."""
    own = Stage(Nothing, init, step, lambda params, signal: settle, ({},), "none", **stage)
    signal = Signal(RATE, channels)
    node = Node("own", RAW_INPUT, "own", own, Nothing(), signal)
    return Pipeline("p", signal, (node,), (Feature("own", "own", None),), bytes(16))


def result(state, y, marks) -> Result:
    return Result(state, y, np.ones(len(marks.rows), dtype=bool))


def parse(stages: str, channels: int = 1) -> Pipeline:
    features = '[features]\nf = { of = "n", take = "vector" }'
    return parse_pipeline(f'name = "p"\nsample_rate = {RATE}\nchannels = {channels}\n{stages}\n{features}', "p")


def butterworth(order: int, cutoff: list[float], btype: str, name: str = "n") -> str:
    return f'[[stages]]\nname = "{name}"\ntype = "butterworth"\norder = {order}\ncutoff = {cutoff}\nbtype = "{btype}"\n'


def measured(pipeline: Pipeline, name: str | None = None) -> Response:
    (response,) = responses(pipeline, name)
    return response


def curve_of(pipeline: Pipeline, name: str | None = None) -> Curve:
    response = measured(pipeline, name)
    assert response.fault is None
    assert response.left_out == 0
    (curve,) = response.curves
    return curve


@pytest.mark.parametrize(
    ("order", "cutoff", "btype"),
    [
        (4, [0.5, 100.0], "bandpass"),
        (3, [40.0], "lowpass"),
        (1, [0.05], "highpass"),
        (6, [40.0, 60.0], "bandstop"),
    ],
)
def test_a_filter_s_magnitude_delay_and_edges(order, cutoff, btype):
    curve = curve_of(parse(butterworth(order, cutoff, btype)))
    sos = butter(order, cutoff if len(cutoff) > 1 else cutoff[0], btype, fs=RATE, output="sos")
    _, h = sosfreqz(sos, curve.frequencies, fs=RATE)
    assert not curve.is_cut
    shown = np.abs(h) > 1e-4
    np.testing.assert_allclose(curve.decibels[shown], 20 * np.log10(np.abs(h[shown])), atol=1e-2)
    np.testing.assert_allclose(curve.edges, cutoff, rtol=1e-3)
    passes = np.abs(h) > 0.05
    assert not np.isnan(curve.group_delay[passes]).any()
    assert np.isnan(curve.group_delay[np.abs(h) < 0.9e-3]).all()
    at = curve.frequencies[passes][::97]
    numerator, denominator = butter(order, cutoff if len(cutoff) > 1 else cutoff[0], btype, fs=RATE)
    if order < 4:  # the coefficients of high orders are not exact enough
        _, delay = group_delay((numerator, denominator), at, fs=RATE)
        np.testing.assert_allclose(curve.group_delay[passes][::97], delay / RATE, rtol=1e-3, atol=1e-5)


def test_stages_in_a_row_multiply():
    stages = butterworth(2, [40.0], "lowpass", "a") + butterworth(1, [5.0], "highpass") + 'input = "a"\n'
    both = curve_of(parse(stages), "n")
    _, low = sosfreqz(butter(2, 40.0, fs=RATE, output="sos"), both.frequencies[1:-1], fs=RATE)
    _, high = sosfreqz(butter(1, 5.0, "highpass", fs=RATE, output="sos"), both.frequencies[1:-1], fs=RATE)
    near = np.abs(low * high) > 1e-4
    np.testing.assert_allclose(both.decibels[1:-1][near], 20 * np.log10(np.abs(low * high)[near]), atol=1e-3)
    assert [response.node for response in responses(parse(stages))] == ["a", "n"]


def test_a_linear_phase_delays_all_alike():
    h = firwin(41, 30.0, fs=RATE)

    def step(params, signal, state, x, marks):
        series = np.concatenate([state["tail"], x], axis=-1)
        y = sum(h[k] * series[..., 40 - k : 40 - k + x.shape[-1]] for k in range(41))
        return result({"tail": series[..., x.shape[-1] :]}, y, marks)

    def init(params, signal, rows):
        return {"tail": np.zeros((rows, signal.channels, 40))}

    curve = curve_of(pipeline_of(step, init, settle=41))
    np.testing.assert_allclose(curve.impulse[:41], h, rtol=1e-12)
    assert not curve.impulse[41:].any()
    delay = curve.group_delay[~np.isnan(curve.group_delay)]
    np.testing.assert_allclose(delay, 20 / RATE, rtol=1e-3)


def test_what_is_not_linear_says_so():
    assert measured(parse('[[stages]]\nname = "n"\ntype = "moving_rms"\nwindow = 5\n')).fault.startswith("not linear")
    slightly = pipeline_of(lambda params, signal, state, x, marks: result({}, x + 1e-6 * np.abs(x), marks))
    assert measured(slightly).fault.endswith("by 2e-06 of the greatest value")
    clipped = pipeline_of(lambda params, signal, state, x, marks: result({}, np.clip(x, -500, 500), marks))
    assert measured(clipped).fault.startswith("not linear")
    infinite = pipeline_of(lambda params, signal, state, x, marks: result({}, np.where(x > 0, np.inf, x), marks))
    assert measured(infinite).fault == "its values on noise are not finite"


def test_an_offset_is_no_matter():
    curve = curve_of(pipeline_of(lambda params, signal, state, x, marks: result({}, 2 * x + 0.5, marks)))
    assert curve.impulse[0] == 2
    assert not curve.impulse[1:].any()


def counted(gain) -> Pipeline:
    """Each sample times a function of how many there were before."""

    def step(params, signal, state, x, marks):
        at = state["seen"][:, np.newaxis, np.newaxis] + np.arange(x.shape[-1])
        return result({"seen": state["seen"] + x.shape[-1]}, x * gain(at), marks)

    return pipeline_of(step, lambda params, signal, rows: {"seen": np.zeros(rows, dtype=np.int64)}, settle=100)


def test_what_changes_with_time_says_so():
    assert measured(counted(lambda at: 1.0 + at % 2)).fault.startswith("not time-invariant: 1 sample later")
    assert measured(counted(lambda at: 1.0 + at % 13)).fault.startswith("not time-invariant: 1 sample later")
    for hop in ('type = "decimate"\nfactor = 5\n', 'type = "butterworth"\norder = 1\ncutoff = [9]\nhop = 5\n'):
        fault = measured(parse(f'[[stages]]\nname = "n"\n{hop}')).fault
        assert fault == "not time-invariant: its values come at another pace than the raw signal's samples"


def test_a_start_is_waited_for():
    """What is another at the start only, as a mean over the samples seen so far."""
    curve = curve_of(counted(lambda at: np.where(at < 100, 0.0, 1.0)))
    assert curve.impulse[0] == 1
    assert not curve.impulse[1:].any()
    assert curve.edges == []


def test_what_does_not_die_away_is_cut():
    def step(params, signal, state, x, marks):
        y = np.cumsum(np.concatenate([state["sum"], x], axis=-1), axis=-1)[..., 1:]
        return result({"sum": y[..., -1:]}, y, marks)

    def init(params, signal, rows):
        return {"sum": np.zeros((rows, signal.channels, 1))}

    assert curve_of(pipeline_of(step, init, settle=NEVER)).is_cut


def test_channels_that_are_alike_are_one_curve_and_others_have_names():
    assert curve_of(parse(butterworth(2, [40.0], "lowpass"), channels=3)).label == ""

    def step(params, signal, state, x, marks):
        return result({}, np.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1], 2 * x[:, 1]], axis=1), marks)

    mixing = pipeline_of(step, channels=2, signal=lambda params, signal: Signal(RATE, 3), mixes=True)
    curves = {curve.label: curve.impulse[0] for curve in measured(mixing).curves}
    assert curves == {"0 → 0, 0 → 1, 1 → 0": 1.0, "1 → 1": -1.0, "1 → 2": 2.0}


def test_of_very_many_curves_some_are_left_out():
    def step(params, signal, state, x, marks):
        return result({}, x * np.arange(1.0, 41.0)[:, np.newaxis], marks)

    bank = pipeline_of(step, signal=lambda params, signal: Signal(RATE, 40))
    response = measured(bank)
    assert (len(response.curves), response.left_out) == (16, 24)


def test_what_nothing_passes_says_so():
    silent = pipeline_of(lambda params, signal, state, x, marks: result({}, np.zeros_like(x), marks))
    assert measured(silent).fault == "nothing passes it"


def test_many_curves_and_responses_are_drawn(tmp_path):
    def step(params, signal, state, x, marks):
        return result({}, x * np.array([1.0, -2.0])[:, np.newaxis], marks)

    bank = pipeline_of(step, signal=lambda params, signal: Signal(RATE, 2))
    shown = [*responses(bank), *responses(parse(butterworth(2, [40.0], "lowpass"))), Response("x", "not linear")]
    save_plot("two", shown, tmp_path / "two.svg")
    one = (tmp_path / "two.svg").stat().st_size
    save_plot("two", [replace(shown[0], curves=shown[0].curves[:1]), *shown[1:]], tmp_path / "two.svg")
    assert (tmp_path / "two.svg").stat().st_size < one

"""Pipelines as data: what is refused and in which words, how stages are wired, and what the fingerprint covers."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from app.dsp.durations import in_samples
from app.dsp.engine import Engine
from app.dsp.errors import PipelineError
from app.dsp.pipeline import RAW_INPUT, Node, Pipeline, fingerprint
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stage import EXAMPLE_RATE, Signal
from app.dsp.stages import STAGES
from app.pipelines import shipped_pipelines
from app.sources import builtin_ecg
from tests.feeding import TWO_CHANNELS, Block, Partition

HEAD = 'name = "p"\nsample_rate = 250.0\n'
RMS = '[[stages]]\ntype = "moving_rms"\nwindow = 5\n'
FEATURES = '[features]\nrms = "moving_rms"\n'


def parse(text: str) -> Pipeline:
    return parse_pipeline(text, "my.toml")


# --- Refusals -----------------------------------------------------------------------------------------------------

TABLE = "expected name: str, sample_rate: float, stages: list[dict[str, Any]], features: dict[str, "

REFUSED = {
    # The document
    'name = "p': "at end of document",
    "": f"pipeline: Object missing required field `name`; {TABLE}",
    f"{HEAD}{HEAD}": "Cannot overwrite a value",
    f"{HEAD}chanels = 1\n{RMS}{FEATURES}": f"pipeline: Object contains unknown field `chanels`; {TABLE}",
    f"{HEAD}stages = 3\n{FEATURES}": f"pipeline: stages = 3: Expected `array`, got `int` - at `$.stages`; {TABLE}",
    f"{HEAD}{FEATURES}": f"pipeline: Object missing required field `stages`; {TABLE}",
    f"{HEAD}stages = []\n{FEATURES}": "stages: expected at least one [[stages]] table",
    f"{HEAD}{RMS}": f"pipeline: Object missing required field `features`; {TABLE}",
    # The signal
    f'name = "p"\nsample_rate = "250"\n{RMS}{FEATURES}': "Expected `float`, got `str` - at `$.sample_rate`",
    f'name = "p"\nsample_rate = 0\n{RMS}{FEATURES}': "sample_rate = 0.0: expected Hz above 0",
    f'name = "p"\nsample_rate = -1\n{RMS}{FEATURES}': "sample_rate = -1.0: expected Hz above 0",
    f'name = "p"\nsample_rate = nan\n{RMS}{FEATURES}': "sample_rate = nan: expected Hz above 0",
    f'name = "p"\nsample_rate = inf\n{RMS}{FEATURES}': "sample_rate = inf: expected Hz above 0",
    f"{HEAD}channels = 0\n{RMS}{FEATURES}": "channels = 0: expected at least 1",
    f"{HEAD}channels = 1.5\n{RMS}{FEATURES}": "Expected `int`, got `float` - at `$.channels`",
    # What is missing
    f'{HEAD}gap = "skip"\n{RMS}{FEATURES}': "gap = 'skip': expected one of reset, hold, interpolate, zero",
    f'{HEAD}non_finite = "zero"\n{RMS}{FEATURES}': "non_finite = 'zero': expected one of reject, hold, interpolate",
    f"{HEAD}max_gap = -0.1\n{RMS}{FEATURES}": "max_gap = -0.1: expected 0 to 4194.3 s, 1048576 values",
    f"{HEAD}max_gap = 4194.31\n{RMS}{FEATURES}": "max_gap = 4194.31: expected 0 to 4194.3 s, 1048576 values",
    f"{HEAD}max_gap = nan\n{RMS}{FEATURES}": "max_gap = nan: expected 0 to 4194.3 s, 1048576 values",
    # Names
    f'name = ""\nsample_rate = 1\n{RMS}{FEATURES}': "name = '': expected ASCII letters, digits, '.', '_' and '-'",
    f'name = "a/b"\nsample_rate = 1\n{RMS}{FEATURES}': "name = 'a/b': expected ASCII letters, digits",
    f'name = "ekg ä"\nsample_rate = 1\n{RMS}{FEATURES}': "name = 'ekg ä': expected ASCII letters, digits",
    f"{HEAD}{RMS}{RMS}{FEATURES}": (
        "stage 2 (moving_rms): name = 'moving_rms': expected a name of its own without dots, not 'input'"
    ),
    f'{HEAD}{RMS}name = "input"\n{FEATURES}': "stage 1 (moving_rms): name = 'input': expected a name of its own",
    f'{HEAD}{RMS}name = "a.b"\n{FEATURES}': "stage 1 (moving_rms): name = 'a.b': expected a name of its own",
    # Stages
    f"{HEAD}[[stages]]\nwindow = 5\n{FEATURES}": (
        "stage 1: Object missing required field `type`; expected type: str, name: str, input: str, hop: int | str"
    ),
    f'{HEAD}{RMS}[[stages]]\ntype = "median"\n{FEATURES}': "stage 2: type = 'median': expected one of ",
    f'{HEAD}[[stages]]\ntype = "moving_rms"\n{FEATURES}': (
        "stage 1 (moving_rms): Object missing required field `window`; expected window: int or a duration"
    ),
    f"{HEAD}{RMS}windw = 5\n{FEATURES}": (
        "stage 1 (moving_rms): Object contains unknown field `windw`; expected window: int or a duration"
    ),
    f'{HEAD}[[stages]]\ntype = "butterworth"\norder = 2\ncutoff = [125]\n{FEATURES}': (
        "stage 1 (butterworth): cutoff = [125.0]: expected below half the sample rate, 125.0 Hz"
    ),
    # Wiring
    f'{HEAD}{RMS}input = "bandpass"\n{FEATURES}': "stage 1 (moving_rms): input = 'bandpass': expected one of input",
    f'{HEAD}{RMS}input = "moving_rms"\n{FEATURES}': "stage 1 (moving_rms): input = 'moving_rms': expected one of input",
    f'{HEAD}{RMS}[[stages]]\ntype = "hjorth"\nwindow = 5\n[[stages]]\ntype = "moving_rms"\nname = "r"\nwindow = 5\n'
    f'input = "hjorth"\n{FEATURES}': "stage 3 (moving_rms): input = 'hjorth': expected one of input, moving_rms",
    # Features
    f"{HEAD}{RMS}[features]": 'features: expected at least one, as name = "stage" or name = "stage.output"',
    f'{HEAD}{RMS}[features]\nx = "median"': "features: x = 'median': expected one of moving_rms",
    f'{HEAD}{RMS}[features]\nx = "moving_rms.mean"': "features: x = 'moving_rms.mean': expected one of moving_rms",
    f'{HEAD}[[stages]]\ntype = "hjorth"\nwindow = 5\n[features]\nx = "hjorth"': (
        "features: x = 'hjorth': expected one of hjorth.activity, hjorth.mobility, hjorth.complexity"
    ),
    f'{HEAD}{RMS}[features]\nx = "input"': "features: x = 'input': expected one of moving_rms",
    f"{HEAD}{RMS}[features]\nx = 5": "Expected `str | object`, got `int` - at `$.features[...]`",
    f'{HEAD}{RMS}[features]\n"a b" = "moving_rms"': "features: 'a b': expected an identifier",
    f'{HEAD}{RMS}[features]\nx = "moving_rms"\nx = "moving_rms"': "Cannot overwrite a value",
}


@pytest.mark.parametrize(("text", "refusal"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refusals(text, refusal):
    with pytest.raises(PipelineError) as refused:
        parse(text)
    assert str(refused.value).startswith("my.toml: ")
    assert refusal in str(refused.value)


FAULTY = """
name = "a/b"
sample_rate = 250.0
gap = "skip"
[[stages]]
type = "moving_rms"
name = "rms"
window = 0
[[stages]]
type = "hjorth"
name = "of_rms"
window = 1
[[stages]]
type = "moving_rms"
name = "of_both"
input = "of_rms"
window = "2 miles"
[[stages]]
type = "butterworth"
input = "input"
order = 99
cutoff = [3]
[[stages]]
type = "moving_rms"
name = "raw"
input = "input"
window = 5
[[stages]]
type = "hjorth"
window = 2
[features]
a = "rms"
b = "of_both"
c = "nothing"
d = { of = "raw", take = "median" }
e = "raw"
"""


def test_all_faults_are_named_at_once_but_none_that_another_may_be_the_cause_of():
    """Not of stages behind a wrong one, as nothing is known of what they take, nor of features of any of these."""
    with pytest.raises(PipelineError) as refused:
        parse(FAULTY)
    assert [line.partition(": expected")[0] for line in str(refused.value).splitlines()] == [
        "my.toml: name = 'a/b'",
        "my.toml: gap = 'skip'",
        "my.toml: stage 1 (moving_rms): window = 0",
        "my.toml: stage 4 (butterworth): order = 99",
        "my.toml: stage 6 (hjorth): window = 2",
        "my.toml: features: c = 'nothing'",
        "my.toml: features: d: take = 'median'",
    ]
    assert "c = 'nothing': expected one of raw\n" in str(refused.value), "what is right may be taken"
    right = FAULTY.replace("a/b", "ab").replace("skip", "hold").replace("window = 0", "window = 9")
    with pytest.raises(PipelineError) as refused:
        parse(right)
    assert "my.toml: stage 2 (hjorth): window = 1: expected 3 to 1048576 samples" in str(refused.value), (
        "now that it can be told"
    )


@pytest.mark.parametrize("field", ["sensorId", "timestamp", "seq", "tier", "pipeline", "gap", "quality"])
def test_a_feature_may_not_be_called_like_another_field_of_its_record(field):
    with pytest.raises(PipelineError, match=f"features: '{field}': expected an identifier that is not one of sensorId"):
        parse(f'{HEAD}{RMS}[features]\n{field} = "moving_rms"')


# --- Wiring -------------------------------------------------------------------------------------------------------


def test_a_stage_takes_the_last_series_unless_it_names_another():
    text = f"""{HEAD}
    [[stages]]
    type = "moving_rms"
    name = "a"
    window = 2
    [[stages]]
    type = "hjorth"
    name = "measure"
    window = 3
    [[stages]]
    type = "moving_rms"
    name = "b"
    window = 2
    [[stages]]
    type = "moving_rms"
    name = "raw"
    input = "input"
    window = 2
    [features]
    raw = "raw"
    b = "b"
    activity = "measure.activity"
    """
    pipeline = parse(text)
    assert [(node.name, node.source) for node in pipeline.nodes] == [
        ("a", "input"),
        ("measure", "a"),
        ("b", "a"),
        ("raw", "input"),
    ]
    x = np.array([3.0, 4.0, 0.0, 6.0])
    (values,) = Partition(Engine(pipeline)).feed(Block("s", x)).values
    a = np.sqrt([9, 25 / 2, 16 / 2, 36 / 2])
    np.testing.assert_allclose(values, [a[3], np.sqrt((a[2] ** 2 + a[3] ** 2) / 2), np.var(a[1:])], rtol=1e-12)


def test_features_of_several_channels_are_named_by_channel():
    pipeline = parse_pipeline(TWO_CHANNELS, "two")
    names = ["rms", "hjorth_mobility", "hjorth_complexity", "hjorth_activity"]
    assert pipeline.feature_names == tuple(f"{name}_{channel}" for name in names for channel in (0, 1))
    assert shipped_pipelines()["ecg"].feature_names == tuple(names)


def test_what_becomes_of_what_is_missing():
    default, own = parse(HEAD + RMS + FEATURES), parse(f'{HEAD}gap = "hold"\nmax_gap = 0.29\n{RMS}{FEATURES}')
    assert (default.gap, default.max_gap, default.non_finite, default.most_filled) == ("reset", 1.0, "reject", 0)
    assert (own.gap, own.max_gap, own.most_filled) == ("hold", 0.29, 72)
    for rate, max_gap, samples in ((100, 0.29, 29), (10, 0.3, 3), (250, 0.0, 0), (0.01, 100, 1), (0.01, 99, 0)):
        text = f'name="p"\nsample_rate={rate}\ngap="zero"\nmax_gap={max_gap}\n{RMS}{FEATURES}'
        assert parse(text).most_filled == samples


def test_the_shipped_ecg_pipelines_are_as_the_contract_says():
    pipelines = shipped_pipelines()
    for name, source in (("ecg", "rms"), ("ecg-branched", "bandpass")):
        pipeline = pipelines[name]
        assert pipeline.signal == (250.0, 1)
        assert [(node.name, node.source, node.type) for node in pipeline.nodes] == [
            ("bandpass", "input", "butterworth"),
            ("rms", "bandpass", "moving_rms"),
            ("hjorth", source, "hjorth"),
        ]
        params = [msgspec.to_builtins(node.params) for node in pipeline.nodes]
        assert params == [{"order": 4, "cutoff": (0.5, 100.0), "btype": "bandpass"}, {"window": 50}, {"window": 256}]


# --- Fingerprint --------------------------------------------------------------------------------------------------

BRANCHED = """
name = "p"
sample_rate = 250.0
channels = 1
[[stages]]
type = "butterworth"
name = "low"
order = 4
cutoff = [40.0]
[[stages]]
type = "moving_rms"
name = "rms"
window = 50
[[stages]]
type = "hjorth"
name = "hjorth"
input = "rms"
window = 256
[features]
rms = "rms"
activity = "hjorth.activity"
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("sample_rate = 250.0", "sample_rate = 250.5"),
        ("channels = 1", "channels = 2"),
        ("order = 4", "order = 3"),
        ("cutoff = [40.0]", "cutoff = [40.00000000000001]"),
        ("cutoff = [40.0]", 'cutoff = [40.0]\nbtype = "highpass"'),
        ("window = 50", "window = 51"),
        ("window = 256", "window = 255"),
        ('input = "rms"', 'input = "low"'),
        ('input = "rms"', 'input = "input"'),
        ('name = "low"', 'name = "smooth"'),
        ('name = "rms"\nwindow = 50\n', 'name = "rms"\ninput = "input"\nwindow = 50\n'),
        ("[features]", '[[stages]]\ntype = "moving_rms"\nname = "more"\nwindow = 5\n[features]'),
    ],
)
def test_the_fingerprint_changes_with_what_the_state_depends_on(before, after):
    assert BRANCHED.count(before) == 1
    assert parse(BRANCHED.replace(before, after)).fingerprint != parse(BRANCHED).fingerprint


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('name = "p"', 'name = "q"'),
        ('rms = "rms"', 'envelope = "rms"'),
        ('rms = "rms"\n', ""),
        ('activity = "hjorth.activity"', 'activity = "hjorth.activity"\nmobility = "hjorth.mobility"'),
        ("sample_rate = 250.0", "sample_rate = 250  # Hz"),
        ("channels = 1\n", ""),
        ("channels = 1", 'gap = "hold"\nmax_gap = 2.5'),
        ("channels = 1", 'non_finite = "interpolate"'),
        ("cutoff = [40.0]", "cutoff = [40]"),
        ("order = 4", 'btype = "lowpass"\norder = 4'),
        ('input = "rms"\n', ""),
    ],
)
def test_the_fingerprint_does_not_change_with_anything_else(before, after):
    assert BRANCHED.count(before) == 1
    assert parse(BRANCHED.replace(before, after)).fingerprint == parse(BRANCHED).fingerprint


@pytest.mark.parametrize("kind", STAGES)
def test_the_fingerprint_changes_with_every_parameter_of_every_stage(kind):
    """Between any two of the stage's examples, which differ in each parameter somewhere."""
    stage = STAGES[kind]
    tried = [msgspec.convert(in_samples(stage.params, dict(own), EXAMPLE_RATE), stage.params) for own in stage.examples]
    for field in stage.params.__struct_fields__:
        assert len({repr(getattr(own, field)) for own in tried}) > 1, f"{field}: give an example with another value"
    signal = Signal(EXAMPLE_RATE, 2)
    prints = {fingerprint(signal, [Node(kind, RAW_INPUT, kind, stage, own, signal)]) for own in tried}
    assert len(prints) == len(tried)
    assert all(len(one) == 16 for one in prints)


def test_the_fingerprint_changes_with_a_hop_and_with_the_stages_version():
    signal, stage = Signal(EXAMPLE_RATE, 1), STAGES["hjorth"]
    params = stage.params(window=9)
    node = Node("a", RAW_INPUT, "hjorth", stage, params, signal)
    later = replace(node, stage=replace(stage, version=2))
    every = [node, later, replace(node, hop=2), replace(node, hop=3), replace(later, hop=3)]
    assert len({fingerprint(signal, [own]) for own in every}) == len(every)


# --- Settling -----------------------------------------------------------------------------------------------------

BRANCHES = f"""{HEAD}
[[stages]]
type = "moving_rms"
name = "a"
window = 7
[[stages]]
type = "moving_rms"
name = "b"
window = 20
[[stages]]
type = "hjorth"
window = 5
[[stages]]
type = "moving_rms"
name = "c"
window = 30
input = "a"
[features]
b = "b"
c = "c"
"""


def test_settling_adds_up_along_the_longest_branch():
    assert parse(BRANCHES).settle_samples == 7 + 30
    assert parse(BRANCHES.replace("window = 5\n", "window = 12\n")).settle_samples == 7 + 20 + 12


#: Slow poles, many poles, and an offset far above what passes.
HIGH_PASS = f"""{HEAD}
[[stages]]
type = "butterworth"
btype = "highpass"
order = 3
cutoff = [0.2]
[[stages]]
type = "butterworth"
name = "notch"
btype = "bandstop"
order = 8
cutoff = [40, 60]
[[stages]]
type = "moving_rms"
window = 40
[features]
rms = "moving_rms"
"""


@pytest.mark.parametrize(
    "pipeline",
    [shipped_pipelines()["ecg"], shipped_pipelines()["ecg-branched"], parse(HIGH_PASS)],
    ids=lambda own: own.name,
)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_cold_start_gives_the_same_features_once_it_has_settled(pipeline, offset):
    x = builtin_ecg().channel(0) + offset
    settled = pipeline.settle_samples
    assert settled < 40_000
    for begin in (5_000, 12_345, 30_000):
        end = begin + settled

        def features(start: int) -> np.ndarray:
            return Partition(Engine(pipeline)).feed(Block("s", x[start:end], 0)).values[0]  # noqa: B023

        np.testing.assert_allclose(features(begin), features(0), rtol=1e-6)
        unsettled = features(end - settled // 20)
        assert not np.allclose(unsettled, features(0), rtol=1e-6), "it takes its time"

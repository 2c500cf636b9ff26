"""Missing samples: gaps filled or not, NaN and infinity repaired, as an offline pass over the mended signal has it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.dsp.engine import Engine, Features
from app.dsp.missing import filling, repaired
from app.dsp.pipeline import Pipeline
from app.dsp.placement import MAX_RUN
from app.offline import Policies, ecg_features, stretches
from app.pipelines import shipped_pipelines
from app.sources import builtin_ecg
from tests.feeding import Block, Partition, move, two_channels

ECG = builtin_ecg().channel(0)
PIPELINES = {name: shipped_pipelines()[name] for name in ("ecg", "ecg-branched")} | {"two-channels": two_channels()}
ODD = (np.nan, np.inf, -np.inf)

pytestmark = pytest.mark.usefixtures("way")


def with_policies(name: str, policies: Policies) -> Pipeline:
    return dataclasses.replace(PIPELINES[name], **policies._asdict())


class Story(NamedTuple):
    """What several sensors send of a signal with holes, and how it falls into batches."""

    sent: list[list[tuple[int, int]]]
    """First sample and length of each sensor's blocks."""
    holes: int
    """Seed of the samples that are no numbers."""
    order: list[int]
    """Sensor of each block."""
    cuts: list[bool]
    """Whether a batch ends with each block."""
    moves: list[list[int]]
    """Sensors that are saved, evicted and restored after it."""


@st.composite
def stories(draw: st.DrawFn) -> Story:
    length = st.one_of(st.sampled_from([1, 2, 7, 256]), st.integers(1, 300))
    gap = st.one_of(st.just(0), st.sampled_from([1, 49, 50, 51]), st.integers(0, 100))
    sent = []
    for _ in range(draw(st.integers(1, 3))):
        start, own = 0, []
        for skipped, count in draw(st.lists(st.tuples(gap, length), min_size=1, max_size=6)):
            start += skipped if own else 0
            own.append((start, count))
            start += count
        sent.append(own)
    order = draw(st.permutations([sensor for sensor, own in enumerate(sent) for _ in own]))
    cuts = draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    moved = st.lists(st.integers(0, len(sent) - 1), unique=True, max_size=len(sent))
    moves = draw(st.lists(moved, min_size=len(order), max_size=len(order)))
    return Story(sent, draw(st.integers(0, 99)), order, cuts, moves)


def signal(sensor: int, channels: int, holes: int, *, odd: bool) -> np.ndarray:
    """Give a sensor's samples (samples, channels), with single holes and long ones."""
    start = 3000 * sensor
    x = np.stack([ECG[start + 800 * c :][:2500] * (c + 1) for c in range(channels)], axis=-1)
    if odd:
        random = np.random.default_rng((holes, sensor))
        for _ in range(random.integers(0, 12)):
            at, channel = random.integers(len(x)), random.integers(channels)
            x[at : at + random.choice([1, 1, 5, 300]), channel] = random.choice(ODD)
    return x


def block(sensor: str, x: np.ndarray, start: int, length: int) -> Block:
    return Block(sensor, x[start : start + length].ravel(), start, start * 4)


class Own(NamedTuple):
    seq: int
    gap: int
    quality: float
    values: np.ndarray
    full: np.ndarray


def rows(features: Features) -> list[Own]:
    return [
        Own(*row)
        for row in zip(
            features.seq, features.gap, features.quality.tolist(), features.values, features.full, strict=True
        )
    ]


def told(story: Story, pipeline: Pipeline) -> list[list[Own]]:
    """Run a story; gives each sensor's features block by block."""
    channels = pipeline.signal.channels
    signals = [
        signal(sensor, channels, story.holes, odd=pipeline.non_finite != "reject") for sensor in range(len(story.sent))
    ]
    waiting = [iter(own) for own in story.sent]
    partition = Partition(Engine(pipeline))
    results: list[list[Own]] = [[] for _ in waiting]
    batch: list[tuple[int, Block]] = []
    for place, sensor in enumerate(story.order):
        batch.append((sensor, block(f"s{sensor}", signals[sensor], *next(waiting[sensor]))))
        if story.cuts[place] or place == len(story.order) - 1:
            features = partition.feed(*(one for _, one in batch))
            for (owner, _), own in zip(batch, rows(features), strict=True):
                results[owner].append(own)
            batch = []
            move(partition.engine, [f"s{other}" for other in story.moves[place]])
    return results


SHORT = 50 / 250
POLICIES = [
    Policies("reset", SHORT, "hold"),
    Policies("hold", SHORT, "reject"),
    Policies("hold", SHORT, "interpolate"),
    Policies("interpolate", SHORT, "hold"),
    Policies("interpolate", SHORT, "interpolate"),
    Policies("zero", SHORT, "interpolate"),
    Policies("zero", 0.0, "reject"),
]
AFTER_GAP_IN_BATCH = Story([[(0, 300), (320, 300), (640, 1)]], 3, [0, 0, 0], [False, False, True], [[], [], []])
AFTER_GAP_ALONE = AFTER_GAP_IN_BATCH._replace(cuts=[True] * 3, moves=[[0]] * 3)


@pytest.mark.parametrize("policies", POLICIES, ids=lambda own: f"{own.gap}-{own.max_gap:g}-{own.non_finite}")
@pytest.mark.parametrize("name", PIPELINES)
@given(story=stories())
@settings(max_examples=25)
@example(AFTER_GAP_IN_BATCH)
@example(AFTER_GAP_ALONE)
def test_any_interleaving_gives_an_offline_pass_over_the_mended_signal(name, policies, story):
    """And to the last bit what each sensor gives alone, a block a batch."""
    pipeline = with_policies(name, policies)
    channels = pipeline.signal.channels
    for sensor, own in enumerate(told(story, pipeline)):
        x = signal(sensor, channels, story.holes, odd=policies.non_finite != "reject")
        alone = Partition(Engine(pipeline))
        for one, sent in zip(own, story.sent[sensor], strict=True):
            (other,) = rows(alone.feed(block("alone", x, *sent)))
            assert one[:3] == other[:3]
            assert (one.values.tobytes(), one.full.tobytes()) == (other.values.tobytes(), other.full.tobytes())
        shares = np.zeros(len(own))
        for channel in range(channels):
            expected = stretches(x[:, channel], *zip(*story.sent[sensor], strict=True), policies)
            shown = [np.where(one.full, one.values, np.nan)[channel::channels] for one in own]
            whole = [ecg_features(s.signal, s.ends, branched=name == "ecg-branched") for s in expected]
            assert_close(np.stack(shown), np.concatenate(whole))
            assert [one.gap for one in own] == [gap for stretch in expected for gap in stretch.gaps]
            shares += [quality for stretch in expected for quality in stretch.quality]
        np.testing.assert_allclose([one.quality for one in own], shares / channels, rtol=1e-12)


def assert_close(shown: np.ndarray, expected: np.ndarray) -> None:
    """Compare, but for ratios of variances that are all rounding: over what was held or zero for a whole window."""
    assert np.array_equal(np.isnan(shown), np.isnan(expected))
    settled = ~(expected[:, 3] < 1e-15 * np.nanmax(expected[:, 3], initial=0.0))
    np.testing.assert_allclose(shown[settled], expected[settled], rtol=1e-9, atol=0)


# --- What is made up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("hold", [[1, -8], [1, -8], [1, -8]]),
        ("interpolate", [[2, -6], [3, -4], [4, -2]]),
        ("zero", [[0, 0], [0, 0], [0, 0]]),
    ],
)
def test_filling(policy, expected):
    np.testing.assert_allclose(filling(policy, np.array([1.0, -8]), np.array([5.0, 0]), 3), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("policy", "samples", "expected"),
    [
        ("hold", [np.nan, 4, np.inf, -np.inf, 8, np.nan], [2, 4, 4, 4, 8, 8]),
        ("interpolate", [np.nan, 4, np.inf, -np.inf, 10, np.nan], [3, 4, 6, 8, 10, 10]),
        ("hold", [np.nan, np.nan], [2, 2]),
        ("interpolate", [np.nan, np.nan], [2, 2]),
        ("interpolate", [1.0, 5.0], [1, 5]),
    ],
)
def test_repairing(policy, samples, expected):
    """The other channel, which is sound, stays as it is; what was given too."""
    other = np.arange(len(samples)) * 7.0
    frames = np.stack([samples, other], axis=-1)
    before = frames.copy()
    np.testing.assert_allclose(repaired(policy, frames, np.array([2.0, 99])), np.stack([expected, other], axis=-1))
    np.testing.assert_array_equal(frames, before)


def test_a_stream_that_begins_with_a_hole_begins_with_zeros():
    pipeline = with_policies("ecg", Policies(non_finite="hold"))
    x = ECG[:400].copy()
    x[:30] = np.nan
    features = Partition(Engine(pipeline)).feed(Block("s", x, 0))
    expected = ecg_features(np.concatenate([np.zeros(30), ECG[30:400]]), [400])
    np.testing.assert_allclose(features.values, expected, rtol=1e-9)
    assert features.quality.tolist() == [370 / 400]


@pytest.mark.parametrize(("gap", "filled"), [(249, True), (250, True), (251, False), (10**9, False)])
def test_a_gap_is_filled_up_to_its_greatest_length(gap, filled):
    pipeline = with_policies("ecg", Policies("hold"))
    feed = Partition(Engine(pipeline))
    feed.feed(Block("s", ECG[:500], 0))
    features = feed.feed(Block("s", ECG[500:600], 500 + gap))
    assert (features.gap, features.events["gap_filled"], features.events["gap_reset"]) == ([gap], filled, not filled)
    assert features.quality.tolist() == [100 / (100 + gap) if filled else 1.0]
    assert features.full.tolist() == [[True, filled, filled, filled]]


def test_the_samples_filled_in_are_no_duplicates_when_they_come():
    pipeline = with_policies("ecg", Policies("hold"))
    one, two, three = (Block("s", ECG[n * 100 :][:100], n * 100) for n in range(3))
    features = Partition(Engine(pipeline)).feed(one, three, two, three)
    assert (features.events["late"], features.events["duplicate"]) == (1, 1)


def test_events_and_quality_of_repairs():
    pipeline = with_policies("two-channels", Policies("hold", 1.0, "hold"))
    x = np.ones((40, 2))
    x[[3, 4, 33], [0, 1, 1]] = np.nan
    feed = Partition(Engine(pipeline))
    features = feed.feed(block("s", x, 0, 10), block("s", x, 10, 10), block("s", x, 30, 10), block("s", x, 0, 10))
    assert features.quality.tolist() == [18 / 20, 1.0, 19 / 40]
    assert features.events == dict.fromkeys(features.events, 0) | {"repaired": 2, "gap_filled": 1, "late": 1}


def test_what_is_refused_opens_a_gap():
    """Nothing tells the engine of a block that became a dead letter, but the next one's index."""
    feed = Partition(Engine(PIPELINES["ecg"]))
    features = feed.feed(Block("s", ECG[:256], 0), Block("s", ECG[512:768], 512))
    assert (features.gap, features.events["gap_reset"]) == ([0, 256], 1)


def test_long_fills_do_not_pile_up_in_memory():
    """A sensor of single samples, each after the longest gap: worked on piece by piece, the state carried along."""
    pipeline = dataclasses.replace(PIPELINES["ecg"], gap="hold", max_gap=1000.0)
    step = 100_000
    sent = [Block("s", ECG[n : n + 1], n * step) for n in range(12)]
    assert 12 * step > MAX_RUN
    features = Partition(Engine(pipeline)).feed(*sent)
    (held,) = stretches(np.repeat(ECG[:12], step), [n * step for n in range(12)], [1] * 12, Policies("hold", 1000.0))
    assert features.events["gap_filled"] == 11
    assert_close(features.values[1:], ecg_features(held.signal, held.ends)[1:])
    assert features.full.tolist() == [[False] * 4] + [[True] * 4] * 11

"""Two real recordings through the engine, in blocks of any size, against an offline pass over the same samples."""

from __future__ import annotations

import numpy as np
import pytest

from app.dsp.engine import Engine
from app.offline import ecg_features
from app.pipelines import shipped_pipelines
from tests.feeding import Block, Partition
from tests.recordings import record_at_250_hz

MINUTE = 60 * 250


def lengths_of(kind: str, samples: int) -> np.ndarray:
    """Give block lengths that add up to all samples, or to two minutes where blocks are single samples."""
    if kind == "mixed":
        lengths = np.random.default_rng(8).choice([1, 7, 256, 1000, 313], samples)
    else:
        length = int(kind)
        lengths = np.full((2 * MINUTE if length == 1 else samples) // length, length)
    return lengths[np.cumsum(lengths) <= samples]


@pytest.mark.parametrize("pipeline", ["ecg", "ecg-branched"])
@pytest.mark.parametrize("kind", ["1", "7", "256", "1000", "mixed"])
@pytest.mark.parametrize(("name", "channel"), [("100", "MLII"), ("100", "V5"), ("v102s", "II"), ("v102s", "V")])
def test_features_equal_an_offline_pass(name, channel, kind, pipeline):
    x = record_at_250_hz(name, channel).channel(0)
    if kind == "7":
        x = x[: 5 * MINUTE]
    ends = np.cumsum(lengths_of(kind, len(x)))
    starts = np.concatenate([[0], ends[:-1]])
    # A block that touches an invalid sample is not sent; the next one finds a gap.
    invalid = np.concatenate([[0], np.cumsum(np.isnan(x))])
    whole = invalid[ends] == invalid[starts]
    starts, ends = starts[whole], ends[whole]
    expected, gaps = offline(x, starts, ends, branched=pipeline == "ecg-branched")

    partition = Partition(Engine(shipped_pipelines()[pipeline]))
    results, told = [], []
    for first in range(0, len(starts), 500):
        batch = [
            Block("s", x[start:end], int(start), round(start * 4))
            for start, end in zip(starts[first : first + 500], ends[first : first + 500], strict=True)
        ]
        features = partition.feed(*batch)
        results.append(np.where(features.full, features.values, np.nan))
        told += features.gap
    np.testing.assert_allclose(np.concatenate(results), expected, rtol=1e-9, atol=0)
    assert told == gaps


def offline(x: np.ndarray, starts: np.ndarray, ends: np.ndarray, *, branched: bool) -> tuple[np.ndarray, list[int]]:
    """Features of every block, each stretch without a gap from its own beginning; and the gap before each block."""
    gaps = [0, *(starts[1:] - ends[:-1]).tolist()]
    begins = [n for n, gap in enumerate(gaps) if n == 0 or gap]
    expected = [
        ecg_features(x[starts[first] : ends[last - 1]], ends[first:last] - starts[first], branched=branched)
        for first, last in zip(begins, [*begins[1:], len(starts)], strict=True)
    ]
    return np.concatenate(expected), gaps


def test_the_recordings_have_what_is_to_be_shown():
    """Real invalid samples in one, none in the other."""
    assert np.isnan(record_at_250_hz("v102s", "II").channel(0)).any()
    assert np.isfinite(record_at_250_hz("100", "MLII").channel(0)).all()
    assert len(record_at_250_hz("100", "MLII").channel(0)) > 30 * MINUTE

"""Each stage's state as it is in snapshots: a change of it would misread the states that were saved before.

`python -m tests.test_dsp_layouts` writes the file anew, after the stage's `version` has been raised.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from app.dsp.conformance import trials
from app.dsp.engine import Engine
from app.dsp.errors import SnapshotError
from app.dsp.pipeline import RAW_INPUT, Node, fingerprint
from app.dsp.stages import STAGES
from app.pipelines import shipped_pipelines
from tests.feeding import Block, Partition
from tests.system import noise

GOLDEN = Path(__file__).parent / "golden" / "layouts.json"
OURS = [kind for kind in STAGES if STAGES.is_ours(kind)]


def layout(kind: str) -> dict[str, Any]:
    """Of a stage's first example: what identifies its state, and the state's arrays."""
    stage = STAGES[kind]
    trial = trials(stage, stage.examples[:1])[0]
    node = Node(kind, RAW_INPUT, kind, stage, trial.params, trial.signal)
    state = trial.fresh(1)
    return {
        "params": msgspec.to_builtins(trial.params),
        "fingerprint": fingerprint(trial.signal, [node]).hex(),
        "state": {name: [array.dtype.str, *array.shape[1:]] for name, array in state.items()},
    }


@pytest.mark.parametrize("kind", OURS)
def test_states_saved_before_still_fit(kind):
    golden = json.loads(GOLDEN.read_text())
    now = json.loads(json.dumps(layout(kind)))
    assert now == golden.get(kind), "states saved before do not fit: raise the stage's version"


def test_no_stage_has_gone():
    assert json.loads(GOLDEN.read_text()).keys() == set(OURS)


@pytest.mark.parametrize("name", sorted(shipped_pipelines()))
def test_d08_a_snapshot_of_another_pipeline_changes_nothing(name):
    """It is refused whole: nothing is merged, nothing is half loaded, and the engine goes on as before."""
    pipelines = shipped_pipelines()
    pipeline, other = pipelines[name], pipelines["report" if name != "report" else "ecg"]
    stranger = Partition(Engine(other))
    stranger.feed(Block("t", noise(40 * other.signal.channels, 1), 0))
    (wrong,) = stranger.engine.snapshots([stranger.engine.sensors["t"]])
    partition, alone = Partition(Engine(pipeline)), Partition(Engine(pipeline))
    x = noise(64 * pipeline.signal.channels, 2)
    first, second = Block("s", x[: len(x) // 2], 0), Block("s", x[len(x) // 2 :], 32)
    partition.feed(first)
    alone.feed(first)
    (own,) = partition.engine.snapshots([partition.engine.sensors["s"]])
    before = set(partition.engine.sensors)
    with pytest.raises(SnapshotError, match="pipeline"):
        partition.engine.restore({"u": own, "t": wrong})
    assert set(partition.engine.sensors) == before
    got, expected = partition.feed(second), alone.feed(second)
    assert got.values.tobytes() == expected.values.tobytes()


def test_d26_blocks_of_other_channels_never_come_so_far():
    """A pipeline's channels are part of what identifies a state, and the decoder refuses blocks of others."""
    ecg = shipped_pipelines()["ecg"]
    two = fingerprint(ecg.signal._replace(channels=2), ecg.nodes)
    assert two != ecg.fingerprint
    with pytest.raises(ValueError, match="channels"):
        trials(STAGES["hjorth"])[0].run(np.zeros((1, 2, 5)))


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({kind: layout(kind) for kind in OURS}, indent=1) + "\n")

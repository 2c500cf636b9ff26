"""The manual's code blocks run as they stand, one after another, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from app.records import EcgFeatures
from app.runtime.instance import living_workers
from app.services import running
from app.tiers import TIER_DEFAULTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


class Code(NamedTuple):
    language: str
    text: str
    is_run: bool


BLOCKS = [
    Code(found["language"], found["text"], not found["skip"])
    for found in re.finditer(
        r"(?P<skip><!-- run: no[^>]*-->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", README, re.DOTALL
    )
]


def test_blocks_run_as_they_stand(tmp_path: Path, stopped_at_end: Callable[[Path], Path]) -> None:
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    stopped_at_end(tmp_path / ".continuum")
    lines = ["set -eu"]
    for number, block in enumerate(BLOCKS):
        if block.is_run and block.language == "sh":
            lines.append(block.text)
        elif block.is_run and block.language == "python":
            (tmp_path / f"{number}.py").write_text(block.text)
            lines.append(f"{sys.executable} {number}.py")
    # Wait for the one block's record, as a reader would, and stop everything.
    lines.append(f"{sys.executable} {ROOT}/tests/features_of.py ward7-bed3 > one-block.jsonl")
    (stop,) = [block.text for block in BLOCKS if block.text.startswith("continuum down")]
    lines.append(stop)
    log = tmp_path / "log"
    with log.open("w") as output:
        done = subprocess.run(
            ["bash", "-c", "\n".join(lines)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=280,
            check=False,
        )
    assert done.returncode == 0, log.read_text()[-5000:]
    record = msgspec.json.decode((tmp_path / "one-block.jsonl").read_bytes())
    assert (record["sensorId"], record["seq"], record["gap"], record["tier"]) == ("ward7-bed3", 0, 0, "rt")
    assert record["rms"] is not None
    offline = (tmp_path / "features.jsonl").read_text().splitlines()
    assert len(offline) == 293, "five minutes of ECG in blocks of 256 samples"
    assert running(tmp_path / ".continuum") is None
    assert not living_workers(tmp_path / ".continuum")


def test_the_record_shown_is_the_record_s_type() -> None:
    (shown,) = [msgspec.json.decode(block.text) for block in BLOCKS if block.language == "json"]
    assert list(shown) == list(EcgFeatures._options.fields)


def test_the_table_of_tiers_is_what_is_in_force() -> None:
    for tier, own in TIER_DEFAULTS.items():
        checkpoint = f"{own.checkpoint_seconds:g} s or {own.checkpoint_messages} messages"
        last = f"{checkpoint} | {own.idle_after:g} s | {own.linger * 1000:g} ms | {own.at_once} |"
        assert f"| `{tier}` | {own.sensors} | {own.partitions} | `{own.pipeline}` | {last}\n" in README


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)", README))))
def test_make_targets_exist(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)

"""The pinned requirements have what the project declares."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    "runtime": [],
    "image": ["function"],
    "demo": ["embedded", "recordings"],
    "dev": list(PROJECT["optional-dependencies"]),
}


def normalised(requirement: str) -> str:
    name, _, version = re.sub(r"\[.*?\]", "", requirement).partition("==")
    return f"{re.sub('[-_.]+', '-', name).lower()}=={version}"


@pytest.mark.parametrize("target", EXTRAS)
def test_every_declared_requirement_is_pinned(target):
    extras = [one for own in EXTRAS[target] for one in PROJECT["optional-dependencies"][own]]
    declared = [*PROJECT["dependencies"], *extras]
    pinned = set(re.findall(r"^(\S+==\S+)", (ROOT / ".requirements" / f"{target}.txt").read_text(), re.M))
    pinned = {normalised(one) for one in pinned}
    missing = {one for one in declared if "==" in one and normalised(one) not in pinned}
    assert not missing, "run make lock"

"""Stages of other packages: found by entry points, held to what ours are held to, and never in the place of ours."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.dsp.errors import PipelineError
from app.dsp.examination import examination
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stages import STAGES, Registry
from app.pipelines.response import responses
from app.pipelines.schema import pipeline_schema
from app.settings import load_settings
from tests.command import continuum
from tests.test_readme import BLOCKS

#: The stage that the manual shows.
(CHANGE,) = [block.text for block in BLOCKS if block.language == "python" and "STAGE" in block.text]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Registry]]:
    """Give a function that installs a package of stages, and gives a registry that has looked again."""
    found = {name: STAGES.__dict__.pop(name) for name in ("_points", "_theirs", "ignored") if name in STAGES.__dict__}
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)

    def install(package: str, text: str, **points: str) -> Registry:
        (tmp_path / f"{package}.py").write_text(text)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {package}:{what}" for name, what in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[continuum.stages]", *lines, ""]))
        for name in ("_points", "_theirs", "ignored"):
            STAGES.__dict__.pop(name, None)
        return STAGES

    yield install
    for name in ("_points", "_theirs", "ignored"):
        STAGES.__dict__.pop(name, None)
    STAGES.__dict__.update(found)
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def pipeline_of(kind: str, body: str = 'lag = "20ms"'):
    text = f'name = "p"\nsample_rate = 250.0\n[[stages]]\ntype = "{kind}"\n{body}\n[features]\nf = "{kind}"\n'
    return parse_pipeline(text, "p.toml")


def test_a_package_s_stage_is_one_of_the_registry(installed):
    ours = list(STAGES)
    registry = installed("their_change", CHANGE, change="STAGE")
    assert list(registry) == [*ours, "change"]
    assert len(registry) == len(ours) + 1
    assert "change" in registry
    assert "chang" not in registry
    assert (registry.family("change"), registry.module("change")) == ("their_change", "their_change")
    assert not registry.is_ours("change")
    assert not registry.ignored
    (node,) = pipeline_of("change").nodes
    assert node.params.lag == 5
    assert (
        "change"
        in pipeline_schema().document["properties"]["stages"]["items"]["allOf"][0]["properties"]["type"]["enum"]
    )


def test_its_response_is_measured_as_ours_are(installed):
    installed("measured_change", CHANGE, change="STAGE")
    (response,) = responses(pipeline_of("change"))
    (curve,) = response.curves
    expected = np.zeros(len(curve.impulse))
    expected[[0, 5]] = 1, -1
    np.testing.assert_array_equal(curve.impulse, expected)


def test_a_name_of_ours_stays_ours_and_of_two_the_first_is_taken(installed):
    own = STAGES["moving_rms"]
    installed("thief", CHANGE, moving_rms="STAGE", change="STAGE")
    registry = installed("twin", CHANGE, change="STAGE")
    assert registry["moving_rms"] is own
    assert registry.is_ours("moving_rms")
    taken = registry.family("change")
    assert {(point.dist.name, point.name) for point in registry.ignored} == {
        ("thief", "moving_rms"),
        *({("thief", "change"), ("twin", "change")} - {(taken, "change")}),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_package", "cannot be loaded: ModuleNotFoundError(\"No module named 'no_such_package'\")"),
        ("1 / 0", "cannot be loaded: ZeroDivisionError"),
        ("", "cannot be loaded: AttributeError"),
        ("STAGE = 3", "is 3, expected an app.dsp.stage.Stage"),
    ],
    ids=["imports", "raises", "lacks it", "another thing"],
)
async def test_one_that_cannot_be_loaded_says_so_where_it_is_used_and_nowhere_else(installed, tmp_path, text, says):
    registry = installed(f"broken{len(text)}", text, broken="STAGE")
    assert "broken" in registry
    with pytest.raises(PipelineError, match=r"stage 'broken', which broken.* provides") as refused:
        registry["broken"]
    assert says in str(refused.value)
    with pytest.raises(PipelineError, match=r"^p\.toml: stage 'broken'"):
        pipeline_of("broken")
    settings = load_settings(datadir=tmp_path)
    listed = await continuum(settings, "pipelines", "list", "--stages", "--json")
    assert listed.code == 0
    (own,) = [stage for stage in listed.json if stage["type"] == "broken"]
    assert says in own["fault"]
    assert all(stage["fault"] is None for stage in listed.json if stage["type"] != "broken")
    schema = await continuum(settings, "pipelines", "schema")
    assert schema.code == 0
    assert "left out: stage 'broken'" in schema.notes
    checked = await continuum(settings, "pipelines", "check", "--stage", "broken")
    assert checked.code == 2
    assert "error: stage 'broken'" in checked.notes


async def test_the_manual_s_stage_conforms(installed, tmp_path):
    installed("good_change", CHANGE, change="STAGE")
    settings = load_settings(datadir=tmp_path)
    done = await continuum(settings, "pipelines", "check", "--stage", "change", "--rounds", "3", "--json")
    assert done.code == 0, done.out
    (result,) = done.json
    assert (result["stage"], result["passed"], result["faults"]) == ("change", True, [])
    trials = 2 * 2  # examples, and counts of channels
    assert result["counts"]["described"] == {"made": 1, "failed": 0}
    assert result["counts"]["chunks"] == {"made": 3 * trials, "failed": 0}
    assert result["counts"]["finite: huge"] == {"made": trials, "failed": 0}


#: What may be wrong with a stage, as a change of the manual's, and the checks that find it.
FAULTS = {
    "state is not kept": ('{"last": series[..., x.shape[-1] :]}', "state", {"chunks", "sample by sample", "resume"}),
    "sums run on": ("change = x -", "change = np.cumsum(x, axis=-1) -", {"chunks", "sample by sample", "resume"}),
    "rows touch": ("change = x -", "change = x - x.mean(axis=0) -", {"rows", "large batch", "resume"}),
    "channels touch": ("change = x -", "change = x - x.mean(axis=1, keepdims=True) -", {"channels"}),
    "the batch matters": ("change = x -", "change = x - 1e-9 * (len(x) > 50) -", {"large batch"}),
    "input is changed": (
        "change = x - series[..., : x.shape[-1]]",
        "x -= series[..., : x.shape[-1]]\n    change = x",
        {"input untouched"},
    ),
    "the row is not first": ("(rows, signal.channels, params.lag)", "(1, rows, params.lag)", {"state"}),
    "it overflows": ("change = x -", "change = x * x * x -", {"finite: huge", "finite: huge noise"}),
    "it is nan": ("change = x -", "change = np.where(x < 0, np.nan, x) -", {"finite: huge, alternating"}),
    "it has more channels": (
        "return Result({",
        "change = np.repeat(change, 2, axis=1)\n    return Result({",
        {"signal"},
    ),
    "a parameter is not described": ("``lag``, how far back", "one", {"described"}),
    "a function is not described": ('"""Until nothing is left of what was before."""', "", {"described"}),
    "parameters may change": ("frozen=True", "frozen=False", {"parameters"}),
    "an example is refused": ('{"lag": 60}', '{"lag": 0}', {"examples"}),
    "it raises": ("change = x -", "change = x / len(x[2]) -", {"chunks", "signal"}),
}


@pytest.mark.parametrize("what", FAULTS)
async def test_faults_of_a_stage_are_found(installed, tmp_path, what):
    before, after, expected = FAULTS[what]
    assert CHANGE.count(before) == 1
    package = f"faulty_{list(FAULTS).index(what)}"
    installed(package, CHANGE.replace(before, after), **{package: "STAGE"})
    settings = load_settings(datadir=tmp_path)
    done = await continuum(settings, "pipelines", "check", "--stage", package, "--rounds", "3", "--json")
    assert done.code == 1
    (result,) = done.json
    assert not result["passed"]
    assert expected <= {name for name, count in result["counts"].items() if count["failed"]}
    assert {fault["check"] for fault in result["faults"]} == {
        name for name, count in result["counts"].items() if count["failed"]
    }
    told = await continuum(settings, "pipelines", "check", "--stage", package, "--rounds", "1")
    assert told.code == 1
    assert f"{package}: {sorted(expected)[0]}" in told.out.decode()


def test_a_seed_draws_the_same_again_and_another_something_else():
    rms = STAGES["moving_rms"]

    def forgetful(params, signal, state, x, marks):
        return rms.step(params, signal, rms.init(params, signal, len(x)), x, marks)

    def faults(seed: int) -> list[str | None]:
        checks = examination(replace(rms, step=forgetful), STAGES.module("moving_rms"), seed=seed, rounds=2)
        return [check.fault() for check in checks if check.name in ("chunks", "resume")]

    assert faults(1) == faults(1)
    assert faults(1) != faults(2)

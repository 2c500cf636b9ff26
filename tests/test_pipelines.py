"""The user's own pipelines: a folder of TOML files, beside the shipped ones or in their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.pipelines import PipelineFileError, PipelinesOnDemand, known_pipelines, shipped_pipelines
from app.settings import load_settings
from app.topics import needed_topics
from tests.command import continuum

ECG = shipped_pipelines()["ecg"]


def folder_of(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def test_without_a_folder_there_are_the_shipped_ones():
    assert known_pipelines(None) == shipped_pipelines()


def test_one_of_the_same_name_takes_the_place_of_the_shipped_one(tmp_path):
    wider = ECG.text.replace("window = 50", "window = 60")
    other = ECG.text.replace('name = "ecg"', 'name = "other"')
    known = known_pipelines(folder_of(tmp_path, a=wider, b=other))
    assert known.keys() == {*shipped_pipelines(), "other"}
    assert known["ecg"].fingerprint != ECG.fingerprint
    assert known["other"].fingerprint == ECG.fingerprint
    assert known["ecg"].text == wider
    topics = {topic.name for topic in needed_topics(load_settings(), known)}
    assert {"ecg-features", "ecg-branched-features", "other-features"} <= topics


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "CONTINUUM_PIPELINES=.*own: expected a folder with a TOML file for each pipeline"),
        ({"a": "name = "}, "own/a.toml: "),
        ({"a": ECG.text, "b": ECG.text.replace("order = 4", "order = 99")}, r"own/b.toml: stage 1 .*order = 99"),
        ({"a": ECG.text, "b": ECG.text}, "own/b.toml: pipeline 'ecg' is in .*own/a.toml too"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path, files, says):
    with pytest.raises(PipelineFileError, match=says):
        known_pipelines(folder_of(tmp_path, **files))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(PipelineFileError, match=r"CONTINUUM_PIPELINES=.*none"):
        known_pipelines(tmp_path / "none")


async def test_a_command_refuses_a_wrong_file_in_one_line(tmp_path):
    settings = load_settings(datadir=tmp_path, pipelines=folder_of(tmp_path, a="name = 1"))
    for command in (["topics", "list"], ["worker"], ["run", "--builtin"]):
        done = await continuum(settings, *command)
        assert done.code == 2
        assert "own/a.toml: pipeline:" in done.notes
        assert "Traceback" not in done.notes


async def test_run_takes_a_pipeline_of_the_folder(tmp_path):
    other = ECG.text.replace('name = "ecg"', 'name = "other"').replace("window = 50", "window = 60")
    settings = load_settings(datadir=tmp_path, pipelines=folder_of(tmp_path, other=other))
    done = await continuum(settings, "run", "--builtin", "--pipeline", "other")
    assert done.code == 0, done.notes
    assert b'"pipeline":"other"' in done.out


def test_pipelines_on_demand_are_those_known(tmp_path):
    (tmp_path / "mine.toml").write_text(shipped_pipelines()["ecg"].text.replace('name = "ecg"', 'name = "own"', 1))
    (tmp_path / "ecg.toml").write_text(shipped_pipelines()["ecg"].text.replace("window = 50", "window = 40", 1))
    for folder in (None, tmp_path):
        known, on_demand = known_pipelines(folder), PipelinesOnDemand(folder)
        assert dict(on_demand) == known
        assert len(on_demand) == len(known)
        assert "ecg" in on_demand
        assert "none" not in on_demand
        assert on_demand.get("none") is None
        assert on_demand["ecg"] is on_demand["ecg"]


def test_pipelines_on_demand_say_what_is_wrong_with_a_file(tmp_path):
    with pytest.raises(PipelineFileError, match="there is none"):
        PipelinesOnDemand(tmp_path)
    (tmp_path / "a.toml").write_text('name = "a"\n')
    (tmp_path / "b.toml").write_text('name = "a"\n')
    with pytest.raises(PipelineFileError, match=r"b\.toml: pipeline 'a' is in .*a\.toml too"):
        PipelinesOnDemand(tmp_path)
    (tmp_path / "b.toml").write_text("name = ")
    with pytest.raises(PipelineFileError, match=r"b\.toml"):
        PipelinesOnDemand(tmp_path)
    (tmp_path / "b.toml").unlink()
    found = PipelinesOnDemand(tmp_path)
    with pytest.raises(PipelineFileError, match=r"a\.toml"):
        found["a"]

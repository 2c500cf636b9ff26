"""`continuum pipelines` and `continuum bench stages`: what they list, show, find wrong, and draw."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest

from app.bench.stage_speeds import load_speeds
from app.dsp.engine import Engine
from app.dsp.pipeline_file import parse_pipeline
from app.dsp.stages import STAGES
from app.pipelines import read_pipeline, shipped_pipelines
from app.pipelines.readme_table import BEGIN, END
from app.pipelines.schema import pipeline_schema
from app.pipelines.stage_list import written
from app.settings import load_settings
from tests.command import Done, continuum
from tests.feeding import Block, Partition
from tests.stage_cases import CASES
from tests.test_readme import README

#: Two channels, two rates, a branch, a measure with a hop, a list.
MANY = """
name = "many"
sample_rate = 500
channels = 2
gap = "hold"
max_gap = 2.5
[[stages]]
name = "low"
type = "butterworth"
order = 2
cutoff = [40]
[[stages]]
name = "slow"
type = "decimate"
factor = 5
[[stages]]
name = "shape"
type = "hjorth"
window = "2s"
hop = "500ms"
[[stages]]
name = "rms"
type = "moving_rms"
input = "low"
window = "0.1s"
[features]
mobility = "shape.mobility"
shape = { of = "shape", take = "vector" }
loudest = { of = "rms", take = "max" }
"""
ECG = shipped_pipelines()["ecg"].text


async def run(tmp_path: Path, *arguments: str, pipelines: Path | None = None) -> Done:
    return await continuum(load_settings(datadir=tmp_path, pipelines=pipelines), "pipelines", *arguments)


def saved(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "own"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


# --- list ---------------------------------------------------------------------------------------------------------


async def test_list_has_shipped_and_own_pipelines(tmp_path):
    folder = saved(tmp_path, many=MANY, ecg=ECG.replace("window = 50", "window = 60"))
    done = await run(tmp_path, "list", "--json", pipelines=folder)
    assert done.code == 0
    shown = {own["name"]: own for own in done.json}
    assert shown.keys() == {*shipped_pipelines(), "many"}
    origins = {name: own["origin"] for name, own in shown.items()}
    assert origins.pop("ecg") == "own, in place of the shipped one"
    assert origins.pop("many") == "own"
    assert set(origins.values()) == {"shipped"}
    assert (shown["many"]["sampleRate"], shown["many"]["channels"]) == (500.0, 2)
    told = await run(tmp_path, "list", pipelines=folder)
    assert told.code == 0
    assert all(name in told.out.decode() for name in shown)


@pytest.mark.parametrize(
    "pipeline", [*shipped_pipelines().values(), parse_pipeline(MANY, "many")], ids=lambda p: p.name
)
async def test_the_snapshot_s_size_is_that_of_a_long_stream(tmp_path, pipeline):
    folder = saved(tmp_path, own=pipeline.text)
    done = await run(tmp_path, "show", str(folder / "own.toml"), "--json")
    partition = Partition(Engine(pipeline))
    partition.feed(Block("s", np.zeros(256 * pipeline.signal.channels), seq=0))
    (snapshot,) = partition.engine.snapshots([partition.engine.sensors["s"]])
    assert len(snapshot) <= done.json["snapshotBytes"] <= len(snapshot) + 40
    state = sum(node["stateBytes"] for node in done.json["nodes"])
    assert state < done.json["snapshotBytes"]


async def test_list_has_every_stage(tmp_path):
    done = await run(tmp_path, "list", "--stages", "--json")
    assert done.code == 0
    shown = {stage["type"]: stage for stage in done.json}
    assert sorted(shown) == sorted(STAGES)
    for kind, stage in shown.items():
        assert stage["fault"] is None
        assert stage["family"] == STAGES.family(kind)
        assert stage["kind"] == ("measure" if STAGES[kind].outputs else "series")
        assert [own["name"] for own in stage["parameters"]] == list(STAGES[kind].params.__struct_fields__)
        assert stage["oracle"] == STAGES[kind].oracle
        assert stage["summary"]
    btype = {"name": "btype", "type": '"lowpass" | "highpass" | "bandpass" | "bandstop"'}
    assert shown["butterworth"]["parameters"] == [
        {"name": "order", "type": "int", "required": True, "default": None},
        {"name": "cutoff", "type": "list[float]", "required": True, "default": None},
        {**btype, "required": False, "default": "lowpass"},
    ]
    assert shown["butterworth"]["stateBytes"] == 4 * 2 * 8, "two numbers for each of four sections"
    assert shown["moving_rms"]["parameters"][0]["type"] == "int or a duration"
    told = (await run(tmp_path, "list", "--stages")).out.decode()
    assert all(kind in told for kind in STAGES)


# --- show ---------------------------------------------------------------------------------------------------------


async def test_show_has_the_wiring_and_what_is_in_force(tmp_path):
    file = saved(tmp_path, many=MANY) / "many.toml"
    done = await run(tmp_path, "show", str(file), "--json")
    assert done.code == 0
    shown = done.json
    wiring = {
        node["name"]: (
            node["input"],
            node["sampleRate"],
            node["channels"],
            node["givesSampleRate"],
            node["givesChannels"],
        )
        for node in shown["nodes"]
    }
    assert wiring == {
        "low": ("input", 500.0, 2, 500.0, 2),
        "slow": ("low", 500.0, 2, 100.0, 2),
        "shape": ("slow", 100.0, 2, 2.0, 6),
        "rms": ("low", 500.0, 2, 500.0, 2),
    }
    nodes = {node["name"]: node for node in shown["nodes"]}
    assert nodes["low"]["parameters"] == {"order": 2, "cutoff": [40.0], "btype": "lowpass"}
    assert (nodes["shape"]["parameters"], nodes["shape"]["milliseconds"]) == ({"window": 200}, {"window": 2000.0})
    assert (nodes["rms"]["parameters"], nodes["rms"]["milliseconds"]) == ({"window": 50}, {"window": 100.0})
    assert (nodes["shape"]["hop"], nodes["rms"]["hop"]) == (50, None)
    assert nodes["rms"]["stateBytes"] == 2 * 49 * 8 + 8, "a tail for each channel, and a count"
    assert {feature["name"]: feature["fields"] for feature in shown["features"]} == {
        "mobility": {"mobility_0": 1, "mobility_1": 1},
        "shape": {"shape": 6},
        "loudest": {"loudest_0": 1, "loudest_1": 1},
    }
    pipeline = read_pipeline(file)
    assert shown["fingerprint"] == pipeline.fingerprint.hex()
    assert shown["settleSamples"] == pipeline.settle_samples
    assert (shown["gap"], shown["maxGap"]) == ("hold", 2.5)
    told = (await run(tmp_path, "show", str(file))).out.decode()
    for words in ("2 channel(s) at 500 Hz", "hold, up to 2.5 s", "window = 200 (2000 ms)", "one in 50", "6 values"):
        assert words in told


async def test_show_takes_a_name_or_a_file(tmp_path):
    named = await run(tmp_path, "show", "ecg", "--json")
    file = await run(tmp_path, "show", str(saved(tmp_path, ecg=ECG) / "ecg.toml"), "--json")
    assert named.json["origin"] == "shipped"
    assert file.json["origin"].endswith("own/ecg.toml")
    assert {**named.json, "origin": ""} == {**file.json, "origin": ""}
    missing = await run(tmp_path, "show", "nosuch")
    assert missing.code == 2
    assert "'nosuch'" in missing.notes
    assert "expected one of audio-mfcc, ecg, " in missing.notes


# --- check --------------------------------------------------------------------------------------------------------


async def test_check_names_all_faults_of_all_files(tmp_path):
    folder = saved(
        tmp_path,
        a_good=ECG,
        b_text="name = ",
        c_many=ECG.replace('"ecg"', '"e/cg"')
        .replace("order = 4", "order = 99")
        .replace('"hjorth.mobility"', '"hjort"'),
        d_again=ECG,
        e_key=ECG.replace('"ecg"', '"e"').replace("window = 50", 'window = "50 miles"'),
    )
    done = await run(tmp_path, "check", str(folder), str(folder / "none.toml"), "--json")
    assert done.code == 1
    errors = {Path(file["file"]).stem: file["errors"] for file in done.json}
    assert errors.keys() == {"a_good", "b_text", "c_many", "d_again", "e_key", "none"}
    assert errors["a_good"] == []
    assert len(errors["b_text"]) == 1
    assert errors["c_many"] == [
        f"{folder}/c_many.toml: name = 'e/cg': expected ASCII letters, digits, '.', '_' and '-'",
        f"{folder}/c_many.toml: stage 1 (butterworth): order = 99: expected 1 to 16",
    ]
    assert errors["d_again"] == [
        f"{folder}/d_again.toml: name = 'ecg': {folder}/a_good.toml has it too;"
        " expected a name of its own within a folder"
    ]
    (wrong,) = errors["e_key"]
    assert wrong.startswith(
        f"{folder}/e_key.toml: stage 2 (moving_rms): window = '50 miles': expected a number of samples"
    )
    assert "cannot be read" in errors["none"][0]
    told = await run(tmp_path, "check", str(folder))
    assert told.code == 1
    assert [line for line in told.out.decode().splitlines() if line] == [
        error for name in ("b_text", "c_many", "d_again", "e_key") for error in errors[name]
    ]
    assert "5 file(s) checked, 4 wrong" in told.notes


async def test_check_passes_what_is_right(tmp_path):
    folder = saved(tmp_path, ecg=ECG, many=MANY)
    (folder / "notes.txt").write_text("not a pipeline")
    done = await run(tmp_path, "check", str(folder), str(folder / "many.toml"))
    assert (done.code, done.out) == (0, b"")
    assert "3 file(s) checked, none wrong" in done.notes


@pytest.mark.parametrize("arguments", [(), ("a.toml", "--stage", "moving_rms")])
async def test_check_takes_either_files_or_stages(tmp_path, arguments):
    done = await run(tmp_path, "check", *arguments)
    assert done.code == 2
    assert "expected either files and folders, or --stage" in done.notes


async def test_check_refuses_an_empty_folder_and_an_unknown_stage(tmp_path):
    (tmp_path / "empty").mkdir()
    done = await run(tmp_path, "check", str(tmp_path / "empty"))
    assert done.code == 2
    assert "expected a folder with a TOML file for each pipeline" in done.notes
    done = await run(tmp_path, "check", "--stage", "moving_rmss")
    assert done.code == 2
    assert "stage 'moving_rmss': expected one of " in done.notes


async def test_check_examines_stages_of_ours(tmp_path):
    done = await run(tmp_path, "check", "--stage", "moving_rms", "--stage", "decimate", "--rounds", "1")
    assert done.code == 0
    told = done.out.decode()
    assert "moving_rms: 169 checks, none failed" in told, "21 for each of 4 examples on 1 and 2 channels, and one"
    assert "decimate: 127 checks, none failed" in told


# --- schema -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> jsonschema.protocols.Validator:
    document = pipeline_schema().document
    jsonschema.Draft7Validator.check_schema(document)
    return jsonschema.Draft7Validator(document)


def a_document(stage: dict) -> dict:
    return {"name": "p", "sample_rate": 250.0, "stages": [stage], "features": {"f": "x"}}


async def test_schema_prints_json(tmp_path):
    done = await run(tmp_path, "schema")
    assert done.code == 0
    assert done.json == msgspec.json.decode(msgspec.json.encode(pipeline_schema().document))


@pytest.mark.parametrize("text", [MANY, *(own.text for own in shipped_pipelines().values())])
def test_the_schema_takes_pipelines(schema, text):
    schema.validate(tomllib.loads(text))


@pytest.mark.parametrize("kind", STAGES)
def test_the_schema_takes_every_example_of_a_stage(schema, kind):
    for given in STAGES[kind].examples:
        schema.validate(msgspec.json.decode(msgspec.json.encode(a_document({"type": kind, **given}))))


#: What has the wrong shape, which a schema can say; wrong values are left to `check`.
MISSHAPEN = [
    (kind, given)
    for kind, case in CASES.items()
    for given, text in case.refused
    if any(words in text for words in ("unknown field", "missing required", "Invalid enum", "Expected `"))
]


@pytest.mark.parametrize(("kind", "given"), MISSHAPEN)
def test_the_schema_refuses_misshapen_stages(schema, kind, given):
    document = msgspec.json.decode(msgspec.json.encode(a_document({"type": kind, **given})))
    assert not schema.is_valid(document)


@pytest.mark.parametrize(
    "change",
    [
        {"sample_rate": 0},
        {"gap": "skip"},
        {"chanels": 1},
        {"features": {}},
        {"features": {"f": {"of": "x", "take": "median"}}},
        {"stages": []},
        {"stages": [{"type": "median"}]},
        {"stages": [{"window": 5}]},
        {"stages": [{"type": "moving_rms", "window": "5 miles"}]},
        {"stages": [{"type": "moving_rms", "window": 5, "hop": 0}]},
        {"stages": [{"type": "decimate", "factor": 5, "hop": 2}]},
    ],
    ids=str,
)
def test_the_schema_refuses_other_mistakes(schema, change):
    right = a_document({"type": "moving_rms", "window": "200ms", "hop": "1 s", "input": "input", "name": "x"})
    schema.validate(right)
    assert not schema.is_valid({**right, **change})


# --- plot ---------------------------------------------------------------------------------------------------------


async def test_plot_draws_and_says_what_it_draws(tmp_path):
    for suffix in ("svg", "png"):
        done = await run(tmp_path, "plot", "ecg", "--out", str(tmp_path / f"ecg.{suffix}"), "--json")
        assert done.code == 0, done.notes
        bandpass, rms = done.json["nodes"]
        (curve,) = bandpass["curves"]
        np.testing.assert_allclose(curve["edges"], [0.5, 100.0], rtol=1e-4)
        assert abs(curve["peak"]) < 1e-6
        assert rms["curves"] == []
        assert rms["fault"].startswith("not linear: ")
    assert (tmp_path / "ecg.svg").read_text().rstrip().endswith("</svg>")
    assert (tmp_path / "ecg.png").read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "ecg.svg").read_bytes()
    told = await run(tmp_path, "plot", "ecg", "--out", str(tmp_path / "ecg.svg"))
    assert "bandpass: at most 0.0 dB; -3 dB at 0.5, 100 Hz" in told.out.decode()
    assert (tmp_path / "ecg.svg").read_bytes() == first, "the same pipeline gives the same file"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("ecg", "--out", "ecg.gif"), "--out ecg.gif: expected a name that ends with .svg or .png"),
        (("ecg", "--node", "hjorth"), "node 'hjorth': expected a series of pipeline ecg: bandpass, rms"),
        (("ecg", "--node", "rms"), "nothing has a response to draw: rms: not linear"),
        (("ecg", "--out", "/nosuch/folder/ecg.svg"), "/nosuch/folder/ecg.svg cannot be written (No such file"),
    ],
)
async def test_plot_refuses(tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    done = await run(tmp_path, "plot", *arguments)
    assert done.code == 2
    assert says in done.notes
    assert not list(tmp_path.glob("ecg*"))


async def test_plot_without_its_extra_says_which_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = await run(tmp_path, "plot", "ecg", "--out", str(tmp_path / "ecg.svg"))
    assert done.code == 2
    assert "'matplotlib' is missing; install the extra that has it: pip install 'continuum[plot]'" in done.notes


# --- the manual's table, and speeds -------------------------------------------------------------------------------


def rows(table: str) -> list[list[str]]:
    """Cells of a table, without the speeds."""
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [line.split(" | ")[:-1] for line in lines]


async def test_the_manual_s_table_of_stages_is_current(tmp_path):
    done = await run(tmp_path, "list", "--stages", "--markdown")
    assert done.code == 0
    shown = README.partition(f"{BEGIN}\n")[2].partition(END)[0]
    assert rows(shown) == rows(done.out.decode()), f"run: {BEGIN[5:-4]}"
    assert len(rows(shown)) == len([kind for kind in STAGES if STAGES.is_ours(kind)]) + 1


async def test_the_table_is_put_between_its_marks(tmp_path):
    file = tmp_path / "manual.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    command = ("list", "--stages", "--markdown")
    printed = (await run(tmp_path, *command)).out.decode()
    done = await run(tmp_path, *command, "--into", str(file))
    assert (done.code, done.out) == (0, b"")
    assert file.read_text() == f"before\n{BEGIN}\n{printed}{END}\nafter\n"
    for text in ("", f"{END}\n{BEGIN}\n", f"{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"):
        file.write_text(text)
        done = await run(tmp_path, *command, "--into", str(file))
        assert done.code == 2
        assert "expected the line '<!-- stages" in done.notes
        assert file.read_text() == text


@pytest.mark.parametrize("arguments", [("--markdown",), ("--into", "x.md"), ("--stages", "--markdown", "--json")])
async def test_list_refuses_what_does_not_go_together(tmp_path, arguments):
    done = await run(tmp_path, "list", *arguments)
    assert done.code == 2
    assert "--markdown goes with --stages" in done.notes


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (2.5, "2.5"),
        ('a"b', '"a\\"b"'),
        ([1, [2.0]], "[1, [2.0]]"),
        ({"a": [0.5, 4]}, "{a = [0.5, 4]}"),
        (None, ""),
    ],
)
def test_values_are_written_as_toml_has_them(value, text):
    assert written(value) == text


async def test_bench_measures_stages(tmp_path, monkeypatch):
    monkeypatch.setattr("app.bench.stages.ROWS", 20)
    settings = load_settings(datadir=tmp_path)
    chosen = ("--stage", "moving_rms", "--stage", "hjorth")
    done = await continuum(settings, "bench", "stages", *chosen, "--repeats", "3", "--json")
    assert done.code == 0, done.notes
    measured = {own["contender"]: own["figures"]["throughput"] for own in done.json["measurements"]}
    assert measured.keys() == {"moving_rms", "hjorth"}
    for speed in measured.values():
        assert speed["unit"] == "M samples/s"
        assert len(speed["runs"]) == 3
        assert 0 < speed["spread"]["min"] <= speed["spread"]["median"] <= speed["spread"]["max"]
    refused = await continuum(settings, "bench", "stages", "--stage", "nosuch")
    assert refused.code == 2
    refused = await continuum(settings, "bench", "stages", *chosen, "--save")
    assert refused.code == 2


def test_the_saved_speeds_are_of_stages_that_there_are():
    assert load_speeds().stages.keys() <= set(STAGES)

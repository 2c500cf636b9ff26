"""Exported files agree with the application: settings, partitions, names, commands; and they hold no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import command_line
from app.deploy.export import Kind
from app.deploy.next_steps import next_steps
from app.deploy.render import render
from app.deploy.values import DeployError, Deployment
from app.settings import PREFIX, SECRETS, TIERS, Settings
from app.topics import needed_topics, sensor_topic
from app.web.address import FIRST_PORT
from tests.command import continuum
from tests.exported import NOT_DEFAULT, documents, exported

SETTINGS = Settings(**NOT_DEFAULT)
PARTITIONS = {topic.name: topic.partitions for topic in needed_topics(SETTINGS, ())}
EVERY_FILE = [
    pytest.param(text, id=f"{kind}-{name}-{'function' if functions else 'workers'}")
    for kind in Kind
    for workers, functions in [(TIERS, ()), ((), TIERS)]
    for name, text in exported(kind, workers, functions).items()
]


@pytest.mark.parametrize("text", EVERY_FILE)
def test_a_file_is_whole(text: str) -> None:
    assert "@{" not in text
    assert "#@" not in text
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert set(re.findall(rf"{PREFIX}[A-Z_]+", text)) <= known
    # Secrets by reference: nothing that a file gives one of these is a value.
    for name in SECRETS - {"redis_url"}:
        for given in re.findall(rf"{PREFIX}{name.upper()}[\"']?[:=] *(.*)", text):
            # The last is what Compose takes from its own environment.
            assert not given or "resolve:secretsmanager" in given or given in {f"${{{PREFIX}{name.upper()}:-}}", "-}"}
    assert not re.search(r"rediss?://[^/\s\"]*@", text)


def test_what_a_template_says_and_nobody_knows_is_a_defect() -> None:
    for template in ["@{nonesuch}", "#@each nonesuch\n#@end\n", "#@each workers\n@{nonesuch}\n#@end\n"]:
        with pytest.raises(KeyError):
            render(template, {}, {"workers": [{}]})
    text = "a @{x} ${x} {{ x }}\n  #@each workers\n  - @{tier} @{x}\n  #@end\nend\n"
    assert render(text, {"x": "1"}, {"workers": [{"tier": "rt"}, {"tier": "nrt", "x": "2"}]}) == (
        "a 1 ${x} {{ x }}\n  - rt 1\n  - nrt 2\nend\n"
    )


def scaled_objects(workers: Any, functions: Any, settings: Settings = SETTINGS) -> dict[str, Any]:
    found = documents(exported(Kind.K8S, workers, functions, settings)["scaling.yaml"])
    return {one["metadata"]["name"]: one["spec"] for one in found if one["kind"] == "ScaledObject"}


@pytest.mark.parametrize("tier", TIERS)
def test_partitions_are_the_ceiling_of_every_autoscaler(tier: Any) -> None:
    group = SETTINGS.model_copy(update={"tiers": (tier,)}).group_id
    function_group = f"{SETTINGS.app_id}-function-{tier}"
    for scaled, own in [
        (scaled_objects(TIERS, ())[f"worker-{tier}"], group),
        (scaled_objects((), TIERS)[f"function-{tier}"], function_group),
    ]:
        assert scaled["maxReplicaCount"] == PARTITIONS[sensor_topic(SETTINGS, tier)]
        (trigger,) = scaled["triggers"]
        assert trigger["metadata"]["topic"] == sensor_topic(SETTINGS, tier)
        assert trigger["metadata"]["consumerGroup"] == own
    files = exported(Kind.AWS)
    topic = sensor_topic(SETTINGS, tier)
    partitions = PARTITIONS[topic]
    mapping = rf"^    {tier}: {{Topic: {topic}, Group: (\S+), Partitions: {partitions}\b"
    assert re.findall(mapping, files["worker.yaml"], re.M) == [group]
    assert re.findall(mapping, files["function.yaml"], re.M) == [function_group]
    assert "MaxCapacity: !FindInMap [Tiers, !Ref Tier, Partitions]" in files["worker.yaml"]
    assert "MaximumPollers: !FindInMap [Tiers, !Ref Tier, Partitions]" in files["function.yaml"]


def test_lag_thresholds_are_above_what_is_processed_and_not_committed_yet() -> None:
    """Or a tier without any backlog would scale up for ever."""
    for checkpoint_seconds in (10.0, 30.0):
        settings = SETTINGS.model_copy(update={"checkpoint_seconds": checkpoint_seconds})
        for scaled in scaled_objects(TIERS, (), settings).values():
            assert int(scaled["triggers"][0]["metadata"]["lagThreshold"]) == 5_000 * checkpoint_seconds
        files = {**exported(Kind.K8S, settings=settings), **exported(Kind.COMPOSE, settings=settings)}
        for name in ("configmap.yaml", "compose.yaml"):
            assert f'CONTINUUM_CHECKPOINT_SECONDS: "{checkpoint_seconds:g}"' in files[name], "the workers know it too"
        worker = exported(Kind.AWS, settings=settings)["worker.yaml"]
        assert f'{{Name: CONTINUUM_CHECKPOINT_SECONDS, Value: "{checkpoint_seconds:g}"}}' in worker
    assert 'CONTINUUM_CHECKPOINT_SECONDS: ""' in exported(Kind.K8S)["configmap.yaml"], "each tier's own"


def test_a_worker_has_the_time_to_stop_that_its_settings_give_it() -> None:
    (grace,) = {
        document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        for document in documents(exported(Kind.K8S)["tiers.yaml"])
        if document["kind"] == "StatefulSet"
    }
    compose = documents(exported(Kind.COMPOSE)["compose.yaml"])[0]["services"]["worker-rt"]
    assert compose["environment"]["CONTINUUM_SHUTDOWN_SECONDS"] == "31.5"
    assert compose["stop_grace_period"] == f"{grace}s"
    assert f"StopTimeout: {grace}\n" in exported(Kind.AWS)["worker.yaml"]
    assert 31.5 < grace <= 120, "AWS Fargate gives two minutes at most"


def test_workers_of_a_deployment_take_blocks_from_who_has_the_token() -> None:
    """They listen beyond the loopback address, so that without one they would refuse all."""
    compose = documents(exported(Kind.COMPOSE)["compose.yaml"])[0]["services"]["worker-rt"]["environment"]
    assert compose["CONTINUUM_WEB_TOKEN"] == "${CONTINUUM_WEB_TOKEN:-}"
    k8s = " ".join(next_steps(Kind.K8S, Deployment(SETTINGS, "i:1", TIERS, ()), Path("out")))
    assert "--from-literal=CONTINUUM_WEB_TOKEN=" in k8s
    (ingest,) = (one for one in documents(exported(Kind.K8S)["network.yaml"]) if one["kind"] == "Service")
    for document in documents(exported(Kind.K8S)["tiers.yaml"]):
        if document["kind"] == "StatefulSet":
            assert ingest["spec"]["selector"].items() <= document["spec"]["template"]["metadata"]["labels"].items()
    aws = exported(Kind.AWS)
    assert (
        '{Name: CONTINUUM_WEB_TOKEN, ValueFrom: !ImportValue {"Fn::Sub": "${DataStack}-WebSecretArn"}}'
        in (aws["worker.yaml"])
    )


def test_what_a_stack_takes_from_another_is_exported_there() -> None:
    aws = exported(Kind.AWS)
    given = set(re.findall(r'"\$\{AWS::StackName\}-(\w+)"', aws["data.yaml"]))
    taken = set(re.findall(r'"\$\{DataStack\}-(\w+)"', aws["worker.yaml"] + aws["function.yaml"]))
    assert taken <= given


def commands() -> list[list[str]]:
    """Arguments that any file gives the image."""
    found = [
        container["args"]
        for document in documents(exported(Kind.K8S, ("rt", "nrt"), ("batch",))["tiers.yaml"])
        if "template" in document["spec"]
        for container in document["spec"]["template"]["spec"]["containers"]
    ]
    compose = documents(exported(Kind.COMPOSE, ("rt", "nrt"), ("batch",))["compose.yaml"])[0]
    found += [
        service["command"]
        for service in compose["services"].values()
        if service["image"] == "registry.example/continuum:1"
    ]
    return [list(args) for args in sorted({tuple(args) for args in found})]


@pytest.mark.parametrize("args", commands(), ids=" ".join)
def test_commands_are_commands(args: list[str]) -> None:
    done = CliRunner().invoke(command_line(args[0]), [*args, "--help"])
    assert done.exit_code == 0, done.output


def test_the_function_s_log_is_the_container_s() -> None:
    served = [args for args in commands() if args[:2] == ["function", "serve"]]
    assert served
    assert all("--log-to-stderr" in args for args in served)


def test_the_port_is_the_workers() -> None:
    assert f'"127.0.0.1:{FIRST_PORT}:{FIRST_PORT}"' in exported(Kind.COMPOSE)["compose.yaml"]
    assert f"port: {FIRST_PORT}\n" in exported(Kind.GRAFANA)["prometheus/prometheus.yml"]
    dockerfile = (Path(__file__).parents[1] / "Dockerfile").read_text()
    assert f"CONTINUUM_WEB_PORT={FIRST_PORT}\n" in dockerfile
    assert f"EXPOSE {FIRST_PORT}\n" in dockerfile


def test_a_tier_is_the_workers_or_the_function_s() -> None:
    with pytest.raises(DeployError, match=r"tiers batch, rt both by workers and by the function"):
        Deployment(SETTINGS, "i", ("rt", "batch"), ("batch", "rt"))
    with pytest.raises(DeployError, match=r"no tiers: .*--workers"):
        Deployment(SETTINGS, "i", (), ())


async def test_nothing_is_written_over_without_force(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    first = await continuum(SETTINGS, "deploy", "export", "k8s", str(folder), "--image", "r.example/c:1")
    assert first.code == 0, first.notes
    files = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert first.out.decode().split() == [str(path) for path in sorted(files)]
    assert f"kubectl apply --kustomize {folder}" in first.notes
    assert "docker build --tag r.example/c:1 ." in first.notes

    again = await continuum(SETTINGS, "deploy", "export", "k8s", str(folder), "--image", "r.example/c:1", "--json")
    assert again.code == 0, "the same text is no conflict"
    assert again.json["kind"] == "k8s"
    assert again.json["files"] == [str(path) for path in sorted(files)]
    assert f"kubectl apply --kustomize {folder}" in again.json["next"]

    (folder / "configmap.yaml").write_text("mine")
    (folder / "topics.yaml").unlink()
    refused = await continuum(SETTINGS, "deploy", "export", "k8s", str(folder), "--image", "r.example/c:1")
    assert refused.code == 2
    assert f"{folder}/configmap.yaml: there with another text" in refused.notes
    assert "--force" in refused.notes
    assert not (folder / "topics.yaml").exists(), "all or none"
    assert (folder / "configmap.yaml").read_text() == "mine"

    forced = await continuum(SETTINGS, "deploy", "export", "k8s", str(folder), "--image", "r.example/c:1", "--force")
    assert forced.code == 0
    assert {path: path.read_text() for path in folder.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--workers", "rt,fast"], "--workers=rt,fast: expected some of rt, nrt, batch, each once"),
        (["--functions", "rt,rt"], "--functions=rt,rt: expected some of rt, nrt, batch, each once"),
        (["--workers", "batch"], "tiers batch both by workers and by the function"),
        (["--workers", "", "--functions", ""], "no tiers"),
        (["--partitions", "rt"], "--partitions=rt: expected TIER=COUNT for some of rt, nrt, batch"),
        (["--partitions", "rt=x"], "--partitions=rt=x: expected TIER=COUNT"),
        (["--partitions", "fast=9"], "--partitions=fast=9: expected TIER=COUNT"),
        (["--partitions", "rt=49"], "--partitions=rt=49: the tier's topic is created with 50"),
    ],
)
async def test_tiers_that_do_not_fit_are_refused(tmp_path: Path, options: list[str], text: str) -> None:
    done = await continuum(SETTINGS, "deploy", "export", "compose", str(tmp_path / "out"), *options)
    assert done.code == 2
    assert text in done.notes
    assert not (tmp_path / "out").exists()


async def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = await continuum(SETTINGS, "deploy", "export", "compose", str(tmp_path / "file" / "out"))
    assert done.code == 2
    assert "cannot be written" in done.notes


async def test_a_repartitioned_topic_raises_the_ceiling(tmp_path: Path) -> None:
    done = await continuum(SETTINGS, "deploy", "export", "k8s", str(tmp_path), "--partitions", "rt=100, batch=40")
    assert done.code == 0, done.notes
    ceilings = re.findall(r"maxReplicaCount: (\d+)", (tmp_path / "scaling.yaml").read_text())
    assert ceilings == ["100", "30", "40"]


def test_next_commands_name_files_that_were_written(tmp_path: Path) -> None:
    for kind in Kind:
        deployment = Deployment(SETTINGS, "i:1", ("rt", "nrt"), ("batch",))
        steps = " ".join(next_steps(kind, deployment, tmp_path))
        named = set(re.findall(rf"{tmp_path}/(\S+?\.\w+)", steps))
        assert named <= set(exported(kind, ("rt", "nrt"), ("batch",))), kind

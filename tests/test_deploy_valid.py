"""Every exported file passes the validator of those who will read it, and keeps to what we promise of security."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from cfnlint.decode import cfn_yaml

from app.deploy.export import Kind
from app.pipelines import known_pipelines
from app.settings import TIERS, Settings
from app.topics import needed_topics
from tests.exported import documents, exported, written
from tests.keda_schema import keda_schema

ROOT = Path(__file__).parents[1]
SPLITS = [pytest.param(TIERS, (), id="workers"), pytest.param((), TIERS, id="functions")]
LOOPBACK = "127.0.0.1:"


@pytest.mark.parametrize(("workers", "functions"), SPLITS)
def test_compose(workers: Any, functions: Any) -> None:
    (compose,) = documents(exported(Kind.COMPOSE, workers, functions)["compose.yaml"])
    vendored = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.Draft7Validator(json.loads(vendored.read_text())).validate(compose)
    services = compose["services"]
    for name, service in services.items():
        assert ":" in service["image"], name
        assert not service["image"].endswith(":latest"), name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        assert all(port.startswith(LOOPBACK) for port in service.get("ports", [])), name
        assert "no-new-privileges:true" in service["security_opt"], name
        # A worker's health check is its image's; what runs to its end, or is no worker, turns that off.
        assert ("healthcheck" in service) != name.startswith("worker-"), name
        assert service.get("depends_on", {}).keys() <= services.keys(), name
        named = {volume.partition(":")[0] for volume in service.get("volumes", []) if not volume.startswith("./")}
        assert named <= compose["volumes"].keys(), name
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len({port.split(":")[1] for port in ports}) == len(ports)
    shown = {name.partition("-")[2] for name in services if name.startswith("worker-")}
    assert shown == set(workers)


def test_mounted_folders_are_exported() -> None:
    paths = exported(Kind.COMPOSE)
    for mounted in re.findall(r"\./([\w/]+):", paths["compose.yaml"]):
        assert any(path.startswith(f"{mounted}/") for path in paths), mounted


@pytest.mark.parametrize(("workers", "functions"), SPLITS)
def test_kubernetes(workers: Any, functions: Any) -> None:
    paths = exported(Kind.K8S, workers, functions)
    (kustomization,) = documents(paths["kustomization.yaml"])
    assert set(kustomization["resources"]) == paths.keys() - {"kustomization.yaml"}
    targets = []
    for resource in kustomization["resources"]:
        for document in documents(paths[resource]):
            if document["apiVersion"].startswith("keda.sh/"):
                jsonschema.Draft202012Validator(keda_schema(document["kind"])).validate(document)
                targets.append(document["spec"].get("scaleTargetRef"))
            else:
                kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    kinds = {"worker": "StatefulSet", "function": "Deployment"}
    there = {(document["kind"], document["metadata"]["name"]) for document in documents(paths["tiers.yaml"])}
    for target in filter(None, targets):
        assert target["kind"] == kinds[target["name"].partition("-")[0]]
        assert (target["kind"], target["name"]) in there


def test_schemas_of_kubernetes_refuse_what_they_do_not_know() -> None:
    (broken, *_) = documents(exported(Kind.K8S)["tiers.yaml"])
    broken["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFilesystem"):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(("workers", "functions"), SPLITS)
def test_pods_have_no_rights_that_they_do_not_need(workers: Any, functions: Any) -> None:
    paths = exported(Kind.K8S, workers, functions)
    pods = [
        document["spec"]["template"]
        for name in ("tiers.yaml", "topics.yaml")
        for document in documents(paths[name])
        if "template" in document["spec"]
    ]
    assert len(pods) == len(TIERS) + 1
    (policy,) = (
        document for document in documents(paths["network.yaml"]) if document["metadata"]["name"] == "continuum"
    )
    for pod in pods:
        spec = pod["spec"]
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_a_pod_s_name_is_its_worker_s() -> None:
    sets = [document for document in documents(exported(Kind.K8S)["tiers.yaml"]) if document["kind"] == "StatefulSet"]
    assert [one["metadata"]["name"] for one in sets] == [f"worker-{tier}" for tier in TIERS]
    for one in sets:
        (container,) = one["spec"]["template"]["spec"]["containers"]
        (instance,) = container["env"]
        assert instance["name"] == "CONTINUUM_INSTANCE"
        assert instance["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
        assert {"name": "data", "mountPath": "/data"} in container["volumeMounts"]
        assert [claim["metadata"]["name"] for claim in one["spec"]["volumeClaimTemplates"]] == ["data"]
        probes = {
            probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")
        }
        assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def test_cloudformation(tmp_path: Path) -> None:
    paths = written(tmp_path, exported(Kind.AWS))
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--regions", "eu-central-1", "--", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def statements(value: Any) -> list[dict[str, Any]]:
    """All statements of policies in a template, however deep."""
    if isinstance(value, list):
        return [found for one in value for found in statements(one)]
    if not isinstance(value, dict):
        return []
    own = [value] if "Effect" in value else []
    return own + [found for one in value.values() for found in statements(one)]


#: Actions for which AWS knows no resource, or which Lambda asks for without one; and a key's own policy.
WITHOUT_RESOURCE = {"ecr:GetAuthorizationToken", "kms:*"} | {
    f"ec2:{action}"
    for action in (
        "CreateNetworkInterface",
        "DeleteNetworkInterface",
        "DescribeNetworkInterfaces",
        "DescribeSecurityGroups",
        "DescribeSubnets",
        "DescribeVpcs",
    )
}


def test_rights_are_the_least(tmp_path: Path) -> None:
    seen = 0
    for path in written(tmp_path, exported(Kind.AWS)):
        for statement in statements(cfn_yaml.load(str(path))):
            seen += 1
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            assert "Resource" in statement or actions == ["sts:AssumeRole"]
            if statement.get("Resource") == "*":
                assert set(actions) <= WITHOUT_RESOURCE
            else:
                assert not any("*" in action for action in actions)
    assert seen > 10


def test_only_what_lambda_knows_without_pollers_of_one_s_own_is_unconditional(tmp_path: Path) -> None:
    path = next(path for path in written(tmp_path, exported(Kind.AWS)) if path.name == "function.yaml")
    resources = cfn_yaml.load(str(path))["Resources"]
    source = resources["Events"]["Properties"]
    for name in (
        "ProvisionedPollerConfig",
        "FunctionResponseTypes",
        "MaximumRetryAttempts",
        "MaximumRecordAgeInSeconds",
    ):
        condition, given, otherwise = source[name]["Fn::If"]
        assert (condition, otherwise) == ("Provisioned", {"Ref": "AWS::NoValue"})
        assert given
    assert source["FunctionResponseTypes"]["Fn::If"][1] == ["ReportBatchItemFailures"]
    variables = resources["Function"]["Properties"]["Environment"]["Variables"]
    assert variables["CONTINUUM_FUNCTION_PARTIAL_RESPONSE"] == {"Fn::If": ["Provisioned", "true", "false"]}
    assert resources["Function"]["Properties"]["ImageConfig"] == {
        "EntryPoint": ["python", "-m", "awslambdaric"],
        "Command": ["app.serverless.handler.handler"],
    }


def test_a_broker_of_the_default_size_takes_all_partitions() -> None:
    """It takes 1,000, and each of the three has a replica of every partition, of Kafka's own hundred too."""
    ours = sum(topic.partitions for topic in needed_topics(Settings(), known_pipelines(None)))
    assert ours + 100 < 1000 / 2


def test_dockerfile() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--failure-threshold", "style", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr

"""The commands that come after an export."""

from __future__ import annotations

import shlex
from pathlib import Path

from app.deploy.export import Kind
from app.deploy.values import Deployment


def next_steps(kind: Kind, deployment: Deployment, folder: Path) -> list[str]:
    """Give the commands that bring a deployment up, in order; words in capitals are the user's to fill in."""
    at = shlex.quote(str(folder))
    build = f"docker build --tag {shlex.quote(deployment.image)} ."
    if kind is Kind.COMPOSE:
        return [
            build,
            "export CONTINUUM_WEB_TOKEN=$(openssl rand -hex 32) (whoever sends blocks over HTTP names it)",
            f"docker compose --file {at}/compose.yaml up --detach",
        ]
    if kind is Kind.K8S:
        return [
            f"{build} && docker push {shlex.quote(deployment.image)}",
            f"edit {at}/configmap.yaml: addresses of Kafka and Redis",
            f"kubectl apply --filename {at}/namespace.yaml",
            "kubectl --namespace continuum create secret generic continuum"
            " --from-literal=CONTINUUM_KAFKA_SASL_USERNAME=USER --from-literal=CONTINUUM_KAFKA_SASL_PASSWORD=PASSWORD"
            " --from-literal=CONTINUUM_REDIS_PASSWORD=PASSWORD"
            " --from-literal=CONTINUUM_WEB_TOKEN=$(openssl rand -hex 32)",
            f"kubectl apply --kustomize {at}",
        ]
    if kind is Kind.AWS:
        return _aws(deployment, at, build)
    return [
        f"merge {at}/prometheus/prometheus.yml into your Prometheus's configuration, and beside it alerts.yml",
        f"import {at}/grafana/dashboards/continuum.json in Grafana, or mount {at}/grafana/provisioning",
    ]


def _aws(deployment: Deployment, at: str, build: str) -> list[str]:
    create = "aws cloudformation deploy --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"
    compute = f"ImageUri={shlex.quote(deployment.image)} KafkaBootstrap=BROKERS SubnetIds=SUBNET,SUBNET,SUBNET"
    return [
        f"{build} && docker push {shlex.quote(deployment.image)}",
        f"{create} --stack-name continuum-data --template-file {at}/data.yaml --parameter-overrides"
        " VpcId=VPC SubnetIds=SUBNET,SUBNET,SUBNET",
        "aws kafka get-bootstrap-brokers --cluster-arn ARN"
        " (the stack's output ClusterArn; BROKERS is BootstrapBrokerStringSaslScram)",
        *(
            ()
            if deployment.workers
            else ["continuum topics create (where the brokers can be reached: workers would do it)"]
        ),
        *(
            f"{create} --stack-name continuum-{tier} --template-file {at}/worker.yaml --parameter-overrides"
            f" Tier={tier} RepositoryArn=ARN {compute}"
            for tier in deployment.workers
        ),
        *(
            f"{create} --stack-name continuum-{tier} --template-file {at}/function.yaml --parameter-overrides"
            f" Tier={tier} Mode=on-demand {compute}"
            for tier in deployment.functions
        ),
    ]

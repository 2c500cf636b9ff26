"""What KEDA takes of the resources that we export, as a JSON Schema.

After the CRDs of kedacore/keda, config/crd/bases/keda.sh_scaledobjects.yaml and keda.sh_triggerauthentications.yaml, of
August 2026, as far as our templates go; and for a trigger's metadata, which the CRDs leave open, after the kafka
scaler's parameters, pkg/scalers/apache_kafka_scaler.go and kafka_scaler.go.
"""

from __future__ import annotations

from typing import Any


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_TEXT = {"type": "string", "minLength": 1}
_COUNT = {"type": "integer", "minimum": 0}
_SWITCH = {"enum": ["true", "false"]}
_NUMBER = {"type": "string", "pattern": r"^\d+$"}

_SCALING = _object(
    [],
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    selectPolicy={"enum": ["Max", "Min", "Disabled"]},
    policies={
        "type": "array",
        "items": _object(
            ["type", "value", "periodSeconds"],
            type={"enum": ["Pods", "Percent"]},
            value={"type": "integer", "minimum": 1},
            periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800},
        ),
    },
)

_KAFKA = _object(
    ["bootstrapServersFromEnv", "consumerGroup", "topic", "lagThreshold", "offsetResetPolicy"],
    bootstrapServersFromEnv=_TEXT,
    consumerGroup=_TEXT,
    topic=_TEXT,
    lagThreshold={"type": "string", "pattern": r"^[1-9]\d*$"},
    activationLagThreshold=_NUMBER,
    offsetResetPolicy={"enum": ["latest", "earliest"]},
    allowIdleConsumers=_SWITCH,
    sasl={"enum": ["none", "plaintext", "scram_sha256", "scram_sha512", "oauthbearer", "gssapi"]},
    tls={"enum": ["enable", "disable"]},
)

_METADATA = {"type": "object", "required": ["name"]}

_RESOURCES = {
    "TriggerAuthentication": _object(
        ["secretTargetRef"],
        secretTargetRef={
            "type": "array",
            "items": _object(["parameter", "name", "key"], parameter=_TEXT, name=_TEXT, key=_TEXT),
        },
    ),
    "ScaledObject": _object(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=_object(["name"], apiVersion=_TEXT, kind=_TEXT, name=_TEXT),
        minReplicaCount=_COUNT,
        maxReplicaCount=_COUNT,
        cooldownPeriod=_COUNT,
        fallback=_object(
            ["failureThreshold", "replicas"],
            failureThreshold=_COUNT,
            replicas=_COUNT,
            behavior={"enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]},
        ),
        advanced=_object(
            [],
            horizontalPodAutoscalerConfig=_object([], behavior=_object([], scaleUp=_SCALING, scaleDown=_SCALING)),
        ),
        triggers={
            "type": "array",
            "minItems": 1,
            "items": _object(
                ["type", "metadata"],
                type={"const": "kafka"},
                metadata=_KAFKA,
                authenticationRef=_object(["name"], name=_TEXT),
            ),
        },
    ),
}


def keda_schema(kind: str) -> dict[str, Any]:
    """Schema of a resource of `keda.sh/v1alpha1`."""
    return _object(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": "keda.sh/v1alpha1"},
        kind={"const": kind},
        metadata=_METADATA,
        spec=_RESOURCES[kind],
    )

"""Schemas of the custom resources' specs: closed, and of what we use. Their own come with their operators."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
NUMBER: Schema = {"type": "integer", "minimum": 0}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def record(*optional: str, **fields: Schema) -> Schema:
    """An object with these fields and no others; all but the optional ones must be there."""
    required = sorted(fields.keys() - set(optional))
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def many(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


_RULE = record(
    *("alert", "record", "for", "annotations", "labels"),
    **dict.fromkeys(("alert", "record", "expr", "for"), TEXT),
    labels=TEXTS,
    annotations=TEXTS,
)
# KEDA takes texts only, also for numbers.
_TRIGGER = record(
    type={"const": "nats-jetstream"},
    metadata=record(
        **dict.fromkeys(("natsServerMonitoringEndpoint", "account", "stream", "consumer"), TEXT),
        lagThreshold={"type": "string", "pattern": "^[1-9][0-9]*$"},
    ),
)
SPECS: dict[str, Schema] = {
    "ExternalSecret": record(
        refreshInterval=TEXT,
        secretStoreRef=record(name=TEXT, kind={"enum": ["SecretStore", "ClusterSecretStore"]}),
        target=record(name=TEXT, creationPolicy={"const": "Owner"}),
        data=many(record(secretKey=TEXT, remoteRef=record("property", key=TEXT, property=TEXT))),
    ),
    "PodMonitor": record(
        selector=record(matchLabels=TEXTS),
        podMetricsEndpoints=many(record(port=TEXT, path=TEXT, interval=TEXT)),
    ),
    "PrometheusRule": record(groups=many(record("interval", name=TEXT, interval=TEXT, rules=many(_RULE)))),
    "ScaledObject": record(
        scaleTargetRef=record(apiVersion={"const": "apps/v1"}, kind=TEXT, name=TEXT),
        **dict.fromkeys(("minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod"), NUMBER),
        triggers=many(_TRIGGER),
    ),
}

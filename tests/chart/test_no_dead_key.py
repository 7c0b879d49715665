"""No key of the values is dead: each one, changed alone, changes what is made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml

from devstack.chart import CHART
from tests.chart.rendering import at, overlay, rendered, texts, values

pytestmark = pytest.mark.unit
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

SAMPLES: dict[str, Any] = {
    "fullnameOverride": "other",
    "image.tag": "9.9.9",
    "image.digest": "sha256:" + "0" * 64,
    "encryption.masterKey": "b" * 64,
    "publicUrl": "https://other.example.com",
    "podSecurityContext.capabilities.drop": ["ALL", "NET_RAW"],
    "secrets.entries": {"qdrant-api-key": {"secret": "elsewhere"}},
    "networkPolicy.egress.internetPorts": [8443],
    "observability.otelCollector.config": {"exporters": {"debug": {}}},
    "observability.traceUrlTemplate": "https://traces.example.com/trace/{trace_id}",
    "global.podSecurityContext": {"fsGroup": 10002},
}
# What may hold only one value: another is refused.
FIXED = {
    "global.securityContext.runAsNonRoot",
    "global.securityContext.seccompProfile.type",
    "podSecurityContext.allowPrivilegeEscalation",
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}".lstrip("."))
    else:
        yield path, value


def narrowed(path: str) -> Any:
    """The schema of a key, or an empty one inside what belongs to Kubernetes."""
    schema = SCHEMA
    for name in path.split("."):
        schema = schema.get("properties", {}).get(name, {})
    return schema


def another(path: str, value: Any) -> Any:
    """A value that the schema takes and that is not the one given."""
    schema = narrowed(path)
    others = [one for one in schema.get("enum", ()) if one != value]
    if path in SAMPLES or others:
        return SAMPLES[path] if path in SAMPLES else others[0]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return ["other"] if schema.get("items", {}).get("type") == "string" else [{"name": "OTHER"}]
    return {"other": "other"} if isinstance(value, dict) else another_text(value, schema)


def another_text(value: str, schema: Any) -> str:
    if "http" in schema.get("pattern", ""):
        return "https://other.example.com:1234"
    if "nats" in schema.get("pattern", ""):
        return "nats://other.example.com:1234"
    if re.search(r"\d", value) and "tag" not in schema.get("description", ""):
        return re.sub(r"\d+", lambda number: str(int(number[0]) + 1), value, count=1)
    return f"{value}x"


LEAVES = [path for path, _ in leaves(DEFAULTS)]


@pytest.mark.parametrize("path", LEAVES)
def test_no_key_is_dead(path: str):
    if path == "observability.grafana.dashboardLabel" and not list(CHART.glob("dashboards/*.json")):
        pytest.skip("there is no dashboard yet that could bear the label")
    for case in ("everything", "production", "trial", "quickstart"):
        before = rendered(case)
        value: Any = before.values
        for name in path.split("."):
            value = value[name]
        given = overlay(values(case), at(path, another(path, value)))
        try:
            after = texts(given)
        except helm_python.HelmValuesError:
            assert path in FIXED, f"the sample of {path} is no longer taken"
            return
        except helm_python.HelmRenderError as refused:
            after = {"said": str(refused).partition("these values cannot work:")[2]}
            assert after["said"], "an accident, and no refusal"
        if after != before.texts:
            return
    pytest.fail(f"{path} changes nothing, whatever else is on")

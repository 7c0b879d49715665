"""The values: every key is described, no other is taken, and those of the guide act."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import helm_python
import pytest
import yaml

from devstack import chart
from devstack.chart import CHART
from tests.chart.rendering import WORKLOADS, Rendered, at, overlay, rendered, texts, values

pytestmark = pytest.mark.unit
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
KEYS = list(chart.keys((CHART / "values.yaml").read_text()))


@pytest.mark.parametrize("page", chart.PAGES)
def test_what_is_made_from_the_values_is_up_to_date(page: str):
    assert (CHART / page).read_text() == chart.PAGES[page](), "run `make docs`"


def test_a_key_without_a_comment_is_refused():
    with pytest.raises(ValueError, match=r"a\.b has no comment"):
        list(chart.keys("# Said.\na:\n  b: 1\n"))


def test_helm_finds_nothing_to_complain_about():
    report = helm_python.lint(CHART, values(), strict=True)
    assert [one for one in report["messages"] if one["severity"] > 1] == []


def closed(schema: Any, path: str = "") -> Iterator[str]:
    """Paths of objects that take any key without saying what it must look like."""
    if schema.get("properties") and schema.get("additionalProperties") is not False and path != ".global":
        yield path
    for name, inner in schema.get("properties", {}).items():
        yield from closed(inner, f"{path}.{name}")


def test_the_schema_is_closed_and_describes_every_key():
    assert list(closed(SCHEMA)) == []
    for key in KEYS:
        schema = SCHEMA
        for name in key.path:
            schema = schema["properties"][name]
        assert schema["description"]


@pytest.mark.parametrize(
    "path",
    [
        "nonsense",
        "api.replicas",
        "api.env.DB_MAX_CONECTIONS",
        "api.env.NATS_URL",
        "api.readinessProbe.path",
        "podSecurityContext.fsGroup",
        "global.podSecurityContext.allowPrivilegeEscalation",
        "global.securityContext.capabilities",
        "postgresql.external.hostname",
        "networkPolicy.egress.toInternt",
        "secrets.entries.no-such-entry",
        "secrets.externalSecret.data.no-such-entry",
    ],
)
def test_a_misspelt_or_misplaced_key_is_refused_by_name(path: str):
    with pytest.raises(helm_python.HelmValuesError, match=path.rpartition(".")[2]):
        texts(overlay(values(), at(path, "x")))


GUIDE: list[tuple[str, Any]] = [
    ("api.env.NATS_REPLICAS", "5"),
    ("api.env.DB_MAX_CONNECTIONS", "21"),
    ("api.env.DB_MIN_CONNECTIONS", "3"),
    ("api.env.DB_ACQUIRE_TIMEOUT_SECS", "31"),
    ("api.env.DB_IDLE_TIMEOUT_SECS", "301"),
    ("api.env.DB_MAX_LIFETIME_SECS", "1801"),
    ("api.env.RUST_LOG", "info,semantic_explorer=debug"),
    ("api.env.LOG_FORMAT", "text"),
    ("api.env.HOSTNAME", "127.0.0.1"),
    ("api.env.SHUTDOWN_TIMEOUT_SECS", "20"),
    *((f"{key}.env.MAX_CONCURRENT_JOBS", "7") for key in WORKLOADS if key != "api"),
    *((f"{key}.env.NATS_REPLICAS", "5") for key in WORKLOADS if key != "api"),
    ("workerVisualizationsPy.env.LOG_LEVEL", "DEBUG"),
    ("workerVisualizationsPy.env.PROCESSING_TIMEOUT_SECS", "7200"),
]


@pytest.mark.parametrize(("path", "value"), GUIDE)
def test_a_variable_of_the_guide_reaches_the_container(path: str, value: str):
    key, _, name = path.split(".")
    assert (
        Rendered(values("quickstart", at(path, value)), only="workloads").env(WORKLOADS[key])[name] == value
    )


FIELDS: list[tuple[str, Any]] = [
    ("terminationGracePeriodSeconds", 301),
    ("lifecycle", {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 5"]}}}),
    ("affinity", {"nodeAffinity": {}}),
    ("livenessProbe.periodSeconds", 11),
    ("readinessProbe.failureThreshold", 9),
    ("resources.requests.cpu", "2001m"),
    ("resources.limits.memory", "9Gi"),
    ("replicaCount", 7),
]


@pytest.mark.parametrize(("path", "value"), FIELDS)
@pytest.mark.parametrize("key", WORKLOADS)
def test_a_field_of_the_guide_reaches_every_workload(key: str, path: str, value: Any):
    workload = Rendered(values("quickstart", at(f"{key}.{path}", value)), only="workloads").workload(key)
    spec = workload["spec"]["template"]["spec"]
    found = {**workload["spec"], **spec, **spec["containers"][0]}
    found["replicaCount"] = workload["spec"]["replicas"]
    for name in path.split("."):
        found = found[name]
    assert found == value


@pytest.mark.parametrize(
    "field", ["lifecycle", "startupProbe", "livenessProbe", "readinessProbe", "affinity"]
)
@pytest.mark.parametrize("key", WORKLOADS)
def test_null_takes_a_default_away(key: str, field: str):
    container = Rendered(values("quickstart", at(f"{key}.{field}", None)), only="workloads").container(
        WORKLOADS[key]
    )
    assert field not in container


def test_another_kind_of_probe_replaces_the_default():
    probe = {"httpGet": None, "exec": {"command": ["true"]}}
    made = Rendered(values("quickstart", at("api.livenessProbe", probe)), only="workloads")
    assert "httpGet" not in made.container("api")["livenessProbe"]


PROBES = {
    ("api", "livenessProbe"): ("/health/live", 8080, 30, 10, 3),
    ("api", "readinessProbe"): ("/health/ready", 8080, 10, 5, 3),
    ("workerVisualizationsPy", "livenessProbe"): ("/health", 8081, 30, 10, 3),
    ("workerVisualizationsPy", "readinessProbe"): ("/ready", 8081, 15, 5, 2),
}


@pytest.mark.parametrize(("key", "probe"), PROBES)
def test_probes_have_the_numbers_of_the_guide(key: str, probe: str):
    found = rendered("quickstart").container(WORKLOADS[key])[probe]
    asked = (found["httpGet"]["path"], found["httpGet"]["port"])
    numbers = (found["initialDelaySeconds"], found["periodSeconds"], found["failureThreshold"])
    assert asked + numbers == PROBES[key, probe]


SCALED = {
    "api": (3, 10, "2000m", "2Gi", "4000m", "8Gi"),
    "workerCollections": (3, 10, "2000m", "1Gi", "4000m", "2Gi"),
    "workerDatasets": (3, 8, "2000m", "2Gi", "4000m", "8Gi"),
    "workerVisualizationsPy": (2, 6, "4000m", "8Gi", "8000m", "16Gi"),
}


@pytest.mark.parametrize("key", SCALED)
def test_the_guides_production_values_act_on_every_workload(key: str):
    production = rendered("production")
    scaler = production.one("HorizontalPodAutoscaler", f"semantic-explorer-{WORKLOADS[key]}")["spec"]
    resources = production.container(WORKLOADS[key])["resources"]
    assert (
        *(scaler["minReplicas"], scaler["maxReplicas"]),
        *(resources[of][what] for of in ("requests", "limits") for what in ("cpu", "memory")),
    ) == SCALED[key]
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


@pytest.mark.parametrize("key", list(WORKLOADS)[:3])
def test_a_disruption_budget_keeps_one_pod(key: str):
    budget = rendered("quickstart").one("PodDisruptionBudget", f"semantic-explorer-{WORKLOADS[key]}")
    assert budget["spec"]["minAvailable"] == 1


def test_the_collectors_configuration_is_laid_over_the_charts():
    given = {"exporters": {"otlp/quickwit": {"endpoint": "quickwit.tools:7281"}}}
    made = Rendered(values("everything", at("observability.otelCollector.config", given)))
    data = made.one("ConfigMap", "semantic-explorer-otel-collector")["data"]["collector.yaml"]
    config = yaml.safe_load(data)
    assert config["exporters"]["otlp/quickwit"]["endpoint"] == "quickwit.tools:7281"
    assert config["service"]["pipelines"]["traces"]["exporters"] == ["otlp/quickwit"]
    before = rendered("everything").one("ConfigMap", "semantic-explorer-otel-collector")["data"]
    assert "quickwit:7281" in before["collector.yaml"]


def test_the_guides_affinity_finds_the_pods_of_the_api():
    term = {
        "labelSelector": {
            "matchExpressions": [{"key": "app.kubernetes.io/name", "operator": "In", "values": ["api"]}]
        },
        "topologyKey": "kubernetes.io/hostname",
    }
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    given = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    pod = Rendered(values("quickstart", at("api.affinity", given))).pods["api"]
    assert pod["spec"]["affinity"] == given
    assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "api"


def test_the_context_of_pods_may_have_the_name_that_kubernetes_has_for_it():
    given = {"runAsUser": 10002, "fsGroup": 10003}
    made = Rendered(values("everything", at("global.podSecurityContext", given)))
    for pod in made.pods.values():
        context = pod["spec"]["securityContext"]
        assert (context["runAsUser"], context["fsGroup"], context["runAsNonRoot"]) == (10002, 10003, True)


@pytest.mark.parametrize("path", ["global.commonLabels", "api.podLabels"])
@pytest.mark.parametrize("name", ["name", "instance", "part-of"])
def test_labels_that_selectors_go_by_cannot_be_given(path: str, name: str):
    with pytest.raises(helm_python.HelmValuesError, match=path.rpartition(".")[2]):
        texts(overlay(values(), at(path, {f"app.kubernetes.io/{name}": "mine"})))
    assert texts(overlay(values(), at(path, {"team": "search"})))


def test_a_secret_that_an_operator_owns_is_used_and_not_made():
    chart = rendered("existing")
    assert chart.env("api")["ENCRYPTION_MASTER_KEY"] == "semantic-explorer-secrets/encryption-master-key"
    assert chart.env("api")["PGPASSWORD"] == "pg-app/password"
    assert chart.all("Secret") == []


def test_the_guides_form_for_production_brings_no_nats():
    given = {"enabled": False, "external": {"enabled": True, "url": "nats://nats.example.com:4222"}}
    chart = Rendered(values("production", at("nats", given)))
    assert "nats" not in chart.pods
    assert chart.env("api")["NATS_URL"] == "semantic-explorer-inline/nats-url"
    url = chart.one("Secret", "semantic-explorer-inline")["data"]["nats-url"]
    assert base64.b64decode(url).decode() == "nats://nats.example.com:4222"


def test_the_bundled_nats_answers_to_the_name_of_the_guide():
    service = rendered("trial").one("Service", "semantic-explorer-nats")
    assert 4222 in [one["port"] for one in service["spec"]["ports"]]
    assert rendered("trial").all("Secret")[0]["data"]["nats-url"]

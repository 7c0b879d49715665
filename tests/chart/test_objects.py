"""Every object that the chart makes: valid, and each reference leads somewhere."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from devstack.chart import CHART
from tests.chart import rendering
from tests.chart.custom import SPECS
from tests.chart.rendering import CASES, RELEASE, WORKLOADS, Object, Rendered, rendered

pytestmark = pytest.mark.unit
OLDEST, NEWEST = "1.30", "1.37"
# The library reads them anew for each object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)
SELECTING = ("Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "PodMonitor", "NetworkPolicy")


def title(one: Object) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def different_objects() -> Iterator[tuple[str, Object]]:
    """What is the same in two sets of values is looked at once."""
    seen: set[str] = set()
    for case in CASES:
        for one in rendered(case).objects:
            text = json.dumps(one, sort_keys=True)
            if text not in seen:
                yield f"{case}-{title(one)}", one
            seen.add(text)


OBJECTS = [pytest.param(one, id=name) for name, one in different_objects()]
PODS = [pytest.param(case, name, id=f"{case}-{name}") for case in CASES for name in rendered(case).pods]


@pytest.mark.parametrize("one", OBJECTS)
def test_an_object_is_valid_for_the_oldest_and_the_newest_kubernetes(one: Object):
    if one["kind"] in SPECS:
        jsonschema.validate(one["spec"], SPECS[one["kind"]])
        return
    for version in (OLDEST, NEWEST):
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("key", WORKLOADS)
def test_a_workload_may_be_a_stateful_set(key: str):
    chart = Rendered(rendering.values("production", rendering.at(f"{key}.kind", "StatefulSet")))
    workload = chart.workload(key)
    kubernetes_validate.validate(workload, NEWEST, strict=True)
    assert chart.one("Service", workload["spec"]["serviceName"])
    scaler = chart.one("HorizontalPodAutoscaler", workload["metadata"]["name"])
    assert scaler["spec"]["scaleTargetRef"]["kind"] == "StatefulSet"


@pytest.mark.parametrize("case", CASES)
def test_no_two_objects_have_one_name(case: str):
    titles = [title(one) for one in rendered(case).objects]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("case", CASES)
def test_two_renders_are_identical_to_the_byte(case: str):
    assert rendering.texts(rendering.values(case)) == rendered(case).texts


@pytest.mark.parametrize("case", CASES)
def test_every_object_lies_in_the_namespace_of_the_release(case: str):
    ours = [one for one in rendered(case).objects if not one["metadata"]["name"].endswith("-extra")]
    assert {one["metadata"].get("namespace") for one in ours} == {"semantic-explorer"}


def labels_of(pod: Object) -> dict[str, str]:
    return dict(pod["metadata"]["labels"])


def matches(selector: Any, labels: dict[str, str]) -> bool:
    return dict(labels, **(selector or {})) == labels


def selector_of(one: Object) -> Any:
    spec = one["spec"]
    if one["kind"] == "NetworkPolicy":
        return spec["podSelector"]["matchLabels"]
    return spec["selector"] if one["kind"] == "Service" else spec["selector"]["matchLabels"]


SELECTORS = [
    pytest.param(case, kind, id=f"{case}-{kind}")
    for case in CASES
    for kind in SELECTING
    if rendered(case).all(kind)
]


@pytest.mark.parametrize(("case", "kind"), SELECTORS)
def test_a_selector_matches_exactly_the_workload_of_its_name(case: str, kind: str):
    chart = rendered(case)
    for one in chart.all(kind):
        if one["metadata"]["name"].endswith(("-default-deny", "-nowhere")):
            continue
        found = [name for name, pod in chart.pods.items() if matches(selector_of(one), labels_of(pod))]
        assert found == [one["metadata"]["labels"]["app.kubernetes.io/name"]], title(one)


@pytest.mark.parametrize("case", CASES)
def test_default_deny_covers_every_pod(case: str):
    policy = rendered(case).one("NetworkPolicy", f"{RELEASE}-default-deny")
    assert all(matches(selector_of(policy), labels_of(pod)) for pod in rendered(case).pods.values())
    assert "ingress" not in policy["spec"]
    assert "egress" not in policy["spec"]


@pytest.mark.parametrize("case", CASES)
def test_scalers_name_a_workload_that_is_there_and_leave_its_replicas_alone(case: str):
    chart = rendered(case)
    for one in chart.all("HorizontalPodAutoscaler") + chart.all("ScaledObject"):
        target = one["spec"]["scaleTargetRef"]
        assert "replicas" not in chart.one(target["kind"], target["name"])["spec"]


@pytest.mark.parametrize("case", CASES)
def test_services_and_the_ingress_name_ports_that_are_there(case: str):
    chart = rendered(case)
    for service in chart.all("Service"):
        for name, pod in chart.pods.items():
            if service["spec"].get("selector") and matches(service["spec"]["selector"], labels_of(pod)):
                ports = {one["name"] for one in chart.container(name)["ports"]}
                assert {one["targetPort"] for one in service["spec"]["ports"]} <= ports
    for ingress in chart.all("Ingress"):
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            backend = path["backend"]["service"]
            ports = chart.one("Service", backend["name"])["spec"]["ports"]
            assert backend["port"]["name"] in {one["name"] for one in ports}


def secret_refs(pod: Object) -> Iterator[tuple[str, str, bool]]:
    for container in pod["spec"]["containers"]:
        for one in container.get("env", []):
            ref = one.get("valueFrom", {}).get("secretKeyRef")
            if ref:
                yield ref["name"], ref["key"], ref.get("optional", False)


def foreign_secrets(chart: Rendered) -> set[str]:
    """Secrets that the values name, which somebody else makes."""
    names = {one["secret"] for one in chart.values["secrets"]["entries"].values()}
    return names | {chart.values["secrets"]["existingSecret"], chart.values["test"]["tokenSecret"]}


@pytest.mark.parametrize(("case", "name"), PODS)
def test_every_secret_and_volume_of_a_pod_is_there(case: str, name: str):
    chart = rendered(case)
    pod = chart.pods[name]
    made = {one["metadata"]["name"]: set(one["data"]) for one in chart.all("Secret")}
    filled = {
        one["metadata"]["name"]: {entry["secretKey"] for entry in one["spec"]["data"]}
        for one in chart.all("ExternalSecret")
    }
    for secret, key, optional in secret_refs(pod):
        known = made.get(secret, set()) | filled.get(secret, set())
        assert key in known or secret in foreign_secrets(chart) or optional, (secret, key)
    owned = {one["metadata"]["name"] for kind in ("ConfigMap",) for one in chart.all(kind)}
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    claimed = {"data"} if name in {"nats", "quickwit"} else set()
    for mount in chart.container(name)["volumeMounts"]:
        assert mount["name"] in volumes.keys() | claimed
    used = {one["name"] for one in chart.container(name)["volumeMounts"]}
    assert set(volumes) <= used, "a volume that nobody mounts"
    for volume in volumes.values():
        if "configMap" in volume:
            assert volume["configMap"]["name"] in owned


@pytest.mark.parametrize(("case", "name"), PODS)
def test_the_account_of_a_pod_is_there_and_mounts_no_token(case: str, name: str):
    spec = rendered(case).pods[name]["spec"]
    account = rendered(case).one("ServiceAccount", spec["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("case", "name"), PODS)
def test_a_pod_passes_the_restricted_profile_and_has_one_container(case: str, name: str):
    spec = rendered(case).pods[name]["spec"]
    context = spec["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["fsGroup"] == 10001
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert spec["enableServiceLinks"] is False
    (container,) = spec["containers"]
    assert "initContainers" not in spec
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert "memory" in container["resources"]["limits"]
    assert not container["image"].endswith(":latest")
    kinds = {next(key for key in one if key != "name") for one in spec["volumes"]}
    assert kinds <= {"emptyDir", "configMap"}


@pytest.mark.parametrize(("case", "name"), PODS)
def test_every_probe_asks_a_port_of_its_container(case: str, name: str):
    container = rendered(case).container(name)
    ports = {one["name"]: one["containerPort"] for one in container.get("ports", [])}
    probes = [container[key] for key in container if key.endswith("Probe")]
    assert len(probes) >= 2 or name in {"migrations", "test"}
    for probe in probes:
        assert probe["httpGet"]["port"] in {*ports, *ports.values()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("key", WORKLOADS)
def test_a_workloads_name_label_is_the_one_that_the_guide_greps_for(case: str, key: str):
    pod = rendered(case).workload(key)["spec"]["template"]
    assert labels_of(pod)["app.kubernetes.io/name"] == WORKLOADS[key]
    assert labels_of(pod)["app.kubernetes.io/instance"] == RELEASE


def seconds(hook: Any) -> int:
    return int(hook["preStop"]["sleep"]["seconds"]) if hook else 0


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("key", WORKLOADS)
def test_hook_and_drain_fit_into_the_grace_period(case: str, key: str):
    chart = rendered(case)
    spec = chart.workload(key)["spec"]["template"]["spec"]
    container = chart.container(WORKLOADS[key])
    command = container["command"]
    drain = (
        int(command[command.index("--worker-shutdown-timeout") + 1]) / 1000
        if command[0] == "dramatiq"
        else int(chart.env("api")["SHUTDOWN_TIMEOUT_SECS"])
    )
    assert seconds(container.get("lifecycle")) + drain + 5 <= spec["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("case", CASES)
def test_a_changed_secret_restarts_every_pod_of_the_product(case: str):
    changed = Rendered(rendering.values(case, {"secrets": {"revision": "2"}}))
    for name in WORKLOADS.values():
        before, after = (one.pods[name]["metadata"]["annotations"] for one in (rendered(case), changed))
        assert before["checksum/secrets"] != after["checksum/secrets"]


def test_metrics_are_not_reached_through_the_ingress():
    (ingress,) = rendered("everything").all("Ingress")
    paths = {
        one["path"]: one["backend"]["service"]["name"] for one in ingress["spec"]["rules"][0]["http"]["paths"]
    }
    assert paths["/"] == f"{RELEASE}-api"
    assert "selector" not in rendered("everything").one("Service", paths["/metrics"])["spec"]


def test_every_dashboard_and_rule_of_the_folder_is_in_the_release():
    chart = rendered("everything")
    maps = [one for one in chart.all("ConfigMap") if "grafana_dashboard" in one["metadata"].get("labels", ())]
    assert sorted(name for one in maps for name in one["data"]) == sorted(
        path.name for path in (CHART / "dashboards").glob("*.json")
    )
    (rule,) = chart.all("PrometheusRule")
    files = sorted((CHART / "rules").glob("*.yaml"))
    groups = [one for path in files for one in yaml.safe_load(path.read_text())["groups"]]
    assert rule["spec"]["groups"] == groups

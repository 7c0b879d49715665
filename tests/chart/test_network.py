"""Who may talk to whom: the rendered policies, computed as Kubernetes does, against a table."""

from __future__ import annotations

import ipaddress
import itertools
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chart.rendering import RELEASE, WORKLOADS, Object, Rendered, overlay, rendered, values

pytestmark = pytest.mark.unit
PRODUCT = set(WORKLOADS.values())
INTERNET, METADATA, PRIVATE = "203.0.113.7", "169.254.169.254", "10.1.2.3"


@dataclass(frozen=True)
class Place:
    """A pod of the release, a pod of another namespace, or an address."""

    name: str = ""
    namespace: str = "semantic-explorer"
    address: str = ""

    @property
    def labels(self) -> dict[str, str]:
        return {
            "app.kubernetes.io/name": self.name,
            "app.kubernetes.io/instance": RELEASE if self.namespace == "semantic-explorer" else "other",
            "app.kubernetes.io/part-of": "semantic-explorer",
        }


def selects(selector: Any, labels: dict[str, str]) -> bool:
    for name, value in (selector or {}).get("matchLabels", {}).items():
        if labels.get(name) != value:
            return False
    for one in (selector or {}).get("matchExpressions", []):
        assert one["operator"] == "In"
        if labels.get(one["key"]) not in one["values"]:
            return False
    return True


def is_peer(peer: Any, place: Place) -> bool:
    if "ipBlock" in peer:
        if not place.address:
            return False
        address, block = ipaddress.ip_address(place.address), peer["ipBlock"]
        inside = [address in ipaddress.ip_network(cidr) for cidr in block.get("except", [])]
        return address in ipaddress.ip_network(block["cidr"]) and not any(inside)
    if place.address:
        return False
    if "namespaceSelector" in peer:
        space = {"kubernetes.io/metadata.name": place.namespace}
        return selects(peer["namespaceSelector"], space) and selects(peer.get("podSelector"), place.labels)
    return place.namespace == "semantic-explorer" and selects(peer["podSelector"], place.labels)


def direction_allows(chart: Rendered, way: str, place: Place, other: Place, port: int, protocol: str) -> bool:
    if place.address or place.namespace != "semantic-explorer":
        return True  # not ours to close
    policies = [
        one["spec"]
        for one in chart.all("NetworkPolicy")
        if selects(one["spec"]["podSelector"], place.labels) and way in one["spec"]["policyTypes"]
    ]
    peers = "to" if way == "Egress" else "from"
    return not policies or any(
        rule_allows(rule, peers, other, port, protocol)
        for policy in policies
        for rule in policy.get(way.lower(), [])
    )


def rule_allows(rule: Object, peers: str, other: Place, port: int, protocol: str) -> bool:
    ports = [(one["protocol"], int(one["port"])) for one in rule.get("ports", [])]
    at_port = not ports or (protocol, port) in ports
    return at_port and (peers not in rule or any(is_peer(one, other) for one in rule[peers]))


def allowed(chart: Rendered, source: Place, target: Place, port: int, protocol: str = "TCP") -> bool:
    return direction_allows(chart, "Egress", source, target, port, protocol) and direction_allows(
        chart, "Ingress", target, source, port, protocol
    )


def pod(name: str) -> Place:
    return Place(name)


def test_a_pod_that_no_policy_selects_is_open_so_that_the_evaluator_can_fail():
    bare = Rendered(values("quickstart", {"networkPolicy": {"enabled": False}}))
    assert allowed(bare, Place("anything", "elsewhere"), pod("tika"), 9998)
    assert not allowed(rendered("quickstart"), Place("anything", "elsewhere"), pod("tika"), 9998)


@pytest.mark.parametrize("other", [Place(address=INTERNET), Place("x", "default"), Place("tika")])
def test_a_pod_of_the_release_that_has_no_policy_of_its_own_is_closed_both_ways(other: Place):
    stray = pod("stray")
    assert not allowed(rendered("quickstart"), stray, other, 9998)
    assert not allowed(rendered("quickstart"), other, stray, 9998)
    assert not direction_allows(rendered("quickstart"), "Egress", stray, other, 443, "TCP")


PORTS = {"api": 8080, "worker-collections": 8080, "worker-datasets": 8080, "worker-visualizations-py": 8081}


@pytest.mark.parametrize("source", [*PRODUCT, "migrations", "test", "tika"])
@pytest.mark.parametrize("target", [*PRODUCT, "tika"])
def test_inside_the_release_only_what_the_table_names_is_open(source: str, target: str):
    port = {**PORTS, "tika": 9998}[target]
    expected = (target == "tika" and source in PRODUCT) or (target == "api" and source == "test")
    assert allowed(rendered("quickstart"), pod(source), pod(target), port) is expected


SERVERS = {"postgres": 5432, "nats": 4222, "qdrant": 6334, "s3 and oidc": 443}
REACHED = {
    **{name: set(SERVERS) for name in PRODUCT},
    "migrations": {"postgres", "nats", "s3 and oidc"},
    "test": set(),
    "tika": set(),
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("source", REACHED)
def test_servers_of_ones_own_are_reached_by_port_even_when_the_internet_is_off(source: str, server: str):
    chart = OFF
    target = Place(address=PRIVATE)
    assert allowed(chart, pod(source), target, SERVERS[server]) is (server in REACHED[source])
    assert not allowed(chart, pod(source), target, 22)


OFF = Rendered(values("quickstart", {"networkPolicy": {"egress": {"toInternet": False}}}))
PEERS = {
    one: [{"ipBlock": {"cidr": "10.9.0.0/16"}}] for one in ("postgresql", "nats", "qdrant", "s3", "oidc")
}
SWITCHES = ("fromIngress", "fromPrometheus", "toDns", "toInternet", "exceptPrivate")


@pytest.mark.parametrize("switches", list(itertools.product((False, True), repeat=len(SWITCHES))))
@pytest.mark.parametrize("case", ["quickstart", "everything", "trial"])
def test_the_whole_matrix_follows_its_switches(case: str, switches: tuple[bool, ...]):
    on = dict(zip(SWITCHES, switches, strict=True))
    policy = {
        "ingress": {"fromIngress": on["fromIngress"], "fromPrometheus": on["fromPrometheus"]},
        "egress": {name: on[name] for name in ("toDns", "toInternet", "exceptPrivate")} | {"peers": PEERS},
    }
    chart = Rendered(overlay(values(case), {"networkPolicy": policy}), only="networkpolicies")
    for name in sorted(PRODUCT):
        here, port = pod(name), PORTS[name]
        assert allowed(chart, Place("p", "monitoring"), here, port) is on["fromPrometheus"]
        assert allowed(chart, Place("c", "ingress-nginx"), here, port) is (
            name == "api" and on["fromIngress"]
        )
        assert not allowed(chart, Place("x", "default"), here, port)
        for protocol in ("UDP", "TCP"):
            assert allowed(chart, here, Place("dns", "kube-system"), 53, protocol) is on["toDns"]
        outside = on["toInternet"]
        assert allowed(chart, here, Place(address=INTERNET), 443) is outside
        assert allowed(chart, here, Place(address=PRIVATE), 443) is (outside and not on["exceptPrivate"])
        assert not allowed(chart, here, Place(address=METADATA), 443)
        assert not allowed(chart, here, Place(address=METADATA), 80)
        assert not allowed(chart, here, Place(address=INTERNET), 25)


@pytest.mark.parametrize("case", ["trial", "everything"])
def test_parts_are_reached_by_their_users_only(case: str):
    chart = rendered(case)
    users = {"nats": PRODUCT | {"migrations"}, "otel-collector": PRODUCT | {"migrations"}}
    ports = {"nats": 4222, "otel-collector": 4318, "quickwit": 7281}
    for part in ports.keys() & chart.pods.keys():
        for source in chart.pods:
            expected = source in users.get(part, {"otel-collector"})
            assert allowed(chart, pod(source), pod(part), ports[part]) is expected, (source, part)


def test_keda_reads_the_bundled_nats_only_where_it_scales():
    keda = Place("keda", "keda")
    assert allowed(rendered("trial"), keda, pod("nats"), 8222)
    off = Rendered(values("trial", {"workerCollections": {"keda": {"enabled": False}}}))
    assert not allowed(off, keda, pod("nats"), 8222)


@pytest.mark.parametrize(
    ("case", "page"), [("trial", Place("nats")), ("everything", Place(address="10.9.0.1"))]
)
def test_the_api_alone_reads_how_full_the_disk_of_nats_is(case: str, page: Place):
    chart = Rendered(overlay(values(case), {"networkPolicy": {"egress": {"peers": PEERS}}}))
    assert {name for name in chart.pods if allowed(chart, pod(name), page, 8222)} == {"api"}
    assert chart.env("api")["NATS_MONITORING_URL"].endswith(":8222")

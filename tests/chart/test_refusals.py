"""Values that cannot work are refused with the way out; NOTES tell what works but hinders."""

from __future__ import annotations

import re
from typing import Any

import helm_python
import pytest

from tests.chart import rendering
from tests.chart.rendering import CASES, Rendered, at, overlay, rendered, texts, values

pytestmark = pytest.mark.unit


def refusal(given: Any) -> str:
    """What Helm says against values, empty when it takes them."""
    try:
        texts(given)
    except helm_python.HelmError as error:
        return str(error)
    return ""


REFUSED: list[tuple[str, Any, str]] = [
    *(
        ("encryption.masterKey", key, "exactly 64 hexadecimal digits")
        for key in ("a" * 61, "a" * 63, "a" * 65, "g" * 64)
    ),
    ("encryption.masterKey", 1234567890, "--set-string"),
    ("encryption.masterKey", "", "secrets.existingSecret with an entry encryption-master-key"),
    ("postgresql.external.password", "", "postgresql.external.password is missing"),
    ("storage.s3.accessKeyId", "", "storage.s3.accessKeyId is missing"),
    ("storage.s3.secretAccessKey", "", "storage.s3.secretAccessKey is missing"),
    ("dex.external.clientSecret", "", "dex.external.clientSecret is missing"),
    ("dex.external.enabled", False, "answers its own machine only"),
    ("dex.external.issuerUrl", "http://auth.example.com", "must begin with https://"),
    ("publicUrl", "http://explorer.example.com", "publicUrl must begin with https://"),
    ("postgresql.external.enabled", False, "the chart brings no database"),
    ("postgresql.external.sslMode", "verify-full", "verify-full needs sslRootCert"),
    ("qdrant.external.url", "", "the chart brings no Qdrant"),
    ("nats.enabled", True, "exactly one of"),
    ("nats.external.enabled", False, "exactly one of"),
    ("tika.enabled", False, "tika.externalUrl"),
    ("ingress.enabled", True, "ingress.host"),
    ("api.terminationGracePeriodSeconds", 39, "preStop, drain and 5 more take 40"),
    ("workerCollections.terminationGracePeriodSeconds", 34, "take 35: raise it, or lower"),
    ("workerVisualizationsPy.drainSeconds", 296, "take 301"),
    ("api.env.PORT", "9000", "livenessProbe asks port 8080"),
    ("workerVisualizationsPy.env.HEALTH_CHECK_PORT", "9000", "asks port 8081"),
    ("workerDatasets.keda.enabled", True, "nats.monitoringEndpoint"),
    ("api.autoscaling", {"enabled": True, "minReplicas": 11}, "minReplicas is above maxReplicas"),
    (
        "api",
        {"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}},
        "resources.requests.cpu",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED)
def test_what_cannot_work_is_refused_with_the_way_out(path: str, value: Any, message: str):
    said = refusal(overlay(values(), at(path, value)))
    assert message in said
    assert str(value) not in said or len(str(value)) < 60, "a secret's value must not be told"


def test_an_external_secret_must_ask_for_every_secret_that_is_nowhere_else():
    given = overlay(at("postgresql.external.password", ""), at("secrets.externalSecret.enabled", True))
    assert "secrets.externalSecret.data.database-password" in refusal(values("quickstart", given))
    asked = at("secrets.externalSecret.data.database-password", {"key": "semantic-explorer/database"})
    assert refusal(values("quickstart", given, asked)) == ""
    elsewhere = at("secrets.entries.database-password", {"secret": "pg-app"})
    assert refusal(values("quickstart", given, elsewhere)) == ""


def test_two_scalers_for_one_workload_are_refused():
    both = {"keda": {"enabled": True}, "autoscaling": {"enabled": True}}
    assert "fight over the pods" in refusal(values("everything", {"workerDatasets": both}))


def test_one_nats_server_cannot_keep_three_copies():
    said = refusal(values("trial", at("api.env.NATS_REPLICAS", "3")))
    assert 'api.env.NATS_REPLICAS must be "1"' in said


def test_everything_that_is_missing_is_said_at_once():
    said = refusal({})
    for needed in ("encryption", "postgresql", "storage.s3", "nats", "qdrant", "dex"):
        assert f"- {needed}" in said


WARNED: list[tuple[Any, str]] = [
    (at("workerDatasets.replicaCount", 11), "11 pods x 10 jobs = 110"),
    (at("api.replicaCount", 10), "up to 310 connections"),
    (at("workerCollections.replicaCount", 1), "workerCollections: podDisruptionBudget.minAvailable"),
    (at("api.podDisruptionBudget.minAvailable", 4), "api: podDisruptionBudget.minAvailable"),
    (at("api.podDisruptionBudget.minAvailable", "100%"), "api: podDisruptionBudget.minAvailable"),
    (at("api.podDisruptionBudget.maxUnavailable", "0%"), "lets none of the pods go"),
    (at("api.env.NATS_REPLICAS", "1"), "api.env.NATS_REPLICAS is 1"),
    (at("networkPolicy.egress.toInternet", False), "leaves its port open"),
    (at("networkPolicy.egress.toDns", False), "no host name resolves"),
    (at("ingress", {"enabled": True, "host": "explorer.example.com"}), "TRUSTED_PROXIES is not set"),
]


@pytest.mark.parametrize(("given", "message"), WARNED)
def test_notes_warn_of_what_works_but_hinders(given: Any, message: str):
    calm = overlay(values(), at("publicUrl", "https://explorer.example.com"))
    assert "WARNINGS" not in Rendered(calm, only="none").notes
    assert message in Rendered(overlay(calm, given), only="none").notes


def test_the_defaults_fit_postgres_and_max_ack_pending():
    assert "Connections to Postgres at the most: 170" in rendered("quickstart").notes


@pytest.mark.parametrize("case", CASES)
def test_notes_tell_what_to_register_at_the_identity_provider(case: str):
    assert f"{rendered(case).env('api')['PUBLIC_URL']}/auth_callback" in rendered(case).notes


def test_a_release_of_another_name_shares_nothing_with_this_one():
    other = rendering.texts(values(), release="second")
    names = re.findall(r"(?m)^  name: (\S+)", "".join(other.values()))
    assert names
    assert all(name.startswith("second-semantic-explorer") for name in names)


def test_migrations_of_the_next_revision_are_a_job_of_their_own():
    first, second = (rendering.texts(values(), revision=number) for number in (1, 2))
    template = "semantic-explorer/templates/migrations.yaml"
    assert "semantic-explorer-migrations-1" in first[template]
    assert "semantic-explorer-migrations-2" in second[template]

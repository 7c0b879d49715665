"""What operators see of an upload that fails, dies and is replayed: its trace, its log lines, numbers."""

from __future__ import annotations

import re
import secrets
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.jobs.pools import POOLS
from devstack.client import Pile
from tests.support import scrapes
from tests.support.app_processes import RunningApp
from tests.support.providers import EmbeddingServer, Fault, embedding_server

TEXT = b"The lighthouse keeper counted seventeen violet umbrellas drifting past the harbour wall. " * 5
SERVICES = ("api", "worker-collections", "worker-datasets")
STEPS = {
    "publish collection-transforms", "process plan_collection_transform", "process extract_file",
    "process plan_dataset_transform", "process embed_items", "s3 PutObject", "s3 GetObject",
    "provider openai", "qdrant upsert", "dead letter",
}  # fmt: skip
SQL = ("SELECT", "INSERT", "UPDATE", "connect")
DELIVERIES = 5
Found = list[tuple[str, Span]]


@dataclass(frozen=True)
class Upload:
    """An upload that was followed to its last vector, under ids that we chose."""

    trace_id: str
    request_id: str
    our_span: str
    replay_id: str  # the trace of whoever replays the dead letter

    def headers(self, trace_id: str) -> dict[str, str]:
        return {"traceparent": f"00-{trace_id}-{self.our_span}-01", "X-Request-ID": self.request_id}


@pytest.fixture(scope="module")
def upload(running_app: RunningApp) -> Upload:
    """One file whose batch fails five times and is replayed: its sixth delivery writes the vectors."""
    made = Upload(
        secrets.token_hex(16), f"trail-{secrets.token_hex(4)}", secrets.token_hex(8), secrets.token_hex(16)
    )
    with embedding_server(dimensions=8) as provider:
        pile = running_app.pile("Observed")
        _embed_remotely(running_app, pile, provider)
        # What a provider is not asked for again at once, so that it is the job that is tried again.
        provider.faults.extend([Fault("garbage")] * DELIVERIES)
        running_app.http.post(
            f"/api/collections/{pile.ids['collection_id']}/files",
            files=[("files", ("keeper.txt", TEXT))],
            headers=made.headers(made.trace_id),
        ).raise_for_status()
        refused = running_app.upload(pile.ids["collection_id"], [("virus.exe", b"MZ\x00\x01")])
        assert refused["failed"]
        _replay(running_app, made)
        path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}/stats"

        def done() -> bool:
            now = running_app.client.get(path)
            return bool(now["total_chunks_embedded"] == now["total_chunks_to_process"] > 0)

        running_app.wait_for("the vectors", done)
        ids = running_app.client.get(f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}")
        body = {"query": "umbrellas", "embedded_dataset_ids": ids["embedded_dataset_ids"]}
        running_app.client.post("/api/search", body)
    return made


def _replay(app: RunningApp, made: Upload) -> None:
    def died() -> list[int]:
        letters = app.client.get("/api/dead-letters")["items"]
        return [each["dead_letter_id"] for each in letters if each["trace_id"] == made.trace_id]

    (letter,) = app.wait_for("the dead letter, with its trace", died, seconds=120)
    headers = made.headers(made.replay_id)
    app.http.post(f"/api/dead-letters/{letter}/replay", json={}, headers=headers).raise_for_status()


def _embed_remotely(app: RunningApp, pile: Pile, provider: EmbeddingServer) -> None:
    body = {
        "name": "remote", "provider": "openai", "base_url": provider.openai_url, "api_key": "sk-x",
        "config": {"model": "stub"}, "dimensions": 8, "batch_size": 16,
    }  # fmt: skip
    embedder = app.client.post("/api/embedders", body)["embedder_id"]
    path = f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}"
    app.http.patch(path, json={"embedder_ids": [embedder]}).raise_for_status()


@pytest.fixture(scope="module")
def spans(running_app: RunningApp, upload: Upload) -> Found:
    """All spans of the upload's trace, once the last one has come."""

    def complete() -> Found | None:
        found = running_app.spans.of(upload.trace_id)
        whole = len(_runs(found)) == DELIVERIES + 1 and {span.name for _, span in found} >= STEPS
        return found if whole and not _orphans(found, upload) else None

    found: Found = running_app.wait_for("the whole trace", complete, seconds=60)
    return found


@pytest.fixture(scope="module")
def replay_spans(running_app: RunningApp, upload: Upload) -> Found:
    """All spans of the trace of whoever replayed the dead letter."""

    def complete() -> Found | None:
        found = running_app.spans.of(upload.replay_id)
        replayed = any(span.name == "replay dataset-transforms" for _, span in found)
        return found if replayed and not _orphans(found, upload) else None

    found: Found = running_app.wait_for("the trace of the replay", complete, seconds=60)
    return found


def _runs(found: Found) -> list[Span]:
    runs = [span for _, span in found if span.name == "process embed_items"]
    return sorted(runs, key=lambda span: span.start_time_unix_nano)


def _orphans(found: Found, upload: Upload) -> list[str]:
    known = {span.span_id.hex() for _, span in found} | {upload.our_span}
    return [span.name for _, span in found if span.parent_span_id.hex() not in known]


def test_one_trace_leads_from_the_upload_to_the_last_vector_across_deliveries(spans: Found, upload: Upload):
    names = Counter(span.name for _, span in spans if not span.name.startswith(SQL))
    assert {service.removeprefix("semantic-explorer-") for service, _ in spans} == set(SERVICES)
    assert names.keys() >= STEPS
    assert _orphans(spans, upload) == []
    assert any(span.name.startswith("INSERT") for _, span in spans)


def test_each_delivery_is_a_span_of_its_own_and_a_failed_one_says_why(spans: Found):
    runs = _runs(spans)
    attributes = [{each.key: each.value for each in span.attributes} for span in runs]
    counts = [each["messaging.message.delivery_count"].int_value for each in attributes]
    assert counts[:DELIVERIES] == [1, 2, 3, 4, 5]
    assert len({each["job.id"].string_value for each in attributes}) == 1
    assert [span.status.code for span in runs] == [2] * DELIVERIES + [0]
    assert "not a list of vectors" in runs[0].events[0].attributes[1].value.string_value


def test_from_the_upload_over_the_dead_letter_and_its_replay_all_is_one_graph(
    spans: Found, replay_spans: Found, upload: Upload
):
    """By parents and links: each delivery is linked to the span that sent its message."""
    everything = [span for _, span in (*spans, *replay_spans)]
    edges: dict[str, set[str]] = defaultdict(set)
    for span in everything:
        for other in (span.parent_span_id, *(link.span_id for link in span.links)):
            edges[span.span_id.hex()].add(other.hex())
            edges[other.hex()].add(span.span_id.hex())
    edges[upload.our_span].clear()  # it is ours, and parent to both requests
    publishers = {span.span_id for _, span in spans if span.name.startswith("publish ")}
    assert all(any(link.span_id in publishers for link in run.links) for run in _runs(spans))
    assert upload.replay_id in {link.trace_id.hex() for link in _runs(spans)[-1].links}
    assert {span.span_id.hex() for span in everything} - _reached(edges, everything[0].span_id.hex()) == set()


def _reached(edges: dict[str, set[str]], start: str) -> set[str]:
    reached, ahead = set[str](), {start}
    while ahead:
        reached |= ahead
        ahead = set[str]().union(*(edges[each] for each in ahead)) - reached
    return reached


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [
        ("INSERT", "db.system", "postgresql"),
        ("s3 PutObject", "rpc.method", "PutObject"),
        ("qdrant upsert", "db.operation.name", "upsert"),
        ("provider openai", "peer.service", "openai"),
        ("publish collection-transforms", "messaging.system", "nats"),
    ],
)
def test_the_span_of_a_call_says_what_was_asked_of_whom(spans: Found, name: str, attribute: str, value: str):
    told = [
        {each.key: each.value.string_value for each in span.attributes}
        for _, span in spans
        if span.name.startswith(name)
    ]
    assert told
    assert {attributes[attribute] for attributes in told} == {value}


@pytest.mark.parametrize("process", ["web", "collections", "datasets"])
def test_one_request_id_finds_the_lines_of_every_process(
    running_app: RunningApp, upload: Upload, process: str
):
    lines = running_app.product.log(process).read_text().splitlines()
    assert [line for line in lines if f"request_id={upload.request_id}" in line], f"none in {process}.log"


def test_a_failed_run_says_whose_it_was_where_its_message_came_from_and_what_kind_of_error_it_met(
    running_app: RunningApp, upload: Upload
):
    lines = running_app.product.log("datasets").read_text().splitlines()
    (line,) = (one for one in lines if "attempt 1 failed" in one and upload.request_id in one)
    fields = dict(re.findall(r"(\w+)=(\S+)", line))
    assert fields.keys() >= {"trace_id", "span_id", "user", "tenant", "job_id", "kind", "delivery"}
    assert fields["stream"] == "DATASET_TRANSFORMS"
    assert "error={'type': 'ProviderUnavailableError'}" in line


@pytest.mark.parametrize(
    ("process", "words"), [("web", "API server started"), *((pool, "worker started") for pool in POOLS)]
)
def test_every_service_says_that_it_has_started(running_app: RunningApp, process: str, words: str):
    running_app.wait_for(words, lambda: words in running_app.product.log(process).read_text())


@pytest.fixture(scope="module")
def scraped(running_app: RunningApp, upload: Upload) -> dict[str, scrapes.Scrape]:
    """A scrape of every process after there was something to count."""
    assert upload
    ports = tuple(running_app.health_ports.values())
    running_app.wait_for("the pools to be ready", lambda: all(map(_ready, ports)))
    urls = {"web": running_app.base_url} | {
        pool: f"http://127.0.0.1:{port}" for pool, port in running_app.health_ports.items()
    }
    return {name: scrapes.read(httpx.get(f"{url}/metrics", timeout=30).text) for name, url in urls.items()}


def _ready(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=10).is_success


DOCUMENTED = {
    "http_requests_total": {"method", "path", "status"},
    "http_request_duration_seconds": {"method", "path"},
    "database_query_duration_seconds": {"operation"},
    "database_query_total": {"operation", "status"},
    "storage_operation_duration_seconds": {"operation", "status"},
    "worker_jobs_total": {"worker", "kind", "status"},
    "worker_job_duration_seconds": {"worker", "kind", "status"},
    "nats_stream_messages": {"stream"},
    "nats_consumer_pending": {"stream", "consumer"},
    "search_request_duration_seconds": {"status"},
    "sse_connections_active": set(),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_process_exports_the_documented_metric(scraped: dict[str, scrapes.Scrape], name: str):
    assert [process for process, scrape in scraped.items() if name not in scrape.families] == []
    labels = [scrape.labels_of(name) for scrape in scraped.values()]
    assert DOCUMENTED[name] in labels


# What operations need beside, each with its labels; of all processes together.
LEAST = {
    "database_connection_pool_size": set(),
    "database_connection_pool_in_use": set(),
    "database_connection_pool_max": set(),
    "database_connection_wait_seconds": {"status"},
    "nats_consumer_ack_pending": {"stream", "consumer"},
    "nats_consumer_redelivered": {"stream", "consumer"},
    "nats_stream_bytes": {"stream"},
    "nats_jetstream_limit_bytes": set(),
    "jobs_published_total": {"queue", "status"},
    "nats_messages_rescued_total": {"queue", "cause"},
    "nats_in_progress_acks_total": {"queue"},
    "worker_freezes_total": {"queue", "outcome"},
    "worker_job_wait_seconds": {"worker"},
    "worker_job_attempts": {"worker", "status"},
    "worker_jobs_active": {"worker"},
    "worker_job_slots": {"worker"},
    "nats_dead_letters": {"queue"},
    "dead_letters_total": {"worker", "reason"},
    "jobs_sent_again_total": {"cause"},
    "provider_request_duration_seconds": {"provider", "status"},
    "provider_tokens_total": {"provider", "direction"},
    "vector_operation_duration_seconds": {"operation", "status"},
    "vector_upsert_points": set(),
    "auth_failures_total": {"reason"},
    "outbound_calls_refused_total": {"reason"},
    "uploads_refused_total": {"reason"},
    "rate_limit_refusals_total": {"limit"},
    "secrets_stored": {"key_id"},
    "audit_head_timestamp_seconds": set(),
    "semantic_explorer_build_info": {"service", "version"},
    "reconciler_findings_total": {"found"},
    "dead_letter_bulks": {"state"},
    "dead_letter_bulk_letters_total": {"act", "outcome"},
    "provider_circuits_open": set(),
    "provider_circuit_changes_total": {"to"},
    "tls_certificate_expiry_timestamp_seconds": {"use"},
    "encryption_key_age_seconds": set(),
}


@pytest.mark.parametrize("name", LEAST)
def test_what_operations_need_is_measured_somewhere(scraped: dict[str, scrapes.Scrape], name: str):
    found = [labels for scrape in scraped.values() if (labels := scrape.labels_of(name)) is not None]
    assert found, f"no process has a sample of {name}"
    assert all(labels == LEAST[name] for labels in found)


def test_the_numbers_of_nats_come_from_every_process_and_are_true(scraped: dict[str, scrapes.Scrape]):
    for scrape in scraped.values():
        streams = {labels["stream"] for labels, _ in scrape.samples["nats_stream_messages"]}
        assert {"COLLECTION_TRANSFORMS", "DLQ_TRANSFORMS", "TRANSFORM_STATUS"} <= streams
        status = [
            n
            for labels, n in scrape.samples["nats_stream_messages"]
            if labels["stream"] == "TRANSFORM_STATUS"
        ]
        assert status[0] > 0


def test_a_failed_delivery_and_the_job_that_ended_well_are_both_counted(scraped: dict[str, scrapes.Scrape]):
    jobs = scraped["datasets"].samples["worker_jobs_total"]
    outcomes = {(labels["kind"], labels["status"]): n for labels, n in jobs}
    assert outcomes["embed_items", "failed"] >= 1
    assert outcomes["embed_items", "success"] >= 1
    attempts = scraped["datasets"].samples["worker_job_attempts_bucket"]
    by_edge = {labels["le"]: n for labels, n in attempts if labels["status"] == "failed"}
    assert by_edge["5.0"] > by_edge["4.0"]


def test_metrics_are_refused_to_whoever_comes_through_a_proxy(running_app: RunningApp):
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        assert running_app.http.get("/metrics", headers={header: "198.51.100.7"}).status_code == 403


def test_what_rules_and_dashboards_ask_for_is_there(scraped: dict[str, scrapes.Scrape]):
    missing: dict[str, list[Any]] = {}
    for asked in scrapes.asked_for():
        if not any(scrape.answers(asked) for scrape in scraped.values()):
            missing.setdefault(asked.where, []).append((asked.metric, asked.labels))
    assert missing == {}

"""The names that dashboards and alerts rely on, and numbers that are true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from prometheus_client import REGISTRY
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from app.observability import http_metrics, metrics, server_metrics

PROMISED = [
    "http_requests_total",
    "http_request_duration_seconds",
    "database_query_duration_seconds",
    "database_query_total",
    "storage_operation_duration_seconds",
    "worker_jobs_total",
    "worker_job_duration_seconds",
    "nats_stream_messages",
    "nats_consumer_pending",
    "search_request_duration_seconds",
    "sse_connections_active",
]


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize("name", PROMISED)
def test_the_promised_metric_is_in_a_scrape(name: str):
    body, content_type = metrics.render()
    assert f"# TYPE {name} " in body.decode()
    assert content_type.startswith("text/plain")


def test_jobs_are_counted_by_outcome():
    before = value("worker_jobs_total", worker="datasets", kind="embed", status="failed")
    metrics.observe_job("datasets", "embed", "failed", 1.5)
    assert value("worker_jobs_total", worker="datasets", kind="embed", status="failed") == before + 1
    assert 'le="3600.0"' in metrics.render()[0].decode()


def test_one_second_is_an_edge_and_requests_carry_the_route_not_the_address():
    app = Flask("x")
    app.add_url_rule("/edges/<int:item>", view_func=lambda item: f"{item}", endpoint="item")
    app.add_url_rule("/edge-boom", view_func=lambda: str(1 / 0), endpoint="boom")
    app.add_url_rule("/live", view_func=lambda: "ok", endpoint="live")
    http_metrics.install(app, excluded_endpoints=["live"])
    client = app.test_client()
    unmatched = {"method": "GET", "path": "unmatched", "status": "404"}
    before = value("http_requests_total", **unmatched)
    for path in ("/edges/1", "/edges/2", "/edge-boom", "/live", "/nothing/here"):
        client.get(path)
    assert value("http_requests_total", method="GET", path="/edges/<int:item>", status="200") == 2
    assert value("http_requests_total", method="GET", path="/edge-boom", status="500") == 1
    assert value("http_requests_total", **unmatched) == before + 1
    assert value("http_requests_total", method="GET", path="/live", status="200") == 0
    labels = {"method": "GET", "path": "/edges/<int:item>", "le": "1.0"}
    assert value("http_request_duration_seconds_bucket", **labels) == 2


def test_statements_are_counted_by_verb_and_outcome():
    engine = create_engine("sqlite://")
    metrics.watch_engine(engine)
    good = value("database_query_total", operation="select", status="success")
    bad = value("database_query_total", operation="select", status="failed")
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT * FROM nowhere"))
    engine.dispose()
    assert value("database_query_total", operation="select", status="success") == good + 1
    assert value("database_query_total", operation="select", status="failed") == bad + 1


def test_stages_and_storage_are_timed_also_when_they_fail():
    with pytest.raises(RuntimeError), metrics.stage("extraction"):
        raise RuntimeError
    with metrics.storage_operation("put"):
        pass
    assert value("pipeline_stage_duration_seconds_count", stage="extraction", status="failed") >= 1
    assert value("storage_operation_duration_seconds_count", operation="put", status="success") >= 1


def test_open_event_streams_are_counted_while_open():
    before = value("sse_connections_active")
    with metrics.sse_connection():
        assert value("sse_connections_active") == before + 1
    assert value("sse_connections_active") == before


def test_queue_depths_are_as_last_set():
    server_metrics.set_stream("S", messages=5, size_bytes=50)
    server_metrics.set_stream("S", messages=3, size_bytes=30)
    server_metrics.set_consumer("S", "c", pending=2, ack_pending=1, redelivered=0, scheduled=4)
    assert value("nats_stream_messages", stream="S") == 3
    assert value("nats_consumer_pending", stream="S", consumer="c") == 2


def test_processes_that_share_a_folder_are_added_up(tmp_path: Path):
    program = (
        "from app.observability import metrics; metrics.observe_job('p', 'k', 'success', 1);"
        "print(metrics.render()[0].decode())"
    )
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        ).stdout
        for _ in range(2)
    ]
    assert 'worker_jobs_total{kind="k",status="success",worker="p"} 2.0' in outputs[1]

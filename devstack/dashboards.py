"""Writes the chart's Grafana dashboards; `make docs` does it, a test holds them to this."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from devstack.product import ROOT

FOLDER = ROOT / "helm" / "semantic-explorer" / "dashboards"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 24
_DISKS = '{fstype!~"tmpfs|overlay"}'
_ELSEWHERE = "From exporters of the cluster (node exporter, kubelet, kube-state-metrics); empty without them."


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: its unit in Grafana's words, and expressions with their legends."""

    title: str
    unit: str
    lines: Sequence[tuple[str, str]]
    note: str = ""


def _rate(metric: str, by: str, matchers: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{matchers}[$__rate_interval]))"


def _quantile(share: float, histogram: str, by: str, matchers: str = "") -> str:
    return (
        f"histogram_quantile({share}, {_rate(f'{histogram}_bucket', f'le, {by}' if by else 'le', matchers)})"
    )


def _quantiles(histogram: str, by: str) -> list[tuple[str, str]]:
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(",") if label)
    return [(_quantile(share, histogram, by), f"p{share * 100:g} {legend}".strip()) for share in (0.5, 0.99)]


APPLICATION = (
    Panel("Requests by status", "reqps", [(_rate("http_requests_total", "status"), "{{status}}")]),
    Panel("Requests by route", "reqps", [(_rate("http_requests_total", "path"), "{{path}}")]),
    Panel(
        "Errors by route",
        "reqps",
        [(_rate("http_requests_total", "path, status", '{status=~"5.."}'), "{{status}} {{path}}")],
    ),
    Panel(
        "Share of failed requests",
        "percentunit",
        [
            (
                (
                    'sum(rate(http_requests_total{status=~"5.."}[$__rate_interval])) '
                    "/ sum(rate(http_requests_total[$__rate_interval]))"
                ),
                "failed",
            )
        ],
    ),
    Panel("Latency", "s", _quantiles("http_request_duration_seconds", "")),
    Panel(
        "Latency by route", "s", [(_quantile(0.99, "http_request_duration_seconds", "path"), "p99 {{path}}")]
    ),
    Panel("Time of searches", "s", _quantiles("search_request_duration_seconds", "")),
    Panel("Time of Qdrant's answers", "s", _quantiles("vector_operation_duration_seconds", "operation")),
    Panel("Time of storage", "s", _quantiles("storage_operation_duration_seconds", "operation")),
    Panel("Time of providers", "s", _quantiles("provider_request_duration_seconds", "provider")),
    Panel("Points of a write to Qdrant", "short", _quantiles("vector_upsert_points", "")),
    Panel(
        "Calls to providers",
        "reqps",
        [(_rate("provider_request_duration_seconds_count", "provider, status"), "{{provider}} {{status}}")],
        "rate_limited: the provider asked for patience.",
    ),
    Panel(
        "Tokens that providers took and gave",
        "short",
        [(_rate("provider_tokens_total", "provider, direction"), "{{provider}} {{direction}}")],
    ),
    Panel(
        "Providers that are left alone",
        "short",
        [
            ("max(provider_circuits_open)", "not called just now"),
            ("sum by (to) (increase(provider_circuit_changes_total[$__rate_interval]))", "became {{to}}"),
        ],
        "After failures in a row, or because they asked for it; their jobs wait.",
    ),
    Panel("Open event streams", "short", [("sum(sse_connections_active)", "streams")]),
    Panel(
        "Refused",
        "short",
        [
            (_rate("auth_failures_total", "reason"), "who asks: {{reason}}"),
            (_rate("uploads_refused_total", "reason"), "upload: {{reason}}"),
            (_rate("rate_limit_refusals_total", "limit"), "too many: {{limit}}"),
            (_rate("outbound_calls_refused_total", "reason"), "closed address: {{reason}}"),
        ],
    ),
)
WORKERS = (
    Panel(
        "Runs by kind and outcome",
        "ops",
        [(_rate("worker_jobs_total", "worker, kind, status"), "{{kind}} {{status}}")],
    ),
    Panel(
        "Share of failed runs",
        "percentunit",
        [
            (
                (
                    'sum by (worker) (rate(worker_jobs_total{status="failed"}[$__rate_interval])) '
                    "/ sum by (worker) (rate(worker_jobs_total[$__rate_interval]))"
                ),
                "{{worker}}",
            )
        ],
    ),
    Panel("Time of runs", "s", _quantiles("worker_job_duration_seconds", "kind")),
    Panel("Time of stages", "s", _quantiles("pipeline_stage_duration_seconds", "stage")),
    Panel("Wait for a worker", "s", _quantiles("worker_job_wait_seconds", "worker")),
    Panel("Attempts of jobs that ended", "short", _quantiles("worker_job_attempts", "worker")),
    Panel(
        "Concurrency",
        "short",
        [
            ("sum by (worker) (worker_jobs_active)", "{{worker}} at work"),
            ("sum by (worker) (worker_job_slots)", "{{worker}} slots"),
        ],
    ),
    Panel("Jobs held in Postgres", "short", [("max by (queue) (jobs_held)", "{{queue}}")]),
    Panel("Messages sent", "ops", [(_rate("jobs_published_total", "queue, status"), "{{queue}} {{status}}")]),
    Panel(
        "Given up, and sent again",
        "ops",
        [
            (_rate("dead_letters_total", "worker, reason"), "{{worker}} given up: {{reason}}"),
            (_rate("jobs_sent_again_total", "cause"), "sent again: {{cause}}"),
        ],
    ),
    Panel(
        "Kept and rescued messages",
        "ops",
        [
            (_rate("nats_in_progress_acks_total", "queue"), "{{queue}} kept from redelivery"),
            (_rate("nats_messages_rescued_total", "queue, cause"), "{{queue}} rescued: {{cause}}"),
        ],
        "Rescued: the worker died (orphaned), the server had given up (stranded) or was late (overdue).",
    ),
    Panel(
        "Processes that stood still",
        "short",
        [("sum by (queue, outcome) (increase(worker_freezes_total[1h]))", "{{queue}} {{outcome}}")],
        "Native code held the lock; kept or lost: the messages of what ran. Within an hour.",
    ),
    Panel(
        "Found by sweeps",
        "short",
        [("sum by (found) (increase(reconciler_findings_total[1h]))", "{{found}}")],
        "What the other servers hold and rows do not say, and the other way round; within an hour.",
    ),
    Panel(
        "Bulk jobs over dead letters",
        "short",
        [
            ("max by (state) (dead_letter_bulks)", "{{state}}"),
            (_rate("dead_letter_bulk_letters_total", "act, outcome"), "{{act}} {{outcome}} per second"),
        ],
    ),
)
SERVERS = (
    Panel(
        "Connections to Postgres",
        "short",
        [
            ("sum by (instance) (database_connection_pool_in_use)", "{{instance}} at work"),
            ("sum by (instance) (database_connection_pool_size)", "{{instance}} open"),
            ("sum by (instance) (database_connection_pool_max)", "{{instance}} most"),
        ],
    ),
    Panel("Wait for a connection", "s", _quantiles("database_connection_wait_seconds", "")),
    Panel(
        "Statements",
        "ops",
        [(_rate("database_query_total", "operation, status"), "{{operation}} {{status}}")],
    ),
    Panel("Time of statements", "s", _quantiles("database_query_duration_seconds", "operation")),
    Panel("Messages by stream", "short", [("max by (stream) (nats_stream_messages)", "{{stream}}")]),
    Panel("Bytes by stream", "bytes", [("max by (stream) (nats_stream_bytes)", "{{stream}}")]),
    Panel(
        "Waiting and in flight",
        "short",
        [
            ("max by (consumer) (nats_consumer_pending)", "{{consumer}} waiting"),
            ("max by (consumer) (nats_consumer_ack_pending)", "{{consumer}} in flight"),
            ("max by (consumer) (nats_consumer_scheduled)", "{{consumer}} scheduled"),
            ("max by (consumer) (nats_consumer_redelivered)", "{{consumer}} delivered again"),
        ],
    ),
    Panel(
        "Dead letters",
        "short",
        [
            ("max by (queue) (nats_dead_letters)", "{{queue}} kept"),
            ("max(dead_letters_open)", "open"),
            ("max(dead_letters_expiring_unread)", "expire soon, never opened"),
        ],
    ),
    Panel(
        "JetStream's disk",
        "bytes",
        [("max(nats_jetstream_used_bytes)", "used"), ("min(nats_jetstream_limit_bytes)", "limit")],
        "Of the account or of a server, whichever has less left.",
    ),
)
INFRASTRUCTURE = (
    Panel(
        "Processors of nodes",
        "percentunit",
        [
            (
                '1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))',
                "{{instance}}",
            )
        ],
        _ELSEWHERE,
    ),
    Panel(
        "Memory of nodes",
        "percentunit",
        [("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes", "{{instance}}")],
        _ELSEWHERE,
    ),
    Panel(
        "Disks of nodes",
        "percentunit",
        [
            (
                f"1 - node_filesystem_avail_bytes{_DISKS} / node_filesystem_size_bytes{_DISKS}",
                "{{instance}} {{mountpoint}}",
            )
        ],
        _ELSEWHERE,
    ),
    Panel(
        "Volumes",
        "percentunit",
        [
            (
                "1 - kubelet_volume_stats_available_bytes / kubelet_volume_stats_capacity_bytes",
                "{{persistentvolumeclaim}}",
            )
        ],
        _ELSEWHERE,
    ),
    Panel(
        "Memory of our processes",
        "bytes",
        [("sum by (instance) (process_resident_memory_bytes)", "{{instance}}")],
    ),
    Panel(
        "Processors of our processes",
        "short",
        [(_rate("process_cpu_seconds_total", "instance"), "{{instance}}")],
    ),
)
HEALTH = (
    Panel(
        "Processes by version",
        "short",
        [("count by (service, version) (semantic_explorer_build_info)", "{{service}} {{version}}")],
    ),
    Panel(
        "Readiness: parts that answer",
        "short",
        [("min by (part) (health_part_up)", "{{part}}")],
        "0 where at least one process finds the part away.",
    ),
    Panel(
        "Age of processes",
        "s",
        [("time() - process_start_time_seconds", "{{instance}}")],
        "A fall to zero is a restart: liveness failed, or a rollout.",
    ),
    Panel(
        "Restarts",
        "short",
        [("sum by (pod) (increase(kube_pod_container_status_restarts_total[$__range]))", "{{pod}}")],
        _ELSEWHERE,
    ),
    Panel(
        "Pods that are ready",
        "short",
        [('sum by (pod) (kube_pod_status_ready{condition="true"})', "{{pod}}")],
        _ELSEWHERE,
    ),
    Panel(
        "Certificates end in",
        "s",
        [("min by (use) (tls_certificate_expiry_timestamp_seconds) - time()", "{{use}}")],
        "Files of NATS_TLS_… and of DATABASE_URL.",
    ),
    Panel("Age of the master key", "s", [("max(encryption_key_age_seconds)", "active key")]),
    Panel(
        "Secrets by the key that sealed them", "short", [("max by (key_id) (secrets_stored)", "{{key_id}}")]
    ),
    Panel(
        "Age of the newest audit event", "s", [("time() - max(audit_head_timestamp_seconds)", "newest event")]
    ),
    Panel(
        "Alerts that fire",
        "short",
        [
            (
                'count by (alertname) (ALERTS{alertstate="firing", alertname=~"SemanticExplorer.*"})',
                "{{alertname}}",
            )
        ],
    ),
)

DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "application": ("Application", APPLICATION),
    "workers": ("Workers", WORKERS),
    "database-nats": ("Database and NATS", SERVERS),
    "infrastructure": ("Infrastructure", INFRASTRUCTURE),
    "health": ("Health", HEALTH),
}


def text_of(name: str) -> str:
    """A dashboard as its file has it."""
    title, panels = DASHBOARDS[name]
    return json.dumps(_dashboard(name, title, panels), indent=1) + "\n"


def _dashboard(name: str, title: str, panels: Sequence[Panel]) -> dict[str, Any]:
    variable = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    return {
        "uid": f"semantic-explorer-{name}",
        "title": f"Semantic Explorer / {title}",
        "tags": ["semantic-explorer"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": list(_laid_out(panels)),
    }


def _laid_out(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """Two beside each other, from top to bottom."""
    per_row = _COLUMNS // _WIDTH
    for number, panel in enumerate(panels):
        yield {
            "id": number + 1,
            "type": "timeseries",
            "title": panel.title,
            "description": panel.note,
            "datasource": _SOURCE,
            "gridPos": {
                "h": _HEIGHT, "w": _WIDTH, "x": number % per_row * _WIDTH, "y": number // per_row * _HEIGHT
            },
            "fieldConfig": {"defaults": {"unit": panel.unit, "noValue": "no data"}, "overrides": []},
            "options": {"legend": {"displayMode": "list"}, "tooltip": {"mode": "multi"}},
            "targets": list(_targets(panel)),
        }  # fmt: skip


def _targets(panel: Panel) -> Iterator[dict[str, Any]]:
    for letter, (expression, legend) in zip(ascii_uppercase, panel.lines, strict=False):
        yield {"refId": letter, "expr": expression, "legendFormat": legend, "datasource": _SOURCE}


def write() -> None:
    """Write every dashboard."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text_of(name))

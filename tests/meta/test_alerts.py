"""Every alert fires when it should and is silent when it should be, and says where its runbook lies.

The rules are run by promtool over made-up series. An `x` in them repeats: "0+60x10" begins at 0 and grows by
60 a minute, ten times.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack import promtool
from tests.support import scrapes

ROOT = Path(__file__).resolve().parents[2]
Series = dict[str, str]
DAY = 86_400


@dataclass(frozen=True)
class Case:
    """Series, and what an alert says of them after some time; nothing where it is silent."""

    alert: str
    after: str
    series: Series
    labels: dict[str, str] | None = None
    summary: str = ""


def requests(good: str, bad: str) -> Series:
    return {
        'http_requests_total{method="GET",path="/",status="200"}': good,
        'http_requests_total{method="GET",path="/",status="503"}': bad,
    }


def latency(path: str, within: int, all_of_them: int) -> Series:
    name = "http_request_duration_seconds_bucket"
    edges = {"0.5": within, "1.0": within, "2.5": all_of_them, "+Inf": all_of_them}
    return {f'{name}{{method="GET",path="{path}",le="{le}"}}': f"0+{n}x60" for le, n in edges.items()}


def jobs(success: str, failed: str) -> Series:
    return {
        'worker_jobs_total{worker="datasets",kind="k",status="success"}': success,
        'worker_jobs_total{worker="datasets",kind="k",status="failed"}': failed,
    }


def pool(in_use: int, instance: str = "a") -> Series:
    labels = f'{{instance="{instance}"}}'
    return {
        f"database_connection_pool_in_use{labels}": f"{in_use}x60",
        f"database_connection_pool_max{labels}": "20x60",
    }


def depth(name: str, *values: str) -> Series:
    """A number of one consumer, as several processes tell it."""
    labels = 'stream="DATASET_TRANSFORMS",consumer="datasets"'
    return {f'{name}{{{labels},instance="{n}"}}': value for n, value in enumerate(values)}


def disk(used: str, limit: str, instance: str = "a") -> Series:
    labels = f'{{instance="{instance}"}}'
    return {f"nats_jetstream_used_bytes{labels}": used, f"nats_jetstream_limit_bytes{labels}": limit}


def volume(available: int) -> Series:
    labels = '{namespace="n",persistentvolumeclaim="nats-0"}'
    return {
        f"kubelet_volume_stats_available_bytes{labels}": f"{available}x60",
        f"kubelet_volume_stats_capacity_bytes{labels}": "100x60",
    }


def certificate(use: str, days: int) -> Series:
    return {f'tls_certificate_expiry_timestamp_seconds{{use="{use}"}}': f"{days * DAY}x120"}


def lost(values: str) -> Series:
    return {'jobs_sent_again_total{cause="overdue"}': values}


def rescued(cause: str, values: str) -> Series:
    return {f'nats_messages_rescued_total{{queue="datasets",cause="{cause}"}}': values}


def frozen(kept: str, lost: str = "0x60") -> Series:
    name = "worker_freezes_total"
    return {
        f'{name}{{queue="datasets",outcome="kept"}}': kept,
        f'{name}{{queue="datasets",outcome="lost"}}': lost,
    }


def found(what: str, values: str) -> Series:
    return {f'reconciler_findings_total{{found="{what}"}}': values}


def bulks(running: str, letters: str) -> Series:
    return {
        'dead_letter_bulks{state="running"}': running,
        'dead_letter_bulk_letters_total{act="replay",outcome="done"}': letters,
    }


# The notation for repeated values takes numbers only.
NAN, INF = (" ".join([word] * 60) for word in ("NaN", "Inf"))
CONSUMER = {"stream": "DATASET_TRANSFORMS", "consumer": "datasets"}
AGE = "encryption_key_age_seconds"
BUILD = 'semantic_explorer_build_info{service="api",version="1"}'
CASES = [
    Case("ApiDown", "10m", {}, {"severity": "critical", "service": "api"}, "No API server answers"),
    Case(
        "ApiDown",
        "30m",
        {BUILD: "1x5 stale"},
        {"severity": "critical", "service": "api"},
        "No API server answers",
    ),
    Case("ApiDown", "10m", {BUILD: "1x60"}),
    Case("ApiDown", "6m", {BUILD: "1x5 stale"}),  # a restart
    Case(
        "HighErrorRate", "20m", requests("0+98x60", "0+2x60"), {"severity": "critical"}, "2% of requests fail"
    ),
    Case("HighErrorRate", "20m", requests("0+995x60", "0+5x60")),
    Case("HighErrorRate", "20m", requests("0x60", "0x60")),  # no traffic
    Case("HighErrorRate", "20m", {}),  # target gone
    Case(
        "HighLatency",
        "30m",
        latency("/", 90, 100),
        {"severity": "warning"},
        "One request in a hundred takes longer than 2.35s",
    ),
    Case("HighLatency", "30m", latency("/", 100, 100)),
    Case("HighLatency", "30m", latency("/api/collections/<collection_id>/files", 0, 100)),  # uploads
    Case("HighLatency", "30m", latency("/", 0, 0)),
    Case(
        "WorkerJobsFail",
        "30m",
        jobs("0+90x60", "0+10x60"),
        {"severity": "warning", "worker": "datasets"},
        "10% of the runs in pool datasets fail",
    ),
    Case("WorkerJobsFail", "30m", jobs("0+96x60", "0+4x60")),
    Case("WorkerJobsFail", "30m", jobs("5x60", "5x60")),  # nothing runs
    Case(
        "DatabasePoolExhausted",
        "10m",
        pool(19) | pool(2, "b"),
        {"severity": "critical", "instance": "a"},
        "a has 95% of its connections at work",
    ),
    Case("DatabasePoolExhausted", "10m", pool(18)),
    Case("DatabasePoolExhausted", "3m", pool(20)),  # a rush
    Case(
        "StreamBacklog",
        "30m",
        depth("nats_consumer_pending", "800x60", NAN, "790x60"),
        {"severity": "warning", **CONSUMER},
        "800 messages wait in DATASET_TRANSFORMS",
    ),
    Case("StreamBacklog", "30m", depth("nats_consumer_pending", "400x60", "400x60")),  # twice the same 400
    Case("StreamBacklog", "30m", depth("nats_consumer_pending", "800x10 100x50")),
    Case(
        "JetStreamDiskFull",
        "20m",
        disk("90x60", "100x60"),
        {"severity": "critical"},
        "JetStream has used 90% of its disk",
    ),
    Case("JetStreamDiskFull", "20m", disk("70x60", "100x60")),
    Case("JetStreamDiskFull", "20m", disk("90x60", INF)),  # no limit
    Case("JetStreamDiskFull", "20m", disk(NAN, NAN)),
    Case(
        "JetStreamDiskFull",
        "20m",
        disk("85x60", "100x60", "api") | disk("10x60", INF, "worker"),  # which knows of no limit
        {"severity": "critical"},
        "JetStream has used 85% of its disk",
    ),
    Case(
        "VolumeFull",
        "20m",
        volume(10),
        {"severity": "warning", "namespace": "n", "persistentvolumeclaim": "nats-0"},
        "Volume n/nats-0 has 10% left",
    ),
    Case("VolumeFull", "20m", volume(20)),
    Case("VolumeFull", "20m", {}),  # nobody scrapes the kubelet
    Case(
        "NatsAway",
        "20m",
        {'nats_jetstream_used_bytes{instance="a"}': NAN},
        {"severity": "critical"},
        "1 processes cannot reach NATS",
    ),
    Case("NatsAway", "20m", {"nats_jetstream_used_bytes": "5x60"}),
    Case("NatsAway", "20m", {"nats_jetstream_used_bytes": "5x10 NaN NaN 5x60"}),  # a restart
    Case(
        "DeadLetters",
        "30m",
        {'dead_letters_open{instance="a"}': "3x60", 'dead_letters_open{instance="b"}': "0x60"},
        {"severity": "warning"},
        "3 dead letters wait for somebody to deal with them",
    ),
    Case("DeadLetters", "30m", {"dead_letters_open": "0x60"}),
    Case("DeadLetters", "30m", {"dead_letters_open": "3x10 0x50"}),  # replayed
    Case(
        "DeadLettersExpire",
        "90m",
        {"dead_letters_expiring_unread": "2x120"},
        {"severity": "warning"},
        "2 dead letters that nobody has opened are deleted within three days",
    ),
    Case("DeadLettersExpire", "90m", {"dead_letters_expiring_unread": "0x120"}),
    Case("DeadLettersExpire", "90m", {"dead_letters_expiring_unread": "2x60 0x60"}),  # opened
    Case(
        "ScheduledBacklog",
        "50m",
        depth("nats_consumer_scheduled", "150x60"),
        {"severity": "warning", **CONSUMER},
        "150 jobs of DATASET_TRANSFORMS wait for another attempt",
    ),
    Case("ScheduledBacklog", "50m", depth("nats_consumer_scheduled", "80x60", "80x60")),
    Case("ScheduledBacklog", "50m", depth("nats_consumer_scheduled", "150x20 0x40")),
    Case(
        "JobsLost",
        "40m",
        lost("0+1x60"),
        {"severity": "warning", "cause": "overdue"},
        "30 jobs had to be sent again in half an hour (overdue)",
    ),
    Case("JobsLost", "40m", lost("0x20 3x40")),
    Case("JobsLost", "40m", lost("500x60")),  # long ago
    Case(
        "CertificateExpires",
        "2h",
        certificate("nats_ca", 13) | certificate("postgres_ca", 60),
        {"severity": "warning", "use": "nats_ca"},
        "The certificate nats_ca ends in 12d 22h 0m 0s",
    ),
    Case("CertificateExpires", "2h", certificate("nats_ca", 15)),
    Case("CertificateExpires", "2h", {}),  # none is configured
    Case("CertificateExpires", "30m", certificate("nats_ca", 13)),  # is being renewed
    Case(
        "KeyOld",
        "2h",
        {
            f'{AGE}{{instance="a"}}': f"{366 * DAY}x120",
            f'{AGE}{{instance="b"}}': "5x120",
        },
        {"severity": "warning"},
        "The master key has been in use for 366d 0h 0m 0s",
    ),
    Case("KeyOld", "2h", {AGE: f"{364 * DAY}x120"}),
    Case("KeyOld", "2h", {AGE: f"{366 * DAY}x30 0+60x90"}),  # rotated
    Case(
        "ProviderAway",
        "30m",
        {'provider_circuits_open{instance="a"}': "2x60", 'provider_circuits_open{instance="b"}': NAN},
        {"severity": "warning"},
        "2 providers are not called, because they failed or asked for patience",
    ),
    Case("ProviderAway", "30m", {"provider_circuits_open": "0x60"}),
    Case("ProviderAway", "30m", {"provider_circuits_open": "1x5 0x3 1x5 0x50"}),  # they come back
    Case("ProviderAway", "30m", {"provider_circuits_open": NAN}),
    Case(
        "WorkersDie",
        "40m",
        rescued("orphaned", "0+1x60"),
        {"severity": "warning", "queue": "datasets"},
        "Workers of datasets died over 30 messages in half an hour",
    ),
    Case("WorkersDie", "40m", rescued("orphaned", "0x20 3x40")),
    Case("WorkersDie", "40m", rescued("overdue", "0+1x60")),  # the server was late
    Case(
        "WorkersFreeze",
        "40m",
        frozen("0x20 1x40", "0x20 1x40"),
        {"severity": "warning", "queue": "datasets"},
        "Workers of datasets stood still 1 times in half an hour",
    ),
    Case(
        "WorkersFreeze",
        "40m",
        frozen("0+1x60"),
        {"severity": "warning", "queue": "datasets"},
        "Workers of datasets stood still 30 times in half an hour",
    ),
    Case("WorkersFreeze", "40m", frozen("0x20 2x40")),  # now and then, and nothing lost
    Case("WorkersFreeze", "40m", frozen("0x60")),
    Case("WorkersFreeze", "50m", frozen("500x60", "3x60")),  # long ago
    Case(
        "DataMissing",
        "90m",
        found("files_without_object", "0x60 1x60"),
        {"severity": "warning", "found": "files_without_object"},
        "Object storage or Qdrant has lost something (files_without_object)",
    ),
    Case("DataMissing", "90m", found("files_without_object", "0x120")),
    Case("DataMissing", "90m", found("objects", "0x60 9x60")),  # leftovers, which are removed
    Case(
        "BulkJobStands",
        "40m",
        bulks("1x60", "50x60"),
        {"severity": "warning"},
        "1 bulk jobs over dead letters run and deal with no letter",
    ),
    Case("BulkJobStands", "40m", bulks("1x60", "0+5x60")),
    Case("BulkJobStands", "40m", bulks("0x60", "50x60")),  # none is to run
    Case("BulkJobStands", "40m", bulks("1x20 0x40", "50x60")),
    Case(
        "ErrorBudgetBurnsFast",
        "2h",
        requests("0+98x120", "0+2x120"),
        {"severity": "critical"},
        "The month's error budget burns fast: 2% of requests fail",
    ),
    Case("ErrorBudgetBurnsFast", "2h", requests("0+998x120", "0+2x120")),
    Case("ErrorBudgetBurnsFast", "2h", requests("0+98x120", "0x30 0+20x5 100x85")),  # is over
    Case("ErrorBudgetBurnsFast", "2h", requests("0x120", "0x120")),
    Case(
        "ErrorBudgetBurnsSlowly",
        "8h",
        requests("0+998x480", "0+2x480"),
        {"severity": "warning"},
        "More requests fail than promised, for days: 0.2%",
    ),
    Case("ErrorBudgetBurnsSlowly", "8h", requests("0+9995x480", "0+5x480")),
    Case("ErrorBudgetBurnsSlowly", "8h", {}),
]


def test_alerts_fire_and_stay_silent(tmp_path: Path):
    tool = promtool.find()
    assert tool, "run `python -m devstack.promtool`"
    file = tmp_path / "cases.yaml"
    groups = {"rule_files": [str(path) for path in rule_files()], "evaluation_interval": "1m"}
    file.write_text(yaml.safe_dump(groups | {"tests": [_as_test(case) for case in CASES]}))
    done = subprocess.run([tool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rule_files() -> list[Path]:
    return sorted((scrapes.CHART / "rules").glob("*.yaml"))


def _as_test(case: Case) -> dict[str, Any]:
    name = f"SemanticExplorer{case.alert}"
    annotations = {"summary": case.summary, "runbook_url": f"docs/runbooks/{name}.md"}
    expected = [] if case.labels is None else [{"exp_labels": case.labels, "exp_annotations": annotations}]
    return {
        "name": f"{case.alert} {case.series}",
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in case.series.items()],
        "alert_rule_test": [{"eval_time": case.after, "alertname": name, "exp_alerts": expected}],
    }


def test_every_alert_has_a_case_that_fires_and_two_that_do_not():
    for name in alerts():
        cases = [case for case in CASES if f"SemanticExplorer{case.alert}" == name]
        assert any(case.labels is not None for case in cases), name
        assert sum(case.labels is None for case in cases) >= 2, name


def alerts() -> list[str]:
    return [rule["alert"] for _, rule in scrapes.rules() if "alert" in rule]


@pytest.mark.parametrize("name", alerts())
def test_the_runbook_of_an_alert_tells_what_it_means_and_what_to_do(name: str):
    page = (ROOT / "docs" / "runbooks" / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## What it means", "## What to look at", "## What to do"
    ]  # fmt: skip


def test_no_runbook_is_without_its_alert():
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("SemanticExplorer*.md")}
    assert pages == set(alerts())

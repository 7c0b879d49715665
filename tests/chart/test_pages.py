"""What operators are told, where only words can show it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from devstack.chart import CHART, keys
from devstack.product import ROOT
from tests.chart.rendering import WORKLOADS, Rendered, rendered, values

pytestmark = pytest.mark.unit
OPERATORS = "\n".join((ROOT / "docs" / name).read_text() for name in ("kubernetes.md", "secrets.md"))
# What is typed: on the page about backups and in the runbooks, too.
TYPED = [ROOT / "docs" / "backup.md", *sorted((ROOT / "docs" / "runbooks").glob("*.md"))]
COMMANDS = OPERATORS + "\n".join(page.read_text() for page in TYPED)
OF_OTHERS = {"kubectl get pods", "kubectl describe certificate", "kubectl edit pvc"}  # where those are
KEYS = {".".join(key.path) for key in keys((CHART / "values.yaml").read_text())}
ADVICE = {
    "EN07": ("AWS Secrets Manager", "Vault"),
    "EN08": ("only those who run the installation read it",),
    "EN09": ("access log",),
    "EN10": ("openssl rand -hex 32",),
    "EN15": ("keep it where keys are kept", "A retired key is"),
    "EN17": ("apart from the database's backups",),
    "ST05": ("versions switched on", "life cycle"),
    "NA04": ("three servers or more", "lasting disks of 10 GB"),
    "CT02": ("as many as the pod has cores", "a large file"),
    "CT03": ("rate limit", "dimensions in memory", "bandwidth"),
    "CT04": ("UMAP and HDBSCAN", "PROCESSING_TIMEOUT_SECS", "GPU"),
    "BK02": ("lasting disks and three copies",),
    "BK03": ("its versions", "another region"),
    "BK04": ("apart from all of these",),
    "CP03": ("needs a restart of Postgres", "headroom"),
}


@pytest.mark.parametrize("point", ADVICE)
def test_the_page_for_operators_gives_the_advice(point: str):
    for words in ADVICE[point]:
        assert words in re.sub(r"\s+", " ", OPERATORS)


def test_files_for_nats_reach_all_workloads_and_the_migrations_as_the_page_says():
    (block,) = re.findall(r"(?s)```yaml\n(api: &nats.*?)```", OPERATORS)
    chart = Rendered(values("quickstart", yaml.safe_load(block)))
    for name in (*WORKLOADS.values(), "migrations"):
        files = {v for k, v in chart.env(name).items() if k.startswith("NATS_") and k.endswith("_FILE")}
        assert len(files) == 4
        mounts = {one["mountPath"] for one in chart.container(name)["volumeMounts"]}
        assert {str(Path(file).parent) for file in files} <= mounts


LOOKS_LIKE_A_SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|xox[bap]-[0-9]|\bsk-[A-Za-z0-9]{32}|ghp_[A-Za-z0-9]{36}"
)


def test_no_secret_is_kept_in_version_control():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = (name for name in tracked.decode().split("\0") if name)
    # Tests of what hides secrets need some that look like one.
    files = [ROOT / name for name in names if not name.startswith("tests/")]
    found = [
        path.name
        for path in files
        if path.is_file() and LOOKS_LIKE_A_SECRET.search(path.read_bytes().decode(errors="replace"))
    ]
    assert found == []
    assert ".env" in (ROOT / ".gitignore").read_text().split()


def test_the_license_lies_at_the_root():
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def commands(program: str) -> list[tuple[str, str]]:
    """What the pages tell to type: whole lines of blocks, and what stands between backticks."""
    return re.findall(rf"(?m)^ *({program} [^`\n]+)|`({program} [^`]+)`", COMMANDS)


def test_every_command_for_the_cluster_names_the_namespace_of_the_release():
    found = [block or inline for program in ("kubectl", "helm") for block, inline in commands(program)]
    verbs = {" ".join(one.split()[:2]) for one in found}
    assert {"kubectl exec", "kubectl logs", "helm install", "helm upgrade", "helm rollback"} <= verbs
    whole = {
        one for one in found if len(one.split()) > 2
    } - OF_OTHERS  # `helm upgrade` is a word for what it does
    assert [one for one in whole if "-n semantic-explorer" not in re.sub(r"\s+", " ", one)] == []
    searched = [one for one in found if "grep" in one]
    assert searched
    assert [one for one in searched if "--tail=-1" not in one] == [], "kubectl shows ten lines of a pod"


def test_names_in_the_pages_commands_are_those_of_the_chart():
    labels = set(re.findall(r"app\.kubernetes\.io/name=([a-z-]+)", COMMANDS))
    assert labels <= {*WORKLOADS.values(), "migrations"}
    assert set(re.findall(r"svc/(\S+) ", COMMANDS)) == {"semantic-explorer-nats"}
    deployments = re.findall(r"deploy/([a-z-]+)", COMMANDS)
    assert deployments
    for name in deployments:
        assert rendered("quickstart").one("Deployment", name)
    for key in re.findall(
        r"`((?:secrets|migrations|nats|keda|autoscaling|podDisruptionBudget)\.[\w.]+)", COMMANDS
    ):
        assert any(f".{key}." in f".{path}." for path in KEYS), key


def test_an_external_secret_asks_the_store_of_the_guide():
    made = rendered("everything").one("ExternalSecret", "semantic-explorer-secrets")
    assert made["apiVersion"] == "external-secrets.io/v1"  # v1beta1 is no longer served
    external = made["spec"]
    assert external["secretStoreRef"] == {"name": "aws-secrets", "kind": "SecretStore"}
    assert external["target"] == {"name": "semantic-explorer-secrets", "creationPolicy": "Owner"}
    entries = {one["secretKey"]: one["remoteRef"]["key"] for one in external["data"]}
    assert entries["encryption-master-key"] == "semantic-explorer/encryption-key"
    alone = {"encryption": {"masterKey": ""}, "secrets": {"externalSecret": {"enabled": True}}}
    key = Rendered(values("quickstart", alone)).env("api")["ENCRYPTION_MASTER_KEY"]
    assert key == "semantic-explorer-secrets/encryption-master-key"


@pytest.mark.parametrize("name", [*WORKLOADS.values(), "migrations"])
def test_a_retired_key_reaches_every_container(name: str):
    env = rendered("everything").env(name)
    assert env["ENCRYPTION_RETIRED_KEYS"] == "semantic-explorer-inline/encryption-retired-keys"


def test_a_gpu_is_asked_for_where_it_is_wanted():
    limits = rendered("everything").container("worker-visualizations-py")["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 1
    assert limits["memory"] == "16Gi"

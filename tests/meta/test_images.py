"""Dockerfile and compose.yaml: linted, and in step with the Procfile, the settings and the lock file.

No engine builds them here; what can be known without one is held.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import SETTINGS
from app.jobs.pools import POOLS
from devstack.product import read_procfile

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {"api": "web", "migrate": "release"} | {pool: pool for pool in POOLS}  # by line of the Procfile


def words(line: str, overridden: dict[str, str]) -> list[str]:
    """A line of the Procfile as the shell would split it, its variables at their defaults or overridden."""
    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: overridden.get(found[1], found[2]), line)
    return filled.split()


def test_hadolint_finds_nothing_in_the_dockerfile():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_last_stage_has_a_numbered_user_and_no_compiler():
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"(?m)^USER 10001:10001$", last)
    assert "build-essential" not in last
    assert not re.search(r"(?m)^(CMD|ENTRYPOINT) [^\[]", last), "a shell would keep the signals to itself"


def test_packages_are_installed_by_hash_from_the_lock_file():
    assert "--require-hashes" in DOCKERFILE
    assert "-r requirements.txt" in DOCKERFILE


def test_the_bill_of_materials_names_what_the_lock_file_has():
    locked = set(re.findall(r"(?m)^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text()))
    # `make sbom` has it checked by the standard's schema, which takes seconds.
    bill = made_bill("-m", "cyclonedx_py", "requirements", "requirements.txt", "--no-validate")
    assert {(one["name"], one["version"]) for one in bill["components"]} == locked
    # pip checked the hashes that the bill repeats.
    assert all(one["externalReferences"][0]["hashes"] for one in bill["components"])


def test_the_bill_of_materials_names_what_the_pages_are_bundled_from():
    wanted = json.loads((ROOT / "app/web/assets/package.json").read_text())["dependencies"]
    options = ("--omit", "dev", "--package-lock-only", "--sbom-format", "cyclonedx")
    bill = made_bill("-m", "devstack.node", "app/web/assets", "sbom", *options)
    named = {"/".join(filter(None, (one.get("group"), one["name"]))) for one in bill["components"]}
    assert wanted.keys() <= named
    assert not {"esbuild", "typescript"} & named


def made_bill(*words: str) -> Any:
    """What `make sbom` writes."""
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    bill = json.loads(done.stdout)
    assert bill["bomFormat"] == "CycloneDX"
    return bill


def test_the_image_carries_its_bill_of_materials():
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    for stage, file in (("sbom", "sbom.cdx.json"), ("pages", "sbom-pages.cdx.json")):
        assert f"COPY --from={stage} /src/{file} " in last
        assert f"AS {stage}\n" in DOCKERFILE
    assert "/opt/sbom" not in last


def test_compose_is_as_its_schema_wants_it():
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*argv, ROOT / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_are_named_with_a_version():
    stages = set(re.findall(r"(?m)^FROM .* AS (\S+)", DOCKERFILE))
    images = [name for name in re.findall(r"(?m)^FROM (\S+)", DOCKERFILE) if name not in stages]
    images += [one["image"] for one in SERVICES.values() if "build" not in one]
    assert images
    for image in images:
        name, _, tag = image.rpartition(":")
        assert name, image
        assert tag != "latest", image


def test_everything_that_is_copied_exists_and_is_sent_to_the_builder():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", DOCKERFILE)
    for path in " ".join(copied).split():
        assert (ROOT / path).exists(), path
        assert path in sent or any(path.startswith(f"{each}/") for each in sent), path
    assert not {".env", ".git", ".data"} & sent


def test_the_image_runs_the_web_process_of_the_procfile_for_everybody():
    command = re.search(r"(?m)^CMD (\[.*\])$", DOCKERFILE)
    assert command
    assert yaml.safe_load(command[1]) == words(read_procfile()["web"], {"HOSTNAME": "0.0.0.0"})


@pytest.mark.parametrize("service", OURS)
def test_a_process_of_compose_is_the_procfiles(service: str):
    assert SERVICES[service]["command"] == words(read_procfile()[OURS[service]], {})


@pytest.mark.parametrize("service", OURS)
def test_a_process_of_compose_is_confined_and_gets_settings_that_exist(service: str):
    one = SERVICES[service]
    assert one["read_only"]
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert one["environment"].keys() <= {variable.name for variable in SETTINGS}
    missing = [v.name for v in SETTINGS if v.required and v.name not in one["environment"]]
    assert missing == []


@pytest.mark.parametrize("pool", POOLS)
def test_compose_waits_for_a_pools_running_jobs(pool: str):
    grace = int(SERVICES[pool]["stop_grace_period"].removesuffix("s"))
    assert grace > POOLS[pool].grace_seconds


def test_nothing_of_compose_can_be_reached_from_elsewhere():
    for name, one in SERVICES.items():
        for port in one.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
    assert SERVICES["api"]["environment"]["HOSTNAME"] == "127.0.0.1"


def test_what_a_service_waits_for_or_keeps_is_defined():
    for name, one in SERVICES.items():
        assert set(one.get("depends_on", {})) <= SERVICES.keys(), name
        for volume in one.get("volumes", ()):
            assert volume.partition(":")[0] in COMPOSE["volumes"], name

"""The system about itself: what is listed twice must agree, and the house keeps to its budgets."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import errors
from app.config import SETTINGS
from app.jobs.contracts import CONTRACTS
from app.jobs.pools import POOLS
from devstack import docs
from devstack.product import read_procfile
from tasks import collections, datasets, visualizations
from tests.support import schedule

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("app", "tasks", "brokers", "devstack")
MODULES = {"collections": collections, "datasets": datasets, "visualizations": visualizations}
LONG_FUNCTION, LONG_FILE = 50, 400


def product_files() -> list[Path]:
    return [
        path
        for folder in PRODUCT
        for path in (ROOT / folder).rglob("*.py")
        if "node_modules" not in path.parts
    ]


def functions() -> Iterator[tuple[Path, ast.FunctionDef, int]]:
    for path in product_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path, node, (node.end_lineno or node.lineno) - node.lineno + 1


Errors = type[errors.ExplorerError]


def all_errors(base: Errors = errors.ExplorerError) -> Iterator[Errors]:
    for child in base.__subclasses__():
        yield child
        yield from all_errors(child)


def test_every_contract_has_exactly_one_actor_in_the_pool_of_its_queue():
    handled = {kind: pool for pool, module in MODULES.items() for kind in module.handlers.entries}
    assert set(handled) == set(CONTRACTS)
    for kind, pool in handled.items():
        assert CONTRACTS[kind].queue == POOLS[pool].queue, kind


def test_every_pool_has_its_line_in_the_procfile():
    lines = read_procfile()
    assert set(lines) == {"web", "release", *POOLS}
    for name, pool in POOLS.items():
        assert f"tasks.{name}:broker" in lines[name]
        assert f"MAX_CONCURRENT_JOBS:-{pool.threads}" in lines[name]
        assert f"--worker-shutdown-timeout {pool.grace_seconds * 1000}" in lines[name]


def test_every_queue_belongs_to_one_pool():
    queues = [pool.queue for pool in POOLS.values()]
    assert len(set(queues)) == len(queues)
    assert {contract.queue for contract in CONTRACTS.values()} == set(queues)


def test_every_error_has_a_status_a_code_and_a_retry_branch():
    for error in all_errors():
        assert 400 <= error.http_status < 600, error
        assert error.code
        branches = (errors.PermanentError, errors.TransientError, errors.JobCancelledError)
        assert issubclass(error, branches), error


@pytest.mark.parametrize("page", docs.PAGES)
def test_generated_docs_are_up_to_date(page: str):
    assert (ROOT / "docs" / page).read_text() == docs.PAGES[page](), "run `make docs`"


def test_every_variable_of_the_example_file_exists():
    names = set(re.findall(r"(?m)^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text()))
    assert names <= {variable.name for variable in SETTINGS}


def test_every_setting_is_read_somewhere():
    files = [*product_files(), ROOT / "Procfile", ROOT / "gunicorn.conf.py"]
    code = "".join(path.read_text() for path in files)
    unread = [
        one.name for one in SETTINGS if f".{one.name.lower()}" not in code and f"{{{one.name}" not in code
    ]
    assert unread == []


def test_links_in_the_documents_resolve():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "brokers" / "README.md"]
    links = ((page, target) for page in pages for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()))
    broken = [
        f"{page.name}: {target}"
        for page, target in links
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_alembic_folder_is_no_package():
    assert not (ROOT / "alembic" / "__init__.py").exists(), "it would shadow the alembic library"


def test_migrations_form_one_chain():
    revisions = re.compile(r"(?m)^(down_revision|revision) = (.+)$")
    found = [dict(revisions.findall(path.read_text())) for path in (ROOT / "alembic/versions").glob("*.py")]
    parents = [one["down_revision"] for one in found]
    assert len(set(parents)) == len(parents)


def test_files_and_functions_keep_to_their_budgets():
    long_files = [
        str(path.relative_to(ROOT)) for path in product_files() if path.read_text().count("\n") > LONG_FILE
    ]
    sizes = [(size, f"{path.relative_to(ROOT)}:{node.name}") for path, node, size in functions()]
    assert long_files == []
    assert [where for size, where in sizes if size > LONG_FUNCTION] == []
    assert statistics.median(size for size, _ in sizes) <= 10


def test_the_lock_files_agree_with_each_other():
    pinned = re.compile(r"(?m)^([a-z0-9._-]+)==([^ ;]+)")
    product = set(pinned.findall((ROOT / "requirements.txt").read_text()))
    everything = set(pinned.findall((ROOT / "requirements-dev.txt").read_text()))
    assert product <= everything


def test_the_changelog_has_a_place_for_the_next_line():
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_what_tests_start_first_is_there_and_one_worker_has_the_running_product():
    assert [path for path in schedule.FIRST if not (ROOT / path).exists()] == []
    pages, product = "tests/browser/test_chat.py::test_x", "tests/e2e/test_changes.py::test_x"
    assert schedule.rank(pages) < schedule.rank(product) < schedule.rank("tests/unit/test_a.py::test_x")
    assert schedule.unit(pages) == schedule.unit(product)
    assert schedule.unit("tests/unit/test_a.py::test_x[a::b]") == "tests/unit/test_a.py"


# What speaks HTTP, by the name that an import begins with. Clients of one server of the operator's (boto3,
# qdrant_client, nats, tika) bring their own, and take no address of a user's.
HTTP_CLIENTS = (
    "httpx",
    "httpcore",
    "requests",
    "aiohttp",
    "urllib3",
    "pycurl",
    "http.client",
    "urllib.request",
)
SPEAK_HTTP = {
    "app/security/outbound.py": "the guarded client itself",
    "app/security/deadline.py": "its time limits",
    "app/pipeline/extraction/tika_server.py": "asks the operator's Tika for its version",
    "brokers/jetstream/disk.py": "asks the operator's NATS how full its disk is",
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{one.name}" for one in node.names)


def test_nothing_but_the_guarded_client_imports_an_http_client():
    found = {
        str(path.relative_to(ROOT))
        for path in product_files()
        if path.relative_to(ROOT).parts[0] != "devstack"  # starts servers on this machine and asks them
        for name in imports(path)
        if any(f"{name}.".startswith(f"{client}.") for client in HTTP_CLIENTS)
    }
    assert found == set(SPEAK_HTTP)

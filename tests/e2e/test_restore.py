"""The drill of docs/backup.md: every server loses its data, and all is as it was at a chosen moment.

The commands are those of the page. What it leaves to others (stopping and starting servers, copying the
bucket) is done by tests/support/drill.py. Before the loss jobs are carried out in this process, afterwards by
the pools.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from devstack.product import Product
from devstack.stack import Stack, StackOptions
from tests.integration.api.conftest import Api, _work
from tests.support.drill import SERVERS, Site, commands, flask, wait_for
from tests.support.folders import server_folder
from tests.support.providers import EmbeddingServer, embedding_server
from tests.support.stores import Stores

TEXTS = {
    "early.txt": "Umbrellas drift past the harbour wall.",
    "late.txt": "Lighthouse keepers count what the tide brings.",
    "waiting.txt": "Seagulls are on strike again.",
}
NEWEST = """psql -Atc "SELECT extract(epoch FROM '$UNTIL' - max(updated_at)) FROM jobs" """


@pytest.fixture
def site() -> Iterator[Site]:
    with (
        server_folder("explorer-restore-") as folder,
        Stack(StackOptions(folder, durable=False, services=SERVERS)) as stack,
    ):
        yield Site(folder, stack)


@pytest.fixture
def provider() -> Iterator[EmbeddingServer]:
    with embedding_server(dimensions=8) as server:
        yield server


def test_all_is_back_as_of_a_chosen_moment_after_every_server_lost_its_data(
    site: Site, provider: EmbeddingServer, capsys: pytest.CaptureFixture[str]
):
    archive_the_log(site)
    with site.opened() as (container, app):
        flask(app, "flask --app wsgi migrate")
        people = People(Api(app.test_client()), provider)
        people.upload("early.txt")
        list(_work(container))
        for block in commands("Take a base backup"):
            site.run(block)
        people.upload("late.txt")
        list(_work(container))
        people.upload("waiting.txt")  # its job is in Postgres; its message will be lost
        site.copy_bucket(container)
        until = site.run("psql -Atc 'SELECT clock_timestamp()'").strip()
        people.delete_all()  # the mistake
        list(_work(container))
        wait_until_archived(site)
        site.lose_everything(container)

    began = time.monotonic()
    bring_postgres_back(site, until)
    rpo, postgres = float(site.run(NEWEST, UNTIL=until)), time.monotonic()
    for server in ("nats", "vector"):
        site.stack.restart(server)
    again, report = commands("Bring the rest back")
    with site.opened() as (container, app), pools(site):
        flask(app, again)
        site.bring_bucket_back(container)
        people.api = Api(app.test_client())
        for name in TEXTS:
            wait_for(name, partial(people.finds, name))
        rto = time.monotonic()
        Stores(site.stack.environment).wait_until_idle()
        assert flask(app, report) == "nothing to do\n"
    with capsys.disabled():
        sys.stdout.write(
            f"\nRPO: all that was acknowledged before the chosen moment, the newest {rpo:.1f} s before it"
            f"\nRTO: {rto - began:.1f} s until all was found, {postgres - began:.1f} s of it for Postgres\n"
        )


class People:
    """Who uploads, searches and makes mistakes."""

    def __init__(self, api: Api, provider: EmbeddingServer) -> None:
        self.api = api
        self.collection, self.dataset = api.collection(), api.dataset()
        api.collection_transform(self.collection, self.dataset)
        body = {
            "title": "vectors",
            "source_dataset_id": self.dataset,
            "embedder_ids": [api.embedder(provider)],
        }
        made = api.post("/api/dataset-transforms", body, 201)
        self.targets = made["transform"]["embedded_dataset_ids"]

    def upload(self, name: str) -> None:
        self.api.upload(self.collection, (name, TEXTS[name].encode()))

    def finds(self, name: str) -> bool:
        body = {"query": TEXTS[name], "embedded_dataset_ids": self.targets}
        (block,) = self.api.post("/api/search", body)["results"]
        return any(match["text"] == TEXTS[name] for match in block["matches"])

    def delete_all(self) -> None:
        self.api.delete(f"/api/collections/{self.collection}")
        self.api.delete(f"/api/datasets/{self.dataset}")


def archive_the_log(site: Site) -> None:
    for block in commands("Archive the log"):
        site.run(block)
    site.give_to_postgres(site.backup)
    site.stack.restart("postgres")


def wait_until_archived(site: Site) -> None:
    """What `archive_timeout` brings about within a minute."""
    segment = site.run("psql -Atc 'SELECT pg_walfile_name(pg_switch_wal())'").strip()
    wait_for(segment, (site.backup / "wal" / segment).exists)


def bring_postgres_back(site: Site, until: str) -> None:
    place, finish = commands("Bring Postgres back")
    site.run(place, UNTIL=until)
    site.give_to_postgres(site.postgres_data)
    site.stack.restart("postgres")
    site.run(finish)


@contextmanager
def pools(site: Site) -> Iterator[None]:
    """The two pools that the texts need."""
    product = Product(site.environment, data_dir=site.folder, port=0)
    (site.folder / "logs").mkdir(exist_ok=True)
    try:
        for name in ("collections", "datasets"):
            product.begin(name)
        yield
    finally:
        product.stop()

"""Work can be cancelled where it is shown, and what was cancelled is called that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update

from app.container import Container
from app.security.principal import SINGLE_USER
from app.services.overview import CollectionOverview
from app.storage.postgres.tables import FileExtraction, Item, ItemEmbedding, Job, Visualization
from tests.support.domain import World


@dataclass(frozen=True)
class Busy:
    """A collection with a file that waits, a passage that waits and a map in the making."""

    container: Container
    collection_id: int

    @property
    def page(self) -> str:
        return f"/collections/{self.collection_id}"

    def look(self) -> CollectionOverview:
        return self.container.services.overview.collection(SINGLE_USER, self.collection_id)


@pytest.fixture
def busy(container: Container, mine: World) -> Busy:
    services = container.services
    pile = services.quickstart.create(SINGLE_USER, title="Papers")
    transform, embedded = pile.collection_transform_id, pile.embedded_dataset_ids[0]
    mine.file(pile.collection_id, "waits.txt")
    file = mine.file(pile.collection_id, "read.txt")
    mine.item(pile.dataset_id)
    with container.database.transaction() as session:
        plan = session.scalars(select(Job.job_id).where(Job.kind == "plan_collection_transform")).one()
    run = services.jobs.begin(plan, "test")
    assert run is not None
    services.planning.plan_collection_transform(run, transform)
    services.visualization_transforms.create(SINGLE_USER, title="m", embedded_dataset_id=embedded)
    with container.database.transaction() as session:
        done = session.get_one(FileExtraction, (transform, file))
        done.state, done.processed_at = "succeeded", func.now()
        session.execute(update(Job).where(Job.job_id == done.job_id).values(state="succeeded"))
        session.execute(update(Item).values(collection_transform_id=transform, file_id=file))
        started = func.now() - timedelta(seconds=60)
        session.execute(update(Visualization).values(status="processing", progress=0.5, started_at=started))
    return Busy(container, pile.collection_id)


def test_what_is_under_way_has_a_button_and_a_time_left(busy: Busy, client: FlaskClient) -> None:
    page, one = client.get(busy.page).text, busy.look()
    assert f"/api/collection-transforms/{one.transform_ids[0]}/cancel" in page
    assert f"/api/dataset-transforms/{one.embedded[0].dataset_transform_id}/cancel" in page
    map_id = one.maps[0].visualization_transform_id
    assert f"/api/visualization-transforms/{map_id}/cancel" in page
    assert "files/min" in page
    for path in (busy.page, f"/maps/{map_id}", "/maps", "/"):
        assert "about 1 min left" in client.get(path).text, path


def test_what_was_cancelled_is_called_so_and_can_be_retried(busy: Busy, client: FlaskClient) -> None:
    one = busy.look()
    client.post(f"/api/collection-transforms/{one.transform_ids[0]}/cancel")
    client.post(f"/api/dataset-transforms/{one.embedded[0].dataset_transform_id}/cancel")
    client.post(f"/api/visualization-transforms/{one.maps[0].visualization_transform_id}/cancel")
    page, one = client.get(busy.page).text, busy.look()
    assert (one.problem_count, one.cancelled_count, one.is_busy) == (0, 4, False)
    for words in (
        "Reading 1 file was cancelled",
        "Embedding 2 passages",
        "The map was cancelled",
        "Retry reading",
        "Retry embedding",
        "Build again",
        "cancelled by its owner",
    ):
        assert words in page
    for path in (busy.page, f"{busy.page}?state=failed", "/"):
        assert "could not be" not in client.get(path).text
    assert "could not be" not in client.get(f"/maps/{one.maps[0].visualization_transform_id}").text
    with busy.container.database.transaction() as session:
        assert session.scalars(select(ItemEmbedding.error_code)).all() == ["cancelled"]

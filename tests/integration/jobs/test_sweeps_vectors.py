"""Vector indexes that hold less or more than the rows say: the next plan makes them agree."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import delete, select

from app.container import Container
from app.jobs import sweeps as sweeps_module
from app.jobs.contracts import PlanDatasetTransform
from app.jobs.vector_counts import Differing
from app.storage.postgres.tables import Item, ItemEmbedding, Reconciliation
from tests.integration.jobs.incremental import Pipeline
from tests.integration.jobs.test_sweeps import pass_an_hour, sweeps
from tests.support.domain import World


@pytest.fixture
def pipeline(container: Container, world: World) -> Pipeline:
    """Five items of one to five texts, embedded; a thorough sweep was an hour ago."""
    made = Pipeline(container, world)
    for size in range(1, 6):
        made.push(f"item {size}", *(f"text {number} of {size}" for number in range(size)))
    made.work()
    made.embedded()
    assert sweep(made) == []
    pass_an_hour(container)
    return made


def sweep(pipeline: Pipeline, *, dry_run: bool = False) -> list[tuple[int, int]]:
    """(incomplete, unknown) of each index that differs."""
    found = sweeps(pipeline.container).run(dry_run=dry_run).vectors
    return [(each.incomplete, each.unknown) for each in found]


def item(pipeline: Pipeline, size: int) -> int:
    with pipeline.container.database.transaction() as session:
        return session.scalars(select(Item.item_id).where(Item.title == f"item {size}")).one()


def index(pipeline: Pipeline) -> str:
    return pipeline.targets()[0].collection_name


def forget(pipeline: Pipeline, *sizes: int) -> None:
    """The index is as of before these items."""
    pipeline.container.vectors.delete_items(index(pipeline), [item(pipeline, size) for size in sizes])


def invent(pipeline: Pipeline, item_id: int, number: int) -> None:
    """Points of the item that no chunk is behind."""
    vectors = np.ones((number, 8), dtype=np.float32)
    payloads = [{"item_id": item_id, "owner_id": "ada"}] * number
    pipeline.container.vectors.upsert(index(pipeline), [uuid4() for _ in range(number)], vectors, payloads)


def test_an_index_that_agrees_costs_one_count_and_no_ids(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch):
    store, asked = pipeline.container.vectors, Counter[str]()
    for name in ("count", "scroll", "payloads", "stream_vectors"):
        monkeypatch.setattr(store, name, counted(asked, name, getattr(store, name)))
    assert sweep(pipeline) == []
    assert asked == {"count": 1}


def counted(asked: Counter[str], name: str, function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        asked[name] += 1
        return function(*args, **kwargs)

    return call


def test_vectors_that_an_index_lost_are_made_anew_and_no_others(pipeline: Pipeline):
    forget(pipeline, 2, 5)
    assert sweep(pipeline) == [(2, 0)]
    pipeline.work()
    wanted = [f"text {number} of {size}" for size in (2, 5) for number in range(size)]
    assert sorted(pipeline.embedded()) == sorted(wanted)
    pipeline.check()
    with pipeline.container.database.transaction() as session:
        ordered = select(Reconciliation.found).order_by(Reconciliation.reconciliation_id)
        found = [each["items_without_vectors"] for each in session.scalars(ordered) if "objects" in each]
    assert found == [0, 2]


def test_an_index_that_is_gone_is_made_again(pipeline: Pipeline):
    pipeline.container.vectors.drop(index(pipeline))
    assert sweep(pipeline) == [(5, 0)]
    pipeline.work()
    assert len(pipeline.embedded()) == 15
    pipeline.check()


def test_a_dropped_index_is_found_between_the_hourly_sweeps(pipeline: Pipeline):
    assert sweep(pipeline) == []  # the one of this hour
    pipeline.container.vectors.drop(index(pipeline))
    assert sweep(pipeline) == [(5, 0)]
    assert sweep(pipeline) == []  # they wait already
    pipeline.work()
    assert len(pipeline.embedded()) == 15
    pipeline.check()


def test_vectors_of_an_item_that_is_gone_are_deleted(pipeline: Pipeline):
    invent(pipeline, 1_000_000, 3)
    assert sweep(pipeline) == [(0, 1)]
    pipeline.work()
    pipeline.check()
    assert pipeline.embedded() == []


def test_vectors_of_an_item_that_lost_its_row_are_kept_for_it(pipeline: Pipeline):
    with pipeline.container.database.transaction() as session:
        session.execute(delete(ItemEmbedding).where(ItemEmbedding.item_id == item(pipeline, 3)))
    assert sweep(pipeline) == [(0, 1)]
    pipeline.work()
    assert pipeline.embedded() == []
    pipeline.check()


def test_an_index_as_of_before_an_edit_is_seen_by_a_thorough_pass(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    forget(pipeline, 4)
    invent(pipeline, item(pipeline, 4), 4)
    assert sweep(pipeline) == []
    assert sweep(pipeline, dry_run=True) == [(1, 0)]
    pass_an_hour(pipeline.container)
    monkeypatch.setattr(sweeps_module, "_THOROUGH_AFTER", timedelta(minutes=90))  # two hours passed
    assert sweep(pipeline) == [(1, 0)]
    pipeline.work()
    assert len(pipeline.embedded()) == 4
    pipeline.check()


def test_items_that_wait_to_be_embedded_are_not_missed(pipeline: Pipeline):
    pipeline.push("new", "this waits")
    pipeline.work_until("embed_items")
    assert sweep(pipeline) == []


def test_an_item_embedded_anew_since_it_was_read_is_left_alone(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    store = pipeline.container.vectors
    count, calls = store.count, 0

    def edit_meanwhile(*args: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:  # the rows were read, the vectors of their items not yet counted
            pipeline.push("item 1", "it has", "two texts now")
            pipeline.work()
        return count(*args)

    pipeline.push("new", "this waits")
    pipeline.work_until("embed_items")
    monkeypatch.setattr(store, "count", edit_meanwhile)
    assert sweep(pipeline) == [(1, 0)]
    monkeypatch.undo()
    assert PlanDatasetTransform.kind not in pipeline.work()
    pipeline.check()


def test_what_was_found_reads_well(pipeline: Pipeline):
    assert str(Differing(7, 3, 1)) == "7 (3 items without their vectors, 1 with vectors of nobody)"

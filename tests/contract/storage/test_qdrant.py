from __future__ import annotations

import signal
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from app.errors import DimensionMismatchError, InvalidInputError, NotFoundError, UnavailableError
from app.storage.filters import AllOf, AnyOf, DateRange, Equal, Not, NumberRange, OneOf, files, items
from app.storage.qdrant import Hit, VectorStore, VectorStoreOptions

DIMENSIONS = 8


def unit(seed: int) -> Any:
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return vector / np.linalg.norm(vector)


def payload(number: int) -> dict[str, Any]:
    return {
        "owner_id": "ann" if number < 8 else "bob",
        "item_id": number // 3,
        "file_id": 100 + number // 3,
        "media_type": "application/pdf" if number % 2 else "text/html",
        "language": "en",
        "page": number,
        "created_at": f"2024-01-{number + 1:02d}T12:00:00Z",
        "tags": ["odd", "all"] if number % 2 else ["even", "all"],
        "text": f"passage {number}",
    }


@pytest.fixture(scope="module")
def fruit(vectors):
    """An index of 12 points in 4 items; point n is unit(n)."""
    name = f"test_{uuid4().hex[:12]}"
    ids = [UUID(int=number + 1) for number in range(12)]
    vectors.ensure_index(name, DIMENSIONS)
    vectors.upsert(name, ids, np.stack([unit(n) for n in range(12)]), [payload(n) for n in range(12)])
    yield name
    vectors.drop(name)


def numbers(hits: list[Hit]) -> set[int]:
    return {hit.payload["page"] for hit in hits}


def test_the_nearest_point_comes_first_with_its_payload(vectors, fruit):
    hits = vectors.search(fruit, unit(5), limit=3)

    assert hits[0].id == UUID(int=6)
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert hits[0].payload == payload(5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_scores_are_cosines(vectors, fruit):
    query = unit(99)
    for hit in vectors.search(fruit, query, limit=12, exact=True, hnsw_ef=64):
        assert hit.score == pytest.approx(float(unit(hit.payload["page"]) @ query), abs=1e-5)


def test_pages_of_results_do_not_overlap(vectors, fruit):
    query = unit(99)
    whole = vectors.search(fruit, query, limit=10)
    halves = vectors.search(fruit, query, limit=5) + vectors.search(fruit, query, limit=5, offset=5)
    assert [hit.id for hit in halves] == [hit.id for hit in whole]


def test_a_score_threshold_drops_what_is_below(vectors, fruit):
    every = vectors.search(fruit, unit(99), limit=12)
    middle = every[5].score
    above = vectors.search(fruit, unit(99), limit=12, score_threshold=middle - 1e-6)
    assert [hit.id for hit in above] == [hit.id for hit in every[:6]]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Equal("owner_id", "ann"), set(range(8))),
        (Equal("item_id", 1), {3, 4, 5}),
        (Equal("tags", "odd"), {1, 3, 5, 7, 9, 11}),
        (Equal("page", 4.0), {4}),
        (AnyOf("media_type", ("text/html", "image/png")), {0, 2, 4, 6, 8, 10}),
        (AnyOf("tags", ()), set()),
        (NumberRange("page", gte=3, lt=6), {3, 4, 5}),
        (NumberRange("page", gt=9), {10, 11}),
        (DateRange("created_at", gte=datetime(2024, 1, 11, tzinfo=UTC)), {10, 11}),
        (DateRange("created_at", lt=datetime(2024, 1, 1, 12, 0, 1, tzinfo=UTC)), {0}),
        (items([0, 3]), {0, 1, 2, 9, 10, 11}),
        (files([101]), {3, 4, 5}),
        (Not(items([0, 1, 2])), {9, 10, 11}),
        (AllOf((Equal("owner_id", "ann"), Equal("tags", "odd"))), {1, 3, 5, 7}),
        (AllOf(()), set(range(12))),
        (OneOf((Equal("page", 0), Equal("page", 11))), {0, 11}),
        (AllOf((OneOf((Equal("page", 0), Equal("page", 1))), Not(Equal("tags", "odd")))), {0}),
    ],
)
def test_filters_keep_what_they_say(vectors, fruit, filters, expected):
    assert numbers(vectors.search(fruit, unit(0), limit=50, filters=filters)) == expected
    assert vectors.count(fruit, filters) == len(expected)


def test_groups_are_documents_in_the_order_of_their_best_passage(vectors, fruit):
    query = unit(99)
    groups = vectors.search_groups(fruit, query, limit=3, group_size=2)

    flat = vectors.search(fruit, query, limit=12)
    order = list(dict.fromkeys(hit.payload["item_id"] for hit in flat))
    assert [group.key for group in groups] == order[:3]
    for group in groups:
        own = [hit.id for hit in flat if hit.payload["item_id"] == group.key]
        assert [hit.id for hit in group.hits] == own[:2]


def test_groups_obey_filter_and_threshold(vectors, fruit):
    flat = vectors.search(fruit, unit(99), limit=12)
    groups = vectors.search_groups(
        fruit, unit(99), limit=4, group_size=5, filters=items([1, 2]), score_threshold=flat[7].score - 1e-6
    )
    found = {hit.id for group in groups for hit in group.hits}
    assert found == {hit.id for hit in flat[:8] if hit.payload["item_id"] in {1, 2}}


def test_scrolling_visits_every_point_once(vectors, fruit):
    seen, cursor = [], None
    while True:
        page = vectors.scroll(fruit, limit=5, cursor=cursor)
        seen += [point.id for point in page.points]
        assert all(point.vector is None for point in page.points)
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == [UUID(int=number + 1) for number in range(12)]


def test_streamed_vectors_are_those_stored(vectors, fruit):
    blocks = list(vectors.stream_vectors(fruit, batch=5))

    assert [len(ids) for ids, _, _ in blocks] == [5, 5, 2]
    assert all(block.dtype == np.float32 and block.shape[1] == DIMENSIONS for _, block, _ in blocks)
    stored = np.concatenate([block for _, block, _ in blocks])
    assert np.allclose(stored, np.stack([unit(number) for number in range(12)]), atol=1e-6)
    assert [each["page"] for _, _, payloads in blocks for each in payloads] == list(range(12))


def test_one_vector_can_be_fetched(vectors, fruit):
    assert np.allclose(vectors.get_vector(fruit, UUID(int=3)), unit(2), atol=1e-6)
    with pytest.raises(NotFoundError, match="no point"):
        vectors.get_vector(fruit, uuid4())


def test_an_empty_index_streams_nothing(vectors, index_name):
    vectors.ensure_index(index_name, DIMENSIONS)
    assert list(vectors.stream_vectors(index_name)) == []
    assert vectors.search(index_name, unit(0), limit=5) == []
    assert vectors.search_groups(index_name, unit(0), limit=5) == []
    vectors.drop(index_name)


def test_writing_twice_keeps_one_point(vectors, index_name):
    vectors.ensure_index(index_name, DIMENSIONS)
    for seed in (1, 2):
        vectors.upsert(index_name, [UUID(int=7)], unit(seed)[None], [{"item_id": seed}])
    assert vectors.count(index_name) == 1
    assert vectors.search(index_name, unit(2), limit=1)[0].payload == {"item_id": 2}
    vectors.drop(index_name)


def test_more_points_than_a_batch_all_arrive(vectors, index_name, stack_env):
    store = VectorStore(VectorStoreOptions(stack_env["QDRANT_URL"], upsert_batch=10))
    store.ensure_index(index_name, DIMENSIONS)
    ids = [uuid4() for _ in range(25)]
    store.upsert(
        index_name, ids, np.stack([unit(n) for n in range(25)]), [{"item_id": n // 5} for n in range(25)]
    )
    assert vectors.count(index_name) == 25

    vectors.delete_items(index_name, [1, 2, 77])

    assert vectors.count(index_name) == 15
    vectors.drop(index_name)
    store.close()


def test_an_index_keeps_its_number_of_dimensions(vectors, index_name):
    vectors.ensure_index(index_name, DIMENSIONS)
    vectors.ensure_index(index_name, DIMENSIONS)
    with pytest.raises(DimensionMismatchError, match=r"8 numbers, not of 9"):
        vectors.ensure_index(index_name, 9)
    with pytest.raises(DimensionMismatchError):
        vectors.upsert(index_name, [uuid4()], np.ones((1, 9), np.float32), [{}])
    with pytest.raises(DimensionMismatchError):
        vectors.search(index_name, np.ones(9, np.float32), limit=1)
    vectors.drop(index_name)


def test_lists_of_different_length_are_refused_before_anything_is_written(vectors, fruit):
    with pytest.raises(InvalidInputError):
        vectors.upsert(fruit, [uuid4()], np.ones((2, DIMENSIONS), np.float32), [{}])


def test_an_unknown_index_is_not_found_and_dropping_it_is_no_failure(vectors, index_name):
    with pytest.raises(NotFoundError, match=index_name):
        vectors.count(index_name)
    with pytest.raises(NotFoundError):
        vectors.search(index_name, unit(0), limit=1)
    vectors.delete_items(index_name, [1])
    vectors.drop(index_name)


def test_every_filterable_field_has_an_index(vectors, index_name, stack_env):
    from qdrant_client import QdrantClient

    vectors.ensure_index(index_name, DIMENSIONS)
    client = QdrantClient(url=stack_env["QDRANT_URL"])
    schema = client.get_collection(index_name).payload_schema
    client.close()
    assert {key: index.data_type.value for key, index in schema.items()} == {
        "owner_id": "keyword",
        "item_id": "integer",
        "file_id": "integer",
        "media_type": "keyword",
        "language": "keyword",
        "page": "integer",
        "created_at": "datetime",
        "tags": "keyword",
    }
    vectors.drop(index_name)


def test_a_killed_server_is_unavailable_and_keeps_every_acknowledged_point(
    breakable_stack, vectors, index_name
):
    vectors.ensure_index(index_name, DIMENSIONS)
    ids = [uuid4() for _ in range(600)]
    vectors.upsert(
        index_name, ids, np.stack([unit(n) for n in range(600)]), [{"item_id": n} for n in range(600)]
    )
    breakable_stack.kill("vector", signal.SIGKILL)
    with pytest.raises(UnavailableError, match="does not answer"):
        vectors.ping()
    breakable_stack.restart("vector")
    assert vectors.count(index_name) == 600
    assert vectors.search(index_name, unit(17), limit=1)[0].payload == {"item_id": 17}
    vectors.drop(index_name)

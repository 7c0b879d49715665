"""A million chunks and ten thousand collections of one owner, as rows."""

from __future__ import annotations

from dataclasses import dataclass

from app.security.principal import SINGLE_USER
from tests.bench.bed import Bed

_WORDS = "(ARRAY['harbour','meadow','quarry','lantern','orchard','granite','willow','beacon'])[1 + {} % 8]"
_COLLECTIONS = f"""
INSERT INTO collections (owner_id, title, details, tags, updated_at)
SELECT 'local', {_WORDS.format("n")} || ' ' || n, 'Papers about ' || n, ARRAY['t' || n % 100],
    now() - n * interval '1 s'
FROM generate_series(1, :collections) AS n"""
_FILES = """
INSERT INTO files (owner_id, collection_id, name, media_type, size_bytes, content_hash, object_key)
SELECT 'local', collection_id, 'file-' || n || '.txt', 'text/plain', 1000 + n, md5(n::text),
    'files/' || collection_id || '/' || n
FROM (SELECT min(collection_id) AS first FROM collections) AS of, collections, generate_series(1, :large) AS n
WHERE n <= CASE WHEN collection_id = of.first THEN :large ELSE 9 END"""
_DATASETS = f"""
INSERT INTO datasets (owner_id, title, details, updated_at)
SELECT 'local', {_WORDS.format("n")} || ' texts ' || n, 'Texts', now() - n * interval '1 s'
FROM generate_series(1, 100) AS n"""
# The first dataset has half of all chunks, in the items of the first collection's files.
_ITEMS = """
INSERT INTO items (owner_id, dataset_id, collection_transform_id, file_id, title, text, content_hash,
    chunk_count, media_type, language)
SELECT 'local', :dataset, :transform, file_id, name, 'text', md5(name), :chunks, 'text/plain', 'en'
FROM files WHERE collection_id = :collection
UNION ALL
SELECT 'local', dataset_id, NULL, NULL, 'item ' || n, 'text', md5(n::text), :chunks, 'text/plain', 'en'
FROM datasets, generate_series(1, :large / 99) AS n WHERE dataset_id <> :dataset"""
_CHUNKS = """
INSERT INTO chunks (chunk_id, item_id, position, text, start_char, end_char, token_count)
SELECT gen_random_uuid(), item_id, n, 'passage ' || n || ' speaks of w' || (item_id * 31 + n * 7919) % 50000
    || ' and of v' || (item_id * 17 + n) % 5000, n, n + 1, 60
FROM items, generate_series(0, :chunks - 1) AS n"""
_EXTRACTIONS = """
INSERT INTO file_extractions (collection_transform_id, file_id, file_version, config_hash, state, job_id,
    item_id, chunk_count, duration_ms, processed_at)
SELECT :transform, file_id, 1, 'x', 'succeeded', gen_random_uuid(), item_id, chunk_count, 20, now()
FROM items WHERE file_id IS NOT NULL"""
_EMBEDDINGS = """
INSERT INTO item_embeddings (embedded_dataset_id, item_id, content_hash, state, job_id, chunk_count,
    processed_at)
SELECT :embedded, item_id, content_hash, 'succeeded', gen_random_uuid(), chunk_count, now()
FROM items WHERE dataset_id = :dataset"""
_JOBS = """
INSERT INTO jobs (job_id, owner_id, kind, unique_key, queue, arguments, scope_kind, scope_id, state, attempt,
    outcome, created_at, started_at, finished_at)
SELECT job_id, 'local', 'embed_items', 'k' || item_id, 'dataset-transforms',
    jsonb_build_object('item_ids', ARRAY[item_id]), 'embedded_dataset', :embedded, 'succeeded', 1,
    '{"chunks": 50, "split": 0, "truncated": 0}', now() - item_id * interval '1 s', now(), now()
FROM item_embeddings"""
_FILLED = (
    "collections", "files", "datasets", "items", "chunks", "file_extractions", "item_embeddings", "jobs"
)  # fmt: skip


@dataclass(frozen=True)
class Filled:
    """Ids of the largest thing of each kind."""

    collection: int
    dataset: int
    item: int
    chunk: str
    collection_transform: int
    dataset_transform: int
    embedded_dataset: int


def populate(bed: Bed, *, collections: int, chunks: int) -> Filled:
    """Fill the database; half of the chunks lie in one dataset, 50 to an item."""
    services, me, per_item = bed.container.services, SINGLE_USER, 50
    services.owners.ensure(me)
    large = chunks // 2 // per_item
    bed.sql(_COLLECTIONS, collections=collections)
    bed.sql(_FILES, large=large)
    bed.sql(_DATASETS)
    collection, dataset = (
        int(bed.sql(f"SELECT min({kind}_id) FROM {kind}s")[0][0]) for kind in ("collection", "dataset")
    )
    transform = services.collection_transforms.create(
        me, title="Read", collection_id=collection, dataset_id=dataset
    ).collection_transform_id
    embedder = services.embedders.create(me, {"name": "here", "provider": "local"}).embedder_id
    made = services.dataset_transforms.create(
        me, title="Embed", source_dataset_id=dataset, embedder_ids=[embedder]
    )
    ids = {"dataset": dataset, "transform": transform, "collection": collection}
    embedded = made.embedded_dataset_ids[0]
    bed.sql(_ITEMS, chunks=per_item, large=large, **ids)
    _fill_chunks(bed, per_item)
    bed.sql(_EXTRACTIONS, transform=transform)
    bed.sql(_EMBEDDINGS, embedded=embedded, dataset=dataset)
    bed.sql(_JOBS, embedded=embedded)
    _settle(bed)
    item, chunk = bed.sql("SELECT item_id, chunk_id FROM chunks LIMIT 1")[0]
    return Filled(collection, dataset, item, str(chunk), transform, made.dataset_transform_id, embedded)


def _fill_chunks(bed: Bed, per_item: int) -> None:
    """Without the index of words and the look at each foreign key, which are for few rows at a time."""
    (index,) = bed.sql("SELECT pg_get_indexdef('ix_chunks_words'::regclass)")[0]
    bed.sql("DROP INDEX ix_chunks_words")
    bed.sql("ALTER TABLE chunks DISABLE TRIGGER ALL")
    bed.sql(_CHUNKS, chunks=per_item)
    bed.sql("ALTER TABLE chunks ENABLE TRIGGER ALL")
    bed.sql(index)


def _settle(bed: Bed) -> None:
    with bed.container.database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("SET statement_timeout = 0")
        for table in _FILLED:
            connection.exec_driver_sql(f"VACUUM ANALYZE {table}")

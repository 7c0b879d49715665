"""The judge: reads Postgres, S3, the vector store and the dead letters, and believes none of the workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg2

# Each question's rows are violations: one line of text per row.
_LOST = {
    "active job": "SELECT kind || ' ' || job_id FROM jobs WHERE finished_at IS NULL",
    "file without a final state": """
        SELECT f.name FROM files f JOIN collection_transforms t USING (collection_id)
        LEFT JOIN file_extractions e USING (collection_transform_id, file_id)
        WHERE t.is_enabled AND (e.file_id IS NULL OR e.state = 'pending' OR e.file_version <> f.version)""",
    "succeeded file without its item": """
        SELECT f.name FROM file_extractions e JOIN files f USING (file_id)
        LEFT JOIN items i USING (collection_transform_id, file_id)
        WHERE e.state = 'succeeded' AND i.item_id IS NULL""",
    "item without a final state in an embedded dataset": """
        SELECT i.title FROM items i JOIN embedded_datasets d ON d.source_dataset_id = i.dataset_id
        JOIN dataset_transforms t USING (dataset_transform_id)
        LEFT JOIN item_embeddings e ON (e.embedded_dataset_id, e.item_id) = (d.embedded_dataset_id, i.item_id)
        WHERE t.is_enabled
          AND (e.item_id IS NULL OR e.state = 'pending' OR e.content_hash <> i.content_hash)""",
    "map without a final state": """
        SELECT visualization_id::text FROM visualizations
        WHERE status NOT IN ('completed', 'failed')""",
    "finished map without its points": """
        SELECT visualization_id::text FROM visualizations
        WHERE status = 'completed' AND points_key IS NULL""",
    "failure without a cause": """
        SELECT kind || ' ' || job_id FROM jobs WHERE state = 'dead' AND error_message IS NULL""",
}
_DOUBLED = {
    "chunks with gaps or repeats, or not as many as the item says": """
        SELECT i.title FROM items i LEFT JOIN chunks c USING (item_id) GROUP BY i.item_id
        HAVING count(c.chunk_id) <> i.chunk_count OR count(DISTINCT c.position) <> i.chunk_count
            OR min(c.position) <> 0 OR max(c.position) <> i.chunk_count - 1""",
    "span that is not its chunk's text": """
        SELECT c.chunk_id::text FROM chunks c JOIN items i USING (item_id)
        WHERE substr(i.text, c.start_char + 1, c.end_char - c.start_char) <> c.text""",
    "embedding of an item that is gone": """
        SELECT e.item_id::text FROM item_embeddings e LEFT JOIN items i USING (item_id)
        WHERE i.item_id IS NULL""",
    "job with more than five attempts": "SELECT kind || ' ' || job_id FROM jobs WHERE attempt > 5",
}
# What belongs to one owner hangs on what belongs to another.
_FOREIGN = {
    "file in another owner's collection": """
        SELECT f.name FROM files f JOIN collections c USING (collection_id) WHERE f.owner_id <> c.owner_id""",
    "item of another owner's file": """
        SELECT i.title FROM items i JOIN files f USING (file_id) WHERE i.owner_id <> f.owner_id""",
    "item in another owner's dataset": """
        SELECT i.title FROM items i JOIN datasets d USING (dataset_id) WHERE i.owner_id <> d.owner_id""",
    "another owner's item embedded": """
        SELECT i.title FROM item_embeddings e JOIN items i USING (item_id)
        JOIN embedded_datasets d USING (embedded_dataset_id) WHERE i.owner_id <> d.owner_id""",
    "job at another owner's file": """
        SELECT j.job_id::text FROM jobs j JOIN files f ON j.kind = 'extract_file'
        AND (j.arguments ->> 'file_id')::int = f.file_id WHERE j.owner_id <> f.owner_id""",
}
_COLLECTIONS = "SELECT collection_id, owner_id FROM collections"
_INDEXES = "SELECT collection_name, owner_id FROM embedded_datasets"
_TRANSFORMS = """SELECT 'collection', collection_transform_id, owner_id FROM collection_transforms
    UNION ALL SELECT 'dataset', dataset_transform_id, owner_id FROM dataset_transforms
    UNION ALL SELECT 'visualization', visualization_transform_id, owner_id FROM visualization_transforms"""
_FILES = """SELECT f.collection_id, f.name, i.text, EXISTS (
        SELECT FROM item_embeddings e WHERE e.item_id = i.item_id AND e.state = 'succeeded')
    FROM files f LEFT JOIN items i USING (file_id)"""
_COLLATERAL = """SELECT i.title FROM item_embeddings e JOIN items i USING (item_id)
    WHERE e.error_code = 'input_refused' AND strpos(i.text, %s) = 0"""
_JOBS = "SELECT job_id::text, state, finished_at > %s FROM jobs"
_KEYS = """SELECT object_key FROM files
    UNION SELECT points_key FROM visualizations WHERE points_key IS NOT NULL"""
_POINTS = """SELECT d.collection_name, c.chunk_id::text FROM embedded_datasets d
    JOIN item_embeddings e USING (embedded_dataset_id) JOIN chunks c USING (item_id)
    WHERE e.state = 'succeeded'"""

Expected = Mapping[tuple[int, str], str | None]  # (collection, name) → marker word; None: deleted


@dataclass
class Verdict:
    """What must not be: each entry is a sentence."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)  # of one owner to another

    def __str__(self) -> str:
        found = {"LOST": self.lost, "DOUBLED": self.doubled, "SHOWN": self.shown}
        counts = (
            f"LOST: {len(self.lost)}, DOUBLED WITH EFFECT: {len(self.doubled)}, "
            f"SHOWN TO OTHERS: {len(self.shown)}"
        )
        return "\n".join([counts, *(f"{what} {one}" for what, each in found.items() for one in each)])


@dataclass(frozen=True)
class Seen:
    """What an owner came to see: marker words in passages that searches showed, the transforms of events
    as (type, id), and addresses of others' things that did not answer with 404.
    """

    markers: Collection[str] = ()
    transforms: Collection[tuple[str, int]] = ()
    opened: Collection[str] = ()


@dataclass(frozen=True)
class Evidence:
    """What the servers beside Postgres hold; what is None is not looked at.

    `objects` are all stored keys, `points` the vector ids by index, `dead_letters` one job id per letter,
    `found` the markers that a search for them found. Jobs that died after `letters_since` must have their
    letter. `refused_word` is what the provider takes no text with. `payloads` are the owners that the vectors
    of an index name, `seen` is by owner.
    """

    objects: Collection[str] | None = None
    points: Mapping[str, Collection[str]] | None = None
    dead_letters: Collection[str] = ()
    letters_since: datetime | None = None
    found: Collection[str] | None = None
    refused_word: str | None = None
    payloads: Mapping[str, Collection[str]] = field(default_factory=dict)
    seen: Mapping[str, Seen] = field(default_factory=dict)


def check(database_url: str, expected: Expected, evidence: Evidence | None = None) -> Verdict:
    """Judge a system at rest."""
    verdict, evidence = Verdict(), evidence or Evidence()
    connection = psycopg2.connect(database_url)
    try:
        with connection.cursor() as cursor:
            _ask(cursor, _LOST, verdict.lost)
            _ask(cursor, _DOUBLED, verdict.doubled)
            _ask(cursor, _FOREIGN, verdict.shown)
            verdict.shown += _shown(cursor, expected, evidence)
            _files(_rows(cursor, _FILES), expected, evidence.found, verdict)
            if evidence.refused_word:
                hurt = _rows(cursor, _COLLATERAL, evidence.refused_word)
                verdict.lost += [f"item refused for its neighbour's sake: {title}" for (title,) in hurt]
            if evidence.objects is not None:
                _compare("object", {key for (key,) in _rows(cursor, _KEYS)}, set(evidence.objects), verdict)
            if evidence.points is not None:
                wanted = {f"{index}/{chunk}" for index, chunk in _rows(cursor, _POINTS)}
                there = {f"{index}/{each}" for index, ids in evidence.points.items() for each in ids}
                _compare("vector", wanted, there, verdict)
            _letters(_rows(cursor, _JOBS, evidence.letters_since), evidence.dead_letters, verdict)
    finally:
        connection.close()
    return verdict


def _rows(cursor: Any, statement: str, *values: Any) -> list[Any]:
    cursor.execute(statement, values or None)
    return list(cursor.fetchall())


def _ask(cursor: Any, questions: Mapping[str, str], into: list[str]) -> None:
    for what, statement in questions.items():
        into += [f"{what}: {row[0]}" for row in _rows(cursor, statement)]


def _files(
    rows: Iterable[tuple[int, str, str | None, bool]],
    expected: Expected,
    found: Collection[str] | None,
    verdict: Verdict,
) -> None:
    texts: dict[tuple[int, str], str] = {}
    embedded: dict[tuple[int, str], bool] = {}
    for collection, name, text, is_embedded in rows:
        texts[collection, name] = texts.get((collection, name), "") + (text or "")
        embedded[collection, name] = is_embedded
    for key, marker in expected.items():
        if marker is None and key in texts:
            verdict.doubled.append(f"deleted file is there: {key}")
        elif marker is not None and marker not in texts.get(key, ""):
            verdict.lost.append(f"accepted upload without its text: {key} {marker}")
        elif found is not None and embedded.get(key) and marker not in found:
            verdict.lost.append(f"embedded, and no search finds it: {key} {marker}")


def _compare(what: str, wanted: set[str], there: set[str], verdict: Verdict) -> None:
    verdict.lost += [f"{what} is missing: {each}" for each in sorted(wanted - there)]
    verdict.doubled += [f"{what} without a row: {each}" for each in sorted(there - wanted)]


def _shown(cursor: Any, expected: Expected, evidence: Evidence) -> Iterator[str]:
    """What one owner holds or saw of another's."""
    for index, owner in _rows(cursor, _INDEXES):
        for other in sorted(set(evidence.payloads.get(index, ())) - {owner}):
            yield f"vectors of {other} in the index {index} of {owner}"
    collections = dict(_rows(cursor, _COLLECTIONS))
    markers = {marker: collections.get(key) for (key, _), marker in expected.items() if marker is not None}
    transforms = {(kind, key): owner for kind, key, owner in _rows(cursor, _TRANSFORMS)}
    for owner, seen in evidence.seen.items():
        yield from (
            f"{owner} found {one}" for one in sorted(seen.markers) if markers.get(one, owner) != owner
        )
        foreign = (one for one in sorted(seen.transforms) if transforms.get(one, owner) != owner)
        yield from (f"{owner} heard of {kind} transform {key}" for kind, key in foreign)
        yield from (f"{owner} opened {one}" for one in seen.opened)


def _letters(jobs: Iterable[tuple[str, str, bool]], letters: Iterable[str], verdict: Verdict) -> None:
    """A letter without a job of ours is a stranger's message."""
    numbers = Counter(letters)
    for job_id, state, must_have_one in jobs:
        number = numbers[job_id]
        if number and state != "dead":
            verdict.doubled.append(f"dead letter of a job that is {state}: {job_id}")
        if number > 1:
            verdict.doubled.append(f"{number} dead letters of one job: {job_id}")
        if state == "dead" and must_have_one and not number:
            verdict.lost.append(f"dead job without a dead letter: {job_id}")

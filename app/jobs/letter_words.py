"""The words by which a dead letter is found, and what its job was about, by name: letters outlive files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.storage.postgres.tables import File, Item, Job

MOST_NAMED = 3  # a batch may hold hundreds of items: its first ones name it
_DOCUMENT_CHARACTERS = 400
_MOST_WORDS, _WORD_CHARACTERS = 200, 200  # Postgres takes no word of more than 2046 bytes
# For every language and locale the same, as what is typed and what was indexed must be cut alike.
_BREAKS = str.maketrans(dict.fromkeys("\0\t\n\r!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", " "))


@dataclass(frozen=True, slots=True)
class About:
    """Whose a job is, and the names of its file or its first items."""

    owner_id: str | None = None
    document: str | None = None


def words_of(*texts: str | None) -> list[str]:
    """The different words of texts, in lower case, in their order, cut where Postgres would refuse them."""
    joined = " ".join(text for text in texts if text)
    words = dict.fromkeys(word[:_WORD_CHARACTERS] for word in joined.lower().translate(_BREAKS).split())
    return list(words)[:_MOST_WORDS]


def abouts_of(session: Session, job_ids: Iterable[UUID]) -> dict[UUID, About]:
    """By job, what it was about; jobs that are gone are left out."""
    if not (wanted := set(job_ids)):
        return {}
    told = select(Job.job_id, Job.owner_id, Job.arguments).where(Job.job_id.in_(wanted))
    jobs = session.execute(told).all()
    files = _names(session, File, (id_ for job in jobs for id_ in file_ids(job.arguments)))
    items = _names(session, Item, (id_ for job in jobs for id_ in item_ids(job.arguments)))
    found = {}
    for job_id, owner_id, arguments in jobs:
        names = [files.get((owner_id, id_)) for id_ in file_ids(arguments)]
        names += [items.get((owner_id, id_)) for id_ in item_ids(arguments)]
        document = ", ".join(name for name in names if name)[:_DOCUMENT_CHARACTERS]
        found[job_id] = About(owner_id, document or None)
    return found


def file_ids(arguments: Mapping[str, Any] | None) -> list[int]:
    """The file that the arguments of a job name, if they name one."""
    return _numbers([(arguments or {}).get("file_id")])


def item_ids(arguments: Mapping[str, Any] | None) -> list[int]:
    """The first items that the arguments of a job name."""
    named = (arguments or {}).get("item_ids")
    return _numbers(named)[:MOST_NAMED] if isinstance(named, list) else []


def _numbers(values: Iterable[Any]) -> list[int]:
    """Those that can be an id; a newer release may write other things."""
    return [one for one in values if isinstance(one, int) and 0 < one < 2**63]


def _names(session: Session, table: type[File | Item], ids: Iterable[int]) -> dict[tuple[str, int], str]:
    if not (wanted := set(ids)):
        return {}
    key, name = (File.file_id, File.name) if table is File else (Item.item_id, Item.title)
    rows = session.execute(select(table.owner_id, key, name).where(key.in_(wanted)))
    return {(owner_id, id_): text for owner_id, id_, text in rows}

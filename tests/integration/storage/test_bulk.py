from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from app.storage.postgres.bulk import copy_rows
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ChunkRow
from tests.support.domain import World

ODD = 'a\tb\nc\r\n\\N "quoted" {brace},comma \\x41 ünï 🙂 \x01'


def row(item_id: int, position: int, text: str = "text") -> dict[str, object]:
    return {
        "chunk_id": uuid4(),
        "item_id": item_id,
        "position": position,
        "text": text,
        "start_char": 0,
        "end_char": 1,
        "token_count": 1,
        "page": None if position % 2 else position,
        "heading_path": [ODD, "", "NULL"] if position % 2 else [],
    }


def test_copied_rows_come_back_as_they_were_whatever_they_hold(database: Database, world: World):
    item_id = world.item(world.dataset(), [])
    written = [row(item_id, position, ODD if position % 3 else "\\.") for position in range(1500)]
    with database.transaction() as session:
        copy_rows(session, "chunks", iter(written))
    with database.transaction() as session:
        found = session.scalars(select(ChunkRow).order_by(ChunkRow.position)).all()
    assert [{name: getattr(chunk, name) for name in written[0]} for chunk in found] == written
    assert isinstance(found[0].chunk_id, UUID)


def test_a_copy_that_fails_raises_what_an_insert_would_and_leaves_nothing(database: Database, world: World):
    item_id = world.item(world.dataset(), [])
    with pytest.raises(IntegrityError, match="uq_chunks_item_id_position"), database.transaction() as session:
        copy_rows(session, "chunks", [row(item_id, 0), row(item_id, 0)])
    with database.transaction() as session:
        assert session.scalars(select(ChunkRow)).all() == []

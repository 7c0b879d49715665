"""What waits for a job that is given up is marked without standing in the way of others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from sqlalchemy import select, text

from app.errors import InputRefusedError
from app.services.failures import mark_failed
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ItemEmbedding
from tests.integration.jobs.test_lock_order import wait_until_somebody_waits
from tests.support.domain import World


def test_items_fail_in_the_order_in_which_others_lock_them(world: World, database: Database):
    dataset = world.dataset()
    target = world.embedded_dataset(world.dataset_transform(dataset), dataset, world.embedder())
    low, high = sorted(world.item(dataset) for _ in range(2))
    job_id = uuid4()
    with database.transaction() as session:
        for item_id in (high, low):  # so that they are read in this order where none is asked for
            session.add(
                ItemEmbedding(
                    embedded_dataset_id=target, item_id=item_id, content_hash="h", state="pending",
                    job_id=job_id, chunk_count=1,
                )
            )  # fmt: skip
            session.flush()

    def give_up() -> None:
        with database.transaction() as session:
            session.execute(text("SET LOCAL enable_indexscan = off"))
            session.execute(text("SET LOCAL enable_bitmapscan = off"))
            mark_failed(session, job_id, InputRefusedError("no"))

    with ThreadPoolExecutor(1) as pool, database.transaction() as session:
        row = select(ItemEmbedding.item_id).with_for_update()
        session.execute(row.where(ItemEmbedding.item_id == low))
        failing = pool.submit(give_up)
        wait_until_somebody_waits(database)
        session.execute(row.where(ItemEmbedding.item_id == high).with_for_update(nowait=True))
        session.commit()
        failing.result(20)
    with database.transaction() as session:
        assert set(session.scalars(select(ItemEmbedding.state))) == {"failed"}

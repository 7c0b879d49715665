"""How a run fills its vector index: beside the next call of the model, and also when somebody drops it."""

from __future__ import annotations

import subprocess
import sys
from threading import Barrier

import pytest
from sqlalchemy import select

from app.container import Container
from app.errors import UnavailableError
from app.storage.postgres.tables import Job
from app.storage.qdrant import FILTERABLE
from tests.integration.jobs.embedding import Work
from tests.support.domain import World


@pytest.fixture
def work(container: Container, world: World) -> Work:
    return Work(container, world)


def test_a_part_is_written_while_the_next_one_is_embedded(work: Work):
    work.world.item(work.dataset, [f"text {n}" for n in range(192)])
    together = Barrier(2, timeout=40)  # breaks where one waits for the other to be over

    def meet(call: int) -> None:
        if call > 1:
            together.wait()

    def meet_but_last() -> None:
        if work.provider.calls < 3 or work.vectors() < 128:
            together.wait()

    work.provider.before, work.store.before = meet, meet_but_last
    work.all()
    assert work.vectors() == 192


def test_the_last_part_is_written_before_the_run_ends_or_its_failure_is_the_run_s(work: Work):
    work.world.item(work.dataset, ["one", "two"])
    work.store.failures = 3
    work.plan()
    work.step()
    with pytest.raises(UnavailableError, match="connection refused"):
        work.step()
    assert work.step() == "embed_items"
    assert work.vectors() == 2


def test_a_part_that_cannot_be_written_stops_the_run_before_a_third_is_paid_for(work: Work):
    work.world.item(work.dataset, [f"text {n}" for n in range(192)])
    work.store.failures = 1000
    work.plan()
    work.step()
    with pytest.raises(UnavailableError, match="connection refused"):
        work.step()
    assert work.provider.calls <= 2


def test_an_index_dropped_in_mid_run_is_made_anew_and_the_vectors_at_hand_are_not_paid_for_twice(work: Work):
    work.world.item(work.dataset, ["one", "two"])
    drop_before_call(work, 1)
    work.all()
    assert work.vectors() == 2
    assert work.provider.paid == ["one", "two"]
    info = work.store._client.get_collection(work.index)
    assert info.payload_schema.keys() == FILTERABLE.keys()


def test_what_an_index_held_when_it_was_dropped_is_embedded_again(work: Work):
    early = work.world.item(work.dataset, ["early", "bad words"])
    work.all()
    assert work.states()[early][0] == "failed"
    late = work.world.item(work.dataset, ["late"])
    drop_before_call(work, work.provider.calls + 1)
    work.all()
    assert {point.payload["item_id"] for point in work.store.scroll(work.index).points} == {early, late}
    assert work.states()[early][0] == "failed"
    assert work.states()[late] == ("succeeded", None)
    assert_nothing_waits(work)


def test_an_index_dropped_between_two_runs_is_filled_again_by_the_next(work: Work):
    early = work.world.item(work.dataset, ["early"])
    work.all()
    work.store.drop(work.index)
    late = work.world.item(work.dataset, ["late"])
    work.all()
    assert {point.payload["item_id"] for point in work.store.scroll(work.index).points} == {early, late}
    assert set(work.states().values()) == {("succeeded", None)}


def test_an_index_dropped_after_a_part_was_written_gets_that_part_again(work: Work):
    work.world.item(work.dataset, [f"text {n}" for n in range(100)])

    def drop(call: int) -> None:
        if call == 2:
            work.wait_for_vectors(64)
            work.store.drop(work.index)

    work.provider.before = drop
    work.plan()
    work.step()
    with pytest.raises(UnavailableError, match="the index holds 36 of 100"):
        work.step()
    while work.step():
        pass
    assert work.vectors() == 100
    assert len(work.provider.paid) == 100 + 64
    assert_nothing_waits(work)


def test_parts_are_written_beside_the_run_in_a_process_of_greenlets_too():
    script = """
from gevent import monkey; monkey.patch_all()
from threading import Barrier
from app.errors import UnavailableError
from app.services.embedding_writes import PartWriter

together, failures, written = Barrier(2, timeout=40), [1], []

def write(part):
    together.wait()
    if failures and failures.pop():
        raise UnavailableError("away")
    written.append(part)

with PartWriter(write, (0.01,)) as writer:
    writer.put("first")
    together.wait()
    together.wait()
    writer.put("second")
    together.wait()
assert written == ["first", "second"], written
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def drop_before_call(work: Work, number: int) -> None:
    def drop(call: int) -> None:
        if call == number:
            work.store.drop(work.index)

    work.provider.before = drop


def assert_nothing_waits(work: Work) -> None:
    with work.container.database.transaction() as session:
        assert set(session.scalars(select(Job.state))) == {"succeeded"}

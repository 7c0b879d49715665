from __future__ import annotations

import pytest
from sqlalchemy import update

from app.container import Container
from app.errors import InputRefusedError, UnavailableError
from app.storage.postgres.tables import DatasetTransform, Item
from tests.integration.jobs.embedding import Work
from tests.support.domain import World


@pytest.fixture
def work(container: Container, world: World) -> Work:
    return Work(container, world)


def edit(work: Work, item_id: int) -> None:
    """The same chunks under a new hash, as when only a title or a heading changed."""
    with work.container.database.transaction() as session:
        session.execute(
            update(Item).where(Item.item_id == item_id).values(content_hash="new", title="New title")
        )


def test_a_write_that_fails_once_costs_no_second_embedding(work: Work):
    work.world.item(work.dataset, ["one", "two"])
    work.store.failures = 2
    work.all()
    assert work.provider.paid == ["one", "two"]
    assert work.vectors() == 2


def test_a_run_that_died_after_its_first_part_pays_only_for_the_rest(work: Work):
    work.world.item(work.dataset, [f"text {n}" for n in range(100)])

    def fail(call: int) -> None:
        if call == 2:
            raise UnavailableError("the provider is away")

    work.provider.before = fail
    work.plan()
    assert work.step() == "plan_dataset_transform"
    with pytest.raises(UnavailableError):
        work.step()
    assert work.step() == "embed_items"
    assert len(work.provider.paid) == len(set(work.provider.paid)) == 100
    assert work.vectors() == 100


def test_an_edit_that_keeps_the_chunks_pays_nothing_and_shows_the_new_title(work: Work):
    item = work.world.item(work.dataset, ["one", "two"])
    work.all()
    edit(work, item)
    work.all()
    assert work.provider.paid == ["one", "two"]
    titles = {point.payload["item_title"] for point in work.store.scroll(work.index).points}
    assert titles == {"New title"}
    assert work.states()[item] == ("succeeded", None)


def test_an_item_that_is_embedded_again_stays_in_the_index_meanwhile(work: Work):
    item = work.world.item(work.dataset, ["one", "two"])
    work.all()
    seen: list[int] = []
    work.world.item(work.dataset, ["three"])
    work.provider.before = lambda _: seen.append(work.vectors())
    edit(work, item)
    work.all()
    assert seen == [2]


def test_one_bad_passage_fails_alone_and_says_which(work: Work):
    good = [work.world.item(work.dataset, [f"text {n} {m}" for m in range(8)]) for n in range(7)]
    bad = work.world.item(work.dataset, ["fine", "bad words", "fine too"])
    work.all()
    states = work.states()
    assert {states[item] for item in good} == {("succeeded", None)}
    assert states[bad][0] == "failed"
    assert "1 of 3 passages" in (states[bad][1] or "")
    assert "passage 2: The provider openai refused" in (states[bad][1] or "")
    assert work.vectors() == 7 * 8 + 2
    assert len(work.provider.paid) == len(set(work.provider.paid)) == 7 * 8 + 2
    assert work.provider.calls <= 2 * 6 + 1


def test_an_item_edited_between_plan_and_batch_is_embedded_once_as_it_is_now(work: Work):
    item = work.world.item(work.dataset, ["one", "two"])
    work.plan()
    work.step()
    edit(work, item)
    assert work.step() == "embed_items"
    assert work.provider.calls == 0
    work.all()
    assert work.provider.paid == ["one", "two"]
    assert work.states()[item] == ("succeeded", None)


def test_a_provider_that_refuses_everything_ends_the_job_after_a_few_calls(work: Work):
    work.world.item(work.dataset, [f"bad {n}" for n in range(64)])
    work.plan()
    work.step()
    with pytest.raises(InputRefusedError):
        work.step()
    assert work.provider.calls <= 15


def test_vectors_that_vanished_meanwhile_are_noticed_and_made_anew(work: Work):
    item = work.world.item(work.dataset, [f"text {n}" for n in range(70)])

    def vanish(call: int) -> None:
        if call == 2:
            work.wait_for_vectors(64)
            work.store.delete_items(work.index, [item])

    work.provider.before = vanish
    work.plan()
    work.step()
    with pytest.raises(UnavailableError, match="the index holds 6 of 70"):
        work.step()
    assert work.step() == "embed_items"
    assert work.vectors() == 70


def test_a_transform_disabled_before_its_batch_leaves_the_items_to_the_next_plan(work: Work):
    item = work.world.item(work.dataset)
    work.plan()
    work.step()
    enable(work, on=False)
    assert work.step() == "embed_items"
    assert work.provider.paid == []
    assert work.states()[item][0] == "pending"
    enable(work, on=True)
    work.all()
    assert work.vectors() == 2


def enable(work: Work, *, on: bool) -> None:
    with work.container.database.transaction() as session:
        session.execute(update(DatasetTransform).values(is_enabled=on))

"""Whoever may only look is told so, instead of being shown buttons that refuse."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from app.container import Container
from app.security.principal import Principal, Role
from app.services.items import PushedChunk, PushedItem
from app.services.standalone import PushedPoint
from app.storage.postgres.tables import User
from tests.support.domain import drop_indexes
from tests.support.identity import Person

PAGES = ("/", "/collections/{collection}", "/maps", "/chat", "/marketplace", "/marketplace/mine", "/search")
ACTS = (
    *('method="post"', "hx-post", "hx-delete", "data-upload", "data-open"),
    *("data-connect", "data-ask", "data-delete-chat"),
)


@pytest.fixture
def owner_of(container: Container) -> Callable[[str], Principal]:
    def find(username: str) -> Principal:
        with container.database.transaction() as session:
            owner = session.scalars(select(User.owner_id).where(User.username == username)).one()
        return Principal(owner, username)

    return find


def fill(container: Container, who: Principal) -> int:
    """One of what pages have buttons for; the id of its collection."""
    of = container.services
    pile = of.quickstart.create(who, title="Papers")
    of.collections.update(who, pile.collection_id, {"is_public": True})
    of.items.push(who, pile.dataset_id, [PushedItem("G", [PushedChunk("one")])])
    alone = of.standalone.create(who, title="Pushed", dimensions=2).embedded_dataset_id
    of.standalone.push(who, alone, [PushedPoint("00000000-0000-0000-0000-000000000001", [1.0, 0.0], {})])
    llm = of.llms.create(who, {"name": "L", "provider": "openai", "api_key": "sk-x"}).llm_id
    of.chats.create(who, embedded_dataset_id=pile.embedded_dataset_ids[0], llm_id=llm)
    return pile.collection_id


def test_a_viewer_sees_no_button_that_would_refuse_and_is_told_why(
    container: Container, browser: Callable[[], Person], owner_of: Callable[[str], Principal]
) -> None:
    for name, role in (("ada", Role.OPERATOR), ("vera", Role.VIEWER)):
        person = browser()
        person.sign_in(name)
        who = owner_of(name)
        collection = fill(container, who)
        pages = {page: person.get(page.format(collection=collection)).text for page in PAGES}
        acts = {
            page: [act for act in ACTS if act in text.replace(_SIGN_OUT, "")] for page, text in pages.items()
        }
        told = [page for page, text in pages.items() if "change nothing" in text]
        if role is Role.VIEWER:
            assert not any(acts.values()), acts
            assert told == list(PAGES)
        else:
            assert [page for page, found in acts.items() if not found] == ["/search"]
            assert not told
    drop_indexes(container)


_SIGN_OUT = '<form method="post" action="/logout">'

from __future__ import annotations

import pytest

from app.errors import NotFoundError, ProviderUnavailableError
from app.pipeline.generation.base import LanguageModel
from app.pipeline.projection.naming import NamingRequest
from app.services.topic_naming import TopicNamer

REQUEST = NamingRequest(("tide", "moon"), ("The tide rises.", "The moon pulls."), ("River Fish",))


class Echo:
    """Remembers what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []

    def complete(self, system: str, user: str, *, max_tokens: int) -> str:
        self.asked.append((system, user, max_tokens))
        return "Tides"


def test_the_question_holds_keywords_passages_and_the_names_that_are_taken():
    model = Echo()
    assert TopicNamer(lambda: model)(REQUEST) == "Tides"
    ((system, user, max_tokens),) = model.asked
    for part in ("tide, moon", "The tide rises.", "The moon pulls.", "River Fish"):
        assert part in user
    assert "instruction" in system
    assert max_tokens < 200


def test_wishes_join_the_instruction_and_not_the_material():
    model = Echo()
    TopicNamer(lambda: model, "Name in Dutch.")(REQUEST)
    system, user, _ = model.asked[0]
    assert system.endswith("Name in Dutch.")
    assert "Dutch" not in user


def test_the_model_is_opened_once_and_only_when_there_is_a_topic():
    opened: list[LanguageModel] = []

    def open_model() -> LanguageModel:
        opened.append(Echo())
        return opened[-1]

    namer = TopicNamer(open_model)
    assert opened == []
    namer(REQUEST)
    namer(REQUEST)
    assert len(opened) == 1


def test_a_model_that_is_gone_is_an_error_of_the_name_and_not_of_the_map():
    def open_model() -> LanguageModel:
        raise NotFoundError("no LLM 7")

    namer = TopicNamer(open_model)
    with pytest.raises(NotFoundError):
        namer(REQUEST)


def test_asking_ends_with_the_time_for_it():
    model = Echo()
    namer = TopicNamer(lambda: model, limit_seconds=-1)
    with pytest.raises(ProviderUnavailableError, match="within -1 seconds"):
        namer(REQUEST)
    assert model.asked == []

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.errors import InvalidInputError, ProviderUnavailableError
from app.pipeline.projection.base import Projection, Topic
from app.pipeline.projection.naming import rename_topics
from app.pipeline.projection.vectors import write_texts


@pytest.fixture
def texts(tmp_path):
    write_texts([f"passage {i}" for i in range(10)], tmp_path / "texts.jsonl")
    return tmp_path / "texts.jsonl"


def a_map(topics: int = 5) -> Projection:
    zeros = np.zeros(10, dtype=np.int32)
    return Projection(
        points=np.zeros((10, 2), dtype=np.float32),
        labels=zeros,
        probabilities=np.ones(10, dtype=np.float32),
        nearest_topic=zeros,
        topics=tuple(
            Topic(i, f"w{i}, x, y", (f"w{i}", "x", "y"), 2, 0.0, 0.0, 0, (2 * i, 2 * i + 1))
            for i in range(topics)
        ),
        quality={},
        timings_seconds={},
    )


def test_the_namer_sees_keywords_central_passages_and_earlier_names(texts):
    requests = []

    def namer(request):
        requests.append(request)
        return f'"Name {len(requests)}."\nbecause of the passages'

    renamed = rename_topics(a_map(2), texts, namer)
    assert [topic.name for topic in renamed.topics] == ["Name 1", "Name 2"]
    assert {topic.name_source for topic in renamed.topics} == {"language_model"}
    assert requests[1].keywords == ("w1", "x", "y")
    assert requests[1].samples == ("passage 2", "passage 3")
    assert requests[1].taken == ("Name 1",)
    assert renamed.notes == ()


def test_a_name_given_twice_is_told_apart_by_a_keyword(texts):
    renamed = rename_topics(a_map(3), texts, lambda _: "Banking")
    assert [topic.name for topic in renamed.topics] == ["Banking", "Banking (w1)", "Banking (w2)"]


def test_a_provider_that_fails_leaves_keyword_names_and_is_not_asked_for_ever(texts):
    calls = []

    def namer(request):
        calls.append(request)
        raise ProviderUnavailableError("the provider timed out")

    renamed = rename_topics(a_map(5), texts, namer)
    assert len(calls) == 3
    assert renamed.topics == a_map(5).topics
    assert renamed.notes == ("5 of 5 topics kept their keyword names: the provider timed out.",)


def test_one_failure_or_empty_answer_costs_one_name(texts):
    answers = iter(["First", InvalidInputError("too long"), "  \n ", "Fourth"])

    def namer(_request):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    renamed = rename_topics(replace(a_map(4)), texts, namer)
    assert [topic.name for topic in renamed.topics] == ["First", "w1, x, y", "w2, x, y", "Fourth"]
    assert renamed.notes == ("2 of 4 topics kept their keyword names: the answer held no name.",)


def test_an_error_that_is_none_of_the_providers_is_not_swallowed(texts):
    def namer(_request):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rename_topics(a_map(1), texts, namer)

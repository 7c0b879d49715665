from __future__ import annotations

from uuid import UUID

from app.services.search_ranking import Found, fused, reranked
from app.services.words import sought_words

A, B, C, D = (UUID(int=number) for number in range(4))


def near(*keys: UUID) -> list[Found]:
    return [Found(key, 0.9 - place / 10, 0.9 - place / 10) for place, key in enumerate(keys)]


def test_what_both_orders_have_comes_before_what_one_has_first():
    order = fused(near(A, B, C), [D, C, B])
    assert [one.chunk_id for one in order] == [B, C, A, D]
    assert order[0].score == 1 / 62 + 1 / 63
    assert [one.similarity for one in order] == [0.8, 0.7, 0.9, None]


def test_one_order_alone_stays_as_it_is():
    assert [one.chunk_id for one in fused(near(A, B, C), [])] == [A, B, C]
    assert [one.chunk_id for one in fused([], [C, A])] == [C, A]


def test_a_reranker_orders_what_is_still_there():
    texts = {A: "a", C: "ccc"}
    order = reranked(
        near(A, B, C), texts, lambda given: [(1, 5.0), (0, 0.5)] if given == ["a", "ccc"] else []
    )
    assert [(one.chunk_id, one.score, one.similarity) for one in order] == [(C, 5.0, 0.7), (A, 0.5, 0.9)]
    assert reranked(near(B), texts, lambda given: [(9, 9.0)]) == []


def test_words_that_say_something_are_looked_up_and_all_where_none_does():
    assert sought_words("What is the A7 of O'Brien?") == ("a7", "brien")
    assert sought_words("is XK-77 up?") == ("xk-77", "77")
    assert sought_words("to be or") == ("to", "be", "or")

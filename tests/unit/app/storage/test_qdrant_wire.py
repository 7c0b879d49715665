from __future__ import annotations

import pytest

from app.errors import InvalidInputError, NotFoundError, UnavailableError
from app.storage.qdrant_wire import already_there_is_fine, connection_arguments, failures


def answer(status: int, words: str = "why") -> Exception:
    import httpx
    from qdrant_client.http.exceptions import UnexpectedResponse

    return UnexpectedResponse(status, "reason", words.encode(), httpx.Headers())


def grpc_error(code: str) -> Exception:
    import grpc

    class Failed(grpc.RpcError):  # type: ignore[misc]  # untyped base
        def code(self):
            return getattr(grpc.StatusCode, code)

        def details(self):
            return "why"

    return Failed()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://qdrant:6333", {"host": "qdrant", "port": 6333, "prefer_grpc": False, "https": False}),
        ("http://qdrant:6334", {"host": "qdrant", "grpc_port": 6334, "prefer_grpc": True, "https": False}),
        ("https://qdrant.example", {"port": 443, "prefer_grpc": False, "https": True}),
        ("http://gateway/vectors/", {"port": 80, "prefix": "vectors"}),
        ("http://127.0.0.1:15044", {"host": "127.0.0.1", "port": 15044, "prefer_grpc": False}),
    ],
)
def test_the_port_of_the_url_chooses_the_protocol(url, expected):
    assert expected.items() <= connection_arguments(url).items()


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (answer(404), NotFoundError, "no vector index fruit"),
        (answer(400), InvalidInputError, "why"),
        (answer(401), UnavailableError, "QDRANT_API_KEY"),
        (answer(429), UnavailableError, "overloaded"),
        (answer(500), UnavailableError, "http://qdrant:6333"),
        (answer(503), UnavailableError, "why"),
        (grpc_error("UNAVAILABLE"), UnavailableError, "http://qdrant:6333"),
        (grpc_error("DEADLINE_EXCEEDED"), UnavailableError, "why"),
        (grpc_error("NOT_FOUND"), NotFoundError, "fruit"),
        (grpc_error("UNAUTHENTICATED"), UnavailableError, "QDRANT_API_KEY"),
        (grpc_error("INVALID_ARGUMENT"), InvalidInputError, "why"),
    ],
)
def test_both_protocols_fail_in_the_same_words(raised, expected, words):
    with pytest.raises(expected, match=words), failures("http://qdrant:6333", "fruit"):
        raise raised


def test_a_mistake_of_our_own_stays_what_it_is():
    with pytest.raises(ZeroDivisionError), failures("http://qdrant:6333", "fruit"):
        raise ZeroDivisionError


def test_two_creators_of_one_index_are_both_content():
    def second_creator() -> None:
        raise answer(409)

    with already_there_is_fine():
        second_creator()
    with pytest.raises(Exception, match="500"), already_there_is_fine():
        raise answer(500)

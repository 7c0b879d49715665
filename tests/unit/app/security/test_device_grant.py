from __future__ import annotations

import pytest

from app.errors import ExplorerError, TransientError
from app.security.device_grant import not_let_in


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("authorization_pending", 428, "authorization_pending"),
        ("slow_down", 428, "slow_down"),
        ("access_denied", 403, "forbidden"),
        ("expired_token", 410, "gone"),
        ("invalid_grant", 410, "gone"),
        ("server_on_fire", 503, "provider_unavailable"),
    ],
)
def test_every_word_of_the_provider_has_an_answer(word: str, status: int, code: str):
    error = not_let_in(word)
    assert isinstance(error, ExplorerError)
    assert (error.http_status, error.code) == (status, code)


def test_who_asks_too_often_is_told_to_wait_longer():
    pending, slower = not_let_in("authorization_pending"), not_let_in("slow_down")
    assert isinstance(pending, TransientError)
    assert isinstance(slower, TransientError)
    assert (pending.retry_after_seconds, slower.retry_after_seconds) == (5, 10)

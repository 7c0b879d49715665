from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInputError
from app.services.paging import after_token, check_window, continuation_token


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")))
def test_a_token_names_the_last_row_seen(last: str):
    assert after_token(continuation_token(last)) == last


@pytest.mark.parametrize("token", ["!", "a", "____", "\u20ac"])
def test_a_token_of_somebody_else_is_refused(token: str):
    with pytest.raises(InvalidInputError):
        after_token(token)


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (1001, 0), (1, -1), (1, 10**10)])
def test_a_window_has_limits(limit: int, offset: int):
    with pytest.raises(InvalidInputError):
        check_window(limit, offset)

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import InvalidInputError
from app.services.search_filters import parse_filters
from app.storage.filters import AnyOf, DateRange, Equal, NumberRange


def test_values_lists_and_ranges_become_filters():
    assert parse_filters({"language": "en", "page": {"gte": 3, "lt": 9}, "file_id": [7, 9]}) == (
        Equal("language", "en"),
        NumberRange("page", gte=3, lt=9),
        AnyOf("file_id", (7, 9)),
    )
    assert parse_filters({"tags": "draft"}) == (Equal("tags", "draft"),)
    assert parse_filters({"tags": ["draft", "final"]}) == (AnyOf("tags", ("draft", "final")),)


def test_dates_without_a_zone_are_utc():
    (found,) = parse_filters({"created_at": {"gte": "2026-01-31"}})
    assert found == DateRange("created_at", gte=datetime(2026, 1, 31, tzinfo=UTC))


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"page": "three"}, "filters.page"),
        ({"page": True}, "filters.page"),
        ({"page": 2**60}, "filters.page"),
        ({"page": {"gte": "3"}}, "filters.page"),
        ({"page": {"above": 3}}, "filters.page"),
        ({"page": {}}, "filters.page"),
        ({"page": []}, "filters.page"),
        ({"language": 7}, "filters.language"),
        ({"tags": {"gte": "a"}}, "filters.tags"),
        ({"tags": [7]}, "filters.tags"),
        ({"language": ["en", 7]}, "filters.language"),
        ({"language": {"gte": "a"}}, "filters.language"),
        ({"created_at": "2026-01-31"}, "filters.created_at"),
        ({"created_at": {"gte": "yesterday"}}, "filters.created_at"),
        ({"created_at": {"gte": 7}}, "filters.created_at"),
        ({"owner_id": "bob"}, "filters.owner_id"),
        ({"nope": 1}, "filters.nope"),
    ],
)
def test_a_filter_of_a_wrong_type_names_its_field(filters: dict[str, Any], field: str):
    with pytest.raises(InvalidInputError) as caught:
        parse_filters(filters)
    assert caught.value.field == field
    assert field in caught.value.message

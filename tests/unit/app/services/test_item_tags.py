"""What an item's tags are, and that its content hash knows them."""

from __future__ import annotations

from typing import Any

import pytest

from app.ids import content_hash
from app.services.item_tags import hashed_tags, tags_of


@pytest.mark.parametrize(
    ("metadata", "tags"),
    [
        ({"tags": ["draft", " two  words ", "draft", 7, ""]}, ["draft", "two words"]),
        ({"tags": "[alpha, 'beta gamma']"}, ["alpha", "beta gamma"]),
        ({"Keywords": "alpha; beta,, gamma"}, ["alpha", "beta", "gamma"]),
        ({"meta:keyword": "x", "dc:subject": "x, y", "tags": "z"}, ["x", "y", "z"]),
        ({"tags": {"a": 1}, "keywords": None, "title": "no"}, []),
        ({"tags": ["x" * 65, "y" * 64]}, ["y" * 64]),
        ({"tags": [str(number) for number in range(30)]}, [str(number) for number in range(20)]),
    ],
)
def test_tags_are_taken_from_metadata_however_they_stand_there(metadata: dict[str, Any], tags: list[str]):
    assert tags_of(metadata) == tags


def test_other_tags_make_another_hash_and_no_tags_none():
    plain = content_hash("a text")
    assert content_hash("a text", *hashed_tags([])) == plain
    hashes = {plain, *(content_hash("a text", *hashed_tags(tags)) for tags in (["a"], ["b"], ["a", "b"]))}
    assert len(hashes) == 4

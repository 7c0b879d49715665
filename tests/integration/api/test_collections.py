from __future__ import annotations

from tests.integration.api.conftest import Api


def test_a_collection_lives_from_creation_to_deletion(api: Api):
    made = api.post("/api/collections", {"title": "  Papers ", "tags": ["a", "a"]}, 201)
    key = made["collection_id"]
    assert (made["title"], made["tags"], made["is_public"]) == ("Papers", ["a"], False)
    assert api.get("/api/collections")["total_count"] == 1
    assert api.patch(f"/api/collections/{key}", {"details": "x"})["details"] == "x"
    assert api.get(f"/api/collections/{key}")["title"] == "Papers"
    api.delete(f"/api/collections/{key}")
    assert api.get(f"/api/collections/{key}", 404)["code"] == "not_found"


def test_search_finds_by_title_details_and_tags_and_takes_wildcards_literally(api: Api):
    api.post("/api/collections", {"title": "50% done", "details": "alpha", "tags": ["beta"]}, 201)
    api.post("/api/collections", {"title": "other"}, 201)
    for term in ("50%25", "ALPHA", "bet"):
        found = api.get(f"/api/collections/search?q={term}")
        assert [row["title"] for row in found["collections"]] == ["50% done"], term


def test_pages_are_bounded_and_counted(api: Api):
    for number in range(3):
        api.collection(f"c{number}")
    page = api.get("/api/collections?limit=2&offset=1")
    assert (page["total_count"], len(page["collections"])) == (3, 2)
    assert api.get("/api/collections?limit=0", 400)["field"] == "limit"
    assert api.get("/api/collections?limit=1001", 400)["field"] == "limit"
    assert api.get("/api/collections?offset=-1", 400)["field"] == "offset"


def test_bad_bodies_name_the_field_and_the_rule(api: Api):
    assert api.post("/api/collections", {"title": " "}, 400)["field"] == "title"
    assert "256" in api.post("/api/collections", {"title": "x" * 257}, 400)["message"]
    assert api.post("/api/collections", {}, 400)["message"] == "title: is required"
    assert api.post("/api/collections", {"title": 7}, 400)["field"] == "title"
    assert api.post("/api/collections", {"title": "a", "nope": 1}, 400)["field"] == "nope"
    assert api.post("/api/collections", {"title": "a\x00b"}, 400)["code"] == "invalid_input"
    assert api.post("/api/collections", {"title": "a", "tags": ["t" * 65]}, 400)["field"] == "tags"
    assert api.patch(f"/api/collections/{api.collection()}", {"title": None}, 400)["field"] == "title"

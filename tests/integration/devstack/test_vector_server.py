from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from devstack.ports import choose_base, is_free

REPOSITORY = Path(__file__).parents[3]
SIZE = 4


@pytest.fixture(scope="module")
def client(stack_env):
    client = QdrantClient(url=stack_env["QDRANT_URL"], timeout=20)
    yield client
    client.close()


@pytest.fixture
def three(client):
    """A collection with the points 1, 2 and 3."""
    name = f"test_{uuid4().hex[:12]}"
    client.create_collection(name, vectors_config=models.VectorParams(size=SIZE, distance="Cosine"))
    points = [
        models.PointStruct(id=n, vector=np.eye(SIZE)[n].tolist(), payload={"n": n, "in": {"deep": n}})
        for n in (1, 2, 3)
    ]
    client.upsert(name, points=points)
    yield name
    client.delete_collection(name)


def refusal(call: Any) -> tuple[int, str]:
    with pytest.raises(UnexpectedResponse) as caught:
        call()
    body = json.loads(caught.value.content)
    return caught.value.status_code or 0, body["status"]["error"]


def test_failures_carry_qdrants_status_and_envelope(client, three):
    config = models.VectorParams(size=SIZE, distance="Cosine")
    assert refusal(lambda: client.create_collection(three, vectors_config=config)) == (
        409,
        f"Wrong input: Collection `{three}` already exists!",
    )
    assert refusal(lambda: client.count("nowhere")) == (
        404,
        "Not found: Collection `nowhere` doesn't exist!",
    )
    assert refusal(lambda: client.query_points(three, query=[1.0])) == (
        400,
        "Wrong input: Vector dimension error: expected dim: 4, got 1",
    )
    status, words = refusal(lambda: client.upsert(three, [models.PointStruct(id=9, vector=[1.0, 2.0])]))
    assert (status, "expected dim: 4" in words) == (400, True)


def test_what_it_cannot_do_it_says(client, three):
    named = {"title": models.VectorParams(size=3, distance="Dot")}
    for call in (
        lambda: client.create_collection("named", vectors_config=named),
        lambda: client.create_snapshot(three),
        client.get_aliases,
        lambda: client.query_points(three, query=models.SampleQuery(sample=models.Sample.RANDOM)),
    ):
        status, words = refusal(call)
        assert (status, "Use a real Qdrant" in words) == (501, True)


def test_a_body_of_the_wrong_shape_names_the_field(client, three):
    import httpx

    url = f"{client.init_options['url']}/collections/{three}/points/scroll"
    answer = httpx.post(url, json={"limit": "many"})
    assert answer.status_code == 422
    assert "limit" in answer.json()["status"]["error"]
    assert httpx.post(url, content=b"{").status_code == 422


def test_a_refused_batch_writes_nothing(client, three):
    points = [models.PointStruct(id=8, vector=[1.0] * SIZE), models.PointStruct(id=9, vector=[1.0])]
    refusal(lambda: client.upsert(three, points))
    assert client.count(three).count == 3


def test_a_search_by_point_leaves_the_point_out(client, three):
    found = client.query_points(three, query=2).points
    assert {point.id for point in found} == {1, 3}
    assert refusal(lambda: client.query_points(three, query=77))[0] == 404


def test_several_searches_answer_in_order(client, three):
    requests = [models.QueryRequest(query=np.eye(SIZE)[n].tolist(), limit=1) for n in (3, 1)]
    answers = client.query_batch_points(three, requests=requests)
    assert [answer.points[0].id for answer in answers] == [3, 1]


def test_payloads_can_be_chosen_merged_and_replaced(client, three):
    client.set_payload(three, {"color": "red"}, points=[1, 2])
    client.overwrite_payload(
        three,
        {"only": True},
        points=models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=3))]),
    )
    records = {each.id: each.payload for each in client.retrieve(three, [1, 3])}
    assert records == {1: {"n": 1, "in": {"deep": 1}, "color": "red"}, 3: {"only": True}}
    (chosen,) = client.retrieve(three, [1], with_payload=["color"])
    (rest,) = client.retrieve(three, [1], with_payload=models.PayloadSelectorExclude(exclude=["color", "in"]))
    assert (chosen.payload, rest.payload) == ({"color": "red"}, {"n": 1})


def test_filters_by_id_emptiness_depth_and_text_count(client, three):
    client.set_payload(three, {"color": "red"}, points=[1, 2])

    def matching(*conditions: Any) -> set[Any]:
        page, _ = client.scroll(three, scroll_filter=models.Filter(must=list(conditions)))
        return {record.id for record in page}

    assert matching(models.HasIdCondition(has_id=[1, 3])) == {1, 3}
    assert matching(models.IsEmptyCondition(is_empty=models.PayloadField(key="color"))) == {3}
    assert matching(models.FieldCondition(key="in.deep", range=models.Range(gte=2))) == {2, 3}
    except_two = models.MatchExcept(**{"except": [2]})
    assert matching(models.FieldCondition(key="n", match=except_two)) == {1, 3}


def test_groups_look_deeper_until_there_are_enough(client):
    name = f"test_{uuid4().hex[:12]}"
    client.create_collection(name, vectors_config=models.VectorParams(size=2, distance="Cosine"))
    # 500 points of group 0 are all nearer than the one point of group 1.
    angles = [0.001 * n for n in range(500)] + [1.5]
    client.upsert(
        name,
        [
            models.PointStruct(
                id=n, vector=[float(np.cos(a)), float(np.sin(a))], payload={"group": int(n == 500)}
            )
            for n, a in enumerate(angles)
        ],
    )
    groups = client.query_points_groups(
        name, group_by="group", query=[1.0, 0.0], limit=2, group_size=2
    ).groups
    assert [(group.id, [hit.id for hit in group.hits]) for group in groups] == [(0, [0, 1]), (1, [500])]
    client.delete_collection(name)


def test_facets_count_the_values_of_an_indexed_field(client, three):
    client.set_payload(three, {"color": "red"}, points=[1, 2])
    client.set_payload(three, {"color": "blue"}, points=[3])
    client.create_payload_index(three, "color", "keyword")
    hits = client.facet(three, "color").hits
    assert [(hit.value, hit.count) for hit in hits] == [("red", 2), ("blue", 1)]


def test_a_dropped_collection_is_gone_and_its_name_is_free(client, three):
    assert client.delete_collection(three)
    assert not client.collection_exists(three)
    client.create_collection(three, vectors_config=models.VectorParams(size=2, distance="Dot"))
    assert client.count(three).count == 0
    assert three in {each.name for each in client.get_collections().collections}


@pytest.mark.parametrize("name", ["..", ".hidden", "x" * 300])
def test_a_name_never_leaves_the_data_folder(client, name):
    import httpx

    answer = httpx.put(
        f"{client.init_options['url']}/collections/{name.replace('.', '%2E')}",
        json={"vectors": {"size": 2, "distance": "Dot"}},
    )
    assert answer.status_code in {400, 501}


def test_with_a_key_every_call_must_carry_it(tmp_path):
    port = choose_base()
    argv = [sys.executable, "-m", "devstack.vector_server", "--data", str(tmp_path), "--port", str(port)]
    environment = {"QDRANT__SERVICE__API_KEY": "opensesame", "PATH": "/usr/bin"}
    with subprocess.Popen(argv, cwd=REPOSITORY, env=environment, stderr=subprocess.DEVNULL) as process:
        while is_free(port) and process.poll() is None:
            time.sleep(0.05)
        stranger = QdrantClient(host="127.0.0.1", port=port, check_compatibility=False)
        with pytest.raises(UnexpectedResponse, match="401"):
            stranger.get_collections()
        with pytest.warns(UserWarning, match="insecure connection"):
            # A client asks for the server's version in a thread of its own, which can outlive the server.
            friend = QdrantClient(
                host="127.0.0.1", port=port, https=False, api_key="opensesame", check_compatibility=False
            )
        assert friend.get_collections().collections == []
        friend.close()
        stranger.close()
        psutil.Process(process.pid).terminate()

"""Conversations over an embedded dataset, with a language model that streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.container import Container
from tests.integration.api.conftest import ADA, Api
from tests.support.providers import EmbeddingServer, Fault
from tests.support.talking import TalkFault, TalkingServer, talking_server

TEXTS = {
    "tigers": ["the tiger burns bright", "the tiger walks at night"],
    "tides": ["the tide rises twice a day"],
}


@pytest.fixture
def talker() -> Iterator[TalkingServer]:
    with talking_server() as server:
        yield server


class Chat:
    """An embedded dataset of three passages, an LLM, and a session over both."""

    def __init__(self, api: Api, provider: EmbeddingServer, talker: TalkingServer) -> None:
        self.api = api
        self.dataset = api.dataset()
        self.items = api.push(self.dataset, **TEXTS)["item_ids"]
        self.embedder = api.embedder(provider)
        body = {"title": "t", "source_dataset_id": self.dataset, "embedder_ids": [self.embedder]}
        made = api.post("/api/dataset-transforms", body, 201)
        (self.embedded,) = made["transform"]["embedded_dataset_ids"]
        llm = {"name": "stub", "provider": "openai", "base_url": talker.openai_url, "model": "stub"}
        self.llm = int(api.post("/api/llms", {**llm, "api_key": "sk-secret"}, 201)["llm_id"])
        self.session = int(self.begin()["session_id"])

    def begin(self, status: int = 201, **more: Any) -> Any:
        body = {"embedded_dataset_id": self.embedded, "llm_id": self.llm, **more}
        return self.api.post("/api/chat/sessions", body, status)

    @property
    def path(self) -> str:
        return f"/api/chat/sessions/{self.session}/messages"

    def ask(self, content: str = "where does the tiger walk", status: int = 200, **more: Any) -> Any:
        return self.api.post(self.path, {"content": content, **more}, status)

    def messages(self) -> Any:
        return self.api.get(self.path)["messages"]


@pytest.fixture
def chat(api: Api, provider: EmbeddingServer, talker: TalkingServer, work: Callable[[], list[str]]) -> Chat:
    made = Chat(api, provider, talker)
    work()
    return made


def events(client: FlaskClient, path: str, body: Any = None) -> list[tuple[str, Any]]:
    answer = client.post(path, json=body if body is not None else {})
    assert (answer.status_code, answer.mimetype) == (200, "text/event-stream")
    blocks = [block for block in answer.get_data(as_text=True).split("\n\n") if block.startswith("event:")]
    lines = [block.split("\n", 1) for block in blocks]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]


def test_an_answer_names_its_passages_and_each_opens_in_the_reader(
    chat: Chat, talker: TalkingServer, client: FlaskClient
):
    talker.say = lambda messages: "By day [2], it burns [1][9]."
    answer = chat.ask(max_context_documents=2)
    assert (answer["role"], answer["status"], answer["documents_retrieved"]) == ("assistant", "complete", 2)
    assert answer["content"] == "By day [2], it burns [1][9]."
    first, second = answer["retrieved_documents"]
    assert (first["number"], first["text"], first["item_title"]) == (1, "the tiger walks at night", "tigers")
    assert first["document_id"] == chat.items[0]
    assert first["similarity_score"] > second["similarity_score"]
    assert (first["is_cited"], second["is_cited"]) == (True, True)
    page = client.get(first["url"])
    assert page.status_code == 200
    assert "data-lit>the tiger walks at night" in page.get_data(as_text=True)
    system = talker.requests[0]["body"]["messages"][0]["content"]
    assert "[1] tigers\n" in system
    assert "the tiger walks at night" in system
    asked, answered = chat.messages()
    assert (asked["role"], asked["content"], answered) == ("user", "where does the tiger walk", answer)


def test_a_later_question_comes_with_what_was_said_and_failed_answers_do_not(
    chat: Chat, talker: TalkingServer
):
    chat.ask("first")
    talker.faults.append(TalkFault("complain"))
    chat.ask("second", status=503)
    chat.ask("third")
    sent = [message["content"] for message in talker.requests[-1]["body"]["messages"][1:]]
    assert sent == ["first", "An answer .", "third"]
    assert [one["status"] for one in chat.messages()] == [
        "complete", "complete", "complete", "error", "complete", "complete",
    ]  # fmt: skip


def test_a_question_that_leans_on_the_one_before_finds_its_passages(chat: Chat):
    assert chat.ask("why so", min_similarity_score=0.3)["documents_retrieved"] == 0
    chat.ask("where does the tiger walk")
    answer = chat.ask("why so", min_similarity_score=0.3)
    assert "the tiger walks at night" in [one["text"] for one in answer["retrieved_documents"]]


def test_a_stream_tells_each_step_and_ends_with_the_whole_answer(
    chat: Chat, talker: TalkingServer, client: FlaskClient
):
    told = events(client, f"{chat.path}/stream", {"content": "tiger"})
    names = [name for name, _ in told]
    assert names == [
        "connected", "progress", "retrieval_complete", "progress", "content", "content", "complete",
    ]  # fmt: skip
    assert told[2][1]["documents_retrieved"] == len(told[2][1]["retrieved_documents"])
    assert "".join(data["content"] for name, data in told if name == "content") == "An answer [1]."
    assert told[-1][1] == chat.messages()[-1]
    assert told[-1][1]["message_id"] == told[0][1]["message_id"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (TalkFault("break"), "provider_unavailable"),
        (TalkFault("status", status=401, message="bad key sk-secret"), "provider_refused"),
    ],
    ids=["half", "refused"],
)
def test_an_answer_that_fails_leaves_its_cause_and_no_words(
    chat: Chat, talker: TalkingServer, client: FlaskClient, fault: TalkFault, code: str
):
    talker.faults.append(fault)
    told = events(client, f"{chat.path}/stream", {"content": "tiger"})
    assert (told[-1][0], told[-1][1]["code"]) == ("error", code)
    answer = chat.messages()[-1]
    assert (answer["status"], answer["error_code"], answer["content"]) == ("error", code, "")
    assert answer["retrieved_documents"] == []
    assert "sk-secret" not in json.dumps([told, answer])


def test_an_embedder_that_is_away_is_a_failed_answer_too(
    chat: Chat, provider: EmbeddingServer, talker: TalkingServer
):
    provider.faults.append(Fault("status", status=401, message="no such key"))
    assert "no such key" in chat.ask(status=502)["message"]
    assert chat.messages()[-1]["status"] == "error"
    assert talker.requests == []


def test_a_reader_who_leaves_stops_the_model_and_the_message_says_incomplete(
    chat: Chat, talker: TalkingServer, client: FlaskClient
):
    talker.say = lambda messages: "Some words and many more to come."
    talker.faults.append(TalkFault("stall"))
    answer = client.post(f"{chat.path}/stream", json={"content": "tiger"}, buffered=False)
    for line in answer.response:
        if b"event: content" in (line if isinstance(line, bytes) else line.encode()):
            break
    answer.close()
    assert talker.left.wait(30)
    message = chat.messages()[-1]
    assert (message["status"], message["content"]) == ("incomplete", "Some words and m")
    assert message["error_code"] is None


def test_regenerating_replaces_the_answer_only_once_the_new_one_is_whole(
    chat: Chat, talker: TalkingServer, client: FlaskClient
):
    first = chat.ask(system_prompt="Be rude. {{chunks}}")
    path = f"/api/chat/messages/{first['message_id']}/regenerate"
    talker.faults.append(TalkFault("break"))
    assert events(client, f"{path}?stream=true")[-1][0] == "error"
    assert chat.messages()[-1] == first
    talker.say = lambda messages: "Better [1]."
    again = chat.api.post(path)
    assert (again["message_id"], again["content"]) == (first["message_id"], "Better [1].")
    assert talker.requests[-1]["body"]["messages"][0]["content"].startswith("Be rude. [1]")
    assert len(talker.requests[-1]["body"]["messages"]) == 2
    assert [name for name, _ in events(client, f"{path}?stream=true")][-1] == "complete"
    assert len(chat.messages()) == 2
    question = chat.messages()[0]["message_id"]
    chat.api.post(f"/api/chat/messages/{question}/regenerate", status=409)


def test_what_is_deleted_is_gone_from_old_answers_and_ends_the_chat(chat: Chat):
    chat.ask()
    chat.api.delete(f"/api/datasets/{chat.dataset}/items/{chat.items[0]}")
    shown = chat.messages()[-1]["retrieved_documents"]
    assert {one["is_gone"] for one in shown} == {True, False}
    assert all(one["text"] == "" and one["item_title"] == "" for one in shown if one["is_gone"])
    chat.api.delete(f"/api/llms/{chat.llm}")
    assert "LLM" in chat.ask(status=409)["message"]
    chat.api.delete(f"/api/embedded-datasets/{chat.embedded}")
    assert "embedded dataset" in chat.ask(status=409)["message"]
    assert len(chat.messages()) == 2
    chat.api.delete(f"/api/chat/sessions/{chat.session}")
    chat.api.get(chat.path, 404)


def test_a_chat_is_about_ones_own_things_with_ones_own_key(chat: Chat, container: Container):
    of = container.services
    hers = of.llms.create(ADA, {"name": "l", "provider": "openai", "is_public": True}).llm_id
    assert chat.begin(404, llm_id=hers)["field"] == "llm_id"
    dataset = of.datasets.create(ADA, title="d", is_public=True).dataset_id
    embedder = of.embedders.create(ADA, {"name": "e", "provider": "local", "is_public": True}).embedder_id
    made = of.dataset_transforms.create(ADA, title="t", source_dataset_id=dataset, embedder_ids=[embedder])
    embedded = made.embedded_dataset_ids[0]
    assert chat.begin(404, embedded_dataset_id=embedded)["field"] == "embedded_dataset_id"


def test_sessions_are_listed_by_their_last_question_and_named_by_time(chat: Chat, talker: TalkingServer):
    second = chat.begin(title="Tides")
    assert next(one["title"] for one in chat.api.get("/api/chat/sessions")["sessions"]) == "Tides"
    chat.ask()
    listed = chat.api.get("/api/chat/sessions?limit=1")
    assert (listed["total_count"], listed["sessions"][0]["session_id"]) == (2, chat.session)
    assert listed["sessions"][0]["title"].startswith("chat-session-20")
    assert chat.api.get(f"/api/chat/sessions/{second['session_id']}") == second


def test_a_bad_question_names_the_field_and_is_not_stored(chat: Chat):
    for field, value in {
        "content": " ",
        "temperature": 3,
        "max_context_documents": 0,
        "min_similarity_score": 2,
        "max_context_tokens": 1,
        "max_tokens": 0,
        "nope": 1,
    }.items():
        assert chat.api.post(chat.path, {"content": "x", field: value}, 400)["field"] == field
    assert chat.api.post(chat.path, {"content": "x" * 8001}, 400)["field"] == "content"
    assert chat.messages() == []


def test_a_question_sent_twice_under_one_key_is_asked_once_also_as_a_stream(
    chat: Chat, talker: TalkingServer, client: FlaskClient
):
    def ask(path: str, key: str) -> tuple[int, str | None, str]:
        body = {"content": "tiger"} if path.endswith("stream") else {}
        answer = client.post(path, json=body, headers={"Idempotency-Key": key})
        return answer.status_code, answer.headers.get("Idempotency-Replayed"), answer.text

    talker.faults.append(TalkFault("complain"))
    path = f"{chat.path}/stream"
    assert "event: error" in ask(path, "k")[2]
    whole = ask(path, "k")  # what failed may be sent again
    assert whole[:2] == (200, None)
    again = ask(path, "k")
    assert again[:2] == (200, "true")
    assert again[2].startswith("event: complete\n")
    assert whole[2].endswith(again[2])
    assert [one["role"] for one in chat.messages()] == ["user", "assistant"] * 2
    anew = f"/api/chat/messages/{chat.messages()[-1]['message_id']}/regenerate?stream=true"
    calls = len(talker.requests)
    assert ask(anew, "r")[2].endswith(ask(anew, "r")[2])
    assert len(talker.requests) == calls + 1

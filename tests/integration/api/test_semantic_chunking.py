"""Chunks that end where the subject changes, told by an embedder of the owner's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, select

from app.container import Container
from app.errors import ProviderUnavailableError
from app.jobs.contracts import ExtractFile
from app.services import chunkers, previews
from app.storage.postgres.tables import EmbedderRow, FileExtraction, Job
from tests.integration.api.conftest import BOB, Api
from tests.support.providers import EmbeddingServer, Fault

SEA = (
    "The tide rises twice a day. The moon pulls at the tide of the sea. At low tide the sea leaves the beach."
)
KITCHEN = (
    "Knead the dough for bread. Let the dough of the bread rise. Bake the bread until the crust is dark."
)
TEXT = f"{SEA} {KITCHEN}"
Work = Callable[[], list[str]]


def semantic(embedder: int, **own: Any) -> dict[str, Any]:
    """As a client of the original says it."""
    options = {"embedder_id": embedder, "similarity_threshold": 0.7, "max_chunk_size": 500, "buffer_size": 0}
    return {"chunking": {"strategy": "semantic", "options": {"semantic": options | own}}}


def local(api: Api) -> int:
    return int(api.post("/api/embedders", {"name": "here", "provider": "local"}, 201)["embedder_id"])


class Reading:
    """A collection with a file, its transform, and the dataset that it fills."""

    def __init__(self, api: Api, job_config: dict[str, Any], text: str = TEXT) -> None:
        self.api, self.collection, self.dataset = api, api.collection(), api.dataset()
        self.key = api.collection_transform(self.collection, self.dataset, job_config=job_config)
        self.path = f"/api/collection-transforms/{self.key}"
        self.api.upload(self.collection, ("notes.txt", text.encode()))

    def chunks(self) -> list[str]:
        """The passages, each of which is a span of the document."""
        (item,) = self.api.get(f"/api/datasets/{self.dataset}/items")["items"]
        text = self.api.get(f"/api/items/{item['item_id']}/text")["text"]
        path = f"/api/datasets/{self.dataset}/items/{item['item_id']}/chunks"
        chunks = self.api.get(f"{path}?limit=100")["chunks"]
        assert all(text[one["start_char"] : one["end_char"]] == one["content"] for one in chunks)
        return [one["content"] for one in chunks]

    def outcome(self) -> dict[str, Any]:
        (row,) = self.api.get(f"{self.path}/processed-files")["items"]
        return dict(row)


def test_a_file_is_cut_where_its_subject_changes_by_the_embedder_of_this_machine(api: Api, work: Work):
    reading = Reading(api, semantic(local(api), similarity_threshold=0.1))
    work()
    assert reading.chunks() == [SEA, KITCHEN]
    chunking = api.get(reading.path)["job_config"]["chunking"]
    assert (chunking["chunk_size"], chunking["min_chunk_size"], chunking["chunk_overlap"]) == (500, 50, 0)


def test_sentences_are_embedded_as_documents_by_the_owners_provider(
    api: Api, provider: EmbeddingServer, work: Work
):
    key = api.embedder(provider, config={"document_prefix": "passage: "})
    reading = Reading(api, semantic(key))
    work()
    (request,) = provider.requests
    assert request["headers"]["authorization"] == "Bearer sk-secret"
    assert [text.startswith("passage: ") for text in request["body"]["input"]] == [True] * 6
    assert "".join(reading.chunks()).replace(" ", "") == TEXT.replace(" ", "")


def test_an_embedder_of_somebody_elses_is_none(api: Api, container: Container):
    theirs = container.services.embedders.create(BOB, {"provider": "local", "is_public": True}).embedder_id
    own = local(api)
    reading = Reading(api, semantic(own))
    (file,) = api.get(f"/api/collections/{reading.collection}/files")["files"]
    body = {"title": "t", "collection_id": reading.collection, "dataset_id": reading.dataset}
    told = {"job_config": semantic(theirs)}
    for refusal in (
        api.post("/api/collection-transforms", body | told, 404),
        api.patch(reading.path, told, 404),
        api.post(f"/api/collections/{reading.collection}/files/{file['key']}/preview", told, 404),
        api.patch(reading.path, {"job_config": semantic(987_654)}, 404),
    ):
        assert (refusal["code"], refusal["field"]) == ("not_found", "chunking.semantic.embedder_id")
    assert api.get(reading.path)["job_config"]["chunking"]["semantic"]["embedder_id"] == own


def test_an_embedder_that_chunking_uses_stays_and_what_shapes_its_vectors_too(api: Api):
    key = local(api)
    reading = Reading(api, semantic(key))
    refusal = api.delete(f"/api/embedders/{key}", 409)
    assert "the chunking of a collection transform uses the embedder" in refusal["message"]
    assert api.patch(f"/api/embedders/{key}", {"max_input_tokens": 100}, 409)["field"] == "max_input_tokens"
    api.patch(f"/api/embedders/{key}", {"name": "other"})
    api.patch(reading.path, {"job_config": {"chunking": {"strategy": "sentences"}}})
    api.delete(f"/api/embedders/{key}")


def test_another_embedder_makes_every_file_new_and_a_new_size_keeps_the_embedder(api: Api, work: Work):
    first, second = local(api), local(api)
    reading = Reading(api, semantic(first, similarity_threshold=0.1))
    work()
    assert "extract_file" not in (api.patch(reading.path, {"title": "renamed"}) and work())
    api.patch(reading.path, {"job_config": semantic(second, similarity_threshold=0.1)})
    assert "extract_file" in work()
    changed = api.patch(reading.path, {"chunk_size": 120})["job_config"]["chunking"]
    assert (changed["semantic"]["embedder_id"], changed["chunk_size"], changed["min_chunk_size"]) == (
        second,
        120,
        50,
    )
    work()
    assert max(map(len, reading.chunks())) <= 120


def forget(container: Container, embedder: int) -> None:
    with container.database.transaction() as session:
        session.execute(delete(EmbedderRow).where(EmbedderRow.embedder_id == embedder))


def test_a_file_whose_embedder_is_gone_fails_and_says_what_to_do(api: Api, container: Container, work: Work):
    key = local(api)
    reading = Reading(api, semantic(key))
    forget(container, key)
    work()
    outcome = reading.outcome()
    assert (outcome["process_status"], outcome["error_code"]) == ("failed", "not_found")
    assert outcome["process_error"] == f"no embedder {key}: name another in chunking.semantic.embedder_id"


def test_a_run_of_a_configuration_that_was_replaced_ends_without_a_failure(
    api: Api, container: Container, work: Work, monkeypatch: pytest.MonkeyPatch
):
    key = local(api)
    reading = Reading(api, semantic(key))
    open_client = container.services.embedders.client

    def replaced_meanwhile(owner_id: str, embedder_id: int) -> Any:
        api.patch(reading.path, {"job_config": {"chunking": {"strategy": "sentences"}}})
        api.delete(f"/api/embedders/{key}")
        return open_client(owner_id, embedder_id)

    vars(container.services)["chunkers"] = chunkers.Chunkers(replaced_meanwhile)
    assert work().count("extract_file") == 2
    with container.database.transaction() as session:
        jobs = session.scalars(select(Job).where(Job.kind == ExtractFile.kind).order_by(Job.created_at)).all()
        assert [job.state for job in jobs] == ["succeeded", "succeeded"]
        assert jobs[0].outcome == {"skipped": "the transform was configured anew"}
    assert reading.outcome()["process_status"] == "completed"


def test_a_broken_key_fails_the_file_in_words_and_a_good_one_makes_it_new(
    api: Api, provider: EmbeddingServer, work: Work
):
    key = api.embedder(provider)
    reading = Reading(api, semantic(key))
    provider.faults.append(Fault("status", status=401, message="bad key"))
    work()
    outcome = reading.outcome()
    assert (outcome["process_status"], outcome["error_code"]) == ("failed", "provider_refused")
    assert outcome["process_error"].startswith(f"embedder {key}, by which sentences are compared: ")
    assert "bad key" in outcome["process_error"]
    assert len(provider.requests) == 1
    api.patch(f"/api/embedders/{key}", {"api_key": "sk-good"})
    api.post(f"{reading.path}/retry-failed")
    work()
    assert reading.outcome()["process_status"] == "completed"
    assert provider.requests[-1]["headers"]["authorization"] == "Bearer sk-good"


def test_a_sentence_that_the_provider_refuses_stays_with_its_neighbours(
    api: Api, provider: EmbeddingServer, work: Work
):
    provider.refused_word = "moon"
    reading = Reading(api, semantic(api.embedder(provider), similarity_threshold=0.0))
    work()
    assert reading.chunks() == [TEXT]


def preview(api: Api, reading: Reading, config: dict[str, Any], status: int = 200) -> Any:
    (file,) = api.get(f"/api/collections/{reading.collection}/files")["files"]
    path = f"/api/collections/{reading.collection}/files/{file['key']}/preview"
    return api.post(path, {"job_config": config}, status)


def test_a_preview_shows_the_same_and_embeds_no_more_than_the_beginning(api: Api, provider: EmbeddingServer):
    key = local(api)
    short = Reading(api, {})
    shown = preview(api, short, semantic(key, similarity_threshold=0.1))
    assert [one["content"] for one in shown["chunks"]] == [SEA, KITCHEN]
    assert shown["warnings"] == []
    long = Reading(api, {}, f"{TEXT}\n\n" * 500)
    shown = preview(api, long, semantic(api.embedder(provider)))
    assert "only the first 20,000 characters were cut" in shown["warnings"][0]
    assert sum(len(text) for each in provider.requests for text in each["body"]["input"]) <= 20_000


def test_a_preview_waits_for_no_provider(api: Api, provider: EmbeddingServer):
    reading, config = Reading(api, {}), semantic(api.embedder(provider))
    provider.faults.append(Fault("status", status=429, retry_after="9"))
    assert preview(api, reading, config, 503)["code"] == "provider_unavailable"
    assert preview(api, reading, config, 503)["code"] == "provider_paused"
    half = [Fault("slow", seconds=0.0), Fault("status", status=429, retry_after="6")]
    provider.faults.extend(half)
    long = Reading(api, {}, f"{TEXT}\n\n" * 30)
    other = api.embedder(provider, name="other", api_key="sk-other")
    assert preview(api, long, semantic(other), 503)["code"] == "provider_unavailable"
    assert preview(api, reading, semantic(key_of(api, "bad", provider)), 502)["code"] == "provider_refused"


def key_of(api: Api, name: str, provider: EmbeddingServer) -> int:
    """An embedder with a key of its own, which the provider denies."""
    key = api.embedder(provider, name=name, api_key=f"sk-{name}")
    provider.faults.append(Fault("status", status=403, message="go away"))
    return key


def test_a_preview_ends_in_time_though_the_provider_hangs(
    api: Api, provider: EmbeddingServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(previews, "_EMBEDDING_SECONDS", 1.0)
    reading, config = Reading(api, {}), semantic(api.embedder(provider))
    provider.faults.extend(Fault("hang", seconds=6.0) for _ in range(4))
    began = time.monotonic()
    assert preview(api, reading, config, 503)["code"] == "provider_unavailable"
    assert time.monotonic() - began < 4
    assert len(provider.requests) == 1


def test_a_run_that_is_paid_for_in_part_waits_some_seconds_for_the_rest(
    api: Api, container: Container, provider: EmbeddingServer, work: Work
):
    reading = Reading(api, semantic(api.embedder(provider)), f"{TEXT}\n\n" * 30)
    provider.faults.extend([Fault("slow", seconds=0.0), Fault("status", status=429, retry_after="6")])
    work()
    assert reading.outcome()["process_status"] == "completed"
    sent = [text for each in provider.requests for text in each["body"]["input"]]
    assert len(sent) <= 180 + 64  # the refused part again, and no other


def test_the_first_part_waits_for_nobody(api: Api, container: Container, provider: EmbeddingServer):
    reading = Reading(api, semantic(api.embedder(provider)))
    provider.faults.append(Fault("status", status=429, retry_after="6"))
    services = container.services
    with container.database.transaction() as session:
        (plan,) = session.scalars(select(Job.job_id).where(Job.kind == "plan_collection_transform"))
    run = services.jobs.begin(plan, "test")
    assert run is not None
    services.planning.plan_collection_transform(run, reading.key)
    with container.database.transaction() as session:
        (key,) = session.scalars(select(FileExtraction.job_id))
    run = services.jobs.begin(key, "test")
    assert run is not None
    assert isinstance(run.contract, ExtractFile)
    with pytest.raises(ProviderUnavailableError) as caught:
        services.extraction_runs.extract_file(run, run.contract)
    assert caught.value.retry_after_seconds == 6

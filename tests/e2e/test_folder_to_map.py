"""A folder of real files in many formats, through HTTP and real worker processes, to a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from devstack import documents
from devstack.client import Pile
from tests.support.app_processes import RunningApp

PLANTED = "The lighthouse keeper counted seventeen violet umbrellas drifting past the harbour wall."
TOPICS = {
    "Astronomy": "Stars form when clouds of gas collapse; planets orbit them and telescopes measure light.",
    "Cooking": "Simmer the onions in butter, add stock and thyme, and let the soup reduce before serving.",
    "Law": "The licensee may copy and distribute the work provided that the copyright notice is retained.",
    "Sailing": "Trim the sails to the wind, keep the helm steady and reef early when the weather turns.",
}


def sections(subject: str) -> list[documents.Section]:
    text = TOPICS[subject]
    return [
        documents.Section(f"{subject} {n}", [f"Part {n}. {text} Note {n} on {subject.lower()}."] * 2)
        for n in range(1, 6)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for number, subject in enumerate(TOPICS):
        documents.write_samples(root / str(number), sections(subject), title=subject.lower())
    pages = [f"Page {n}. {TOPICS['Sailing']}" for n in range(1, 10)]
    pages[6] = PLANTED
    documents.write_pdf(root / "harbour.pdf", pages, title="Harbour log")
    (root / "broken.pdf").write_bytes(b"%PDF-1.7\nthis is not a document\n%%EOF")
    return root


@pytest.fixture(scope="module")
def loaded(running_app: RunningApp, folder: Path) -> Pile:
    pile = running_app.pile("Mixed formats")
    for part in (0, 1, 2, 3):
        files = sorted((folder / str(part)).iterdir())
        outcome = running_app.upload(pile.ids["collection_id"], [(f.name, f.read_bytes()) for f in files])
        assert outcome["failed"] == []
    last = [(name, (folder / name).read_bytes()) for name in ("harbour.pdf", "broken.pdf")]
    running_app.upload(pile.ids["collection_id"], last)
    running_app.wait_for("everything to be embedded", lambda: is_done(running_app, pile), seconds=180)
    return pile


def is_done(app: RunningApp, pile: Pile) -> bool:
    files = app.client.get(f"/api/collection-transforms/{pile.ids['collection_transform_id']}/stats")
    vectors = app.client.get(f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}/stats")
    extracted = files["successful_files"] + files["failed_files"] == 18 * len(TOPICS) + 2
    return bool(extracted and vectors["status"] in {"completed", "completed_with_errors"})


@pytest.fixture(scope="module")
def visualization(running_app: RunningApp, loaded: Pile) -> dict[str, Any]:
    made = running_app.client.post(
        "/api/visualization-transforms",
        {"title": "Map", "embedded_dataset_id": loaded.ids["embedded_dataset_id"]},
    )
    path = f"/api/visualization-transforms/{made['visualization_transform_id']}/visualizations"

    def finished() -> dict[str, Any] | None:
        run: dict[str, Any] = running_app.client.get(path)["items"][0]
        return run if run["status"] in {"completed", "failed"} else None

    run: dict[str, Any] = running_app.wait_for("the map", finished, seconds=180)
    assert run["status"] == "completed", run
    return run


def test_counts_agree_in_files_items_chunks_vectors_and_points(
    running_app: RunningApp, loaded: Pile, visualization: dict[str, Any]
):
    get, ids = running_app.client.get, loaded.ids
    files = get(f"/api/collection-transforms/{ids['collection_transform_id']}/stats")
    dataset = get(f"/api/datasets/{ids['dataset_id']}")
    embedded = get(f"/api/embedded-datasets/{ids['embedded_dataset_id']}/stats")
    points = get(f"/api/embedded-datasets/{ids['embedded_dataset_id']}/points", limit=1)
    assert files["successful_files"] == dataset["item_count"] == 18 * len(TOPICS) + 1
    assert dataset["total_chunks"] == embedded["chunks_embedded"] > 80
    assert points["total_count"] == visualization["point_count"] == dataset["total_chunks"]


def test_one_broken_file_fails_alone_with_its_cause(running_app: RunningApp, loaded: Pile):
    failed = running_app.client.get(f"/api/collections/{loaded.ids['collection_id']}/failed-files")
    assert failed["total_count"] == 1
    (file,) = failed["items"]
    assert file["name"] == "broken.pdf"
    assert "PDF" in file["process_error"]


def test_search_finds_the_planted_passage_and_says_page_seven(running_app: RunningApp, loaded: Pile):
    answer = running_app.client.post(
        "/api/search",
        {
            "query": "umbrellas seen by the lighthouse keeper",
            "embedded_dataset_ids": [loaded.ids["embedded_dataset_id"]],
            "limit": 3,
        },
    )
    best = answer["results"][0]["matches"][0]
    assert PLANTED in best["text"]
    assert best["page"] == 7


def test_the_map_has_topics_with_names_and_a_place_for_every_point(
    running_app: RunningApp, visualization: dict[str, Any]
):
    vid = visualization["visualization_id"]
    clusters = running_app.client.get(f"/api/visualizations/{vid}/clusters")["clusters"]
    assert len(clusters) == visualization["cluster_count"] >= 2
    assert all(cluster["name"] for cluster in clusters)
    assert 0 < visualization["quality"]["trustworthiness"] <= 1


def test_uploading_the_same_again_changes_nothing(running_app: RunningApp, loaded: Pile, folder: Path):
    before = running_app.client.get(f"/api/datasets/{loaded.ids['dataset_id']}")
    name = "harbour.pdf"
    outcome = running_app.upload(loaded.ids["collection_id"], [(name, (folder / name).read_bytes())])
    assert outcome["completed"][0]["unchanged"] is True
    running_app.wait_for("the pile to rest", lambda: is_done(running_app, loaded))
    after = running_app.client.get(f"/api/datasets/{loaded.ids['dataset_id']}")
    assert (after["item_count"], after["total_chunks"]) == (before["item_count"], before["total_chunks"])


def test_passages_over_the_models_limit_are_counted_not_cut_in_silence(running_app: RunningApp):
    pile = running_app.pile("Long passages")
    body = {"job_config": {"chunking": {"strategy": "recursive", "chunk_size": 8000}}}
    path = f"/api/collection-transforms/{pile.ids['collection_transform_id']}"
    running_app.http.patch(path, json=body).raise_for_status()
    words = " ".join(f"word{n} harbour" for n in range(600)).encode()
    running_app.upload(pile.ids["collection_id"], [("long.txt", words)])
    stats = f"/api/embedded-datasets/{pile.ids['embedded_dataset_id']}/stats"

    def embedded() -> dict[str, Any] | None:
        now: dict[str, Any] = running_app.client.get(stats)
        return now if now["chunks_embedded"] else None

    done = running_app.wait_for("the long passage", embedded)
    assert (done["passages_split"], done["passages_truncated"]) == (done["chunks_embedded"], 0)

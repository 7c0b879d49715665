from __future__ import annotations

import pytest

from app.container import Container
from app.jobs.contracts import EmbedItems
from app.services.embedding_runs import EmbeddingRuns
from app.services.jobs import Run
from tests.integration.jobs.incremental import Pipeline
from tests.support.domain import World


@pytest.fixture
def pipeline(container: Container, world: World) -> Pipeline:
    return Pipeline(container, world)


def test_a_dataset_transform_enabled_while_a_run_gives_up_for_it_loses_nothing(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
):
    load = EmbeddingRuns._load

    def enable() -> None:
        pipeline.enable_items(True)
        pipeline.work()

    later = [enable]

    def slow(runs: EmbeddingRuns, run: Run, contract: EmbedItems) -> object:
        loaded = load(runs, run, contract)
        if later:
            later.pop()()
        return loaded

    pipeline.push("item", "some text")
    pipeline.work_until("embed_items")
    pipeline.enable_items(False)
    monkeypatch.setattr(EmbeddingRuns, "_load", slow)
    pipeline.work()
    pipeline.check()


def test_an_item_edited_and_edited_back_while_it_is_embedded_is_complete(pipeline: Pipeline):
    old = [f"old {number}" for number in range(100)]

    def edit_there_and_back() -> None:
        pipeline.push("item", "new")
        pipeline.work()
        pipeline.push("item", *old)
        pipeline.work()

    pipeline.push("item", *old)
    pipeline.provider.meanwhile += [lambda: None, edit_there_and_back]  # after the first part was written
    pipeline.work()
    pipeline.check()

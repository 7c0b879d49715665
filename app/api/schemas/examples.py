"""One request per route that is known to work: documented as it stands here, and executed by the tests.

`"<name>"` stands for the id of a thing of the asker's, of the kind that the name says. A route that is not
named takes no body, and needs nothing in its query.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Json = Mapping[str, Any]

_BY_SUBJECT: Json = {"chunking": {"strategy": "semantic", "semantic": {"embedder_id": "<embedder_id>"}}}

BODIES: Mapping[str, Json] = {
    "programs.redeem_code": {"code": "c", "nonce": "n", "pkce_verifier": "v"},
    "programs.poll_device": {"device_code": "c"},
    "programs.refresh_tokens": {"refresh_token": "sxr_a.b"},
    "api_tokens.create_api_token": {"name": "nightly import", "scope": "read", "expires_in_days": 90},
    "collections.create_collection": {"title": "Papers", "details": "Since 2019", "tags": ["physics"]},
    "collections.update_collection": {"title": "Papers, read"},
    "datasets.create_dataset": {"title": "Passages", "tags": ["physics"]},
    "datasets.update_dataset": {"details": "From the papers"},
    "items.push_items": {
        "items": [
            {
                "title": "Tides",
                "chunks": [{"content": "The tide rises twice a day.", "metadata": {"source": "almanac"}}],
            }
        ]
    },
    "embedders.create_embedder": {"name": "On this machine", "provider": "local"},
    "embedders.update_embedder": {"name": "Ours"},
    "llms.create_llm": {
        "name": "Small",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "api_key": "sk-your-key",
    },
    "llms.update_llm": {"name": "Small and quick"},
    "collection_transforms.create_collection_transform": {
        "title": "Read the papers",
        "collection_id": "<collection_id>",
        "dataset_id": "<dataset_id>",
        "chunk_size": 200,
        "job_config": _BY_SUBJECT,
    },
    "collection_transforms.update_collection_transform": {"job_config": _BY_SUBJECT},
    "dataset_transforms.create_dataset_transform": {
        "title": "Embed the passages",
        "source_dataset_id": "<dataset_id>",
        "embedder_ids": ["<embedder_id>"],
    },
    "dataset_transforms.update_dataset_transform": {"title": "Embed", "embedder_ids": ["<embedder_id>"]},
    "embedded_datasets.update_embedded_dataset": {"title": "Passages, embedded"},
    "standalone.create_standalone": {
        "title": "Vectors from elsewhere",
        "dimensions": 16,
        "embedder_id": "<embedder_id>",
    },
    "standalone.push_vectors": {
        "points": [
            {
                "id": "6f1c2f0e-5a63-4c58-9a57-2f4f7c9b1d10",
                "vector": [0.6, 0.8],
                "payload": {"text": "The tiger burns bright.", "item_title": "Poems"},
            }
        ]
    },
    "embedded_datasets.count_several_embedded_datasets": {"embedded_dataset_ids": ["<embedded_dataset_id>"]},
    "visualization_transforms.create_visualization_transform": {
        "title": "Map of the papers",
        "embedded_dataset_id": "<embedded_dataset_id>",
        "visualization_config": {"llm_id": "<llm_id>"},
    },
    "visualization_transforms.update_visualization_transform": {
        "visualization_config": {"llm_id": "<llm_id>"}
    },
    "chat.create_chat_session": {"embedded_dataset_id": "<embedded_dataset_id>", "llm_id": "<llm_id>"},
    "chat.ask": {"content": "What makes the tide rise?", "max_context_documents": 5},
    "chat.ask_stream": {"content": "What makes the tide rise?"},
    "search.search": {
        "query": "why the sea rises and falls",
        "embedded_dataset_ids": ["<embedded_dataset_id>"],
        "limit": 10,
        "rerank": {"llm_id": "<llm_id>"},
    },
    "files.preview_file": {"chunk_size": 200, "job_config": _BY_SUBJECT},
    "queues.pause_queue": {"minutes": 10, "reason": "the provider is being moved"},
    "dead_letters.discard_dead_letter": {"why": "the file was withdrawn"},
    "dead_letters.replay_dead_letter": {"why": "the provider is back"},
    "dead_letters.reroute_dead_letter": {"to": "plan_collection_transform", "why": "a newer version"},
    "dead_letters.edit_dead_letter": {"why": "another batch", "arguments": {}},
    "dead_letter_bulks.prepare_bulk": {"act": "discard", "why": "withdrawn files", "filter": {}},
    # In use, so that it stays: each of them stands or falls alone.
    "bulk.delete_many": {"kind": "embedders", "ids": ["<embedder_id>"]},
    "bulk.trigger_many": {"kind": "collection-transforms", "ids": ["<collection_transform_id>"]},
}

QUERIES: Mapping[str, Mapping[str, str]] = {
    "collections.search_collections": {"q": "papers"},
    "collections.list_collections": {"limit": "20", "search": "papers"},
    "datasets.list_datasets": {"limit": "20", "offset": "0"},
    "exports.export_dataset": {"format": "ndjson"},
    "exports.export_embedded_dataset": {"format": "parquet", "vectors": "true"},
    "exports.export_visualization": {"what": "clusters"},
    "jobs.list_jobs": {"state": "succeeded", "younger_than": "86400", "limit": "20"},
    "dead_letters.list_dead_letters": {"state": "any"},
}

_UUID = "3f2b8e1c-7a54-4d0e-9c61-2f7d5b0a9e44"
_OTHERS: Json = {
    "chunk_id": _UUID,
    "point_id": _UUID,
    "job_id": _UUID,
    "batch_key": _UUID,
    "run_id": _UUID,
    "queue": "collection-transforms",
}
_PLACEHOLDER = re.compile(r"<(\w+)>")


def sample(name: str) -> Any:
    """What the documentation writes for an id of this name."""
    return _OTHERS.get(name, 7)


def filled(template: Any, value_of: Callable[[str], Any]) -> Any:
    """The template with `value_of(name)` for every "<name>"."""
    if isinstance(template, Mapping):
        return {key: filled(value, value_of) for key, value in template.items()}
    if isinstance(template, list):
        return [filled(value, value_of) for value in template]
    if isinstance(template, str) and (found := _PLACEHOLDER.fullmatch(template)):
        return value_of(found[1])
    return template

"""The demo's view of the public API: one collection and all that is made of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from devstack.errors import StackError

_LOCAL_EMBEDDER = {
    "name": "MiniLM on this machine",
    "provider": "local",
    "config": {"model": "all-MiniLM-L6-v2"},
    "batch_size": 32,
    "dimensions": 384,
    "max_input_tokens": 256,
    "is_public": False,
}
_CHUNKING = {"strategy": "recursive_character", "chunk_size": 1000, "chunk_overlap": 0}


@dataclass(slots=True)
class Pile:
    """A collection with its dataset, transforms and embedded dataset; the ids are kept in `state_file`."""

    title: str
    state_file: Path
    ids: dict[str, int] = field(default_factory=dict)

    def load(self) -> None:
        """Read the ids of an earlier start, if there was one."""
        if self.state_file.exists():
            self.ids = json.loads(self.state_file.read_text())

    def save(self) -> None:
        """Keep the ids for the next start."""
        self.state_file.write_text(json.dumps(self.ids))


class Client:
    """Calls the API; raises StackError with the server's own words when it refuses."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.Client(base_url=base_url, timeout=120)
        self.pile: Pile | None = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """GET as JSON."""
        return self._answer(self._http.get(path, params=query))

    def post(self, path: str, body: Any = None) -> Any:
        """POST as JSON."""
        return self._answer(self._http.post(path, json=body or {}))

    def exists(self, path: str) -> bool:
        """Whether a GET answers 200."""
        return self._http.get(path).is_success

    def upload(self, collection_id: int, files: Sequence[Path], root: Path) -> dict[str, Any]:
        """Upload some files in one request; names keep their folders below `root`."""
        with ExitStack() as stack:
            parts = [("files", (_name(path, root), stack.enter_context(path.open("rb")))) for path in files]
            answer: dict[str, Any] = self._answer(
                self._http.post(f"/api/collections/{collection_id}/files", files=parts)
            )
            return answer

    def make(self, pile: Pile) -> None:
        """Create the collection, dataset, embedder and transforms, or find those of an earlier start."""
        self.pile = pile
        pile.load()
        if pile.ids and self.exists(f"/api/collections/{pile.ids['collection_id']}"):
            return
        ids = pile.ids = {}
        named = {"title": pile.title, "tags": ["demo"], "is_public": False}
        ids["collection_id"] = self.post("/api/collections", named)["collection_id"]
        ids["dataset_id"] = self.post("/api/datasets", named)["dataset_id"]
        ids["embedder_id"] = self._embedder_id()
        dataset_transform = self.post(
            "/api/dataset-transforms",
            {
                "title": f"{pile.title}: vectors",
                "source_dataset_id": ids["dataset_id"],
                "embedder_ids": [ids["embedder_id"]],
            },
        )
        ids["dataset_transform_id"] = dataset_transform["transform"]["dataset_transform_id"]
        ids["embedded_dataset_id"] = dataset_transform["embedded_datasets"][0]["embedded_dataset_id"]
        ids["collection_transform_id"] = self.post(
            "/api/collection-transforms",
            {
                "title": f"{pile.title}: passages",
                "collection_id": ids["collection_id"],
                "dataset_id": ids["dataset_id"],
                "chunk_size": _CHUNKING["chunk_size"],
                "job_config": {"chunking": _CHUNKING},
            },
        )["collection_transform_id"]
        pile.save()

    def _embedder_id(self) -> int:
        listed = self.get("/api/embedders", limit=100)
        known: Iterable[dict[str, Any]] = listed["items"] if isinstance(listed, dict) else listed
        for embedder in known:
            if embedder["provider"] == "local":
                return int(embedder["embedder_id"])
        return int(self.post("/api/embedders", _LOCAL_EMBEDDER)["embedder_id"])

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_success:
            return response.json() if response.content else None
        try:
            message = response.json().get("message", response.text)
        except ValueError:
            message = response.text[:500]
        raise StackError(f"{response.request.method} {response.request.url.path}: {message}")


def _name(path: Path, root: Path) -> str:
    """The file's name with its folders, joined as the upload page joins them."""
    name = " \N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK} ".join(path.relative_to(root).parts)
    return os.fsencode(name).decode(errors="replace")  # Linux takes any bytes as a name, HTTP does not

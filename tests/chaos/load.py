"""A modest load over HTTP, and the history of what the API accepted."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.hooks import HUNGRY
from tests.chaos.people import Account

REFUSED = "unspeakable"  # the provider of a run takes no text with this word
_NAMES = 12
_PAUSE_SECONDS = 0.4
_BROKEN_PDF = b"%PDF-1.7\n1 0 obj << this is no document and never will be"


@dataclass
class Load:
    """Uploads, replaces, deletes, retries, poisons and asks for maps until it is stopped.

    `expected` is what must be true in the end: (collection, name) → marker word, or None for deleted. A name
    whose last request got no answer is in `unsure`: it may be either. Poison is not in there: it must only
    come to an end.
    """

    base_url: str
    piles: list[dict[str, int]]
    owners: dict[int, Account]  # collection → whose it is
    seed: int
    accepted: int = 0
    refused: int = 0
    expected: dict[tuple[int, str], str | None] = field(default_factory=dict)
    unsure: set[tuple[int, str]] = field(default_factory=set)
    _keys: dict[tuple[int, str], str] = field(default_factory=dict)
    _maps: dict[int, int] = field(default_factory=dict)  # embedded dataset → its visualization transform
    _stop: threading.Event = field(default_factory=threading.Event)
    _poisons: int = 0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def judged(self) -> dict[tuple[int, str], str | None]:
        return {key: marker for key, marker in self.expected.items() if key not in self.unsure}

    def poison(self, kind: str) -> str | None:
        """Upload a file that makes trouble: "broken", "refused", or a trap of hooks.py; its name if taken."""
        self._poisons += 1
        beginning = HUNGRY if kind == HUNGRY else f"What is {REFUSED}"
        suffix, content = "txt", f"{beginning} has number {self._poisons}. ".encode() * 3
        if kind == "broken":
            suffix, content = "pdf", _BROKEN_PDF
        name = f"{kind}-{self._poisons}.{suffix}"
        with self.client(self.piles[0]) as http:
            done = _send(http, self.piles[0]["collection_id"], name, content)
        return name if done else None

    def ask_for_map(self, pile: dict[str, int]) -> None:
        """Have the pile's map drawn; raises httpx.TransportError."""
        dataset = pile["embedded_dataset_id"]
        with self.client(pile) as http:
            if dataset in self._maps:
                http.post(f"/api/visualization-transforms/{self._maps[dataset]}/trigger")
                return
            body = {"title": "Map", "embedded_dataset_id": dataset}
            answer = http.post("/api/visualization-transforms", json=body)
            if answer.is_success:
                self._maps[dataset] = answer.json()["visualization_transform_id"]

    def calm(self, number: int) -> None:
        """Some uploads while nothing is broken: new files, and new content for old ones."""
        new = [(pile["collection_id"], f"calm-{count}.txt") for count in range(number) for pile in self.piles]
        old = [key for key, marker in self.judged().items() if marker is not None]
        with self._clients() as clients:
            for count, key in enumerate([*new[:number], *old[:number]]):
                self._upload(clients[key[0]], key, f"marker{self.seed}calm{count}")

    def search(self, pile: dict[str, int], marker: str) -> bool:
        """Whether a search for the marker finds a passage that holds it."""
        body = {"query": marker, "embedded_dataset_ids": [pile["embedded_dataset_id"]],
                "search_params": {"exact": True}}  # fmt: skip
        with self.client(pile) as http:
            answer = http.post("/api/search", json=body)
        answer.raise_for_status()
        return any(marker in match["text"].split() for match in answer.json()["results"][0]["matches"])

    def accounts(self) -> list[Account]:
        """Everybody's, each once."""
        return list({account.name: account for account in self.owners.values()}.values())

    def client(self, pile: dict[str, int]) -> httpx.Client:
        """A client of the pile's owner."""
        return self.owners[pile["collection_id"]].client()

    @contextmanager
    def _clients(self) -> Iterator[dict[int, httpx.Client]]:
        with ExitStack() as stack:
            yield {key: stack.enter_context(account.client()) for key, account in self.owners.items()}

    def _run(self) -> None:
        dice = random.Random(self.seed)
        with self._clients() as clients:
            for number in range(1_000_000):
                if self._stop.wait(_PAUSE_SECONDS):
                    return
                pile, name = (
                    dice.choice(self.piles),
                    f"{number % _NAMES}.{'txt' if number % 3 else 'rtf'}",
                )
                key, dies = (pile["collection_id"], name), dice.random()
                http = clients[key[0]]
                try:
                    if dies < 0.1:
                        http.post(f"/api/dataset-transforms/{pile['dataset_transform_id']}/retry-failed")
                    elif dies < 0.3 and key in self._keys and key not in self.unsure:
                        self._delete(http, key)
                    else:
                        self._upload(http, key, f"marker{self.seed}x{number}")
                except httpx.TransportError:
                    self.unsure.add(key)

    def _upload(self, http: httpx.Client, key: tuple[int, str], marker: str) -> None:
        # The marker fills half of the text: the vectors of two texts are far apart.
        lines = f"The keeper wrote {marker} {marker} {marker} {marker} and went to sleep.\n" * 30
        content = "{\\rtf1\\ansi " + lines.replace("\n", "\\par\n") + "}" if key[1].endswith("rtf") else lines
        done = _send(http, *key, content.encode())
        if done:
            self.accepted += 1
            self.expected[key], self._keys[key] = marker, done[0]["key"]
            self.unsure.discard(key)
        else:
            self.refused += 1
            self.unsure.add(key)  # a commit may have come through whose answer did not

    def _delete(self, http: httpx.Client, key: tuple[int, str]) -> None:
        answer = http.delete(f"/api/collections/{key[0]}/files/{self._keys[key]}")
        if answer.is_success:
            self.expected[key] = None
            del self._keys[key]
        else:
            self.unsure.add(key)


def _send(http: httpx.Client, collection: int, name: str, content: bytes) -> list[Any]:
    answer = http.post(f"/api/collections/{collection}/files", files=[("files", (name, content))])
    done: list[Any] = answer.json()["completed"] if answer.is_success else []
    return done

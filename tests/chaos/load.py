"""A modest load over HTTP, and the history of what the API accepted."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from typing import Any

import httpx

_NAMES = 12
_PAUSE_SECONDS = 0.4


@dataclass
class Load:
    """Uploads, replaces, deletes and retries until it is stopped.

    `expected` is what must be true in the end: (collection, name) → marker word, or None for deleted. A name
    whose last request got no answer is in `unsure`: it may be either.
    """

    base_url: str
    piles: list[dict[str, int]]
    seed: int
    accepted: int = 0
    refused: int = 0
    expected: dict[tuple[int, str], str | None] = field(default_factory=dict)
    unsure: set[tuple[int, str]] = field(default_factory=set)
    _keys: dict[tuple[int, str], str] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def judged(self) -> dict[tuple[int, str], str | None]:
        return {key: marker for key, marker in self.expected.items() if key not in self.unsure}

    def _run(self) -> None:
        dice = random.Random(self.seed)
        with httpx.Client(base_url=self.base_url, timeout=40) as http:
            for number in range(1_000_000):
                if self._stop.wait(_PAUSE_SECONDS):
                    return
                pile, name = dice.choice(self.piles), f"{dice.randrange(_NAMES)}.txt"
                key, dies = (pile["collection_id"], name), dice.random()
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
        text = f"The keeper wrote {marker} into the log and went to sleep.\n" * 40
        part = ("files", (key[1], text.encode()))
        answer = http.post(f"/api/collections/{key[0]}/files", files=[part])
        done: list[Any] = answer.json()["completed"] if answer.is_success else []
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

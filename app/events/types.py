"""What is told about running work. Events are hints: whoever missed one reads the truth again."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

_ROOT = "transforms.status"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")  # what a NATS subject token had better not hold

EVERYTHING = f"{_ROOT}.>"


def events_of(owner_id: str) -> str:
    """The subjects of an owner's events; two owners may share them, so look at `owner_id`, too."""
    return f"{_ROOT}.*.{_subject_word(owner_id)}.>"


def _subject_word(text: str) -> str:
    return _UNSAFE.sub("_", text)


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """Something about a transform changed.

    `transform_type` is collection, dataset or visualization; `resource_id` is what the transform reads
    (collection, dataset, embedded dataset); `status` is pending, processing, success or failed.
    """

    transform_type: str
    transform_id: int
    resource_id: int
    owner_id: str
    status: str
    timestamp: str  # ISO 8601, UTC
    job_id: str | None = None
    stage: str | None = None
    progress: float | None = None  # 0 to 1
    error: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    sequence: int | None = None  # position in TRANSFORM_STATUS; the SSE id

    @property
    def subject(self) -> str:
        """`transforms.status.{type}.{owner}.{resource}.{transform}`."""
        kind, owner = self.transform_type, _subject_word(self.owner_id)
        return f"{_ROOT}.{kind}.{owner}.{self.resource_id}.{self.transform_id}"

    def encode(self) -> bytes:
        """JSON without the sequence, which the stream assigns."""
        fields = asdict(self)
        del fields["sequence"]
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, payload: bytes, sequence: int) -> StatusEvent:
        """Inverse of `encode`; raises ValueError or TypeError for foreign messages."""
        return cls(**{**json.loads(payload), "sequence": sequence})


@dataclass(frozen=True, slots=True)
class Connected:
    """The first word to a listener: what comes after `sequence` will be told.

    None: it asked for another place itself, or the stream is away and a Reset follows once it is back.
    """

    sequence: int | None


@dataclass(frozen=True, slots=True)
class Reset:
    """Events up to `sequence` may have been missed: read the truth again. What comes after will be told."""

    sequence: int
    reason: str


Told = StatusEvent | Connected | Reset

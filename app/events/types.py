"""What is told about running work. Events are hints: whoever missed one reads the truth again."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")  # what a NATS subject token had better not hold


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
        owner = _UNSAFE.sub("_", self.owner_id)
        return f"transforms.status.{self.transform_type}.{owner}.{self.resource_id}.{self.transform_id}"

    def encode(self) -> bytes:
        """JSON without the sequence, which the stream assigns."""
        fields = asdict(self)
        del fields["sequence"]
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, payload: bytes, sequence: int) -> StatusEvent:
        """Inverse of `encode`; raises ValueError or TypeError for foreign messages."""
        return cls(**{**json.loads(payload), "sequence": sequence})

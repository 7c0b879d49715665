"""Ids that are derived from what they name, so that doing a thing twice writes it once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from uuid import UUID, uuid5

# Fixed for ever: changing it re-identifies every chunk and vector ever stored.
_NAMESPACE = UUID("6e1f6a4e-3d0c-5b52-9a0e-5f2b7f1d9c11")


def sha256_hex(data: bytes) -> str:
    """64 lower-case hex digits of SHA-256."""
    return hashlib.sha256(data).hexdigest()


def content_hash(*parts: str) -> str:
    """One SHA-256 over several texts; the length prefix keeps ("ab","c") and ("a","bc") apart."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()


def config_hash(config: Mapping[str, object]) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no blanks)."""
    return sha256_hex(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())


def chunk_id(item_id: int, start: int, end: int, text: str) -> UUID:
    """The id of a chunk, which is also the id of its vector in every index."""
    return uuid5(_NAMESPACE, f"{item_id}:{start}:{end}:{sha256_hex(text.encode())}")

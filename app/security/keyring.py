"""The keys of an installation: one seals, all open. What is used is derived, so that uses stay apart.

A key is named by its id, a short hash: values say which key sealed them, and nobody tries keys in turn.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.config import hex_key
from app.errors import InvalidInputError

logger = logging.getLogger(__name__)

_KEY_BYTES = 32


class Key:
    """One master key; it is never used itself and never shown."""

    def __init__(self, master_key_hex: str, name: str) -> None:
        """64 hex digits. Raises InvalidInputError that says `name` and the rule, never the value."""
        try:
            self._master = bytes.fromhex(hex_key(master_key_hex))
        except ValueError as error:
            raise InvalidInputError(f"{name} {error}", field="encryption_master_key") from None
        self.id = hashlib.sha256(b"semantic-explorer key id" + self._master).hexdigest()[:8]

    def __repr__(self) -> str:
        return f"Key({self.id})"

    def derive(self, label: str) -> bytes:
        """32 bytes for one use, which the label names (HKDF-SHA-256)."""
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=label.encode()).derive(self._master)


class Keyring:
    """The active key, and retired ones that only open what they sealed."""

    def __init__(self, master_key_hex: str | None, retired: Sequence[str] = ()) -> None:
        """Keys are 64 hex digits each. Raises InvalidInputError that names the rule and never the value."""
        self.active = Key(master_key_hex, "ENCRYPTION_MASTER_KEY") if master_key_hex else None
        keys = [Key(key, "ENCRYPTION_RETIRED_KEYS") for key in retired]
        self.keys: Mapping[str, Key] = {key.id: key for key in [*keys, *filter(None, [self.active])]}

    def announce(self) -> None:
        """Tell the log at the start of a process whether secrets can be stored, and the keys by their ids."""
        if self.active is None:
            logger.warning(
                "encryption is off: ENCRYPTION_MASTER_KEY is not set, so no provider key can be stored and "
                "the audit log is not protected against changes"
            )
            return
        retired = sorted(set(self.keys) - {self.active.id})
        logger.info(
            "encryption service initialized: active key %s, retired keys: %s",
            self.active.id,
            ", ".join(retired) or "none",
        )

"""Sealing provider keys at rest: AES-256-GCM, each value bound to the row that holds it.

A sealed value reads `v1.<key id>.<nonce>.<ciphertext and tag>`, the last two in URL-safe base64. Version, key
id, table, column, row and owner are authenticated with it: copied to another place it opens nowhere.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.errors import PermanentError, UnavailableError
from app.security.keyring import Keyring

_VERSION = "v1"
_NONCE_BYTES = 12  # NIST SP 800-38D, 8.2: 96 bits; random nonces are good for 2**32 values per key
_USE = "semantic-explorer secrets v1"


class SecretBox:
    """Seals with the active key; opens what it or a retired key sealed. Without a key it refuses both."""

    def __init__(self, master_key_hex: str | None, retired: Sequence[str] = ()) -> None:
        """Keys are 64 hex digits. Raises InvalidInputError that names the rule and never the value."""
        self.keyring = Keyring(master_key_hex, retired)
        self._ciphers = {key.id: AESGCM(key.derive(_USE)) for key in self.keyring.keys.values()}

    @property
    def enabled(self) -> bool:
        """Whether secrets can be stored."""
        return self.keyring.active is not None

    @property
    def key_id(self) -> str | None:
        """Names the active key without telling it: 8 hex digits."""
        return self.keyring.active.id if self.keyring.active else None

    def encrypt(self, plaintext: str, *, table: str, column: str, row: object, owner: str) -> str:
        """Seal a value for one place. Raises UnavailableError when there is no key."""
        key_id = self.key_id
        if key_id is None:
            raise UnavailableError(
                "Secrets cannot be stored: ENCRYPTION_MASTER_KEY is not set on the server."
            )
        nonce = secrets.token_bytes(_NONCE_BYTES)
        bound = _bound(key_id, table, column, row, owner)
        sealed = self._ciphers[key_id].encrypt(nonce, plaintext.encode(), bound)
        return f"{_VERSION}.{key_id}.{_encode(nonce)}.{_encode(sealed)}"

    def decrypt(self, token: str, *, table: str, column: str, row: object, owner: str) -> str:
        """Open a sealed value.

        Raises UnavailableError when its key is not configured, PermanentError when it was altered or
        belongs to another place.
        """
        key_id, nonce, sealed = _parse(token)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnavailableError(
                f"The secret in {table}.{column} was encrypted with key {key_id}, which is not configured: "
                "check ENCRYPTION_MASTER_KEY and ENCRYPTION_RETIRED_KEYS."
            )
        try:
            return cipher.decrypt(nonce, sealed, _bound(key_id, table, column, row, owner)).decode()
        except InvalidTag as error:
            raise PermanentError(
                f"The secret in {table}.{column} cannot be decrypted: it was altered or belongs to "
                "another row. Store it again."
            ) from error


def key_id_of(token: str) -> str:
    """Which key sealed the value. Raises PermanentError for what is no sealed value."""
    return _parse(token)[0]


def sealed_with(key_id: str) -> str:
    """What every value begins with that this key sealed: for queries."""
    return f"{_VERSION}.{key_id}."


def _bound(key_id: str, table: str, column: str, row: object, owner: str) -> bytes:
    return json.dumps([_VERSION, key_id, table, column, str(row), owner], separators=(",", ":")).encode()


def _parse(token: str) -> tuple[str, bytes, bytes]:
    try:
        version, key_id, nonce, sealed = token.split(".")
        parts = key_id, _decode(nonce), _decode(sealed)
    except (ValueError, binascii.Error) as error:
        raise PermanentError("The stored secret is not in a format this version reads.") from error
    if version != _VERSION:
        raise PermanentError(f"The stored secret has format {version[:8]!r}; this version reads {_VERSION}.")
    return parts


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(raw) != text:  # base64 has several spellings of one value: only ours counts
        raise ValueError("not canonical")
    return raw

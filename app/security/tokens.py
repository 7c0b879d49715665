"""Random secrets that we hand out, and the digests by which we know them again."""

from __future__ import annotations

import hashlib
import secrets

# Tells a token of ours from an access token, and lets scanners of public code find a leaked one.
API_TOKEN_PREFIX = "sxp_"  # noqa: S105 not a secret
ACCESS_TOKEN_PREFIX = "sxa_"  # noqa: S105 not a secret
REFRESH_TOKEN_PREFIX = "sxr_"  # noqa: S105 not a secret
_BYTES = 32


def fresh() -> str:
    """43 characters that are safe in addresses and cookies: 256 random bits."""
    return secrets.token_urlsafe(_BYTES)


def fresh_api_token() -> str:
    """As `fresh`, with the prefix of API tokens."""
    return API_TOKEN_PREFIX + fresh()


def digest(token: str) -> str:
    """SHA-256 in hex: 256 random bits need no slow hash, and whoever reads the database has no token."""
    return hashlib.sha256(token.encode()).hexdigest()

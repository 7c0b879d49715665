"""The provider's public keys, and whether one of them signed a token."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError, KeyParameterError
from joserfc.jwk import JWKRegistry, KeySet
from joserfc.jws import JWSRegistry

from app.errors import ProviderUnavailableError, UnauthenticatedError
from app.security.kept import Kept

_log = logging.getLogger(__name__)

# Asymmetric only: with HS256 in the list, whoever knows the public key could sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519")
_KEY_TYPES = frozenset({"RSA", "EC", "OKP"})
_MOST_CHARACTERS = 16 * 1024
_SECONDS = 300.0  # a key that the provider has withdrawn is forgotten after so long


class SigningKeys:
    """`fetch` returns the provider's JSON Web Key Set; raises ProviderUnavailableError."""

    def __init__(self, fetch: Callable[[], Mapping[str, Any]]) -> None:
        self._kept = Kept(lambda: _key_set(fetch()), seconds=_SECONDS)
        # Unknown header fields are to be ignored (RFC 7515, 4); critical ones are refused all the same.
        self._registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)

    def verify(self, token: str) -> jwt.Token:
        """Header and claims of a token with a good signature; the claims are not judged here.

        Raises UnauthenticatedError, and ProviderUnavailableError when there are no keys to be had.
        """
        if len(token) > _MOST_CHARACTERS:
            raise UnauthenticatedError("the token is too long")
        try:
            try:
                return self._decode(token, self._kept.value())
            except InvalidKeyIdError:  # the provider may have a new key by now
                return self._decode(token, self._kept.newer())
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            _log.warning("token refused", extra={"reason": f"{type(error).__name__}: {error}"[:200]})
            raise UnauthenticatedError("the token is not signed by the identity provider") from error

    def _decode(self, token: str, keys: KeySet) -> jwt.Token:
        return jwt.decode(token, keys, registry=self._registry, decoder_cls=_Strict)


class _Strict(json.JSONDecoder):
    """Refuses a claim that is given twice: which one counts, readers disagree on."""

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_without_doubles)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a claim is given twice")
    return found


def _key_set(document: Mapping[str, Any]) -> KeySet:
    """The usable keys: public, asymmetric and for signatures; others do not spoil the set."""
    keys = []
    given = document.get("keys")
    for each in given if isinstance(given, list) else []:
        if not isinstance(each, dict) or each.get("kty") not in _KEY_TYPES or each.get("use") == "enc":
            continue
        try:
            keys.append(JWKRegistry.import_key(each))
        except (JoseError, KeyParameterError, ValueError, TypeError, KeyError):
            _log.warning("the identity provider publishes a key that cannot be read")
    if not keys:
        raise ProviderUnavailableError(
            "the identity provider publishes no key that signatures can be checked with"
        )
    return KeySet(keys)

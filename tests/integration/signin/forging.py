"""Tokens that must not be taken: each differs from a good one in one thing."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from app.container import Container
from app.security.outbound import OutboundResponse
from tests.support.identity import CLIENT_ID, CLIENT_SECRET, IdentityProvider

Claims = dict[str, Any]
Forge = Callable[[IdentityProvider, Claims], str]

HOUR = 3600


def now() -> int:
    return int(time.time())


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw_token(header: Any, payload: Any, signature: bytes = b"") -> str:
    return f"{encoded(header)}.{encoded(payload)}.{encoded(signature)}"


def claims_of(token: str) -> Claims:
    middle = token.split(".")[1]
    found: Claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


def changed(**changes: Any) -> Forge:
    """Signed with the true key; a claim of None is left out."""
    return lambda provider, claims: provider.sign(
        {name: value for name, value in {**claims, **changes}.items() if value is not None}
    )


def _hmac(secret: Callable[[IdentityProvider], bytes]) -> Forge:
    def forge(provider: IdentityProvider, claims: Claims) -> str:
        signed = f"{encoded({'alg': 'HS256', 'kid': provider.key.kid})}.{encoded(claims)}"
        return f"{signed}.{encoded(hmac.digest(secret(provider), signed.encode(), 'sha256'))}"

    return forge


def _public_pem(provider: IdentityProvider) -> bytes:
    return bytes(provider.key.as_pem(private=False))


def _own_rsa(**header: Any) -> Forge:
    return lambda provider, claims: provider.sign(claims, header, RSAKey.generate_key(2048))


def _embedded_key(provider: IdentityProvider, claims: Claims) -> str:
    own = RSAKey.generate_key(2048)
    return _signed({"alg": "RS256", "jwk": own.as_dict(private=False)}, claims, own)


def _elliptic(provider: IdentityProvider, claims: Claims) -> str:
    return provider.sign(claims, {"alg": "ES256"}, ECKey.generate_key("P-256"))


def _tampered(provider: IdentityProvider, claims: Claims) -> str:
    head, _, signature = provider.sign(claims).split(".")
    return f"{head}.{encoded({**claims, 'sub': 'root'})}.{signature}"


def _stripped(provider: IdentityProvider, claims: Claims) -> str:
    return provider.sign(claims).rpartition(".")[0] + "."


def _twice(provider: IdentityProvider, claims: Claims) -> str:
    """A claim given twice, under a good signature: readers disagree on which one counts."""
    payload = json.dumps(claims)[:-1] + ', "sub": "root"}'
    return jws.serialize_compact({"alg": "RS256", "kid": provider.key.kid}, payload, provider.key)


def _critical(provider: IdentityProvider, claims: Claims) -> str:
    """A header that says that it must be understood, and is not."""
    header = {"alg": "RS256", "kid": provider.key.kid, "crit": ["exp2"], "exp2": 1}
    return _signed(header, claims, provider.key)


def _signed(header: Claims, claims: Claims, key: RSAKey) -> str:
    """Signed as it is: libraries refuse to write such headers."""
    signed = f"{encoded(header)}.{encoded(claims)}"
    assert key.private_key
    signature = key.private_key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
    return f"{signed}.{encoded(signature)}"


# What is wrong whoever reads it: an ID token at sign-in, an access token at the API.
EVERYWHERE: dict[str, Forge] = {
    "algorithm none": lambda _, claims: raw_token({"alg": "none", "typ": "JWT"}, claims),
    "algorithm None in another case": lambda _, claims: raw_token({"alg": "nOnE"}, claims),
    "HS256 with the public key as the secret": _hmac(_public_pem),
    "HS256 with the client's secret": _hmac(lambda _: CLIENT_SECRET.encode()),
    "another's key under an unknown kid": _own_rsa(kid="unknown"),
    "another's key under the true kid": _own_rsa(),
    "another's key without a kid": _own_rsa(kid=None),
    "another's key in the header": _embedded_key,
    "an elliptic key under the kid of an RSA key": _elliptic,
    "payload changed after signing": _tampered,
    "signature cut off": _stripped,
    "a claim given twice": _twice,
    "a critical header that nobody knows": _critical,
    "another issuer": changed(iss="https://evil.example"),
    "the issuer with a slash more": lambda p, claims: changed(iss=f"{p.issuer}/")(p, claims),
    "no issuer": changed(iss=None),
    "another audience": changed(aud="somebody-else"),
    "a list of other audiences": changed(aud=["one", "two"]),
    "an audience that is part of ours": lambda p, claims: changed(aud=str(claims["aud"])[:-1])(p, claims),
    "no audience": changed(aud=None),
    "expired two minutes ago": changed(exp=now() - 120),
    "no expiry": changed(exp=None),
    "an expiry that is no number": changed(exp="tomorrow"),
    "an expiry that is not finite": changed(exp=float("nan")),
    "not valid before tomorrow": changed(nbf=now() + 24 * HOUR),
    "issued tomorrow": changed(iat=now() + 24 * HOUR),
    "no subject": changed(sub=None),
    "an empty subject": changed(sub=""),
    "a subject that is a number": changed(sub=7),
    "a subject that is too long": changed(sub="x" * 256),
    "not a token": lambda _, __: "not.a.token",
    "encrypted, or made to look so": lambda _, __: "a.b.c.d.e",
    "a token of 20,000 characters": changed(filler="x" * 20_000),
}

# What is wrong with an ID token at sign-in.
ID_TOKENS: dict[str, Forge] = EVERYWHERE | {
    "another sign-in's nonce": changed(nonce="another"),
    "no nonce": changed(nonce=None),
    "several audiences and no party": changed(aud=[CLIENT_ID, "another"]),
    "another party": changed(azp="another"),
    "issued with another access token": changed(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
}


@contextmanager
def token_endpoint_says(container: Container, id_token: str, access_token: str) -> Iterator[None]:
    """As if the provider, or who sits between, answered codes with these tokens."""
    http = container.accounts.http
    true = http.request

    def request(method: str, url: str, **what: Any) -> OutboundResponse:
        if not url.endswith("/token"):
            return true(method, url, **what)
        tokens = {"id_token": id_token, "access_token": access_token, "token_type": "Bearer"}
        return OutboundResponse(200, {}, json.dumps(tokens).encode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "request", request)
        yield

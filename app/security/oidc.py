"""OpenID Connect towards one provider: where people sign in, and who they are when they come back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from authlib.common.errors import AuthlibBaseError
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.claims import JWTClaims
from authlib.oauth2.client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from app.errors import (
    InvalidInputError,
    NotOfferedError,
    ProviderUnavailableError,
    SignInRefusedError,
    UnauthenticatedError,
)
from app.ids import content_hash
from app.security import device_grant
from app.security.device_grant import DeviceGrant
from app.security.kept import Kept
from app.security.oidc_options import OidcOptions
from app.security.outbound import OutboundClient, OutboundResponse
from app.security.principal import Role
from app.security.signing_keys import SigningKeys

_log = logging.getLogger(__name__)

_LEEWAY_SECONDS = 30
_CALL_SECONDS = 10.0
_METADATA_SECONDS = 3600.0
_MOST_SUBJECT = 255  # OpenID Connect Core, 2
_TYPES_OF_ACCESS_TOKENS = frozenset({None, "jwt", "at+jwt", "application/at+jwt"})
_ONLY_IN_ID_TOKENS = frozenset({"nonce", "at_hash", "c_hash"})
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the provider says it is. `role` is None where an access token does not speak of roles."""

    issuer: str
    subject: str
    username: str | None
    name: str | None
    email: str | None
    picture: str | None
    role: Role | None
    email_verified: bool | None = None

    @property
    def owner_id(self) -> str:
        """Stable and opaque: a person may change name and address, never issuer and subject."""
        return f"u-{content_hash(self.issuer, self.subject)[:32]}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A person who has just signed in, and the ID token that says so."""

    identity: Identity
    id_token: str


@dataclass(frozen=True, slots=True)
class _Metadata:
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    device_endpoint: str | None
    auth_method: str
    names_itself: bool  # RFC 9207: every answer says which provider gave it


class Provider:
    """Thread-safe; asks nothing of the provider before the first person signs in."""

    def __init__(self, options: OidcOptions, http: OutboundClient) -> None:
        self.options = options
        self._http = http
        self._metadata = Kept(self._discover, seconds=_METADATA_SECONDS)
        self._keys = SigningKeys(lambda: self._get(self._metadata.value().jwks_uri))

    def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where to send a person. Raises ProviderUnavailableError."""
        url, _ = self._client().create_authorization_url(
            self._metadata.value().authorization_endpoint, state=state, nonce=nonce, code_verifier=verifier
        )
        return str(url)

    def check_answer(self, answer: Mapping[str, str]) -> None:
        """Judge what came back with a person. Raises SignInRefusedError, ProviderUnavailableError."""
        issuer = answer.get("iss")
        if issuer is None and self._metadata.value().names_itself:
            raise _refused("the answer does not say which provider gave it")
        if issuer is not None and issuer != self.options.issuer:
            raise _refused("the answer is another provider's")
        if "error" in answer:
            raise _refused(f"the provider said {answer['error'][:60]!r}")

    def redeem(self, code: str, *, nonce: str, verifier: str) -> Arrival:
        """Trade a code for a person. Raises SignInRefusedError, ProviderUnavailableError."""
        grant = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        try:
            tokens = self._fetch_tokens(grant)
        except AuthlibBaseError as error:
            raise _refused(f"the provider did not take the code ({error.error})") from error
        return self._arrival(tokens, nonce)

    def begin_device(self) -> DeviceGrant:
        """Begin a sign-in that is finished elsewhere. Raises NotOfferedError, ProviderUnavailableError."""
        endpoint = self._metadata.value().device_endpoint
        if endpoint is None:
            raise NotOfferedError("the identity provider has no device endpoint: use an API token")
        client = self._client()
        answer = client.session.post(
            endpoint,
            data={"client_id": self.options.client_id, "scope": self.options.scopes},
            headers={"accept": _JSON, "content-type": _FORM},
            auth=client.client_auth(client.token_endpoint_auth_method),
        )
        try:
            return self._device_grant(answer.json() if answer.status_code == 200 else {})  # noqa: PLR2004
        except (KeyError, TypeError, ValueError) as error:
            raise ProviderUnavailableError(
                f"the identity provider began no sign-in of a device ({answer.status_code})"
            ) from error

    def poll_device(self, device_code: str) -> Arrival:
        """Who has let the device in.

        Raises AuthorizationPendingError, SlowDownError, GoneError, ForbiddenError, SignInRefusedError,
        ProviderUnavailableError.
        """
        try:
            tokens = self._fetch_tokens({"grant_type": device_grant.GRANT_TYPE, "device_code": device_code})
        except AuthlibBaseError as error:
            raise device_grant.not_let_in(str(error.error)) from error
        return self._arrival(tokens, nonce=None)

    def _arrival(self, tokens: Mapping[str, Any], nonce: str | None) -> Arrival:
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise _refused("the provider sent no ID token")
        claims = self._id_claims(id_token, nonce, access_token)
        known = self._userinfo(access_token, claims["sub"]) | claims
        return Arrival(self._identity(known, self._role(known)), id_token)

    def identify(self, access_token: str) -> tuple[Identity, int]:
        """Whose access token it is, and when it expires (Unix time), without asking the provider.

        Raises UnauthenticatedError, ProviderUnavailableError.
        """
        if self.options.audience is None:
            raise UnauthenticatedError("this server takes API tokens only (OIDC_AUDIENCE is not set)")
        token = self._keys.verify(access_token)
        kind = token.header.get("typ")
        if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES_OF_ACCESS_TOKENS:
            raise UnauthenticatedError("the token is no access token")
        if _ONLY_IN_ID_TOKENS & token.claims.keys():
            raise UnauthenticatedError("an ID token is no access token")
        claims = JWTClaims(token.claims, token.header, options=self._rules(self.options.audience))
        _judge(claims)
        silent = self.options.role_claim is not None and self.options.role_claim not in claims
        return self._identity(claims, None if silent else self._role(claims)), int(claims["exp"])

    def sign_out_url(self, id_token: str | None) -> str | None:
        """Where a person can sign out of the provider too; None where it offers no such place."""
        try:
            endpoint = self._metadata.value().end_session_endpoint
        except ProviderUnavailableError:  # whoever wants to leave here must not wait for it
            return None
        if endpoint is None:
            return None
        query = {
            "client_id": self.options.client_id,
            "post_logout_redirect_uri": self.options.signed_out_uri,
        }
        if id_token is not None:
            query["id_token_hint"] = id_token
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    def _client(self) -> OAuth2Client:
        metadata = self._metadata.value()
        return OAuth2Client(
            session=_Session(self._http),
            client_id=self.options.client_id,
            client_secret=self.options.client_secret,
            token_endpoint_auth_method=metadata.auth_method,
            scope=self.options.scopes,
            redirect_uri=self.options.redirect_uri,
            code_challenge_method="S256",
        )

    def _fetch_tokens(self, grant: Mapping[str, str]) -> Mapping[str, Any]:
        """Raises AuthlibBaseError when the provider says no."""
        try:
            found = self._client().fetch_token(self._metadata.value().token_endpoint, **grant)
        except ValueError as error:
            raise ProviderUnavailableError("the identity provider's answer cannot be read") from error
        return cast("Mapping[str, Any]", found)

    def _device_grant(self, found: Mapping[str, Any]) -> DeviceGrant:
        complete = "verification_uri_complete"
        return DeviceGrant(
            device_code=str(found["device_code"]),
            user_code=str(found["user_code"]),
            verification_uri=self._endpoint(found, "verification_uri", needed=True),
            verification_uri_complete=self._endpoint(found, complete) or None,
            expires_in=int(found.get("expires_in", device_grant.LIFETIME_SECONDS)),
            interval=int(found.get("interval", device_grant.INTERVAL_SECONDS)),
        )

    def _id_claims(self, id_token: str, nonce: str | None, access_token: str) -> dict[str, Any]:
        """`nonce` is None where a sign-in has none; an empty one would not be compared, so it is refused."""
        if nonce == "":
            raise _refused("it has no nonce")
        client_id = self.options.client_id
        try:
            token = self._keys.verify(id_token)
            claims = CodeIDToken(
                token.claims,
                token.header,
                options=self._rules(client_id),
                params={"nonce": nonce, "client_id": client_id, "access_token": access_token},
            )
            _judge(claims)
        except UnauthenticatedError as error:
            raise _refused(error.message) from error
        return dict(claims)

    def _rules(self, audience: str) -> dict[str, Any]:
        return {
            "iss": {"essential": True, "value": self.options.issuer},
            "aud": {"essential": True, "value": audience},
            "sub": {"essential": True},
            "exp": {"essential": True},
            "iat": {"essential": True},
        }

    def _userinfo(self, access_token: str, subject: str) -> dict[str, Any]:
        """What the provider tells of a person beside the ID token, in which many say next to nothing."""
        endpoint = self._metadata.value().userinfo_endpoint
        if endpoint is None:
            return {}
        found = self._get(endpoint, headers={"authorization": f"Bearer {access_token}"})
        if found.get("sub") != subject:
            raise _refused("the provider tells of another person than the one who signed in")
        return dict(found)

    def _role(self, claims: Mapping[str, Any]) -> Role:
        """The highest role that the claim names, alone or among others."""
        claim = claims.get(self.options.role_claim or "")
        named = claim if isinstance(claim, list) else [claim]
        return next((role for role in reversed(Role) if role in named), self.options.default_role)

    def _identity(self, claims: Mapping[str, Any], role: Role | None) -> Identity:
        def text(name: str) -> str | None:
            value = claims.get(name)
            return value.replace("\x00", "").strip()[:256] or None if isinstance(value, str) else None

        return Identity(
            issuer=self.options.issuer,
            subject=claims["sub"],
            username=text("preferred_username"),
            name=text("name"),
            email=text("email"),
            picture=text("picture"),
            role=role,
            email_verified=verified if isinstance(verified := claims.get("email_verified"), bool) else None,
        )

    def _discover(self) -> _Metadata:
        found = self._get(f"{self.options.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.options.issuer:
            raise ProviderUnavailableError(
                f"OIDC_ISSUER_URL is {self.options.issuer!r}, but the provider there calls itself "
                f"{str(found.get('issuer'))[:200]!r}: they must be the same to the letter"
            )
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        basic = "client_secret_basic" in methods or "client_secret_post" not in methods
        return _Metadata(
            authorization_endpoint=self._endpoint(found, "authorization_endpoint", needed=True),
            token_endpoint=self._endpoint(found, "token_endpoint", needed=True),
            jwks_uri=self._endpoint(found, "jwks_uri", needed=True),
            userinfo_endpoint=self._endpoint(found, "userinfo_endpoint") or None,
            end_session_endpoint=self._endpoint(found, "end_session_endpoint") or None,
            device_endpoint=self._endpoint(found, "device_authorization_endpoint") or None,
            auth_method="client_secret_basic" if basic else "client_secret_post",
            names_itself=found.get("authorization_response_iss_parameter_supported") is True,
        )

    def _endpoint(self, found: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
        """An address of the provider's: over https, unless the provider itself is on this machine."""
        url = found.get(name)
        if url is None and not needed:
            return ""
        scheme = urlsplit(url).scheme if isinstance(url, str) else ""
        if scheme not in {"https", urlsplit(self.options.issuer).scheme}:
            raise ProviderUnavailableError(f"the identity provider names no usable {name}")
        return str(url)

    def _get(self, url: str, headers: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        answer = _call(self._http, "GET", url, headers=headers)
        try:
            found = answer.json()
        except ValueError:
            found = None
        if answer.status != 200 or not isinstance(found, dict):  # noqa: PLR2004
            raise ProviderUnavailableError(
                f"the identity provider answered {answer.status} and no JSON object at {url}"
            )
        return found


class _Session:
    """What Authlib's client sends its requests with: our guarded client."""

    def __init__(self, http: OutboundClient) -> None:
        self._http = http

    def post(self, url: str, *, data: Mapping[str, str], headers: Mapping[str, str], auth: ClientAuth) -> Any:
        url, signed, body = auth.prepare("POST", url, dict(headers), urlencode(data))
        return _Answer(_call(self._http, "POST", url, headers=signed, content=body.encode()))


class _Answer:
    """An answer as Authlib reads it."""

    def __init__(self, answer: OutboundResponse) -> None:
        self.status_code = answer.status
        self.json = answer.json

    def raise_for_status(self) -> None:
        raise ProviderUnavailableError(f"the identity provider answered {self.status_code}")


def _call(http: OutboundClient, method: str, url: str, **what: Any) -> OutboundResponse:
    try:
        return http.request(method, url, timeout_seconds=_CALL_SECONDS, **what)
    except InvalidInputError as error:  # not the user's input: the operator's or the provider's
        raise ProviderUnavailableError(f"the identity provider cannot be called: {error.message}") from error


def _judge(claims: JWTClaims) -> None:
    """Issuer, audience, times and, in an ID token, nonce and client. Raises UnauthenticatedError."""
    try:
        claims.validate(leeway=_LEEWAY_SECONDS)
    except (JoseError, AttributeError, TypeError, ValueError) as error:
        _log.warning("token refused", extra={"reason": f"{type(error).__name__}: {error}"[:200]})
        raise UnauthenticatedError(f"the token was refused: {_reason(error)}") from error
    subject = claims["sub"]
    if not subject or len(subject) > _MOST_SUBJECT or "\x00" in subject:
        raise UnauthenticatedError("the token was refused: its subject is not usable")


def _reason(error: Exception) -> str:
    return str(error)[:200] if isinstance(error, JoseError) else "a claim has the wrong type"


def _refused(reason: str) -> SignInRefusedError:
    _log.warning("sign-in refused", extra={"reason": reason})
    return SignInRefusedError(f"You could not be signed in: {reason}. Begin again.")

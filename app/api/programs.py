"""/api/token and /api/auth: how programs sign a person in, by code or by device, and stay signed in.

None of it needs a principal or looks at cookies: whoever holds the code or token in the body may go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from flask_openapi3.types import ResponseDict

from app.api import who
from app.api.address import client_address
from app.api.context import accounts, container
from app.api.replies import reply
from app.api.schemas.accounts import (
    AuthorizationReply,
    DeviceGrantReply,
    PollDevice,
    RedeemCode,
    RefreshTokens,
    TokenReply,
)
from app.api.schemas.base import Problem
from app.errors import ConflictError, SignInRefusedError, UnauthenticatedError, UnavailableError
from app.security.marks import public
from app.services.audit_trail import FAILURE
from app.services.program_sign_in import ProgramSignIn
from app.services.sessions import Browser

_FAILURES: ResponseDict = {"400": Problem, "409": Problem, "502": Problem}
api = APIBlueprint(
    "programs", __name__, url_prefix="/api", abp_tags=[Tag(name="Sign-in")], abp_responses=_FAILURES
)


@api.get("/auth/authorize", responses={200: AuthorizationReply})
@public
def begin_by_code() -> Response:
    """Begin a sign-in by code: where to send the person, and what must come back with the code."""
    return reply(AuthorizationReply(**asdict(_sign_in().begin())))


@api.post("/token", responses={200: TokenReply})
@public
def redeem_code(body: RedeemCode) -> Response:
    """Trade the provider's code for tokens; 401 when it is not the answer to that beginning."""
    with _refusals_noted():
        program = _sign_in().redeem(body.code, nonce=body.nonce, verifier=body.pkce_verifier, at=_here())
    return reply(TokenReply.of(program))


@api.post("/auth/device", responses={200: DeviceGrantReply, "501": Problem})
@public
def begin_by_device() -> Response:
    """Begin a sign-in that the person finishes elsewhere (RFC 8628); 501 where the provider has no such."""
    return reply(DeviceGrantReply(**asdict(_sign_in().begin_device())))


@api.post("/auth/device/poll", responses={200: TokenReply, "410": Problem, "428": Problem})
@public
def poll_device(body: PollDevice) -> Response:
    """Ask for the tokens; 428 while nobody has decided, 403 when it was no, 410 when it is too late."""
    with _refusals_noted():
        program = _sign_in().poll_device(body.device_code, _here())
    return reply(TokenReply.of(program))


@api.post("/auth/refresh", responses={200: TokenReply})
@public
def refresh_tokens(body: RefreshTokens) -> Response:
    """Trade a refresh token for new tokens; one that comes twice ends the session of whoever had it."""
    with _refusals_noted():
        program = _sign_in().refresh(body.refresh_token)
    return reply(TokenReply.of(program))


def _sign_in() -> ProgramSignIn:
    if who.oidc() is None:
        raise ConflictError(who.NOBODY_SIGNS_IN)
    return accounts().program_sign_in


@contextmanager
def _refusals_noted() -> Iterator[None]:
    """As for browsers: who was not let in is in the audit log, where that can be written."""
    try:
        yield
    except (SignInRefusedError, UnauthenticatedError) as error:
        with suppress(UnavailableError):
            container().audit.note("sign_in.refused", outcome=FAILURE, details={"code": error.code})
        raise


def _here() -> Browser:
    return Browser(client_address(), request.headers.get("User-Agent"))

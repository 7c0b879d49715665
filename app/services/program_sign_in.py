"""How a program gets its first tokens, and the next ones: by a code, by a device's code, by refreshing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.errors import IdentityProviderError, ProviderUnavailableError
from app.security.tokens import fresh
from app.services.programs import Programs, Tokens
from app.services.sessions import Browser
from app.services.users import UserInfo, Users

if TYPE_CHECKING:
    from app.security.device_grant import DeviceGrant
    from app.security.oidc import Arrival, Provider


@dataclass(frozen=True, slots=True)
class ProgramDeparture:
    """Where a program sends its person, and what it must show with the code that comes back."""

    authorization_url: str
    nonce: str
    pkce_verifier: str


@dataclass(frozen=True, slots=True)
class SignedInProgram:
    """The program's tokens, whose they are, and the provider's ID token where one was just given."""

    tokens: Tokens
    user_info: UserInfo
    id_token: str | None = None


@dataclass(frozen=True, slots=True)
class ProgramSignIn:
    """Verbs on the way in. All raise IdentityProviderError where the provider gives no usable answer."""

    provider: Provider
    users: Users
    programs: Programs

    def begin(self) -> ProgramDeparture:
        """Begin a sign-in by code; nothing of it is kept here."""
        state, nonce, verifier = fresh(), fresh(), fresh()
        with _towards_a_program():
            url = self.provider.authorization_url(state=state, nonce=nonce, verifier=verifier)
        return ProgramDeparture(url, nonce, verifier)

    def redeem(self, code: str, *, nonce: str, verifier: str, at: Browser) -> SignedInProgram:
        """Trade a code for tokens. Raises SignInRefusedError, UnavailableError."""
        with _towards_a_program():
            arrival = self.provider.redeem(code, nonce=nonce, verifier=verifier)
        return self._admit(arrival, at)

    def begin_device(self) -> DeviceGrant:
        """Begin a sign-in by device code. Raises NotOfferedError where the provider has none."""
        with _towards_a_program():
            return self.provider.begin_device()

    def poll_device(self, device_code: str, at: Browser) -> SignedInProgram:
        """Tokens once a person has let the device in.

        Raises AuthorizationPendingError, SlowDownError, GoneError, ForbiddenError, SignInRefusedError,
        UnavailableError.
        """
        with _towards_a_program():
            arrival = self.provider.poll_device(device_code)
        return self._admit(arrival, at)

    def refresh(self, refresh_token: str) -> SignedInProgram:
        """The next tokens. Raises UnauthenticatedError, UnavailableError."""
        tokens, owner_id = self.programs.refresh(refresh_token)
        return SignedInProgram(tokens, self.users.info(owner_id))

    def _admit(self, arrival: Arrival, at: Browser) -> SignedInProgram:
        principal = self.users.admit(arrival.identity)
        info = replace(self.users.info(principal.owner_id), email_verified=arrival.identity.email_verified)
        return SignedInProgram(self.programs.open(principal, at), info, arrival.id_token)


@contextmanager
def _towards_a_program() -> Iterator[None]:
    """Programs are told of the provider's failures as of a gateway's: their own server is well."""
    try:
        yield
    except ProviderUnavailableError as error:
        raise IdentityProviderError(error.message, retry_after_seconds=error.retry_after_seconds) from error

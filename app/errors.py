"""The error tree: what went wrong, and whether trying again can help.

ExplorerError
├── PermanentError            dead at once; the message says what the user can do
│   ├── InvalidInputError     400  names the field and the rule
│   ├── UnauthenticatedError  401  nobody is signed in, or the token is not good
│   ├── SignInRefusedError    401  the way back from the identity provider did not hold
│   ├── ForbiddenError        403  known, but not allowed
│   ├── NotFoundError         404  also for what belongs to somebody else
│   ├── ConflictError         409  the thing is in use, or changed meanwhile
│   ├── TooLargeError         413
│   ├── UnsupportedTypeError  415
│   ├── PreconditionFailedError 412  changed since it was read (If-Match)
│   ├── UnprocessableError    422  a key that stands for another request
│   ├── GoneError             410  was there and has ended
│   ├── NotOfferedError       501  what this server could do, had it been set up for it
│   ├── UnreadableFileError   422  empty, encrypted, broken, over an archive limit
│   ├── ProviderRefusedError  502  a provider said no, and will say no again
│   │   └── InputRefusedError  502  ... to what was sent, of which some may be taken alone
│   └── DimensionMismatchError 409
├── TransientError            retried with backoff
│   ├── UnavailableError      503  one of our servers is away
│   │   └── VectorsMissingError 503  an index holds less than was written to it
│   ├── RateLimitedError      429  too many requests; the message says whose and how many are allowed
│   ├── AuthorizationPendingError 428  a person has not yet said whether a program may go on
│   │   └── SlowDownError     428  ... and is asked for too often
│   └── ProviderUnavailableError 503  provider timeout, 429, 5xx
│       ├── ProviderPausedError 503  ... before, or too many calls now: none is made; jobs wait unharmed
│       └── IdentityProviderError 502  the same of the identity provider, towards a program
└── JobCancelledError         409  not a failure: somebody asked to stop
"""

from __future__ import annotations

import re

# What neither Postgres nor UTF-8 takes.
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


class ExplorerError(Exception):
    """Base of every error this product raises on purpose.

    Messages quote what users, files and providers say, and end in rows, answers and logs: a character that
    cannot be written there becomes U+FFFD.
    """

    http_status = 500
    code = "internal_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.message = _UNWRITABLE.sub("\ufffd", message)
        super().__init__(self.message)
        self.field = field


class PermanentError(ExplorerError):
    """Trying again gives the same answer."""

    http_status = 400
    code = "permanent_error"


class InvalidInputError(PermanentError):
    """A value breaks a rule; the message names both."""

    http_status = 400
    code = "invalid_input"


class UnauthenticatedError(PermanentError):
    """No credential, or one that is unknown, expired, revoked or forged: which of them stays in the log."""

    http_status = 401
    code = "unauthenticated"


class SignInRefusedError(PermanentError):
    """What came back from the identity provider is not the answer to a question of ours."""

    http_status = 401
    code = "sign_in_refused"


class ForbiddenError(PermanentError):
    """Signed in, but neither role nor credential allows this."""

    http_status = 403
    code = "forbidden"


class NotFoundError(PermanentError):
    """Not there, or not yours: the two are one answer."""

    http_status = 404
    code = "not_found"


class ObjectMissingError(NotFoundError):
    """A row names a stored object that is gone."""

    code = "object_missing"


class ConflictError(PermanentError):
    """The request does not fit the present state."""

    http_status = 409
    code = "conflict"


class DimensionMismatchError(ConflictError):
    """Vectors of one length meet an index of another."""

    code = "dimension_mismatch"


class TooLargeError(PermanentError):
    """Over a size limit, which the message names."""

    http_status = 413
    code = "too_large"


class UnsupportedTypeError(PermanentError):
    """No extractor reads this type of file."""

    http_status = 415
    code = "unsupported_type"


class PreconditionFailedError(PermanentError):
    """The thing is not what it was when the client read it."""

    http_status = 412
    code = "precondition_failed"


class UnprocessableError(PermanentError):
    """Well formed, but it contradicts what was sent before."""

    http_status = 422
    code = "unprocessable"


class GoneError(PermanentError):
    """What was there for a while has ended, and must be begun again."""

    http_status = 410
    code = "gone"


class NotOfferedError(PermanentError):
    """The installation lacks the part that this needs; the message says which."""

    http_status = 501
    code = "not_offered"


class UnreadableFileError(PermanentError):
    """The file is of a known type but cannot be read; the message says why."""

    http_status = 422
    code = "unreadable_file"


class ProviderRefusedError(PermanentError):
    """A provider rejected the request for good (bad key, unknown model)."""

    http_status = 502
    code = "provider_refused"


class InputRefusedError(ProviderRefusedError):
    """A provider rejected what was sent, perhaps one text among many; others may be taken."""

    code = "input_refused"


class TransientError(ExplorerError):
    """Trying again later can help."""

    http_status = 503
    code = "unavailable"

    def __init__(
        self, message: str, *, field: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, field=field)
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(TransientError):
    """One of our own servers (Postgres, NATS, S3, Qdrant, Tika) does not answer."""


class VectorsMissingError(UnavailableError):
    """A vector index does not hold what was written to it; another run writes what is missing."""


class RateLimitedError(TransientError):
    """More requests than a person, a token or an address may send."""

    http_status = 429
    code = "rate_limited"


class ProviderUnavailableError(TransientError):
    """A provider timed out, is rate limiting us, or failed on its side."""

    code = "provider_unavailable"


class ProviderPausedError(ProviderUnavailableError):
    """A provider is not called just now, as it fails or is full; a job waits and loses no attempt."""

    code = "provider_paused"


class IdentityProviderError(ProviderUnavailableError):
    """The identity provider gave a program that signs in no usable answer."""

    http_status = 502
    code = "identity_provider_unavailable"


class AuthorizationPendingError(TransientError):
    """The person has not decided yet: ask again after the interval."""

    http_status = 428
    code = "authorization_pending"


class SlowDownError(AuthorizationPendingError):
    """As AuthorizationPendingError, and the interval between two questions grows by five seconds."""

    code = "slow_down"


class JobCancelledError(ExplorerError):
    """The job was cancelled, or its run was taken over by another worker."""

    http_status = 409
    code = "cancelled"

"""What can go wrong between this process and the server, in the words Dramatiq understands.

Dramatiq's worker treats exactly one branch, BrokerConnectionError, as "wait and try again"; every
error of the NATS client that means "the server is away" is translated into it at this edge.
"""

from __future__ import annotations

import asyncio

import nats.errors
import nats.js.errors
from dramatiq.errors import BrokerConnectionError, BrokerError, ConnectionClosed, ConnectionFailed

# The server is away, busy electing a leader, or the connection broke: asking again can help.
AWAY: tuple[type[BaseException], ...] = (
    OSError,
    asyncio.TimeoutError,
    nats.errors.TimeoutError,
    nats.errors.NoRespondersError,
    nats.errors.NoServersError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionDrainingError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    nats.errors.StaleConnectionError,
    nats.js.errors.ServiceUnavailableError,
)

# The same and everything else that a background task outlives: it tries again later.
TRY_LATER: tuple[type[BaseException], ...]


# The server's codes for publications that it refuses.
WRONG_LAST_SEQUENCE, DUPLICATE_IN_BATCH = 10071, 10201
BEING_OVERTAKEN = 10164  # "wrong last sequence", too: a cluster is replicating what came first
LOST_RACE = frozenset({WRONG_LAST_SEQUENCE, BEING_OVERTAKEN})
BATCH_DISABLED, BATCH_INCOMPLETE = 10174, 10176
HEADERS_TOO_LARGE = 10097
_MISSING = {10059: "stream", 10014: "consumer"}


class JetStreamError(BrokerError):
    """Base of the errors that are not about the connection."""

    def __init__(self, message: str) -> None:
        super().__init__(message)  # type: ignore[no-untyped-call]  # Dramatiq's errors carry no types


class TopologyError(JetStreamError):
    """Streams or consumers on the server are not, or cannot be made, what the options ask for."""


class ServerTooOldError(TopologyError):
    """The server lacks what the broker is built on."""


class ReplicasError(TopologyError):
    """More replicas asked for than the cluster has servers."""


class MessageTooLargeError(JetStreamError):
    """The encoded message does not fit the size limit."""


class PublishRefusedError(JetStreamError, ConnectionFailed):
    """The stream said no; the message holds the server's words.

    Also one of Dramatiq's connection errors: when there is no room for a retry or a dead letter, the
    original must be kept and tried again, as if the server were away. `code` is the server's own
    error code (err_code), 0 when the client refused.
    """

    code: int = 0


class ResultNotStorableError(JetStreamError):
    """The result of a run cannot be encoded, is too large, or is refused by the server."""


class ContentionError(JetStreamError):
    """Others changed the same rate limit faster than this process, for too long."""

    @property
    def code(self) -> int | None:
        """The server's error code."""
        return getattr(self.__cause__, "err_code", None)


class DeadLetterNotFoundError(JetStreamError):
    """No dead letter has that id (any more)."""


class NotReplayableError(JetStreamError):
    """The dead letter's payload cannot be read as a message."""


class ReplayLimitError(NotReplayableError):
    """The message was replayed as often as is allowed, and died each time."""


class CrashLoopError(Exception):
    """Runs of a message started and never ended: it takes its worker down."""


class NotUniqueError(JetStreamError):
    """A message with the same unique key is not done yet; `message_id` is that one's, if known."""

    message_id: str | None = None


class NotScheduledError(JetStreamError):
    """No such message waits for its time (any more): it was sent, cancelled, or never there."""


class LoginRefusedError(Exception):
    """The server does not let this process in, or is not one that its options trust; names the option."""


class FutureVersionError(Exception):
    """The message was written by a newer version of the broker than this worker understands."""


class DeadlineError(Exception):
    """The message's deadline passed before a run could start."""


TRY_LATER = (*AWAY, BrokerConnectionError, JetStreamError, nats.js.errors.APIError, nats.errors.Error)


def connection_error(action: str, error: BaseException | None) -> ConnectionFailed | ConnectionClosed:
    """Dramatiq's connection error for something that could not be done; `action` says what."""
    if error is None:
        detail = "no connection in time, and nothing heard of why"
    else:
        detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    message = f"{action}: the NATS server {_problem(error)} ({detail})"
    if isinstance(error, nats.errors.ConnectionClosedError | nats.errors.ConnectionDrainingError):
        return ConnectionClosed(message)  # type: ignore[no-untyped-call]  # as above
    return ConnectionFailed(message)  # type: ignore[no-untyped-call]  # as above


def _problem(error: BaseException | None) -> str:
    if isinstance(error, LoginRefusedError):
        return "and this process do not trust each other"
    return "says no for now" if isinstance(error, nats.js.errors.APIError) else "does not answer"


def missing(call: str, error: nats.js.errors.NotFoundError) -> Exception:
    """TopologyError for an API call to a stream or consumer that is not there; else the error itself.

    `call` is such as CONSUMER.INFO.<stream>.<consumer> or STREAM.MSG.GET.<stream>.
    """
    kind = _MISSING.get(error.err_code or 0)
    if kind is None:
        return error
    words = call.split(".")
    names = words[3 if words[1] == "MSG" else 2 :]
    name = names[0] if kind == "stream" else "/".join(names)
    return TopologyError(f"the NATS server has no {kind} {name}: topology.apply(options, queues) creates it")


def refusal(subject: str, error: Exception) -> Exception:
    """What the caller of a publish gets that the client or the stream will refuse again and again."""
    if isinstance(error, nats.errors.MaxPayloadError):
        return MessageTooLargeError("the message is larger than the server takes")
    if isinstance(error, nats.js.errors.APIError):
        refused = PublishRefusedError(f"publishing on {subject}: {error.description}")
        refused.code = error.err_code or 0
        return refused
    if isinstance(error, JetStreamError):
        return error
    return PublishRefusedError(f"publishing on {subject}: {type(error).__name__}: {error}")

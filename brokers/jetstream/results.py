"""Dramatiq's results in a NATS key-value bucket: kept, and forgotten in time, by the server."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dramatiq.broker import MessageProxy
from dramatiq.encoder import Encoder
from dramatiq.errors import BrokerConnectionError
from dramatiq.results import ResultBackend, ResultTimeout
from dramatiq.results.backend import DEFAULT_TIMEOUT, Missing
from dramatiq.results.result import wrap_exception

from brokers.jetstream.errors import MessageTooLargeError, PublishRefusedError, ResultNotStorableError
from brokers.jetstream.kv import Bucket, connection_of, encode_key
from brokers.jetstream.message import DeadReason, JetStreamMessage, note_attempt
from brokers.jetstream.options import BrokerOptions

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

log = logging.getLogger(__name__)

_MARGIN_SECONDS = 10.0  # for opening the connection before, and the last look after a wait
_ERROR_CHARACTERS = 4000


class JetStreamResultBackend(ResultBackend):
    """Results by message, in the bucket `options.results_bucket` (created by topology.apply).

    source      a broker, whose connection is shared, or options for a connection of its own
    namespace, encoder, use_namespace_prefix_keys   as for Dramatiq's own backends

    Usable from any thread, greenlet and forked process. Every method raises Dramatiq's
    ConnectionFailed or ConnectionClosed when the server is away.
    """

    def __init__(
        self,
        source: JetStreamBroker | BrokerOptions,
        *,
        namespace: str = "dramatiq-results",
        encoder: Encoder | None = None,
        use_namespace_prefix_keys: bool = False,
    ) -> None:
        super().__init__(
            namespace=namespace, encoder=encoder, use_namespace_prefix_keys=use_namespace_prefix_keys
        )
        self.connection = connection_of(source)
        self._owns_connection = isinstance(source, BrokerOptions)
        self.options = self.connection.options

    def get_result(self, message: Any, *, block: bool = False, timeout: int | None = None) -> Any:
        """The result of a message; with `block`, wait for it up to `timeout` ms (10,000 by default).

        Raises ResultMissing (not block), ResultTimeout (block) and ResultFailure (the run failed).
        """
        if not block:
            return super().get_result(message)
        limit = (DEFAULT_TIMEOUT if timeout is None else timeout) / 1000
        key = encode_key(self.build_message_key(message))
        waiting = self._bucket().wait_for(key, limit)
        body = self.connection.run(waiting, timeout_seconds=limit + _MARGIN_SECONDS)
        if body is None:
            raise ResultTimeout(message)  # type: ignore[no-untyped-call]  # Dramatiq's
        return self.unwrap_result(self.encoder.decode(body))  # type: ignore[no-untyped-call]  # Dramatiq's

    def store_result(self, message: Any, result: Any, ttl: int) -> None:
        """Store a result for `ttl` ms; confirmed when this returns.

        Dramatiq swallows what is raised here and would acknowledge the message. So one whose result
        cannot be stored because of itself is failed, and becomes a dead letter `result-not-storable`
        (ResultNotStorableError); one whose result meets no server is given back and runs again.
        """
        try:
            super().store_result(message, result, ttl)
        except ResultNotStorableError as error:
            _fail(message, error, self.options.version)
            raise
        except BrokerConnectionError:
            if isinstance(message, JetStreamMessage):
                message.hand_back(self.options.hand_back_seconds)
            raise

    def store_exception(self, message: Any, exception: BaseException, ttl: int) -> None:
        """Store that the message failed, with the error's class and (bounded) text, for `ttl` ms."""
        wrapped: dict[str, Any] = wrap_exception(exception)  # type: ignore[no-untyped-call]  # Dramatiq's
        wrapped["exn"]["msg"] = wrapped["exn"]["msg"][:_ERROR_CHARACTERS]
        self._store(self.build_message_key(message), wrapped, ttl)

    def forget(self, message: Any) -> None:
        """Remove a message's result before its time; one that is gone is no error."""
        key = encode_key(self.build_message_key(message))
        self.connection.run(self._bucket().remove(key))

    def close(self) -> None:
        """Close a connection of its own; the broker's is the broker's to close. Never raises."""
        if self._owns_connection:
            self.connection.close()

    def _get(self, message_key: str) -> Any:
        entry = self.connection.run(self._bucket().read(encode_key(message_key)))
        return Missing if entry.value is None else self.encoder.decode(entry.value)

    def _store(self, message_key: str, result: Any, ttl: int) -> None:
        body = self._encode(result)
        try:
            self.connection.run(self._bucket().put(encode_key(message_key), body, ttl))
        except (MessageTooLargeError, PublishRefusedError) as error:
            raise ResultNotStorableError(f"the server does not take the result: {error}") from error

    def _encode(self, result: Any) -> bytes:
        kind, limit = type(result).__name__, self.options.max_message_bytes
        try:
            body = self.encoder.encode(result)
        except Exception as error:
            problem = f"a result of type {kind} cannot be encoded by {type(self.encoder).__name__}: {error}"
            raise ResultNotStorableError(problem) from error
        if len(body) > limit:
            raise ResultNotStorableError(
                f"the result has {len(body)} bytes, more than max_message_bytes ({limit}): "
                "store it elsewhere and return where"
            )
        return body

    def _bucket(self) -> Bucket:
        return Bucket(self.connection.session(), self.options.results_bucket)


def _fail(message: Any, error: ResultNotStorableError, version: str) -> None:
    """Reject the message; what its caller gets is stored by Dramatiq, after the dead letter."""
    if not isinstance(message, MessageProxy):
        return
    if isinstance(message, JetStreamMessage):
        note_attempt(message, error, version=version)
        message.dead_reason = DeadReason.RESULT_NOT_STORABLE
    message.stuff_exception(error)
    message.fail()

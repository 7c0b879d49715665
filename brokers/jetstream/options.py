"""Every knob of the broker, with its unit: frozen, validated, and read from nowhere but its arguments."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

# A message was kept from redelivery; or it was sent again because the server would not deliver it any more,
# because its worker is gone, or because the server had not fired its schedule; or native code stopped this
# process for a while, and its pulse kept what it ran, or could not.
Happening = Literal["in-progress", "stranded", "orphaned", "overdue", "frozen", "frozen-lost"]

log = logging.getLogger(__name__)

_DAY_SECONDS = 86_400.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_CREDENTIALS = (rb"NATS USER JWT", rb"USER NKEY SEED")
# Deliveries are renewed one before the last (see triage.py), so fewer than three leave no room.
_FEWEST_DELIVERIES = 3


def _positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not value > 0:
            raise ValueError(f"{name} must be greater than 0, not {value!r}")


def _plain(owner: object, *names: str) -> None:
    """What becomes part of a subject, or of a call's name, has no dots, wildcards or spaces."""
    for name in names:
        value = getattr(owner, name)
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise ValueError(
                f"{name} {value!r} must be one plain word: letters, digits, '-' and '_', "
                "not starting with a digit"
            )


@dataclass(frozen=True, kw_only=True)
class QueueSpec:
    """A queue: where its messages wait, and how long silence means that its worker died.

    ack_wait_seconds only detects dead workers: a living one renews its messages every
    `heartbeat_seconds`, however long the job takes (up to the actor's time limit).
    """

    name: str
    stream: str
    ack_wait_seconds: float = 600.0

    def __post_init__(self) -> None:
        _plain(self, "name", "stream")
        _positive(self, "ack_wait_seconds")

    @property
    def heartbeat_seconds(self) -> float:
        """A third of ack_wait: two beats may be lost before the server gives the message away."""
        return self.ack_wait_seconds / 3


@dataclass(frozen=True, kw_only=True)
class BrokerOptions:
    """How the broker talks to the server and treats messages.

    How to reach the server:

    servers               one URL, several separated by commas, or a tuple of them
    client_name           how the server lists this connection
    version               release of this process, told to whoever looks who is at work (survey.py)
    tls_ca_file           PEM file of who signs the server's certificate; None: whom the system trusts
    tls_cert_file         PEM file of this client's certificate, for a server that verifies clients
    tls_key_file          PEM file of its key; None: it is in tls_cert_file
    credentials_file      a NATS credentials file (user JWT and seed); needs nats-py's extra "nkeys"
    connect_timeout_seconds   how long an operation waits for a connection that is down
    reconnect_seconds     first pause between two tries to connect, give or take half; it is tried for ever
    max_reconnect_seconds     the pause doubles with each try up to this, give or take half
    publish_timeout_seconds   how long an enqueue tries before it raises Dramatiq's ConnectionFailed
    close_timeout_seconds     how long `close` waits for the last confirmations
    on_event              called in the loop's thread, with what the broker did by itself (a Happening) and
                          the queue, for whoever counts; must return at once

    Whether a connection is encrypted is the server's decision ("tls" in its configuration); the
    files are for a server that asks for it.

    How often and how long a message is tried:

    backoff_seconds       wait before the 2nd, 3rd, … attempt; the last one repeats
    max_attempts          runs of a message in all, the first included
    max_crashes           runs that start and never end before a message is dead (a crash loop)
    max_deliver           the server's own limit per stream sequence: the last resort, see README
    hand_back_seconds     pause before a message whose retry could not be stored is run again
    hung_grace_seconds    a process whose native code holds the interpreter's lock so long past a job's
                          time limit is ended (uses faulthandler's one timer); None: never
    pulse                 a small process beside each worker process renews what runs there while native code
                          holds the interpreter's lock (pulse.py)
    log_fields            the pulse writes to standard error lines of JSON with these fields; None: of text
    patrol_seconds        how often a worker looks for messages of dead workers and stranded ones

    How much there may be at a time:

    max_message_bytes     the longest encoded message and result; below the server's max_payload
    max_ack_pending       unfinished messages handed out per queue, for the whole fleet
    prefetch              messages held per queue and process; None: by measured job time (places.py)

    What is kept, where, and for how long (topology.apply creates it):

    replicas              copies of every stream (NATS_REPLICAS; 3 needs a cluster of three)
    subject_root          first word of every subject; brokers that share a server have their own, and streams
    queue_max_age_seconds     a message that was not taken for so long is dropped by the server
    dead_letter_stream    stream of the dead letters
    dead_letter_max_age_seconds   how long a dead letter is kept
    dead_record_stream    stream of the records of what became of dead letters
    dead_record_max_age_seconds   how long it stays known that a dead letter was replayed or discarded
    max_replays           how often a dead message may be replayed, its successors' replays included
    status_stream         stream of the events
    status_max_age_seconds    how long an event is kept
    status_max_messages   how many events are kept, the newest
    results_bucket        key-value bucket of JetStreamResultBackend
    results_max_age_seconds   no result lives longer, whatever its result_ttl
    limits_bucket         key-value bucket of JetStreamRateLimiterBackend

    Raises ValueError, which names the field, for what cannot work.
    """

    servers: str | tuple[str, ...] = "nats://127.0.0.1:4222"
    replicas: int = 1
    backoff_seconds: tuple[float, ...] = (30.0, 60.0, 120.0, 300.0)
    max_attempts: int = 5
    max_crashes: int = 3
    max_deliver: int = 5
    max_ack_pending: int = 100
    prefetch: int | None = None
    connect_timeout_seconds: float = 2.0
    publish_timeout_seconds: float = 5.0
    reconnect_seconds: float = 1.0
    max_reconnect_seconds: float = 5.0
    hand_back_seconds: float = 5.0
    close_timeout_seconds: float = 3.0
    patrol_seconds: float = 5.0
    hung_grace_seconds: float | None = None
    pulse: bool = True
    log_fields: Mapping[str, str] | None = field(default=None, compare=False)
    max_message_bytes: int = 900_000
    subject_root: str = "transforms"
    queue_max_age_seconds: float = 7 * _DAY_SECONDS
    dead_letter_stream: str = "DLQ_TRANSFORMS"
    dead_letter_max_age_seconds: float = 30 * _DAY_SECONDS
    dead_record_stream: str = "DLQ_RECORDS"
    dead_record_max_age_seconds: float = 90 * _DAY_SECONDS
    max_replays: int = 5
    status_stream: str = "TRANSFORM_STATUS"
    status_max_age_seconds: float = 3600.0
    status_max_messages: int = 100_000
    results_bucket: str = "transforms_results"
    results_max_age_seconds: float = 7 * _DAY_SECONDS
    limits_bucket: str = "transforms_limits"
    client_name: str = "dramatiq-jetstream"
    version: str = ""
    tls_ca_file: str | None = None
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    credentials_file: str | None = None
    on_event: Callable[[Happening, str], object] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "servers", self.server_urls)
        object.__setattr__(self, "backoff_seconds", tuple(float(s) for s in self.backoff_seconds))
        self._check_counts()
        self._check_names()
        self._check_files()
        _positive(
            self,
            *(
                name
                for name in self.__dataclass_fields__
                if name.endswith("_seconds") and name != "backoff_seconds" and getattr(self, name) is not None
            ),
        )

    def _check_counts(self) -> None:
        _positive(self, "replicas", "max_attempts", "max_crashes", "max_ack_pending", "max_message_bytes")
        _positive(self, "max_replays")
        if self.max_deliver < _FEWEST_DELIVERIES:
            raise ValueError(f"max_deliver must be at least {_FEWEST_DELIVERIES}, not {self.max_deliver}")
        if self.max_reconnect_seconds < self.reconnect_seconds:
            raise ValueError(
                f"max_reconnect_seconds must be at least reconnect_seconds ({self.reconnect_seconds}), "
                f"not {self.max_reconnect_seconds}"
            )
        if self.prefetch is not None and self.prefetch < 1:
            raise ValueError(f"prefetch must be at least 1 (or None), not {self.prefetch}")
        if not self.backoff_seconds or min(self.backoff_seconds) < 0:
            raise ValueError(f"backoff_seconds needs values of 0 or more, not {self.backoff_seconds!r}")

    def _check_names(self) -> None:
        streams = ("dead_letter_stream", "dead_record_stream", "status_stream")
        buckets = ("results_bucket", "limits_bucket")
        _plain(self, "subject_root", *streams, *buckets)
        for fields in (streams, buckets):
            names = [getattr(self, field) for field in fields]
            if len(set(names)) < len(names):
                raise ValueError(f"{' and '.join(fields)} must differ, not be {names}")

    def _check_files(self) -> None:
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_key_file needs the tls_cert_file that it belongs to")
        self.tls_context()
        if self.credentials_file is None:
            return
        try:
            content = Path(self.credentials_file).read_bytes()
        except OSError as error:
            raise ValueError(f"credentials_file {self.credentials_file!r} cannot be read: {error}") from error
        # The client looks for these lines, for the first of them without end.
        if not all(re.search(rb"^-+BEGIN " + part, content, re.MULTILINE) for part in _CREDENTIALS):
            raise ValueError(
                f"credentials_file {self.credentials_file!r} holds no NATS user JWT with its seed"
            )
        if find_spec("nkeys") is None:
            raise ValueError('credentials_file needs the package nkeys: pip install "nats-py[nkeys]"')

    def tls_context(self) -> ssl.SSLContext | None:
        """What the TLS files say; None without them. Raises ValueError for one that cannot be used."""
        if self.tls_ca_file is None and self.tls_cert_file is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls_ca_file)
        except OSError as error:
            raise ValueError(f"tls_ca_file {self.tls_ca_file!r} cannot be used: {error}") from error
        if self.tls_cert_file is not None:
            try:
                context.load_cert_chain(self.tls_cert_file, self.tls_key_file)
            except OSError as error:
                files = f"tls_cert_file {self.tls_cert_file!r} and tls_key_file {self.tls_key_file!r}"
                raise ValueError(f"{files} cannot be used: {error}") from error
        return context

    def tell(self, what: Happening, queue: str) -> None:
        """Call `on_event`, whose mistakes must not end what it only watches."""
        if self.on_event is None:
            return
        try:
            self.on_event(what, queue)
        except Exception:
            log.exception("on_event failed for %s of %s.", what, queue)

    @property
    def plain_login(self) -> bool:
        """Whether the URL says all that it takes to log in."""
        return self.tls_ca_file is None and self.tls_cert_file is None and self.credentials_file is None

    @property
    def server_urls(self) -> tuple[str, ...]:
        """The servers as a tuple of URLs."""
        given = self.servers.split(",") if isinstance(self.servers, str) else self.servers
        urls = tuple(url.strip() for url in given if url.strip())
        if not urls:
            raise ValueError("servers must name at least one NATS URL")
        return urls

    @property
    def max_retries(self) -> int:
        """Dramatiq counts retries, we count attempts: one fewer."""
        return self.max_attempts - 1

    def backoff_after(self, retries: int) -> float:
        """Seconds to wait before the next attempt when `retries` retries were made already."""
        return self.backoff_seconds[min(retries, len(self.backoff_seconds) - 1)]

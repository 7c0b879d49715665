"""Brokers for Dramatiq. They know dramatiq, nats-py and the standard library, nothing of this product."""

from __future__ import annotations

from brokers.jetstream import (
    control,
    dead_feed,
    dead_import,
    dead_letter,
    disk,
    inspect,
    recurring,
    survey,
    topology,
)
from brokers.jetstream.broker import JetStreamBroker, default_middleware
from brokers.jetstream.burial import Provenance
from brokers.jetstream.dead_letter import DeadLetter, EndedLetter, Outcome, ReplayReport
from brokers.jetstream.drift import Change
from brokers.jetstream.errors import (
    ContentionError,
    CrashLoopError,
    DeadLetterNotFoundError,
    DeadlineError,
    FutureVersionError,
    MessageTooLargeError,
    NotReplayableError,
    NotScheduledError,
    NotUniqueError,
    PublishRefusedError,
    ReplayLimitError,
    ReplicasError,
    ResultNotStorableError,
    ServerTooOldError,
    TopologyError,
)
from brokers.jetstream.events import (
    EventPage,
    EventSubscription,
    publish_event,
    read_events,
    subscribe_events,
)
from brokers.jetstream.inspect import QueueDepth
from brokers.jetstream.message import DeadReason, JetStreamMessage
from brokers.jetstream.options import BrokerOptions, QueueSpec
from brokers.jetstream.rate_limits import JetStreamRateLimiterBackend
from brokers.jetstream.recycle import MaxTasksPerChild
from brokers.jetstream.report import report as server_report
from brokers.jetstream.results import JetStreamResultBackend
from brokers.jetstream.retries import ScheduledRetries
from brokers.jetstream.sending import NotAllStoredError
from brokers.jetstream.stub import JetStreamStubBroker
from brokers.jetstream.survey import QueueSurvey, WorkerSeen

__all__ = [
    "BrokerOptions",
    "Change",
    "ContentionError",
    "CrashLoopError",
    "DeadLetter",
    "DeadLetterNotFoundError",
    "DeadReason",
    "DeadlineError",
    "EndedLetter",
    "EventPage",
    "EventSubscription",
    "FutureVersionError",
    "JetStreamBroker",
    "JetStreamMessage",
    "JetStreamRateLimiterBackend",
    "JetStreamResultBackend",
    "JetStreamStubBroker",
    "MaxTasksPerChild",
    "MessageTooLargeError",
    "NotAllStoredError",
    "NotReplayableError",
    "NotScheduledError",
    "NotUniqueError",
    "Outcome",
    "Provenance",
    "PublishRefusedError",
    "QueueDepth",
    "QueueSpec",
    "QueueSurvey",
    "ReplayLimitError",
    "ReplayReport",
    "ReplicasError",
    "ResultNotStorableError",
    "ScheduledRetries",
    "ServerTooOldError",
    "TopologyError",
    "WorkerSeen",
    "control",
    "dead_feed",
    "dead_import",
    "dead_letter",
    "default_middleware",
    "disk",
    "inspect",
    "publish_event",
    "read_events",
    "recurring",
    "server_report",
    "subscribe_events",
    "survey",
    "topology",
]

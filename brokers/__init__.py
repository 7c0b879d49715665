"""Brokers for Dramatiq. They know dramatiq, nats-py and the standard library, nothing of this product."""

from __future__ import annotations

from brokers.jetstream import dead_letter, inspect, topology
from brokers.jetstream.broker import JetStreamBroker, default_middleware
from brokers.jetstream.dead_letter import DeadLetter
from brokers.jetstream.errors import (
    CrashLoopError,
    DeadLetterNotFoundError,
    MessageTooLargeError,
    NotReplayableError,
    PublishRefusedError,
    ReplicasError,
    ServerTooOldError,
    TopologyError,
)
from brokers.jetstream.events import EventSubscription, publish_event, subscribe_events
from brokers.jetstream.inspect import QueueDepth
from brokers.jetstream.message import DeadReason, JetStreamMessage
from brokers.jetstream.options import BrokerOptions, QueueSpec
from brokers.jetstream.retries import ScheduledRetries
from brokers.jetstream.stub import JetStreamStubBroker
from brokers.jetstream.topology import Change

__all__ = [
    "BrokerOptions",
    "Change",
    "CrashLoopError",
    "DeadLetter",
    "DeadLetterNotFoundError",
    "DeadReason",
    "EventSubscription",
    "JetStreamBroker",
    "JetStreamMessage",
    "JetStreamStubBroker",
    "MessageTooLargeError",
    "NotReplayableError",
    "PublishRefusedError",
    "QueueDepth",
    "QueueSpec",
    "ReplicasError",
    "ScheduledRetries",
    "ServerTooOldError",
    "TopologyError",
    "dead_letter",
    "default_middleware",
    "inspect",
    "publish_event",
    "subscribe_events",
    "topology",
]

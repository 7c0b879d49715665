"""The state of the message server on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel


class NatsConnection(BaseModel):
    """How this process is connected."""

    state: str
    server_url: str


class NatsStream(BaseModel):
    """A stream and what it holds."""

    name: str
    messages: int
    bytes: int
    consumer_count: int
    first_seq: int
    last_seq: int
    first_ts: datetime | None
    last_ts: datetime | None
    subjects: list[str]
    retention: str


class NatsConsumer(BaseModel):
    """A consumer: how much waits for it, and how far it is."""

    name: str
    stream: str
    num_pending: int
    num_ack_pending: int
    num_waiting: int
    num_redelivered: int
    num_delivered: int
    num_ack_floor: int
    last_delivered_seq: int
    ack_floor_seq: int


class SubjectCount(BaseModel):
    """Dead letters of one subject."""

    subject: str
    count: int


class NatsDeadLetters(BaseModel):
    """What was given up."""

    total_messages: int
    total_bytes: int
    by_subject: list[SubjectCount]


class NatsStatus(BaseModel):
    """The message server as this process sees it."""

    connection: NatsConnection
    streams: list[NatsStream]
    consumers: list[NatsConsumer]
    dlq: NatsDeadLetters

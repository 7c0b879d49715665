"""What one process has running for one broker."""

from __future__ import annotations

from collections.abc import Callable

from brokers.jetstream.connection import Session
from brokers.jetstream.consumer import Intake
from brokers.jetstream.heartbeat import Holdings
from brokers.jetstream.message import JetStreamMessage
from brokers.jetstream.starts import Starts, SuspectGate


class Live:
    """Made anew after a fork or a close."""

    def __init__(self, session: Session, resume: Callable[[JetStreamMessage], None]) -> None:
        self.session = session
        self.holdings = Holdings(session)
        self.starts = Starts(session)
        self.gate = SuspectGate(resume, self.holdings.parked)
        self.intakes: dict[str, Intake] = {}

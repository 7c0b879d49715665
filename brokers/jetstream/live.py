"""What one process has running for one broker."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from brokers.jetstream.connection import Session
from brokers.jetstream.consumer import Intake
from brokers.jetstream.heartbeat import Holdings
from brokers.jetstream.lifeline import Lifeline
from brokers.jetstream.message import JetStreamMessage
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.starts import Starts, SuspectGate
from brokers.jetstream.watchdog import watch


class Live:
    """Made anew after a fork or a close.

    `resume` is called with a suspect whose turn has come; `longest_seconds` says how long any job of
    this process may run.
    """

    def __init__(
        self,
        session: Session,
        resume: Callable[[JetStreamMessage], None],
        longest_seconds: Callable[[], float],
    ) -> None:
        self.session = session
        self.holdings = Holdings(session)
        self.starts = Starts(session)
        self.gate = SuspectGate(resume, self.holdings.parked)
        self.intakes: dict[str, Intake] = {}
        grace = session.options.hung_grace_seconds
        if grace is not None:
            session.spawn(watch(self.holdings.held.values, longest_seconds, grace))

    async def keep_pulse(self, specs: Iterable[QueueSpec]) -> None:
        """Let a process beside this one keep what runs here while this one is frozen. In the loop."""
        if self.holdings.lifeline is None:
            self.holdings.lifeline = Lifeline(self.session.options, specs)
            self.session.spawn(self.holdings.lifeline.run())

"""What one process has running for one broker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from brokers.jetstream.connection import Session
from brokers.jetstream.consumer import Intake
from brokers.jetstream.heartbeat import Holdings
from brokers.jetstream.lifeline import LOSS, Lifeline
from brokers.jetstream.message import JetStreamMessage
from brokers.jetstream.options import QueueSpec
from brokers.jetstream.starts import Starts, SuspectGate
from brokers.jetstream.watchdog import watch

log = logging.getLogger(__name__)


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
        self._pulse_begun = False
        grace = session.options.hung_grace_seconds
        if grace is not None:
            session.spawn(watch(self.holdings.held.values, longest_seconds, grace))

    async def keep_pulse(self, specs: Iterable[QueueSpec]) -> None:
        """Let a process beside this one keep what runs here while this one is frozen. In the loop."""
        if self._pulse_begun:
            return
        self._pulse_begun = True
        try:
            self.holdings.lifeline = Lifeline(self.session.options, specs)
        except OSError as error:  # a worker without one is better than none
            log.warning("This process has no pulse; %s: %s", LOSS, error)
        else:
            self.session.spawn(self.holdings.lifeline.run())

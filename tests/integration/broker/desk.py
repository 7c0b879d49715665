"""The operator's desk over the broker's own dead letters: their index in Postgres, and replays."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from app.jobs.letter_index import LetterIndex
from app.jobs.outbox import Outbox
from app.security.keyring import Keyring
from app.security.principal import Principal, Role
from app.services.audit_trail import AuditTrail
from app.services.dead_letters import DeadLetters, DeadLetterView
from app.services.letter_acts import LetterActs
from app.services.letter_content import Contents, LetterContent
from app.services.letter_ends import LetterEnds
from app.storage.postgres.session import Database
from brokers import JetStreamBroker
from tests.support.domain import Recorder

_ADMIN = Principal("root", "Root", Role.ADMIN)


@dataclass(frozen=True)
class Desk:
    broker: JetStreamBroker
    database: Database

    def letters(self) -> dict[str, DeadLetterView]:
        """Open letters by their reason, indexed first."""
        index = LetterIndex(self.database, self.broker)
        while index.take(wait_seconds=0.1):
            pass
        return {each.reason: each for each in self._letters.list(_ADMIN, limit=1000).items}

    def content(self, letter: DeadLetterView) -> LetterContent | None:
        return self._letters.get(_ADMIN, letter.dead_letter_id, reveal=True).content

    def replay(self, letter: DeadLetterView) -> DeadLetterView:
        ends = LetterEnds(self.database, self._trail, self.broker, LetterIndex(self.database, self.broker))
        acts = LetterActs(
            self.database,
            self._trail,
            self.broker,
            Outbox(Recorder(self.database)),
            ends,
            undo_period=timedelta(minutes=1),
            max_replays=5,
        )
        return acts.replay(_ADMIN, letter.dead_letter_id)

    @property
    def _trail(self) -> AuditTrail:
        return AuditTrail(Keyring("ab" * 32, ()))

    @property
    def _letters(self) -> DeadLetters:
        return DeadLetters(self.database, self._trail, Contents(self.broker))

"""Bringing back dead letters from an export: after their stream was lost, or on another installation.

A letter is known by its origin, the place where it lay first, so the same lines may be imported again and
again. One that is still here, or that was replayed, is not brought back: its work would be done twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

from dramatiq.errors import BrokerConnectionError, BrokerError
from sqlalchemy import or_, select, tuple_

from app.errors import ConflictError, ForbiddenError, UnavailableError
from app.jobs.letter_facts import place_of
from app.jobs.letter_index import LetterIndex
from app.security.principal import Principal, Role
from app.services.audit_trail import AuditTrail
from app.services.dead_letters import NOUN
from app.services.letter_ends import LetterEnds
from app.services.letter_lines import Line, letter_of_line, parsed
from app.storage.postgres.session import Database
from app.storage.postgres.tables import DeadLetterRow
from brokers import DeadLetter, JetStreamBroker, TopologyError, dead_feed, dead_import

MOST_LINES = 100_000
_AT_ONCE = 200
_TOLD = 100  # passed over, with the reason


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A line whose letter was not brought back, and why."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """How many letters came back and how many did not; the first hundred of those with the reason."""

    imported: int
    passed_over: int
    reasons: tuple[PassedOver, ...]


@dataclass(frozen=True, slots=True)
class LetterImport:
    """Reads exports (`letter_export`, with payloads)."""

    database: Database
    trail: AuditTrail
    broker: JetStreamBroker
    index: LetterIndex
    ends: LetterEnds

    def run(
        self, principal: Principal, lines: Iterable[str | bytes], *, dry_run: bool = False
    ) -> ImportReport:
        """Store again, with a new time to live, what is not here; parents before what came of them.

        A line that is no letter refuses them all. Raises ForbiddenError for who is no admin: letters name
        jobs of anybody. Raises InvalidInputError that names line, field and rule, and UnavailableError.
        """
        if not principal.role.covers(Role.ADMIN):
            raise ForbiddenError(f"importing letters of anybody's jobs needs the role {Role.ADMIN}")
        known = parsed(lines, most=MOST_LINES)
        imported, passed = 0, list[PassedOver]()
        try:
            if not dry_run:
                self.ends.lose_other_streams(dead_feed.lifetime(self.broker).created)
            for part in _parts(known):
                imported += self._some(part, passed, dry_run=dry_run)
        except (BrokerConnectionError, TopologyError) as error:
            raise UnavailableError(f"NATS: {error}") from error
        passed.sort(key=lambda one: one.line)
        return ImportReport(imported, len(passed), tuple(passed[:_TOLD]))

    def _some(self, lines: Sequence[Line], passed: list[PassedOver], *, dry_run: bool) -> int:
        here = self._here([line.letter.origin for line in lines])
        back: dict[str, DeadLetter] = {}
        for line in lines:
            states = here.setdefault(line.letter.origin, [])
            why = line.hindrance or _why_not(states)
            if why is not None or line.letter.content is None:
                passed.append(PassedOver(line.number, why or ""))
                continue
            # Brought back for the second time it is another letter.
            key = f"{line.letter.origin}:{len(states)}"
            back[key] = letter_of_line(line.letter, line.letter.content)
            states.append("open")
        if back and not dry_run:
            self._store(back)
        return len(back)

    def _store(self, back: dict[str, DeadLetter]) -> None:
        try:
            self.index.add(dead_import.bring_back(self.broker, back))
        except (BrokerConnectionError, TopologyError):
            raise
        except BrokerError as error:  # too large, or refused: the others of this part come with the next try
            raise ConflictError(f"a letter could not be stored: {error}") from error
        with self.database.transaction() as session:
            details = {"count": len(back)}
            self.trail.record(session, "dead_letter.imported", object_kind=NOUN, details=details)

    def _here(self, origins: Sequence[str]) -> dict[str, list[str]]:
        """By origin, the states of the rows that stand for it."""
        row, here = DeadLetterRow, dict[str, list[str]]()
        places = [place for origin in origins if (place := place_of(origin)) is not None]
        mine = or_(row.origin.in_(origins), tuple_(row.stream_life, row.sequence).in_(places))
        with self.database.transaction() as session:
            columns = (row.origin, row.stream_life, row.sequence, row.state)
            for origin, life, sequence, state in session.execute(select(*columns).where(mine)):
                here.setdefault(origin or f"{life}:{sequence}", []).append(state)
        return here


def _parts(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """A few at a time, the oldest first, and no letter beside the one whose replay it was."""
    by_depth = sorted(lines, key=lambda line: (line.letter.depth, line.letter.died_at))
    for _, alike in groupby(by_depth, key=lambda line: line.letter.depth):
        while part := list(islice(alike, _AT_ONCE)):
            yield part


def _why_not(states: Sequence[str]) -> str | None:
    """Why a letter with rows in these states is not brought back."""
    if "open" in states:
        return "it is here, and open"
    if "replayed" in states:
        return "it was replayed already"
    return None

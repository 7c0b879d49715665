"""The index of dead letters in Postgres, fed from their stream.

A letter is written under the stream's life and its sequence in it, so writing it twice writes it once.
Batches come from a durable consumer and are acknowledged after the commit; a rebuild reads the whole stream.
Rows that exist are never touched: what became of a letter is theirs to say.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dramatiq.errors import BrokerConnectionError, DecodeError
from dramatiq.message import Message
from sqlalchemy import Text, cast, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from app.errors import UnavailableError
from app.jobs.letter_facts import facts_of, place_of
from app.jobs.letter_words import About, abouts_of, words_of
from app.jobs.messages import job_of, must_be_read
from app.storage.postgres.bulk import copy_rows
from app.storage.postgres.session import Database
from app.storage.postgres.tables import DeadLetterRow
from brokers import (
    DeadLetter,
    DeadLetterNotFoundError,
    JetStreamBroker,
    TopologyError,
    dead_feed,
    dead_letter,
)

logger = logging.getLogger(__name__)

_MOST_GONE = 1000
_WORDED_AT_ONCE = 500
_WRITERS = 2  # one sends a page to Postgres while that inserts the other's
_COLUMNS = (
    "stream_life", "sequence", "message_id", "job_id", "actor", "queue", "pool", "reason", "error_class",
    "error_message", "cause", "fingerprint", "attempts", "worker", "trace_id", "size_bytes",
    "truncated_bytes", "first_seen_at", "died_at", "expires_at", "origin", "document",
)  # fmt: skip
_NAMES = ", ".join(_COLUMNS)
_ARRIVE = text(
    f"CREATE TEMPORARY TABLE arriving ON COMMIT DROP AS "  # noqa: S608 constants
    f"SELECT {_NAMES}, stream_life AS parent_life, sequence AS parent_sequence, depth AS known_depth "
    ", CAST(NULL AS text) AS letter_words FROM dead_letters WITH NO DATA"
)
# How many name a parent decides how that is found: nearly none do, and the table may have a million rows.
_LOOK = text("ANALYZE arriving")
# The parent is the letter whose replay this was, or the last one that was edited or moved into its job. That
# of an imported letter may be an imported one as well.
_INSERT = text(
    "WITH edited AS MATERIALIZED (SELECT DISTINCT ON (arriving.sequence) arriving.sequence, "  # noqa: S608 constants
    "earlier.dead_letter_id, earlier.depth FROM arriving "
    "JOIN dead_letters AS earlier ON earlier.successor_job_id = arriving.job_id "
    "AND earlier.died_at < arriving.died_at ORDER BY arriving.sequence, earlier.died_at DESC), "
    "returned AS MATERIALIZED (SELECT DISTINCT ON (arriving.sequence) arriving.sequence, "
    "earlier.dead_letter_id FROM arriving "
    "JOIN dead_letters AS earlier "
    "ON earlier.origin = arriving.parent_life || ':' || arriving.parent_sequence "
    "ORDER BY arriving.sequence, earlier.dead_letter_id DESC) "
    f"INSERT INTO dead_letters ({_NAMES}, words, owner_id, arguments, parent_id, depth) "
    f"SELECT {', '.join(f'arriving.{name}' for name in _COLUMNS)}, "
    "array_to_tsvector(string_to_array(arriving.letter_words, ' ')), jobs.owner_id, jobs.arguments, "
    "coalesce(returned.dead_letter_id, replayed.dead_letter_id, edited.dead_letter_id), "
    "coalesce(arriving.known_depth, replayed.depth + 1, edited.depth + 1, 0) "
    "FROM arriving LEFT JOIN jobs ON jobs.job_id = arriving.job_id "
    "LEFT JOIN dead_letters AS replayed ON replayed.stream_life = arriving.parent_life "
    "AND replayed.sequence = arriving.parent_sequence "
    "LEFT JOIN returned ON returned.sequence = arriving.sequence "
    "LEFT JOIN edited ON edited.sequence = arriving.sequence "
    "ORDER BY arriving.sequence ON CONFLICT (stream_life, sequence) DO NOTHING RETURNING dead_letter_id"
)


@dataclass(frozen=True, slots=True)
class Compared:
    """Index and stream: letters without a row, open rows (ids) without a letter, when the stream was made."""

    life: str
    missing: int
    gone: Sequence[int]


@dataclass(frozen=True, slots=True)
class LetterIndex:
    """Writes rows for letters."""

    database: Database
    broker: JetStreamBroker

    def take(self, *, most: int = 500, wait_seconds: float = 1.0) -> int:
        """Index what the consumer hands out next; waits so long for the first. How many letters came.

        Raises UnavailableError.
        """
        with _nats():
            batch = dead_feed.take(self.broker, most=most, wait_seconds=wait_seconds)
            if batch.letters:
                self._write(batch.letters, batch.life.created)
                dead_feed.acknowledge(self.broker, batch)
        return len(batch.letters)

    def add(self, letters: Sequence[DeadLetter]) -> int:
        """Index letters that were just stored; how many rows were added. Raises UnavailableError."""
        with _nats():
            return self._write(letters, dead_feed.lifetime(self.broker).created)

    def rebuild(self) -> Iterator[tuple[int, int]]:
        """Index every letter of the stream that has no row; yields (letters done, rows added) as it goes.

        Raises UnavailableError.
        """
        done = added = 0
        # Postgres works while the next page is made ready.
        with _nats(), ThreadPoolExecutor(_WRITERS) as writers:
            life = dead_feed.lifetime(self.broker)
            writing: deque[tuple[int, Future[int]]] = deque()
            for page in dead_feed.everything(self.broker, life):
                rows = [self._facts(letter, life.created) for letter in page]
                before = writing[-1][1] if writing else None
                writing.append((len(page), writers.submit(self._store, rows, before)))
                if len(writing) > _WRITERS:
                    done, added = _and_written(writing.popleft(), done, added)
                    yield done, added
            while writing:
                done, added = _and_written(writing.popleft(), done, added)
                yield done, added
        self.add_words()

    def compare(self, *, dry_run: bool = False) -> Compared:
        """Index the letters that the consumer has passed over, and name rows whose letters left otherwise.

        Raises UnavailableError.
        """
        number, gone, before = 0, list[int](), 0
        with _nats():
            life = dead_feed.lifetime(self.broker)
            for page in dead_feed.everything(self.broker, life):
                known = self._known(life.created, before, page[-1].id)
                here = {letter.id for letter in page}
                missing = [letter for letter in page if letter.id not in known]
                number += len(missing)
                if missing and not dry_run:
                    self._write(missing, life.created)
                gone += [
                    key for sequence, (key, is_open) in known.items() if is_open and sequence not in here
                ]
                before = page[-1].id
            if not dry_run:
                self.add_words()
            beyond = self._known(life.created, before, life.last)
        gone += [key for key, is_open in beyond.values() if is_open]
        if number:
            logger.warning("%d dead letters were missing in the index", number)
        return Compared(life.created, number, gone[:_MOST_GONE])

    def add_words(self) -> int:
        """Give rows that an older release wrote their words and documents; how many it was."""
        number = 0
        while some := self._add_some_words():
            number += some
        return number

    def _add_some_words(self) -> int:
        row = DeadLetterRow
        named = (row.dead_letter_id, row.job_id, row.actor, row.owner_id, row.error_class, row.error_message)
        wordless = select(*named).where(row.words.is_(None)).limit(_WORDED_AT_ONCE)
        with self.database.transaction() as session:
            found = session.execute(wordless.with_for_update(skip_locked=True)).all()
            abouts = abouts_of(session, (one.job_id for one in found if one.job_id))
            for key, job_id, *texts in found:
                document = abouts.get(job_id, About()).document
                words = func.array_to_tsvector(cast(words_of(*texts, document), ARRAY(Text)))
                worded = update(row).where(row.dead_letter_id == key).values(words=words, document=document)
                session.execute(worded.execution_options(synchronize_session=False))
        return len(found)

    def _known(self, life: str, after: int, last: int) -> dict[int, tuple[int, bool]]:
        """Id, and whether it is open, of the rows with sequences in (after, last]."""
        row = DeadLetterRow
        rows = select(row.sequence, row.dead_letter_id, row.state == "open").where(
            row.stream_life == life, row.sequence > after, row.sequence <= last
        )
        with self.database.transaction() as session:
            return {sequence: (key, is_open) for sequence, key, is_open in session.execute(rows)}

    def _write(self, letters: Sequence[DeadLetter], life: str) -> int:
        return self._store([self._facts(letter, life) for letter in letters])

    def _store(self, rows: Sequence[Mapping[str, Any]], before: Future[int] | None = None) -> int:
        """Write rows, in the end when those before are committed: there may be parents among them."""
        with self.database.transaction() as session:
            abouts = abouts_of(session, (row["job_id"] for row in rows if row["job_id"]))
            _copy(session, [_worded(row, abouts.get(row["job_id"], About())) for row in rows])
            if before:
                before.result()
            return len(session.execute(_INSERT).all())

    def _facts(self, letter: DeadLetter, life: str) -> Mapping[str, Any]:
        """Only some must be read as a whole; the id of a replay tells neither its job nor its parent."""
        facts: dict[str, Any] = {**facts_of(letter, life), "parent_life": life, "parent_sequence": None}
        facts["known_depth"] = None
        if must_be_read(letter):
            message = self._message(letter.id)
            job = job_of(message) if message is not None else None
            lineage = message.options.get("replay_of") if message is not None else None
            facts["job_id"] = job[0] if job else None
            parent = lineage.get("dead_letter") if isinstance(lineage, dict) else None
            facts["parent_sequence"] = parent if isinstance(parent, int) else None
        if letter.provenance is not None:
            place = place_of(letter.provenance.parent or "")
            facts["parent_life"], facts["parent_sequence"] = place or (None, None)
            facts["known_depth"] = letter.provenance.depth
        return facts

    def _message(self, sequence: int) -> Message[Any] | None:
        try:
            return Message.decode(dead_letter.get(self.broker, sequence).payload or b"")
        except (DeadLetterNotFoundError, DecodeError):
            return None


def _worded(row: Mapping[str, Any], about: About) -> Mapping[str, Any]:
    words = words_of(row["actor"], about.owner_id, row["error_class"], row["error_message"], about.document)
    return {**row, "document": about.document, "letter_words": " ".join(words)}


def _copy(session: Session, rows: Iterable[Mapping[str, Any]]) -> None:
    session.execute(_ARRIVE)
    copy_rows(session, "arriving", rows)
    session.execute(_LOOK)


def _and_written(page: tuple[int, Future[int]], done: int, added: int) -> tuple[int, int]:
    number, writing = page
    return done + number, added + writing.result()


@contextmanager
def _nats() -> Iterator[None]:
    try:
        yield
    except (BrokerConnectionError, TopologyError) as error:
        raise UnavailableError(f"NATS: {error}") from error

"""Dead letters beside the rows of their jobs. Letters are an operator's history: none is removed here.

A worker stores a dead letter first and ends the job's row then, so one that dies in between leaves a job that
waits for a message which will not come. A letter costs its headers only, but for those of replayed messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from dramatiq.errors import BrokerConnectionError, DecodeError
from dramatiq.message import Message
from sqlalchemy import select

from app.errors import ExplorerError, UnavailableError
from app.jobs.messages import given_up, job_of, job_of_id, must_be_read
from app.storage.postgres.session import Database
from app.storage.postgres.tables import ACTIVE_STATES, Job
from brokers import DeadLetter, DeadLetterNotFoundError, JetStreamBroker, TopologyError, dead_letter

_PAGE = 500
_MOST = 10_000  # letters and dead jobs of one pass, the newest
_PATIENCE = timedelta(minutes=1)  # whoever stored a letter is just about to write the row

Bury = Callable[[UUID, int, ExplorerError], bool]  # job id, publication, cause: whether that ended the job


@dataclass(frozen=True, slots=True)
class LettersFound:
    """Letters by id: of jobs that were active all the same, of jobs that are gone; dead jobs of no letter."""

    of_active: list[int] = field(default_factory=list)
    of_gone: list[int] = field(default_factory=list)
    jobs_without: list[UUID] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LettersAndRows:
    """Compares dead letters and jobs."""

    database: Database
    broker: JetStreamBroker
    bury: Bury

    def compare(self, *, dry_run: bool) -> LettersFound:
        """One pass; an active job whose latest message has a letter is buried, unless it is a dry run.

        Raises UnavailableError.
        """
        found, known, since = LettersFound(), set[UUID](), self.database.now() - _PATIENCE
        before = since
        with _nats():
            for page in self._pages():
                named = {letter.id: self._job_of(letter) for letter in page}
                known |= {job[0] for job in named.values() if job is not None}
                self._compare(page, named, before, found, dry_run=dry_run)
                since = min(since, page[-1].dead_at)
            known |= self._ended()
        found.jobs_without.extend(self._dead_between(since, before) - known)
        return found

    def cause_untold(self, job_id: UUID, publication: int) -> str | None:
        """Why the job died, if no letter tells of it, be it open, replayed or discarded; None for all others.

        A run that fails for good writes the row before its letter: a worker that dies in between, or a NATS
        that is away then, leaves the message, which comes back. Raises UnavailableError.
        """
        dead = (Job.job_id == job_id, Job.state == "dead", Job.publication == publication)
        with self.database.transaction() as session:
            cause = session.scalar(select(Job.error_message).where(*dead))
        if cause is None:
            return None
        with _nats():
            open_letters = (letter for page in self._pages() for letter in page)
            told = any(self._job_of(letter) == (job_id, publication) for letter in open_letters)
            return None if told or job_id in self._ended() else cause

    def _compare(
        self,
        page: Sequence[DeadLetter],
        named: dict[int, tuple[UUID, int] | None],
        before: datetime,
        found: LettersFound,
        *,
        dry_run: bool,
    ) -> None:
        states = self._states({job[0] for job in named.values() if job is not None})
        for letter in page:
            job = named[letter.id]
            if job is None or letter.dead_at >= before:
                continue
            state, publication = states.get(job[0], (None, 0))
            if state is None:
                found.of_gone.append(letter.id)
            elif state in ACTIVE_STATES and publication == job[1] and self._carried_by(letter) == job:
                cause = given_up(letter.reason, letter.error_message)
                if dry_run or self.bury(*job, cause):
                    found.of_active.append(letter.id)

    def _pages(self) -> Iterator[list[DeadLetter]]:
        """The newest letters first."""
        last = None
        for _ in range(_MOST // _PAGE):
            page = dead_letter.list_dead(self.broker, _PAGE, before=last)
            if not page:
                return
            yield page
            last = page[-1].id

    def _job_of(self, letter: DeadLetter) -> tuple[UUID, int] | None:
        return self._carried_by(letter) if must_be_read(letter) else job_of_id(letter.message_id)

    def _carried_by(self, letter: DeadLetter) -> tuple[UUID, int] | None:
        """What the message itself says of its job."""
        try:
            return job_of(Message.decode(dead_letter.get(self.broker, letter.id).payload or b""))
        except (DeadLetterNotFoundError, DecodeError):  # ended meanwhile, or cut off
            return None

    def _states(self, job_ids: set[UUID]) -> dict[UUID, tuple[str, int]]:
        rows = select(Job.job_id, Job.state, Job.publication).where(Job.job_id.in_(job_ids))
        with self.database.transaction() as session:
            return {job_id: (state, publication) for job_id, state, publication in session.execute(rows)}

    def _ended(self) -> set[UUID]:
        """Jobs whose letters were replayed or discarded; a replay's own letters are found by the first."""
        ended = dead_letter.list_ended(self.broker, _MOST)
        return {job[0] for each in ended if (job := job_of_id(each.message_id)) is not None}

    def _dead_between(self, since: datetime, before: datetime) -> set[UUID]:
        """Jobs that died while there are letters to look for: none is older than the stream's oldest."""
        dead = select(Job.job_id).where(
            Job.state == "dead", Job.finished_at > since, Job.finished_at < before
        )
        with self.database.transaction() as session:
            return set(session.scalars(dead.order_by(Job.finished_at.desc()).limit(_MOST)))


@contextmanager
def _nats() -> Iterator[None]:
    try:
        yield
    except (BrokerConnectionError, TopologyError) as error:
        raise UnavailableError(f"NATS: {error}") from error

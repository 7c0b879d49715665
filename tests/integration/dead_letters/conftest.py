"""Dead letters on a real stream, of jobs in a real database; no worker runs unless a test starts one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from dramatiq.message import Message
from flask import Flask
from sqlalchemy import select

from app import cli
from app.config import Settings
from app.container import Container, build
from app.errors import ExplorerError, ProviderRefusedError
from app.factory import create_app
from app.jobs.contracts import ExtractFile
from app.jobs.letter_index import LetterIndex
from app.jobs.outbox import Outbox
from app.security.audit import Origin, acting
from app.security.principal import Principal, Role
from app.services.dead_letter_filters import LetterFilter
from app.services.dead_letters import DeadLetterView
from app.storage.postgres.tables import AuditEvent, Job
from brokers.jetstream import burial
from brokers.jetstream.message import DeadReason, Delivery
from tests.support.domain import Recorder, World

ADMIN = Principal("root", "Root", Role.ADMIN)
ADA, BOB = Principal("ada", "Ada"), Principal("bob", "Bob")
FROZEN = ProviderRefusedError("the account of key sk-abcdefgh12345 is frozen for 15 days")


@pytest.fixture
def container(
    stack_env: dict[str, str], nats_url: str, migrated_url: str, recorder: Recorder
) -> Iterator[Container]:
    given = {"DATABASE_URL": migrated_url, "NATS_URL": nats_url, "ENCRYPTION_MASTER_KEY": "ab" * 32}
    more = {"DLQ_UNDO_SECS": "600", "TRACE_URL_TEMPLATE": "https://traces.test/trace/{trace_id}"}
    made = build(Settings.from_env(stack_env | given | more))
    made.apply_topology(dry_run=False)
    vars(made)["feed"] = recorder
    vars(made)["outbox"] = Outbox(recorder)
    yield made
    made.close()
    made.broker.close()


@pytest.fixture
def app(container: Container) -> Flask:
    """The whole application with its commands."""
    made = create_app(container)
    cli.register(made, container)
    return made


@dataclass
class Graveyard:
    """Makes jobs die, each with its letter on the stream."""

    container: Container
    world: World
    transform: int = field(init=False)
    collection: int = field(init=False)

    def __post_init__(self) -> None:
        self.collection = self.world.collection()
        self.transform = self.world.collection_transform(self.collection, self.world.dataset())

    def job(self) -> UUID:
        """An `extract_file` job of a file of its own."""
        contract = ExtractFile(self.transform, self.world.file(self.collection, f"{uuid4()}.txt"), 1)
        with self.container.database.transaction() as session:
            return self.container.outbox.record(session, contract, owner_id=self.world.owner_id)

    def die(
        self, error: Exception = FROZEN, *, number: int = 1, reason: DeadReason = DeadReason.PERMANENT_ERROR
    ) -> list[int]:
        """Let so many jobs die of the error; the sequences of their letters."""
        return [self.bury(self.job(), error, reason) for _ in range(number)]

    def bury(
        self,
        job_id: UUID,
        error: Exception,
        reason: DeadReason = DeadReason.PERMANENT_ERROR,
        publication: int = 0,
        **options: Any,
    ) -> int:
        body = message(ExtractFile.kind, ExtractFile.queue, job_id=str(job_id), publication=publication)
        body.options.update(options)
        sequence = self.store(body, error, reason)
        cause = error if isinstance(error, ExplorerError) else ProviderRefusedError(str(error))
        with self.container.database.transaction() as session:
            assert self.container.services.jobs.bury(session, job_id, cause, publication=publication)
        return sequence

    def store(
        self, body: Message[Any] | bytes, error: Exception | None, reason: DeadReason, **headers: str
    ) -> int:
        """A letter as a worker writes it."""
        known: Any = None if isinstance(body, bytes) else body  # its plain attributes are all that is read
        raw = body if isinstance(body, bytes) else body.encode()
        spec = next(iter(self.container.broker.specs.values()))
        delivery = Delivery(spec, "", 1, 1, raw, headers, stored_at=uuid4().int % 10**18)
        written = burial.dead_headers(delivery, known, reason, raised(error))
        connection = self.container.broker.connection
        return connection.run(burial.store(connection.session(), delivery, written))

    @property
    def index(self) -> LetterIndex:
        return LetterIndex(self.container.database, self.container.broker)

    def indexed(self, principal: Principal = ADMIN, **wanted: Any) -> list[DeadLetterView]:
        """All letters, indexed first, the oldest first."""
        while self.index.take(wait_seconds=0.05):
            pass
        found = self.container.services.dead_letters.list(principal, LetterFilter(**wanted), limit=1000)
        return list(reversed(found.items))

    def some(self, number: int) -> list[DeadLetterView]:
        """So many letters of one cause, indexed."""
        self.die(number=number)
        return self.indexed()

    def one(self, error: Exception = FROZEN) -> DeadLetterView:
        """A letter, indexed."""
        self.die(error)
        return self.indexed()[-1]

    def job_row(self, job_id: UUID | None) -> Job:
        with self.container.database.transaction() as session:
            return session.get_one(Job, job_id)

    def acts(self) -> list[tuple[str, str]]:
        """What the audit log says of dead letters: who did what."""
        with self.container.database.transaction() as session:
            rows = session.execute(
                select(AuditEvent.actor, AuditEvent.action)
                .where(AuditEvent.action.startswith("dead_letter"))
                .order_by(AuditEvent.id)
            )
            return [(actor, action) for actor, action in rows]

    def waiting(self) -> int:
        """Letters on the stream."""
        from brokers import dead_feed

        return dead_feed.lifetime(self.container.broker).messages


@pytest.fixture
def graves(container: Container, world: World) -> Graveyard:
    return Graveyard(container, world)


@pytest.fixture(autouse=True)
def somebody() -> Iterator[None]:
    """All acts of a test are Eve's."""
    with acting(Origin("eve")):
        yield


def message(actor: str, queue: str, **kwargs: Any) -> Message[Any]:
    return Message(
        queue_name=queue,
        actor_name=actor,
        args=(),
        kwargs=kwargs,
        options={"attempts": [{"attempt": 1, "worker": "w:1", "started_at": 0, "error": "x"}]},
        message_id=str(kwargs["job_id"]),
    )


def raised(error: Exception | None) -> Exception | None:
    """The error with a traceback, as one that was caught has it."""
    if error is None:
        return None
    with pytest.raises(type(error)) as caught:
        throw(error)
    return caught.value


def throw(error: Exception) -> None:
    raise error


def payload(body: Any) -> bytes:
    return json.dumps(body).encode()


@contextmanager
def as_(actor: str) -> Iterator[None]:
    with acting(Origin(actor)):
        yield

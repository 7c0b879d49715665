"""What a message says of its job: which one, and which publication of it (`dispatch` writes them)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from app.errors import PermanentError
from app.jobs.contracts import CONTRACTS
from brokers import DeadLetter
from brokers.jetstream.burial import replays_of


def job_of(message: Any) -> tuple[UUID, int] | None:
    """Job id and publication that a message stands for; None for what is no message of ours.

    A replayed message has the arguments of the old one, so each replay counts as one publication more.
    """
    try:
        publication = int(message.kwargs.get("publication", 0))
        return UUID(message.kwargs["job_id"]), publication + replays(message)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def replays(message: Any) -> int:
    """How often a dead letter was replayed to get to this message; 0 for most."""
    return replays_of(message.options)


def redelivered(message: Any) -> bool:
    """Whether some worker may have begun this message before: one that was stopped, or that died."""
    delivery = getattr(message, "delivery", None)
    return delivery is not None and bool(delivery.redelivered)


def job_of_id(message_id: str | None) -> tuple[UUID, int] | None:
    """As `job_of`, from the id of a message that is no replay; None for what is not an id of ours."""
    job_id, _, publication = (message_id or "").partition(":")
    try:
        return UUID(job_id), int(publication or 0)
    except ValueError:
        return None


def must_be_read(letter: DeadLetter) -> bool:
    """Whether only its payload tells a letter's job, which costs a request, and not the message's id.

    A replay has an id of its own, and the id of what a stranger sent may look like a job's.
    """
    return letter.replays > 0 or (letter.actor not in CONTRACTS and job_of_id(letter.message_id) is not None)


def given_up(reason: object, error: object) -> PermanentError:
    """What a job dies of whose message the broker gave up."""
    return PermanentError(f"given up by the broker ({reason}): {error or 'no error was reported'}")

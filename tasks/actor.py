"""Binds contracts to service verbs. `@handles` only records; `declare` makes the Dramatiq actors.

Nothing happens at import, so the same handlers can be declared on any broker, in tests too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import dramatiq

from app.container import Services
from app.errors import JobCancelledError, PermanentError
from app.jobs.contracts import Contract
from app.jobs.policy import Policies
from app.services.jobs import Run

C = TypeVar("C", bound=Contract)
Handler = Callable[[Services, Run, Any], None]


@dataclass(frozen=True, slots=True)
class Handled:
    """A contract and the one function that carries it out."""

    contract: type[Contract]
    function: Handler


class Handlers:
    """The handlers of one pool."""

    def __init__(self) -> None:
        self.entries: dict[str, Handled] = {}

    def handles(self, contract: type[C]) -> Callable[[Callable[[Services, Run, C], None]], Handler]:
        """Record the function for a contract; a second one for the same kind is a mistake."""

        def record(function: Callable[[Services, Run, C], None]) -> Handler:
            if contract.kind in self.entries:
                raise ValueError(f"two handlers for {contract.kind}")
            self.entries[contract.kind] = Handled(contract, function)
            return function

        return record


def declare(
    broker: dramatiq.Broker,
    handlers: Handlers,
    policies: Policies,
    execute: Callable[[str, Handler], Callable[..., None]],
) -> None:
    """Make one actor per handler on `broker`; `execute` wraps the function in the scope of a run."""
    for kind, handled in handlers.entries.items():
        rules = policies.of(kind)
        make_actor = dramatiq.actor(
            actor_name=kind,
            queue_name=handled.contract.queue,
            broker=broker,
            priority=rules.priority,
            time_limit=rules.time_limit_ms,
            throws=(PermanentError,),
            no_dead_letter=(JobCancelledError,),
        )
        make_actor(execute(kind, handled.function))

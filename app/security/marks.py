"""What routes say of themselves to the guard that stands before them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from app.security.principal import Role

F = TypeVar("F", bound=Callable[..., Any])


def public(function: F) -> F:
    """Mark a route that needs no principal."""
    function.is_public_route = True  # type: ignore[attr-defined] # read by the guard
    return function


def least_role(role: Role) -> Callable[[F], F]:
    """Mark a route that asks for another role than its method does (reading: viewer, else: operator)."""

    def mark(function: F) -> F:
        function.least_role = role  # type: ignore[attr-defined] # read by the guard
        return function

    return mark


def budget(name: str) -> Callable[[F], F]:
    """Mark a route that costs more than others: search, upload or stream, each limited besides."""

    def mark(function: F) -> F:
        function.rate_budget = name  # type: ignore[attr-defined] # read by the rate limits
        return function

    return mark


def takes_idempotency_key(function: Callable[..., Any]) -> bool:
    """Whether a POST of this route starts or changes something: what only looks, a viewer may do."""
    if getattr(function, "is_public_route", False):
        return False
    return getattr(function, "least_role", Role.OPERATOR) is not Role.VIEWER

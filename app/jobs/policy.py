"""How often and how long each kind of job may run."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ATTEMPTS = 5
BACKOFF_SECONDS = (30, 60, 120, 300)  # before the second, third, fourth and fifth attempt
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Policy:
    """`time_limit_ms` ends a run; the heartbeat of its message stops there too."""

    time_limit_ms: int
    priority: int = 10  # lower runs first


_DEFAULT = Policy(time_limit_ms=_HOUR_MS // 2)
_POLICIES = {
    # Planning and clean-up are short and unlock other work, so they go first.
    "plan_collection_transform": Policy(time_limit_ms=_HOUR_MS // 6, priority=0),
    "plan_dataset_transform": Policy(time_limit_ms=_HOUR_MS // 6, priority=0),
    "build_visualization": Policy(time_limit_ms=2 * _HOUR_MS),
}


def of(kind: str) -> Policy:
    """The policy of a kind of job."""
    return _POLICIES.get(kind, _DEFAULT)

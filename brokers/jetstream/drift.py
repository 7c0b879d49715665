"""How a server's streams and consumers differ from what is asked for, and which changes lose messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from brokers.jetstream.errors import TopologyError
from brokers.jetstream.schedule import server_time

STREAM_FIELDS = (
    "subjects", "retention", "storage", "max_age", "max_msgs", "max_bytes", "max_msg_size", "discard",
    "num_replicas", "duplicate_window", "allow_msg_schedules", "allow_msg_ttl",
    "allow_atomic", "max_msgs_per_subject", "allow_direct", "subject_delete_marker_ttl",
    "max_consumers", "discard_new_per_subject", "no_ack", "sealed", "deny_purge", "mirror", "sources",
)  # fmt: skip
# The server turns rollups on by itself where there are schedules or markers.
ONLY_WHERE_SET = ("allow_rollup_hdrs", "deny_delete")
# A list of backoffs would take the place of ack_wait, an inactive threshold would delete the consumer.
CONSUMER_FIELDS = (
    "filter_subject", "ack_policy", "ack_wait", "max_deliver", "max_ack_pending", "backoff",
    "inactive_threshold", "headers_only", "rate_limit_bps", "mem_storage",
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One difference between what is asked for and what the server has (before is None: created)."""

    kind: str
    name: str
    field: str | None
    before: Any
    after: Any

    def __str__(self) -> str:
        if self.field is None:
            return f"create {self.kind} {self.name}"
        return f"update {self.kind} {self.name}: {self.field} {self.before!r} -> {self.after!r}"


def set_fields(config: Any, fields: Iterable[str]) -> dict[str, Any]:
    """Those fields of a configuration that say something."""
    values = {field: getattr(config, field) for field in fields}
    return {field: value for field, value in values.items() if value not in (None, False, -1)}


def differences(kind: str, name: str, wanted: Any, found: Any, fields: Sequence[str]) -> list[Change]:
    """The fields in which two configurations differ; unset means the server's default, or its choice."""
    changes = []
    for field in fields:
        after, before = getattr(wanted, field), getattr(found, field)
        if after in (None, -1) and before in (None, -1, 0, False, []):
            continue
        if field in ONLY_WHERE_SET and not after:
            continue
        if field == "subjects":
            after, before = sorted(after), sorted(before or [])
        if after != before:
            changes.append(Change(kind, name, field, before, after))
    return changes


def refuse_losses(name: str, changes: Sequence[Change], state: Mapping[str, Any], now: datetime) -> None:
    """Raise TopologyError for the first change that a stream with this state cannot take unharmed.

    `state` is the server's (`messages`, `first_ts`), `now` its clock.
    """
    for change in changes:
        if change.field in {"retention", "storage"}:
            raise TopologyError(
                f"stream {name} has {change.field} {change.before!r} and needs {change.after!r}, "
                "which a stream cannot change; empty and delete it yourself, then apply again"
            )
        lost = _lost(change, state, now)
        if lost and state["messages"]:
            raise TopologyError(
                f"stream {name} holds {state['messages']} messages and would lose {lost}: "
                "let its queues run empty first, or keep what it has in the configuration"
            )


def _lost(change: Change, state: Mapping[str, Any], now: datetime) -> str | None:
    if change.field == "subjects":
        subjects = sorted(set(change.before) - set(change.after))
        return f"the subjects {subjects}" if subjects else None
    if change.field == "max_msgs" and 0 < (change.after or 0) < state["messages"]:
        return f"all but {change.after}"
    if change.field == "max_age" and change.after:
        oldest = (now - server_time(state["first_ts"])).total_seconds()
        if oldest > change.after:
            return f"those older than {change.after} s (max_age; the oldest is {oldest:.0f} s old)"
    return None

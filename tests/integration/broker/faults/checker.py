"""The judge: what became of every message, from the history and from what the server still has.

A pure function. It knows nothing of the broker and believes nobody: a worker that says "dead" proves
no dead letter, and a producer's "stored" is a promise that something must keep.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from tests.integration.broker.faults.history import NONE, Event, Kind

_MOST_SHOWN = 20


class Verdict(StrEnum):
    """What became of a message: exactly one of these."""

    DONE_ONCE = "done once"
    DONE_MORE = "done more"
    DEAD = "dead"
    WAITING = "waiting"
    NOT_STORED = "not stored"  # enqueue never said that it was, and nothing was seen of it
    LOST = "lost"
    UNKNOWN = "unknown"


BAD = (Verdict.LOST, Verdict.UNKNOWN)
_WAS_STORED = {
    Kind.DEAD: "a worker called it dead",
    Kind.STORED: "enqueue confirmed it",
    Kind.TAKEN: "enqueue raised, yet a worker had it",
}


@dataclass(frozen=True)
class ServerState:
    """The ids of the messages that the server still has: to be run (now or later), and dead letters."""

    waiting: frozenset[str] = frozenset()
    dead: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Finding:
    """The verdict on one message, why, and everything that was written about it."""

    message_id: str
    verdict: Verdict
    why: str
    events: tuple[Event, ...] = ()

    def __str__(self) -> str:
        head = f"{self.verdict.upper()} {self.message_id}: {self.why}"
        return "\n".join([head, *(f"    {_shown(event)}" for event in self.events)])


@dataclass(frozen=True)
class Report:
    """All verdicts; as text it is what somebody needs who is woken by it."""

    findings: list[Finding] = field(default_factory=list)
    cut_short: int = 0  # runs that a kill ended

    def count(self, verdict: Verdict) -> int:
        return sum(1 for finding in self.findings if finding.verdict is verdict)

    def of(self, verdict: Verdict) -> list[Finding]:
        return [finding for finding in self.findings if finding.verdict is verdict]

    @property
    def bad(self) -> list[Finding]:
        """What must not be there: lost and unknown."""
        return [finding for finding in self.findings if finding.verdict in BAD]

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(verdict)} {verdict}" for verdict in Verdict)
        head = f"{len(self.findings)} messages: {counts}; {self.cut_short} runs cut short"
        lines = [head, *map(str, self.bad[:_MOST_SHOWN])]
        if len(self.bad) > _MOST_SHOWN:
            lines.append(f"... and {len(self.bad) - _MOST_SHOWN} more")
        return "\n".join(lines)


def check(events: Iterable[Event], state: ServerState) -> Report:
    """Judge every message that anybody has mentioned or the server has."""
    lives: dict[str, list[Event]] = defaultdict(list)
    killed, takes = set[str](), Counter[str]()
    for event in events:
        if event.kind is Kind.KILLED:
            killed.add(event.group)
        elif event.message_id != NONE:
            lives[event.message_id].append(event)
            takes[event.take] += event.kind is Kind.START
    ids = sorted({*lives, *state.waiting, *state.dead})
    findings = [_judge(found, lives[found], state, killed, takes) for found in ids]
    unended = [event for life in lives.values() for event in _unended(life)]
    return Report(findings, sum(event.group in killed for event in unended))


def open_runs(events: Iterable[Event]) -> list[Event]:
    """Runs that have started and have not ended, in processes that nobody killed."""
    events = list(events)
    killed = {event.group for event in events if event.kind is Kind.KILLED}
    return [event for event in _unended(events) if event.group not in killed]


def _judge(
    message_id: str, life: Sequence[Event], state: ServerState, killed: set[str], takes: Counter[str]
) -> Finding:
    verdict, why = _fate(message_id, life, state)
    puzzle = _puzzle(life, killed, takes)
    if puzzle:
        verdict, why = Verdict.UNKNOWN, puzzle
    return Finding(message_id, verdict, why, tuple(life))


def _puzzle(life: Sequence[Event], killed: set[str], takes: Counter[str]) -> str | None:
    """What cannot be explained about a message, if there is anything."""
    if not any(event.kind is Kind.ATTEMPTED for event in life):
        return "nobody ever enqueued a message of this id"
    handed_out = {event.take for event in life if event.kind is Kind.TAKEN}
    for event in life:
        if event.kind is Kind.START and event.take not in handed_out:
            return f"{event.process} ran it without having been given it"
        if event.kind is Kind.START and takes[event.take] > 1:
            return f"{event.process} was given it once and ran it {takes[event.take]} times"
    for event in _unended(life):
        if event.group not in killed:
            return f"a run on {event.process} never ended, and nobody killed that process"
    return None


def _unended(events: Sequence[Event]) -> list[Event]:
    ended = {event.take for event in events if event.kind in {Kind.END, Kind.FAILED}}
    return [event for event in events if event.kind is Kind.START and event.take not in ended]


def _fate(message_id: str, life: Sequence[Event], state: ServerState) -> tuple[Verdict, str]:
    kinds = Counter(event.kind for event in life)
    if kinds[Kind.END]:
        verdict = Verdict.DONE_ONCE if kinds[Kind.END] == 1 else Verdict.DONE_MORE
        return verdict, f"ended {kinds[Kind.END]} times"
    if message_id in state.dead:
        return Verdict.DEAD, "its dead letter is on the server"
    if message_id in state.waiting:
        return Verdict.WAITING, "it is on the server"
    proof = next((text for kind, text in _WAS_STORED.items() if kinds[kind]), None)
    if proof is None:
        return Verdict.NOT_STORED, "enqueue did not confirm it, and there is no trace of it"
    return Verdict.LOST, f"{proof}; it was not done, has no dead letter, and is not on the server"


def _shown(event: Event) -> str:
    clock = datetime.fromtimestamp(event.at, UTC).strftime("%H:%M:%S.%f")[:-3]
    return f"{clock} {event.kind:<9} on {event.process} take {event.take} {event.detail}"

"""What producers and workers say happened: one file that only grows, one line per event.

Every line is one write to a file opened with O_APPEND, so lines of several processes never mix and
a process killed between two lines leaves no torn one. The file can be read at any time.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

NONE = "-"


class Kind(StrEnum):
    """What can happen to a message, and to a process."""

    ATTEMPTED = "attempted"  # a producer is about to enqueue it
    STORED = "stored"  # enqueue returned
    REFUSED = "refused"  # enqueue raised: stored or not, nobody knows
    TAKEN = "taken"  # the broker handed it to a worker
    START = "start"  # its actor starts
    END = "end"  # its actor returned
    FAILED = "failed"  # its actor raised
    DEAD = "dead"  # a worker was told that its dead letter is stored
    BOOT = "boot"  # a worker process is up
    KILLED = "killed"  # a test killed this process group


@dataclass(frozen=True)
class Event:
    """One line. `process` is "<process group>:<pid>", `take` one handover by the broker."""

    kind: Kind
    message_id: str = NONE
    take: str = NONE
    detail: str = NONE
    at: float = 0.0  # Unix time
    process: str = NONE

    @property
    def group(self) -> str:
        """The command line that the process belongs to; it lives and is killed as one."""
        return self.process.partition(":")[0]

    def line(self) -> str:
        """The event as one line of text, without the line's end."""
        detail = " ".join(self.detail.split()) or NONE
        return f"{self.at:.3f} {self.process} {self.kind} {self.message_id} {self.take} {detail}"

    @classmethod
    def parse(cls, line: str) -> Event:
        """The event of a line."""
        at, process, kind, message_id, take, detail = line.split(" ", 5)
        return cls(Kind(kind), message_id, take, detail, float(at), process)


class History:
    """The file, for writing and for reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(
        self, kind: Kind, message_id: str = NONE, take: str = NONE, detail: object = "", process: str = ""
    ) -> None:
        """Append one event of this process (or of another, by name)."""
        process = process or f"{os.getpgrp()}:{os.getpid()}"
        event = Event(kind, message_id, take, str(detail), time.time(), process)
        os.write(self._file, event.line().encode() + b"\n")

    def read(self) -> list[Event]:
        """All events so far, in the order in which they were written."""
        text = self.path.read_text()
        return [Event.parse(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def count(self, kind: Kind) -> int:
        """How many events of a kind there are so far."""
        return sum(1 for event in self.read() if event.kind is kind)

    def close(self) -> None:
        os.close(self._file)

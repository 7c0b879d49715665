"""What every process of one measurement is told, and where its workers write what they did."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUEUE = "bench"
PAYLOAD = "x" * 1000
_VARIABLE = "BENCH_BROKER_RUN"
_SHORT_LEASE_SECONDS = 10
_RECORD = struct.Struct("<IIqqq")
COLUMNS = np.dtype([("job", "<u4"), ("pid", "<u4"), ("sent", "<i8"), ("started", "<i8"), ("ended", "<i8")])


@dataclass(frozen=True)
class Run:
    """One system on its server.

    `url` may name several servers; `lease_seconds` is how long a dead worker keeps its jobs; `cpu_rounds` is
    the length of the busy loop that takes 20 ms here.
    """

    system: str
    url: str
    records: str
    lease_seconds: float
    cpu_rounds: int
    replicas: int = 1

    @property
    def leases_are_short(self) -> bool:
        """True where workers are killed and what they had is waited for."""
        return self.lease_seconds < _SHORT_LEASE_SECONDS

    def environment(self) -> dict[str, str]:
        """The environment of a child process that takes part."""
        inherited = dict(os.environ)  # noqa: TID251 - what a child process inherits
        return {**inherited, _VARIABLE: json.dumps(asdict(self))}


@cache
def current() -> Run:
    """The run that this child process takes part in."""
    return Run(**json.loads(os.environ[_VARIABLE]))  # noqa: TID251 - no setting of the product's


# One line per finished job, appended by one small write: survives kill -9, shows doubles, and costs the same
# few microseconds for every system. The file lies in memory where the machine has such a folder.


@cache
def _descriptor() -> int:
    return os.open(current().records, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(job: int, sent: int, started: int, ended: int) -> None:
    """Record a finished job; times are nanoseconds of the machine's monotonic clock."""
    os.write(_descriptor(), _RECORD.pack(job, os.getpid(), sent, started, ended))


class Records:
    """The driver's view of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"")

    def count(self) -> int:
        """Finished jobs so far, doubles included."""
        return self.path.stat().st_size // _RECORD.size

    def since(self, start: int) -> NDArray[Any]:
        """The records from number `start` on, in the order in which they were written."""
        size = (self.path.stat().st_size // _RECORD.size - start) * _RECORD.size
        with self.path.open("rb") as file:
            file.seek(start * _RECORD.size)
            return np.frombuffer(file.read(size), dtype=COLUMNS)

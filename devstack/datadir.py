"""The data folder: who holds it, and what a later start must find again (ports, passwords, leftovers)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shlex
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from devstack.errors import StackError

_MODE_TRAVERSABLE = 0o711  # Postgres runs as another user where the supervisor is root


@dataclass
class State:
    """What state.json remembers; it holds passwords, so only its owner may read the file."""

    base_port: int | None = None
    postgres_password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    s3_access_key: str = field(default_factory=lambda: secrets.token_hex(10).upper())
    s3_secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(30))
    children: dict[str, list[float]] = field(default_factory=dict)  # name → [pid, start time]


class DataDir:
    """One data folder, held by one supervisor at a time through a kernel lock.

    The kernel drops the lock with its holder, however that ended, so a stale lock cannot exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.run = self.path / "run"
        self.state = State()
        self._lock: IO[str] | None = None

    def acquire(self) -> None:
        """Create the folder where needed, take the lock and read the state; StackError if it is held."""
        for folder in (self.path, self.logs, self.run):
            folder.mkdir(parents=True, exist_ok=True)
        self.path.chmod(_MODE_TRAVERSABLE)
        lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            holder = holder_pid(self.path)
            raise StackError(
                f"{self.path} is in use (pid {holder or 'unknown'}). Stop that with Ctrl-C in its terminal, "
                f"or with: {shlex.join([sys.executable, '-m', 'devstack', 'down', '--data', str(self.path)])}"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        self._load()

    def release(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def save(self) -> None:
        """Write the state so that a crash leaves either the old or the new one."""
        target = self.path / "state.json"
        draft = target.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self.state), indent=1))
        draft.replace(target)

    def _load(self) -> None:
        path = self.path / "state.json"
        if path.exists():
            try:
                self.state = State(**json.loads(path.read_text()))
            except (ValueError, TypeError) as error:
                raise StackError(
                    f"{path} cannot be read ({error}). It holds the passwords of the data beside it: restore "
                    f"it, or forget the data with: python -m devstack reset --data {self.path}"
                ) from error


def holder_pid(path: Path) -> int | None:
    """Return the pid of the supervisor that holds the folder; None when nobody does."""
    lock = path / "lock"
    if not lock.exists():
        return None
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            with contextlib.suppress(ValueError):
                return int(handle.read())
    return None

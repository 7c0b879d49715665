"""The supervisor at the terminal: `python -m devstack up | down | reset`."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from devstack.datadir import holder_pid
from devstack.stack import SERVICES, Stack, StackError, StackOptions

_DEFAULT_DATA = Path(".data/devstack")
_WATCH_EVERY_SECONDS = 1.0
_DOWN_SECONDS = 30.0


def _path(text: str) -> Path:
    return Path(text).expanduser()  # make hands on a ~ that the shell left alone


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the words of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m devstack",
        description="NATS, Postgres, S3, vector and Tika servers on 127.0.0.1, for development and tests. "
        "They keep their data in one folder and end with this program.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the servers and stay until Ctrl-C")
    up.add_argument("--base-port", type=int, help="first of 16 ports (default: those of the last start)")
    up.add_argument("--env-file", type=Path, help="write the settings here, for other programs to read")
    up.add_argument("--only", help=f"comma-separated part of {', '.join(sorted(SERVICES))}")
    down = commands.add_parser("down", help="stop the supervisor that holds the folder")
    reset = commands.add_parser("reset", help="forget all data (the servers must be down)")
    for command in (up, down, reset):
        command.add_argument("--data", type=_path, default=_DEFAULT_DATA, help="data folder (%(default)s)")
    return parser.parse_args(argv)


def up(words: argparse.Namespace) -> None:
    """Start the servers, print their addresses as shell lines, wait."""
    services = frozenset(words.only.split(",")) if words.only else SERVICES
    options = StackOptions(words.data, base_port=words.base_port, services=services)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    with Stack(options, on_event=_tell) as stack:
        settings = shell_lines(stack.environment)
        sys.stdout.write(settings)
        sys.stdout.flush()
        if words.env_file:
            write_private(words.env_file, settings)
        _tell(f"ready; data in {words.data}, logs in {words.data / 'logs'}; Ctrl-C stops")
        watch(stack, services, stopping)
        _tell("stopping")


def watch(stack: Stack, services: frozenset[str], stopping: threading.Event) -> None:
    """Wait for the end; bring back a server that died meanwhile."""
    while not stopping.wait(_WATCH_EVERY_SECONDS):
        for name in services:
            if not stack.alive(name) and not stopping.is_set():
                _tell(f"{name} died, starting it again (log: {stack.log(name)})")
                stack.restart(name)


def down(words: argparse.Namespace) -> None:
    """Ask the holder of the folder to stop, and wait until it has."""
    pid = holder_pid(words.data)
    if pid is None:
        _tell(f"nothing runs in {words.data}")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_SECONDS
    while holder_pid(words.data) is not None:
        if time.monotonic() > deadline:
            raise StackError(f"The supervisor (pid {pid}) did not stop in {_DOWN_SECONDS:.0f} s")
        time.sleep(0.1)
    _tell("stopped")


def reset(words: argparse.Namespace) -> None:
    """Delete the data folder, which must be one of ours and not in use."""
    if not words.data.exists():
        _tell(f"{words.data} is not there")
        return
    if (pid := holder_pid(words.data)) is not None:
        raise StackError(f"{words.data} is in use by pid {pid}; stop it first")
    if not (words.data / "state.json").exists():
        raise StackError(f"{words.data} holds no state.json, so it is no data folder of ours: not deleted")
    shutil.rmtree(words.data)
    _tell(f"{words.data} is gone")


def shell_lines(environment: Mapping[str, str]) -> str:
    """Return NAME=value lines that a shell and an env file both read."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))


def write_private(path: Path, text: str) -> None:
    """Write a file with passwords in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    path.touch(mode=0o600)
    path.write_text(text)


def _tell(message: str) -> None:
    print(f"devstack: {message}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 1 and one message for what a person can mend."""
    words = parse(argv)
    try:
        {"up": up, "down": down, "reset": reset}[words.command](words)
    except StackError as error:
        _tell(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

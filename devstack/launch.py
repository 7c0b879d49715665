"""Becomes a server process that ends when its supervisor does.

Run as `python -I -S launch.py SIGNAL PARENT_PID UID GID OPEN_FILES -- argv…`; standard library only,
because it runs before every server. It replaces itself with the server, so the server's pid is the one
that was started. Setting the death signal here, not in a preexec hook, leaves the supervisor its threads.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys

_PR_SET_PDEATHSIG = 1


def become_user(uid: int, gid: int) -> None:
    """Drop from root to a plain user; -1 keeps the present one."""
    if uid < 0:
        return
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with_parent(signal_number: int, parent_pid: int) -> None:
    """Ask Linux for a signal when the supervisor ends; elsewhere the next start clears what is left."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:  # it ended before we asked
        sys.exit(1)


def raise_file_limit(wanted: int) -> None:
    """Lift the soft limit on open files towards `wanted`, never above the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))


def main(argv: list[str]) -> None:
    """Parse the fixed arguments and become the server."""
    signal_number, parent_pid, uid, gid, open_files = (int(word) for word in argv[:5])
    command = argv[6:]
    raise_file_limit(open_files)
    become_user(uid, gid)  # before the death signal: changing user clears it
    die_with_parent(signal_number, parent_pid)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted between us and the server


if __name__ == "__main__":
    main(sys.argv[1:])

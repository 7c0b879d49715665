"""Blocks of loopback ports: where they may lie, whether one is free, how a new one is chosen."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable

from devstack.errors import StackError

HOST = "127.0.0.1"
BLOCK = 16

# SeaweedFS listens for gRPC at its HTTP port + 10000; both must stay below 32768, where Linux begins to
# hand out ports to outgoing connections.
GRPC_OFFSET = 10_000
_ANOTHER_PORT = 8090
_LOWEST, _HIGHEST = 12_000, 22_000 - BLOCK


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now; connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def require_free(port: int) -> None:
    """Raise StackError when nothing could listen on the port now, with the cause and the way out."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            cause = error.strerror if isinstance(error, OSError) else "ports end at 65535"
            raise StackError(f"PORT={port}: {cause}. Choose another, such as PORT={_ANOTHER_PORT}") from error


def taken(base: int, *, with_grpc: Iterable[int] = ()) -> list[int]:
    """Return the ports of the block at `base` that somebody else holds."""
    wanted = [base + offset for offset in range(BLOCK)]
    wanted += [base + offset + GRPC_OFFSET for offset in with_grpc]
    return [port for port in wanted if not is_free(port)]


def choose_base(*, with_grpc: Iterable[int] = ()) -> int:
    """Return the first port of a free block; random, so that parallel supervisors do not meet."""
    offsets = tuple(with_grpc)
    for _ in range(200):
        base = random.randrange(_LOWEST, _HIGHEST, BLOCK)  # noqa: S311 - not a secret
        if not taken(base, with_grpc=offsets):
            return base
    raise RuntimeError(f"No free block of {BLOCK} ports between {_LOWEST} and {_HIGHEST} on {HOST}")

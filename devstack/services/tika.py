"""The Tika server: native Tika behind the part of Tika server's REST interface that the product uses."""

from __future__ import annotations

import signal
from typing import ClassVar

from devstack.ports import HOST
from devstack.process import Command
from devstack.services.base import Site, http_ok, python_command

_PORT = 5


class Tika:
    """`devstack.tika_server`."""

    name: ClassVar[str] = "tika"
    grpc_offsets: ClassVar[tuple[int, ...]] = ()
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    grace_seconds: ClassVar[float] = 5.0

    def __init__(self, site: Site) -> None:
        self._site = site

    def prepare(self) -> None:
        """Nothing is kept on disk."""

    def command(self) -> Command:
        """Return what to run."""
        argv, environment = python_command("devstack.tika_server", "--port", str(self._site.port(_PORT)))
        return Command(argv, environment=environment | {"TMPDIR": str(self._site.run)})

    def healthy(self) -> bool:
        """Tell whether a parser child is ready."""
        return http_ok(self._site.port(_PORT), "/version")

    def cleanup(self) -> None:
        """Nothing is left behind."""

    def environment(self) -> dict[str, str]:
        """Return TIKA_SERVER_ENDPOINT."""
        return {"TIKA_SERVER_ENDPOINT": f"http://{HOST}:{self._site.port(_PORT)}"}

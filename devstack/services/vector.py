"""The vector server: Qdrant's engine behind the part of Qdrant's REST interface that the product uses."""

from __future__ import annotations

import signal
from typing import ClassVar

from devstack.ports import HOST
from devstack.process import Command
from devstack.services.base import Site, http_ok, python_command

_PORT = 4


class Vector:
    """`devstack.vector_server`."""

    name: ClassVar[str] = "vector"
    grpc_offsets: ClassVar[tuple[int, ...]] = ()
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    grace_seconds: ClassVar[float] = 10.0

    def __init__(self, site: Site) -> None:
        self._site = site

    def prepare(self) -> None:
        """Make the data folder."""
        self._site.data.mkdir(parents=True, exist_ok=True)

    def command(self) -> Command:
        """Return what to run."""
        words = ["--data", str(self._site.data), "--port", str(self._site.port(_PORT))]
        argv, environment = python_command("devstack.vector_server", *words)
        return Command(argv, environment=environment)

    def healthy(self) -> bool:
        """Tell whether every collection is loaded."""
        return http_ok(self._site.port(_PORT), "/readyz")

    def cleanup(self) -> None:
        """Nothing is left behind."""

    def environment(self) -> dict[str, str]:
        """Return QDRANT_URL."""
        return {"QDRANT_URL": f"http://{HOST}:{self._site.port(_PORT)}"}

"""NATS with JetStream on files: the queue server, the same program as in production."""

from __future__ import annotations

import json
import signal
from typing import ClassVar

from devstack.ports import HOST
from devstack.process import Command
from devstack.services.base import Site, executable, http_ok

_CLIENT, _MONITOR = 0, 1

# How long an acknowledged message may sit in the page cache only. A killed server loses nothing either
# way; this is about a power cut. Jobs are rows in Postgres and are published again when the stream lost
# them, so a few seconds are cheap here; "always" would halve the publish rate.
_SYNC_INTERVAL_DURABLE, _SYNC_INTERVAL_TESTS = "5s", "2m"


class Nats:
    """nats-server 2.15 on loopback."""

    name: ClassVar[str] = "nats"
    grpc_offsets: ClassVar[tuple[int, ...]] = ()
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    grace_seconds: ClassVar[float] = 5.0

    def __init__(self, site: Site) -> None:
        self._site = site
        self._config = site.run / "nats.conf"

    def prepare(self) -> None:
        """Write the configuration file."""
        self._site.data.mkdir(parents=True, exist_ok=True)
        sync = _SYNC_INTERVAL_DURABLE if self._site.durable else _SYNC_INTERVAL_TESTS
        self._config.write_text(
            f'server_name: "devstack-{self._site.base_port}"\n'
            f'host: "{HOST}"\n'
            f"port: {self._site.port(_CLIENT)}\n"
            f'http: "{HOST}:{self._site.port(_MONITOR)}"\n'
            "jetstream {\n"
            f"  store_dir: {json.dumps(str(self._site.data))}\n"
            "  max_memory_store: 256MB\n"
            "  max_file_store: 16GB\n"
            f"  sync_interval: {sync}\n"
            "}\n"
        )

    def command(self) -> Command:
        """Return what to run."""
        return Command([executable("nats-server"), "-c", str(self._config)])

    def healthy(self) -> bool:
        """Tell whether JetStream is ready."""
        return http_ok(self._site.port(_MONITOR), "/healthz?js-enabled-only=true")

    def cleanup(self) -> None:
        """Nothing is left behind."""

    def environment(self) -> dict[str, str]:
        """Return NATS_URL and the address of the monitoring pages."""
        return {
            "NATS_URL": f"nats://{HOST}:{self._site.port(_CLIENT)}",
            "NATS_MONITORING_URL": f"http://{HOST}:{self._site.port(_MONITOR)}",
        }

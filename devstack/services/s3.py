"""SeaweedFS as the S3 server, kept on loopback, telemetry off, signed requests only."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import ClassVar

from devstack.ports import GRPC_OFFSET, HOST
from devstack.process import Command
from devstack.services.base import Site, executable, http_ok

_S3, _MASTER, _VOLUME, _FILER, _ADMIN = 3, 6, 7, 8, 9
_BUCKET = "semantic-explorer"
_REGION = "us-east-1"
_ROLES = {"s3": _S3, "master": _MASTER, "volume": _VOLUME, "filer": _FILER, "admin": _ADMIN}


class S3:
    """`weed mini`: master, volume, filer and S3 gateway in one process."""

    name: ClassVar[str] = "s3"
    grpc_offsets: ClassVar[tuple[int, ...]] = tuple(_ROLES.values())
    stop_signal: ClassVar[signal.Signals] = signal.SIGKILL  # an orderly stop takes 25 s; the data survives
    grace_seconds: ClassVar[float] = 5.0

    def __init__(self, site: Site) -> None:
        self._site = site
        self._identities = site.run / "s3-identities.json"

    def prepare(self) -> None:
        """Write the one identity that may sign requests."""
        self._site.data.mkdir(parents=True, exist_ok=True)
        # weed reads back the options of its last start from here; ours are all on the command line.
        (self._site.data / "mini.options").unlink(missing_ok=True)
        credentials = {"accessKey": self._site.s3_access_key, "secretKey": self._site.s3_secret_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "explorer", "credentials": [credentials], "actions": actions}
        self._identities.touch(mode=0o600)
        self._identities.write_text(json.dumps({"identities": [identity]}))

    def command(self) -> Command:
        """Return what to run."""
        switches = [
            f"-dir={self._site.data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={self._identities}",
            f"-bucket={_BUCKET}",
        ]
        switches += [f"-{role}.port={self._site.port(offset)}" for role, offset in _ROLES.items()]
        limits = {"TMPDIR": str(self._site.run), "GOMEMLIMIT": "384MiB"}
        return Command([executable("weed"), "-logtostderr=true", "mini", *switches], environment=limits)

    def healthy(self) -> bool:
        """Tell whether the gateway answers and the bucket is there."""
        port = self._site.port(_S3)
        if not http_ok(port, "/healthz"):
            return False
        # A master that can place an object knows its volumes; before that the gateway answers, reads fail.
        if not http_ok(self._site.port(_MASTER), "/dir/assign"):
            return False
        # The filer shows a bucket as a folder, without a signature.
        return http_ok(self._site.port(_FILER), f"/buckets/{_BUCKET}/?limit=1")

    def cleanup(self) -> None:
        """Remove the sockets that weed leaves in /tmp when it is ended hard; their names hold our ports."""
        for role, offset in _ROLES.items():
            port = self._site.port(offset)
            Path(f"/tmp/seaweedfs-{role}-grpc-{port + GRPC_OFFSET}.sock").unlink(missing_ok=True)  # noqa: S108
            Path(f"/tmp/seaweedfs-{role}-{port}.sock").unlink(missing_ok=True)  # noqa: S108 - weed's choice

    def environment(self) -> dict[str, str]:
        """Return the settings of the S3 client."""
        return {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{self._site.port(_S3)}",
            "AWS_REGION": _REGION,
            "AWS_ACCESS_KEY_ID": self._site.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self._site.s3_secret_key,
            "S3_BUCKET_NAME": _BUCKET,
            "S3_FORCE_PATH_STYLE": "true",
        }

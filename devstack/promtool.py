"""Finds the promtool that the tests of alerts run, and unpacks Debian's where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devstack.product import ROOT

_UNPACKED = ROOT / ".tools" / "promtool"


def find() -> str | None:
    """Path of a promtool, or None. PROMTOOL overrides."""
    given = os.environ.get("PROMTOOL")  # noqa: TID251 - a tool's setting, not the product's
    return given or shutil.which("promtool") or (str(_UNPACKED) if _UNPACKED.exists() else None)


def main() -> int:
    """Make sure that there is one; says how to get it where it cannot.

    The package is unpacked and not installed: installing it would start a Prometheus.
    """
    if find():
        return 0
    if shutil.which("apt-get") and shutil.which("dpkg"):
        print("· fetching promtool for the tests of alerts", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            _unpack(Path(folder))
        return 0 if find() else 1
    print(
        "The tests of alerts need promtool: install Prometheus, or set PROMTOOL=/path/to/it", file=sys.stderr
    )
    return 1


def _unpack(folder: Path) -> None:
    if os.geteuid() == 0:
        subprocess.run(["apt-get", "-qq", "update"], stdout=subprocess.DEVNULL, check=True)
    # As another user apt cannot write here, and says so each time although nothing fails.
    silence = subprocess.DEVNULL
    subprocess.run(
        ["apt-get", "-qq", "download", "prometheus"], cwd=folder, stdout=silence, stderr=silence, check=True
    )
    (package,) = folder.glob("prometheus_*.deb")
    subprocess.run(["dpkg", "-x", package, folder / "unpacked"], check=True)
    _UNPACKED.parent.mkdir(exist_ok=True)
    shutil.move(folder / "unpacked" / "usr" / "bin" / "promtool", _UNPACKED)


if __name__ == "__main__":
    sys.exit(main())

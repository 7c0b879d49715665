"""`make revision`: writes a migration from what the tables have and a migrated database lacks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from devstack.product import ROOT
from devstack.stack import Stack, StackOptions


def main() -> int:
    """Needs one argument, the message."""
    if len(sys.argv) != 2 or not sys.argv[1].strip():  # noqa: PLR2004
        print('usage: make revision MESSAGE="add x to y"')
        return 2
    number = len(list((ROOT / "alembic" / "versions").glob("*.py"))) + 1
    alembic = str(Path(sys.executable).parent / "alembic")
    revise = [alembic, "revision", "--autogenerate", "--rev-id", f"{number:04}", "-m", sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        options = StackOptions(Path(folder), durable=False, services=frozenset({"postgres"}))
        with Stack(options) as stack:
            environment = {"DATABASE_URL": stack.environment["DATABASE_URL"], "PATH": "/usr/bin:/bin"}
            ruff = str(Path(sys.executable).parent / "ruff")
            tidy = ([ruff, "check", "--quiet", "--fix", "alembic"], [ruff, "format", "--quiet", "alembic"])
            for command in ([alembic, "upgrade", "head"], revise, *tidy):
                subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Which tests run on one worker, and what starts first: so that all workers end at about the same time."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadFileScheduling

# They share the one running product of a worker, and the corpus that a browser uploaded to it.
_ON_ONE_WORKER = ("tests/browser/", "tests/e2e/")
_APART = (
    "tests/e2e/test_restore.py",
    "tests/browser/test_panel_killed.py",
)  # have servers or processes of their own
# The longest, so that none of them is begun when the others are done. The pages of the browser tests show
# whatever is there: before e2e tests fill the shared product.
FIRST = (
    "tests/integration/faults/test_seed.py",  # five minutes of faults, beside all the others
    "tests/browser/",
    "tests/e2e/",
    "tests/integration/broker/faults/",
    "tests/chart/test_start.py",
    "tests/integration/devstack/test_stack.py",
    "tests/integration/broker/test_main_paths.py",
    "tests/integration/broker/test_poison.py",
    "tests/integration/broker/test_processes.py",
    "tests/contract/broker/test_beyond.py",
    "tests/integration/projection/",
    "tests/integration/jobs/test_incremental.py",
    "tests/integration/jobs/test_cancelling.py",
    "tests/integration/web/test_pages.py",
)


def rank(nodeid: str) -> int:
    """Smaller is earlier."""
    return next((place for place, path in enumerate(FIRST) if nodeid.startswith(path)), len(FIRST))


def unit(nodeid: str) -> str:
    """What is not torn apart: a file, or all that share the running product."""
    shares = nodeid.startswith(_ON_ONE_WORKER) and not nodeid.startswith(_APART)
    return "running product" if shares else nodeid.split("::", 1)[0]


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # published without type information
    """Hands out the units in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


def make(config: Any, log: Any) -> Scheduling | None:
    """The scheduler where files are to be kept together (`--dist loadfile`), else none of ours."""
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None

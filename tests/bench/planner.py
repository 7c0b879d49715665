"""Carries out one waiting job as a worker would, and says what memory it took: `planner JOB_ID`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from uuid import UUID

from app.config import Settings
from app.container import build
from tasks import datasets
from tests.bench.report import peak_bytes


def main() -> None:
    """Print {"seconds": ..., "before": bytes, "peak": bytes}."""
    container = build(Settings.from_env())
    container.database.ping()
    services = container.services
    before = peak_bytes(Path("/proc/self/status"))
    started = time.monotonic()
    run = services.jobs.begin(UUID(sys.argv[1]), "bench")
    assert run is not None
    datasets.handlers.entries[run.contract.kind].function(services, run, run.contract)
    seconds, peak = time.monotonic() - started, peak_bytes(Path("/proc/self/status"))
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak}))
    container.close()


if __name__ == "__main__":
    main()

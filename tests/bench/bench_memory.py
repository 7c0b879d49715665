"""`make bench-memory`: peak memory of the web process and of the process that plans, by size of the dataset.

A dataset of items with ten chunks each is put into Postgres as rows. A fresh web process then makes its
transform, which records the plan, and answers what a person looks at afterwards; a fresh process with the
pool's code carries out the plan for real. Nobody takes the jobs that it records. Peak is VmHWM, what the
kernel saw at most. Under four minutes on two cores; --most 100000 leaves out the million. Linux only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.security.principal import SINGLE_USER
from devstack.process import Process
from devstack.product import ROOT
from tests.bench.bed import Bed, bed, make_dataset, make_embedder
from tests.bench.report import Report, arguments, peak_bytes
from tests.support.app_processes import free_port

_SIZES = (10_000, 100_000, 1_000_000)
_CHUNKS = 10
_LOOKS = (
    "/api/dataset-transforms/{transform}/stats",
    "/api/dataset-transforms/{transform}/detailed-stats",
    "/api/dataset-transforms/{transform}/batches?limit=100",
    "/api/datasets/{dataset}/items?page_size=20",
    "/api/datasets/{dataset}/items-summary?page_size=20",
    "/api/datasets?limit=20",
    "/api/embedded-datasets?limit=20",
    "/",
)


@dataclass(frozen=True)
class _Figures:
    chunks: int
    jobs: int
    seconds: float
    planner_before: int
    planner: int
    web_before: int
    web: int

    def row(self) -> list[str]:
        numbers = (self.planner_before, self.planner, self.web_before, self.web)
        return [f"{self.chunks:,}", f"{self.jobs:,}", f"{self.seconds:.1f}", *map(_mebibytes, numbers)]


def main() -> int:
    """Measure, print, and write the section where asked."""
    options = arguments(__doc__, most=_SIZES[-1])
    report = Report("memory", options)
    found: list[_Figures] = []
    with bed() as at:
        at.container.services.owners.ensure(SINGLE_USER)
        embedder = make_embedder(at, SINGLE_USER, "http://127.0.0.1:9/v1", 8)
        for chunks in _SIZES:
            if chunks <= options.most:
                found.append(_measure(at, embedder, chunks))
                print(f"{chunks:,} chunks: {found[-1]}", flush=True)
    head = ["chunks", "jobs planned", "planning, s", "planner at start, MiB", "planner at most, MiB",
            "web at start, MiB", "web at most, MiB"]  # fmt: skip
    report.table("Resident memory at most", head, [each.row() for each in found])
    first, last = found[0], found[-1]
    report.say(
        f"From {first.chunks:,} to {last.chunks:,} chunks the planner's peak changes by "
        f"{_mebibytes(last.planner - first.planner)} MiB, that of the web process by "
        f"{_mebibytes(last.web - first.web)} MiB."
    )
    return report.end()


def _measure(at: Bed, embedder: int, chunks: int) -> _Figures:
    dataset = make_dataset(at, SINGLE_USER, items=chunks // _CHUNKS, chunks=_CHUNKS)
    port = free_port()
    arguments = ("--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "8")
    with at.process("web", sys.executable, "-m", "gunicorn", "wsgi:app", *arguments) as web:
        http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120)
        at.wait("web", lambda: _answers(http), web)
        before = _peak(web)
        body = {"title": f"{chunks}", "source_dataset_id": dataset, "embedder_ids": [embedder]}
        transform = _json(http.post("/api/dataset-transforms", json=body))["transform"][
            "dataset_transform_id"
        ]
        planned = _plan(at, transform)
        for look in _LOOKS * 3:
            http.get(look.format(transform=transform, dataset=dataset)).raise_for_status()
        peak = _peak(web)
        http.close()
    ((jobs,),) = at.sql(
        "SELECT count(*) FROM jobs JOIN embedded_datasets ON scope_id = embedded_dataset_id "
        "WHERE kind = 'embed_items' AND dataset_transform_id = :id",
        id=transform,
    )
    return _Figures(
        chunks, jobs, planned["seconds"], int(planned["before"]), int(planned["peak"]), before, peak
    )


def _plan(at: Bed, transform: int) -> dict[str, float]:
    ((job_id,),) = at.sql(
        "SELECT job_id FROM jobs WHERE kind = 'plan_dataset_transform' AND scope_id = :id", id=transform
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.planner", str(job_id)],
        env={**at.environment, "PATH": "/usr/bin:/bin"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/health/live").is_success
    except httpx.TransportError:
        return False


def _json(answer: httpx.Response) -> Any:
    answer.raise_for_status()
    return answer.json()


def _peak(web: Process) -> int:
    """Of gunicorn's only worker, the child of its arbiter."""
    children = Path(f"/proc/{web.pid}/task/{web.pid}/children").read_text().split()
    return max(peak_bytes(Path(f"/proc/{pid}/status")) for pid in children)


def _mebibytes(number: int) -> str:
    return f"{number / 2**20:.0f}"


if __name__ == "__main__":
    sys.exit(main())

"""`make bench-scaling`: items per second through the datasets pool with 1, 2 and 4 worker processes.

The work is mostly waiting, as with a provider on the network: a stub answers each call after --delay
milliseconds with vectors of --dimensions numbers. Every job embeds 64 items of two passages in two calls and
writes them to Postgres and Qdrant. Workers have --threads threads each; with one, all that grows is the
number of processes. Counted are the items of jobs that end between the end of planning and the moment when
no job is left to begin. About three minutes on two cores.
"""

from __future__ import annotations

import sys

from app.security.principal import SINGLE_USER
from tests.bench.bed import Bed, bed, make_dataset, make_embedder
from tests.bench.report import Report, arguments, spread

_PROCESSES = (1, 2, 4)
_RATE = """
    WITH ours AS (SELECT jobs.* FROM jobs JOIN embedded_datasets AS target
                  ON scope_kind = 'embedded_dataset' AND scope_id = target.embedded_dataset_id
                  WHERE target.dataset_transform_id = :transform),
    span AS (SELECT greatest(min(ours.finished_at),
                             (SELECT max(finished_at) FROM jobs WHERE kind = 'plan_dataset_transform'
                              AND scope_id = :transform)) AS since, max(ours.started_at) AS until FROM ours)
    SELECT sum(jsonb_array_length(arguments->'item_ids')), extract(epoch FROM max(until) - max(since))
    FROM ours, span WHERE finished_at > since AND finished_at <= until
"""


def main() -> int:
    """Measure, print, and write the section where asked."""
    options = arguments(__doc__, rounds=3, items=4096, threads=1, delay=150, dimensions=384)
    report = Report("scaling", options)
    rates: dict[int, list[float]] = {processes: [] for processes in _PROCESSES}
    with bed() as at, at.provider(milliseconds=options.delay, dimensions=options.dimensions) as url:
        at.container.services.owners.ensure(SINGLE_USER)
        embedder = make_embedder(at, SINGLE_USER, url, options.dimensions)
        for number in range(options.rounds):
            for processes in _PROCESSES[:: 1 if number % 2 == 0 else -1]:
                rate = _measure(at, embedder, processes, options.threads, options.items)
                rates[processes].append(rate)
                print(f"round {number + 1}, {processes} processes: {rate:.0f} items/s", flush=True)
    caption = f"Items of two passages, {options.threads} thread(s) per process, {options.delay} ms per call"
    head = ["processes", "items/s", "over one process"]
    report.table(caption, head, [_row(processes, rates) for processes in _PROCESSES])
    return report.end()


def _measure(at: Bed, embedder: int, processes: int, threads: int, items: int) -> float:
    dataset = make_dataset(at, SINGLE_USER, items=items, chunks=2)
    with at.workers("datasets", processes=processes, threads=threads) as process:
        transform = at.container.services.dataset_transforms.create(
            SINGLE_USER, title="Bench", source_dataset_id=dataset, embedder_ids=[embedder]
        ).dataset_transform_id
        at.wait("datasets", lambda: _is_done(at, transform, items), process)
    ((done, seconds),) = at.sql(_RATE, transform=transform)
    return float(done) / float(seconds)


def _is_done(at: Bed, transform: int, items: int) -> bool:
    ((done,),) = at.sql(
        """SELECT count(*) FROM item_embeddings JOIN embedded_datasets USING (embedded_dataset_id)
           WHERE dataset_transform_id = :transform AND state = 'succeeded'""",
        transform=transform,
    )
    return bool(done == items)


def _row(processes: int, rates: dict[int, list[float]]) -> list[str]:
    ratios = [many / one for many, one in zip(rates[processes], rates[1], strict=True)]
    return [str(processes), spread(rates[processes], 0), spread(ratios, 2)]


if __name__ == "__main__":
    sys.exit(main())

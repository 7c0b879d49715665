"""`make bench-fairness`: how long one tenant's file takes alone, and beside another tenant's 10,000.

Bob uploads a file and waits until its passages can be found: extraction, planning, embedding. First on an
idle system, --samples times one after the other; then Ann's files, stored objects and rows like his, are
planned at once, and as soon as both pools are busy with them Bob uploads as many again. Both pools run as one
process of --threads threads, and a stub answers each call for vectors after --delay milliseconds. About three
minutes on two cores; most of it is spent on storing Ann's files.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from uuid import uuid4

from app.security.principal import Principal
from app.services.uploads import Upload
from tests.bench.bed import Bed, bed, make_embedder
from tests.bench.report import Report, arguments, spread

ANN, BOB = Principal("ann", "Ann"), Principal("bob", "Bob")
_TEXT = "The keeper of the light wrote into the log what the night had brought, and went to sleep.\n" * 40
_DIMENSIONS = 384
_SPINNING_UP = 50  # of Ann's files through the whole pipeline: then it is as busy as it gets


@dataclass(frozen=True)
class _Pile:
    """A tenant's collection with all that reads it."""

    owner: Principal
    collection: int
    files_transform: int
    items_transform: int


def main() -> int:
    """Measure, print, and write the section where asked."""
    options = arguments(__doc__, files=10_000, samples=10, threads=10, delay=150)
    report = Report("fairness", options)
    with bed() as at, at.provider(milliseconds=options.delay, dimensions=_DIMENSIONS) as url:
        piles = [_make_pile(at, owner, url) for owner in (ANN, BOB)]
        prefix = _store_objects(at, options.files)
        print(f"{options.files:,} objects stored", flush=True)
        with (
            at.workers("collections", processes=1, threads=options.threads),
            at.workers("datasets", processes=1, threads=options.threads),
        ):
            _wait_for(at, piles[1], "warm up")
            begun = _now(at)
            alone = list(_samples(at, piles[1], options.samples, "alone"))
            _upload_at_once(at, piles[0], prefix, options.files)
            at.wait("datasets", lambda: _embedded(at, piles[0]) >= _SPINNING_UP)
            busy_since = _now(at)
            started, before = time.monotonic(), _embedded(at, piles[0])
            beside = list(_samples(at, piles[1], options.samples, "beside"))
            rate = (_embedded(at, piles[0]) - before) / (time.monotonic() - started)
            left = options.files - _embedded(at, piles[0])
        stages = {"alone": _stages(at, begun, busy_since), "beside": _stages(at, busy_since, _now(at))}
    ratios = [one / statistics.median(alone) for one in beside]
    head = ["Bob's file", "seconds", "over the median alone"]
    rows = [["alone", spread(alone, 2), "1"], ["beside Ann's", spread(beside, 2), spread(ratios, 2)]]
    report.table(f"One file of {len(_TEXT) // 1000} kB, {options.samples} times each", head, rows)
    report.say(f"Meanwhile {rate:.0f} of Ann's files per second were done; {left:,} were left in the end.")
    head = ["Bob's job", "waits alone, ms", "runs alone, ms", "waits beside, ms", "runs beside, ms"]
    kinds = stages["alone"]
    rows = [[kind, *kinds[kind], *stages["beside"].get(kind, ("", ""))] for kind in kinds]
    report.table("Medians of what his jobs spend before they begin, and until they end", head, rows)
    return report.end()


def _make_pile(at: Bed, owner: Principal, url: str) -> _Pile:
    services = at.container.services
    services.owners.ensure(owner)
    collection = services.collections.create(owner, title="Files").collection_id
    dataset = services.datasets.create(owner, title="Texts").dataset_id
    reading = services.collection_transforms.create(
        owner, title="read", collection_id=collection, dataset_id=dataset
    )
    embedding = services.dataset_transforms.create(
        owner,
        title="embed",
        source_dataset_id=dataset,
        embedder_ids=[make_embedder(at, owner, url, _DIMENSIONS)],
    )
    return _Pile(owner, collection, reading.collection_transform_id, embedding.dataset_transform_id)


def _store_objects(at: Bed, number: int) -> str:
    """The contents of Ann's files; the prefix of their keys."""
    content, blobs, prefix = _TEXT.encode(), at.container.blobs, f"files/{uuid4().hex}"
    with ThreadPoolExecutor(8) as pool:
        keys = (f"{prefix}-{place}" for place in range(1, number + 1))
        list(pool.map(lambda key: blobs.put_bytes(key, content, media_type="text/plain"), keys))
    return prefix


def _upload_at_once(at: Bed, pile: _Pile, prefix: str, number: int) -> None:
    at.sql(
        """INSERT INTO files (owner_id, collection_id, name, media_type, size_bytes, content_hash, object_key)
           SELECT :owner, :collection, n || '.txt', 'text/plain', :size, repeat('0', 64), :prefix || '-' || n
           FROM generate_series(1, :number) AS n""",
        owner=pile.owner.owner_id, collection=pile.collection, size=len(_TEXT), prefix=prefix, number=number,
    )  # fmt: skip
    at.container.services.collection_transforms.trigger(pile.owner, pile.files_transform)


def _samples(at: Bed, pile: _Pile, number: int, label: str) -> Iterator[float]:
    for place in range(number):
        seconds = _wait_for(at, pile, f"{label} {place}")
        print(f"{label} {place + 1}: {seconds:.2f} s", flush=True)
        yield seconds


def _wait_for(at: Bed, pile: _Pile, name: str) -> float:
    """Upload a file and wait until its passages have their vectors; the seconds that took."""
    expected, started = _embedded(at, pile) + 1, time.monotonic()
    upload = Upload(f"{name}.txt", BytesIO(f"{name}\n{_TEXT}".encode()))
    at.container.services.files.upload(pile.owner, pile.collection, [upload])
    at.wait("datasets", lambda: _embedded(at, pile) == expected)
    return time.monotonic() - started


def _now(at: Bed) -> datetime:
    ((now,),) = at.sql("SELECT clock_timestamp()")
    assert isinstance(now, datetime)
    return now


def _stages(at: Bed, since: datetime, until: datetime) -> dict[str, tuple[str, str]]:
    found = at.sql(
        """SELECT kind,
                  percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - created_at)),
                  percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - started_at))
           FROM jobs WHERE owner_id = :owner AND created_at BETWEEN :since AND :until AND state = 'succeeded'
           GROUP BY kind ORDER BY min(created_at)""",
        owner=BOB.owner_id, since=since, until=until,
    )  # fmt: skip
    return {kind: (f"{1000 * waits:.0f}", f"{1000 * runs:.0f}") for kind, waits, runs in found}


def _embedded(at: Bed, pile: _Pile) -> int:
    ((done,),) = at.sql(
        """SELECT count(*) FROM item_embeddings JOIN embedded_datasets USING (embedded_dataset_id)
           WHERE dataset_transform_id = :transform AND state = 'succeeded'""",
        transform=pile.items_transform,
    )
    return int(done)


if __name__ == "__main__":
    sys.exit(main())

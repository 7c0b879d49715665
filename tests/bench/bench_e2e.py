"""`make bench-e2e`: documents per second through the whole product, beside the same stages in one plain loop.

Two corpora: the demo's, and the HTML pages of Debian's python3.11-doc (--data takes a folder in its place,
--every 4 every fourth page). Each round runs product and loop one after the other, in an order that
alternates, on servers with fresh data. Some five minutes for each round of both corpora on two cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from devstack import corpus
from devstack.client import Client, Pile
from devstack.loading import Loader
from devstack.product import ROOT, Product
from devstack.stack import Stack, StackOptions
from tests.bench.report import Report, arguments, spread

_CHUNKING: dict[str, Any] = {"strategy": "recursive", "chunk_size": 1000, "chunk_overlap": 0}
_CHUNKS_PER_BATCH = 64


@dataclass(frozen=True)
class Result:
    """Seconds for a corpus; `first_answer` only where there is something to ask."""

    seconds: float
    files: int
    chunks: int
    first_answer: float | None = None

    @property
    def rate(self) -> float:
        return self.files / self.seconds


def product(files: Sequence[Path], port: int) -> Result:
    """Upload through the API and wait until every passage has its vector."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Stack(StackOptions(Path(folder))) as stack,
        Product(stack.environment, data_dir=Path(folder), port=port) as running,
    ):
        client = Client(running.base_url)
        started = time.monotonic()
        loader = Loader(client, Console(quiet=True), started)
        timings = loader.load(files, Pile("Bench", Path(folder) / "pile.json"), build_map=False)
        client.close()
    assert timings.vectors is not None
    counts = timings.counts
    return Result(timings.vectors, counts["files"], counts["chunks"], timings.first_answer)


def plain_loop(files: Sequence[Path], port: int) -> Result:
    """The same readers, cutter, model and store, one file after the other in one process; no job, no row."""
    del port
    from app.pipeline.chunking import registry as chunkers
    from app.pipeline.embedding.base import EmbedderSpec
    from app.pipeline.embedding.registry import build
    from app.pipeline.extraction import registry as extractors
    from app.pipeline.extraction.context import ExtractionContext
    from app.security.outbound import OutboundClient
    from app.storage.qdrant import VectorStore, VectorStoreOptions

    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Stack(StackOptions(Path(folder))) as stack:
        context = ExtractionContext(stack.environment["TIKA_SERVER_ENDPOINT"])
        store = VectorStore(VectorStoreOptions(stack.environment["QDRANT_URL"]))
        spec = EmbedderSpec(provider="local", model="all-MiniLM-L6-v2", dimensions=384)
        embedder = build(spec, OutboundClient(), cache_dir=ROOT / ".data" / "models")
        chunker = chunkers.build(chunkers.parse_chunking_config(_CHUNKING))
        started = time.monotonic()
        store.ensure_index("bench", 384)
        read, written = 0, 0

        def passages() -> Iterator[tuple[int, int, str]]:
            nonlocal read
            for number, path in enumerate(files):
                try:
                    document = extractors.extract(extractors.open_source(path, path.name), context)
                except Exception as error:  # noqa: BLE001 - a loop in a script would do just this
                    print(f"  not read: {path.name}: {error}")
                    continue
                read += 1
                for position, chunk in enumerate(chunker.chunk(document)):
                    yield number, position, chunk.text

        for batch in _batches(passages()):
            vectors = embedder.embed([text for _, _, text in batch], purpose="document").vectors
            ids = [_point_id(number, position) for number, position, _ in batch]
            store.upsert("bench", ids, vectors, [{"item_id": number} for number, _, _ in batch])
            written += len(batch)
        seconds = time.monotonic() - started
        store.close()
    return Result(seconds, read, written)


def _point_id(number: int, position: int) -> Any:
    from app.ids import chunk_id

    return chunk_id(number, position, position + 1, "")


def _batches(passages: Iterator[tuple[int, int, str]]) -> Iterator[list[tuple[int, int, str]]]:
    batch: list[tuple[int, int, str]] = []
    for passage in passages:
        batch.append(passage)
        if len(batch) == _CHUNKS_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def corpora(data: str, every: int) -> dict[str, list[Path]]:
    """Name → files; what cannot be had here is left out and said so."""
    folder = ROOT / ".data" / "bench"
    demo = folder / "corpus"
    corpus.write(demo, docs=ROOT / "docs")
    found = {"demo corpus": sorted(demo.iterdir())}
    pages = Path(data) if data else _python_docs(folder)
    if pages is None:
        print("python3.11-doc cannot be had here (no apt-get): give --data FOLDER; leaving it out")
    else:
        name = "python3.11-doc, HTML" + (f", every {every}th page" if every > 1 else "")
        found[name] = sorted(pages.rglob("*.html"))[::every]
    return found


def _python_docs(folder: Path) -> Path | None:
    target = folder / "python3.11-doc"
    if not target.exists():
        if not shutil.which("apt-get"):
            return None
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", "python3.11-doc"],
            cwd=folder,
            check=True,
        )
        (package,) = folder.glob("python3.11-doc_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(target)], check=True)
        package.unlink()
    return target


def main() -> int:
    """Run every round and report."""
    options = arguments(__doc__, rounds=3, every=1, data="")
    report = Report("e2e", options)
    rows: list[list[str]] = []
    for name, files in corpora(options.data, options.every).items():
        results: dict[str, list[Result]] = {"product": [], "plain loop": []}
        for number in range(options.rounds):
            runners: list[tuple[str, Callable[[Sequence[Path], int], Result]]] = [
                ("product", product), ("plain loop", plain_loop),
            ]  # fmt: skip
            for label, run in runners[:: 1 if number % 2 == 0 else -1]:
                result = run(files, 18200 + number)
                results[label].append(result)
                said = f"{result.seconds:.1f} s, {result.rate:.1f} files/s"
                print(f"{name}, round {number + 1}, {label}: {said}", flush=True)
        rows += _rows(name, results)
    report.say(_WAYS)
    head = [
        "corpus",
        "way",
        "files",
        "passages",
        "seconds",
        "files/s",
        "passages/s",
        "first answer, s",
        "time over the loop's",
    ]
    report.table("Median (least-most) of all rounds", head, rows)
    return report.end()


def _rows(name: str, results: dict[str, list[Result]]) -> Iterator[list[str]]:
    ratios = [p.seconds / q.seconds for p, q in zip(*results.values(), strict=True)]
    for label, runs in results.items():
        first = [run.first_answer for run in runs if run.first_answer is not None]
        yield [
            name,
            label,
            str(runs[0].files),
            str(runs[0].chunks),
            spread([run.seconds for run in runs]),
            spread([run.rate for run in runs]),
            spread([run.chunks / run.seconds for run in runs], 0),
            spread(first) if first else "n/a",
            spread(ratios, 2) if label == "product" else "1",
        ]


_WAYS = """The *plain loop* calls the same readers, cutter, local model and vector store for one file after
the other in one process. It writes no rows, keeps no text, survives no crash and answers nobody meanwhile.
The *product* uploads over HTTP and runs web, three pools and five servers on the same cores; its time runs
from the first upload to the last vector. Time over the loop's is the price of everything else."""


if __name__ == "__main__":
    sys.exit(main())

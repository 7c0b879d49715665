"""Loads files through the API and shows live how they become passages, vectors and a map."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from devstack.client import Client, Pile
from devstack.errors import StackError

_FILES_PER_REQUEST = 20
_BYTES_PER_REQUEST = 32 * 2**20
_UPLOADS_AT_ONCE = 2
_POLL_SECONDS = 0.5
_FAILURES_SHOWN = 10


@dataclass(slots=True)
class Timings:
    """Seconds since the servers were up, and what was loaded."""

    first_answer: float | None = None
    vectors: float | None = None
    map: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The milestones in one line."""
        moments = {"first answer": self.first_answer, "all vectors": self.vectors, "map": self.map}
        return ", ".join(f"{name} after {seconds:.0f} s" for name, seconds in moments.items() if seconds)


class Loader:
    """`up` is the moment the servers were up, by time.monotonic."""

    def __init__(self, client: Client, console: Console, up: float) -> None:
        self._client, self._console, self._up = client, console, up
        self._timings = Timings()

    def load(
        self, files: Sequence[Path], pile: Pile, *, root: Path | None = None, build_map: bool = True
    ) -> Timings:
        """Upload what is not there yet, wait for vectors, build the map; returns when all is done.

        Names keep their folders below `root`, which is the deepest folder with all files when not given.
        """
        self._client.make(pile)
        columns = (
            TextColumn("  {task.description:<9}"), BarColumn(30), MofNCompleteColumn(),
            TimeRemainingColumn(compact=True), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=self._console) as progress:
            self._upload_and_watch(progress, files, pile, root or _common_folder(files))
        self._report()
        if not build_map or not self._timings.counts["chunks"]:
            return self._timings
        with Progress(*columns, console=self._console) as progress:
            self._map(progress, pile)
        return self._timings

    def _upload_and_watch(self, progress: Progress, files: Sequence[Path], pile: Pile, root: Path) -> None:
        bars = {name: progress.add_task(name, total=None, note="") for name in ("upload", "files", "vectors")}
        progress.update(bars["upload"], total=len(files))

        def send(part: Sequence[Path]) -> None:
            self._send(part, root, pile)
            progress.advance(bars["upload"], len(part))

        pool = ThreadPoolExecutor(max_workers=_UPLOADS_AT_ONCE)
        try:
            uploads = [pool.submit(send, part) for part in _requests(files)]
            while not self._show(progress, bars, pile):
                _raise_what_failed(uploads)
                if self._timings.first_answer is None:
                    self._ask(progress, bars["vectors"], pile)
                time.sleep(_POLL_SECONDS)
        finally:
            pool.shutdown(cancel_futures=True)
        if self._timings.counts["chunks"]:
            self._timings.vectors = time.monotonic() - self._up

    def _send(self, part: Sequence[Path], root: Path, pile: Pile) -> None:
        """Upload in one request; when that fails, file by file, so that one file holds up no other."""
        try:
            outcome = self._client.upload(pile.ids["collection_id"], part, root)
        except (StackError, OSError) as error:
            if len(part) == 1:
                cause = error.strerror if isinstance(error, OSError) else error
                self._timings.failures.append(f"{part[0].relative_to(root)}: {cause}")
                return
            for path in part:
                self._send([path], root, pile)
        else:
            self._timings.failures += [f"{one['name']}: {one['error']}" for one in outcome["failed"]]

    def _show(self, progress: Progress, bars: dict[str, TaskID], pile: Pile) -> bool:
        """Update the bars; True when nothing is left to do."""
        files = self._client.get(f"/api/collection-transforms/{pile.ids['collection_transform_id']}/stats")
        vectors = self._client.get(f"/api/dataset-transforms/{pile.ids['dataset_transform_id']}/stats")
        accepted = progress.tasks[bars["upload"]].completed - len(self._timings.failures)
        ready, failed = files["successful_files"], files["failed_files"]
        chunks = vectors["total_chunks_to_process"]
        # A request's files are worked on before its answer is here.
        total = max(accepted, ready + failed) or None
        progress.update(bars["files"], total=total, completed=ready + failed, note=_failed(failed))
        progress.update(bars["vectors"], total=chunks or None, completed=vectors["total_chunks_embedded"])
        self._timings.counts = {"files": ready, "failed": failed, "chunks": vectors["total_chunks_embedded"]}
        uploaded = progress.tasks[bars["upload"]].finished
        return bool(uploaded and ready + failed >= accepted and (not ready or _all_embedded(vectors)))

    def _ask(self, progress: Progress, bar: TaskID, pile: Pile) -> None:
        """The first answer counts once a search finds anything."""
        query = {"query": "licence", "embedded_dataset_ids": [pile.ids["embedded_dataset_id"]], "limit": 1}
        try:
            results = self._client.post("/api/search", query)["results"]
        except StackError:
            return
        if results and results[0]["matches"]:
            self._timings.first_answer = time.monotonic() - self._up
            progress.update(bar, note=f"first answer after {self._timings.first_answer:.0f} s")

    def _map(self, progress: Progress, pile: Pile) -> None:
        bar = progress.add_task("map", total=100, note="waiting for a worker")
        while True:
            run = self._latest_run(pile)
            if run["status"] == "failed":
                progress.update(bar, visible=False)
                self._console.print(f"· [yellow]no map:[/yellow] {escape(str(run['error_message']))}")
                return
            note = run.get("stage") or {"pending": "waiting for a worker"}.get(run["status"], "")
            progress.update(bar, completed=round(100 * (run.get("progress") or 0)), note=note)
            if run["status"] == "completed":
                break
            time.sleep(_POLL_SECONDS)
        progress.update(bar, completed=100, note=f"{run['cluster_count']} topics")
        self._timings.map = time.monotonic() - self._up
        self._timings.counts |= {"points": run["point_count"], "topics": run["cluster_count"]}

    def _latest_run(self, pile: Pile) -> dict[str, Any]:
        """The newest map; a new one is started when there is none, or when the vectors have changed."""
        ids = pile.ids
        if "visualization_transform_id" not in ids:
            body = {"title": f"{pile.title}: map", "embedded_dataset_id": ids["embedded_dataset_id"]}
            made = self._client.post("/api/visualization-transforms", body)
            ids["visualization_transform_id"] = made["visualization_transform_id"]
        path = f"/api/visualization-transforms/{ids['visualization_transform_id']}"
        run: dict[str, Any] = self._client.get(f"{path}/visualizations", limit=1)["items"][0]
        if run["status"] == "completed" and run["point_count"] != self._timings.counts["chunks"]:
            self._client.post(f"{path}/trigger")
            run = self._client.get(f"{path}/visualizations", limit=1)["items"][0]
        ids["visualization_id"] = run["visualization_id"]
        pile.save()
        return run

    def _report(self) -> None:
        counts = self._timings.counts
        self._console.print(f"· {counts['files']} files, {counts['chunks']} passages with vectors")
        if counts["failed"]:
            self._console.print(f"  [yellow]not read: {counts['failed']}[/yellow]; the collection says why")
        failures = sorted(self._timings.failures)
        for failure in failures[:_FAILURES_SHOWN]:
            self._console.print(f"  [yellow]not taken:[/yellow] {escape(failure)}")
        if len(failures) > _FAILURES_SHOWN:
            self._console.print(f"  … and {len(failures) - _FAILURES_SHOWN} more")


def _requests(files: Sequence[Path]) -> Iterator[list[Path]]:
    part: list[Path] = []
    size = 0
    for path in files:
        part.append(path)
        size += _size_bytes(path)
        if len(part) == _FILES_PER_REQUEST or size > _BYTES_PER_REQUEST:
            yield part
            part, size = [], 0
    if part:
        yield part


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # sending it will say what is the matter


def _common_folder(files: Sequence[Path]) -> Path:
    folders = {path.parent for path in files}
    return folders.pop() if len(folders) == 1 else Path(*_shared_parts([path.parts for path in files]))


def _shared_parts(paths: list[tuple[str, ...]]) -> list[str]:
    shared = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return shared


def _raise_what_failed(uploads: Sequence[Future[None]]) -> None:
    for upload in uploads:
        if upload.done():
            upload.result()


def _failed(count: int) -> str:
    return f"{count} failed" if count else ""


def _all_embedded(stats: dict[str, Any]) -> bool:
    left = stats["total_chunks_to_process"] - stats["total_chunks_embedded"] - stats["total_chunks_failed"]
    return bool(stats["total_chunks_to_process"] and left <= 0)

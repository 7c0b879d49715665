"""Makes maps in a warm child process that is killed at its time limit or when the job is cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn, Self

from app.errors import JobCancelledError
from app.pipeline import sandbox
from app.pipeline.projection import child
from app.pipeline.projection.base import Projection, ProjectionInput
from app.pipeline.projection.naming import Namer, rename_topics
from app.pipeline.sandbox import ChildCrashedError, ChildMemoryError, ChildTimeoutError

# Compiling everything for the first time on a slow machine stays well below.
WARM_LIMIT_SECONDS = 600.0
# "No limit" for the sandbox, which wants a number: 1 TiB.
_UNLIMITED_BYTES = 2**40
_LOCK_POLL_SECONDS = 0.25
_CANCEL_SECONDS = 1.0

OnProgress = Callable[[str, float], None]
ShouldCancel = Callable[[], bool]


class ProjectionRunner:
    """One map at a time per process; further callers wait their turn.

    cache_dir: where compiled loops are kept; filled by the first `warm` or `run`, then only read.
    timeout_seconds: PROCESSING_TIMEOUT_SECS, for one map, waiting for its turn not counted.
    memory_bytes: what one map may allocate on top of the loaded program; None for no limit.
    """

    def __init__(
        self, cache_dir: Path, timeout_seconds: float = 3600.0, memory_bytes: int | None = None
    ) -> None:
        self._cache_dir = cache_dir
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes or _UNLIMITED_BYTES
        self._turn = threading.Lock()

    def warm(self) -> float:
        """Start the child and have it make a small map; returns the seconds that took.

        About 6 s on two cores, 30 s the first time on a machine. A worker calls it before it says ready.
        """
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        with self._turn:
            sandbox.run_in_child(
                f"{child.__name__}:{child.warm.__name__}",
                str(self._cache_dir),
                timeout_seconds=WARM_LIMIT_SECONDS,
                memory_bytes=_UNLIMITED_BYTES,
            )
        return time.monotonic() - started

    def run(
        self,
        job: ProjectionInput,
        *,
        on_progress: OnProgress | None = None,
        should_cancel: ShouldCancel | None = None,
        namer: Namer | None = None,
    ) -> Projection:
        """Make the map of `job`, in the warm child if there is one and else in a fresh one.

        `on_progress(stage, share)`: stage as in `base.Stage`, share of the whole in 0..1, never falling.
        `should_cancel()` is asked about once a second. `namer`, asked in this process, replaces the keyword
        names (`naming.rename_topics`). Temporary files lie beside the vectors.

        Raises InvalidInputError: nothing to map, values that are not finite, texts that do not match.
        Raises JobCancelledError: `should_cancel` said so; the child is dead.
        Raises ChildTimeoutError, ChildMemoryError, ChildCrashedError: permanent, in words for the user.
        """
        watch = _Watch(on_progress, should_cancel)
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        while not self._turn.acquire(timeout=_LOCK_POLL_SECONDS):
            watch.wait()
        try:
            with TemporaryDirectory(dir=job.vectors_path.parent, prefix="map-") as folder:
                projection = self._run(job, Path(folder), watch)
        finally:
            self._turn.release()
        if namer is None or job.texts_path is None:
            return projection
        return rename_topics(projection, job.texts_path, namer, lambda _: watch.progress(("names", 1.0)))

    def close(self) -> None:
        """End the warm children of this process."""
        sandbox.close_idle_children()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, job: ProjectionInput, folder: Path, watch: _Watch) -> Projection:
        try:
            rest = sandbox.run_in_child(
                f"{child.__name__}:{child.run.__name__}",
                str(self._cache_dir),
                str(job.vectors_path.absolute()),
                str(job.texts_path.absolute()) if job.texts_path else None,
                child.describe_config(job.config),
                str(folder.absolute()),
                timeout_seconds=self._timeout_seconds,
                memory_bytes=self._memory_bytes,
                on_progress=watch.progress,
                on_wait=watch.wait,
            )
        except (ChildTimeoutError, ChildMemoryError, ChildCrashedError) as error:
            self._raise_in_words(error, watch)
        return child.load(rest, folder / "result.npz")

    def _raise_in_words(self, error: Exception, watch: _Watch) -> NoReturn:
        at = f"at stage '{watch.stage}' ({watch.share:.0%} done)"
        if isinstance(error, ChildTimeoutError):
            raise ChildTimeoutError(
                f"The map was not finished within {self._timeout_seconds:g} seconds, {at}. "
                "Raise PROCESSING_TIMEOUT_SECS or map fewer passages."
            ) from error
        if isinstance(error, ChildMemoryError):
            raise ChildMemoryError(
                f"The map needs more than {self._memory_bytes // 2**20} MiB of memory, {at}. "
                "Give the visualization workers more memory or map fewer passages."
            ) from error
        raise ChildCrashedError(
            f"The process that made the map ended, {at}: {error}. "
            "SIGKILL usually means that the machine ran out of memory."
        ) from error


class _Watch:
    """Hands progress to the caller, remembers it for error messages, and asks whether to stop."""

    def __init__(self, on_progress: OnProgress | None, should_cancel: ShouldCancel | None) -> None:
        self.stage = "checking"
        self.share = 0.0
        self._on_progress = on_progress
        self._should_cancel = should_cancel
        self._next_question = 0.0

    def progress(self, value: tuple[str, float]) -> None:
        """Pass on what the child reports."""
        self.stage, self.share = value
        if self._on_progress is not None:
            self._on_progress(self.stage, self.share)
        self.wait()

    def wait(self) -> None:
        """Raise when the job was cancelled; asks at most once a second, the answer may cost a query."""
        now = time.monotonic()
        if self._should_cancel is None or now < self._next_question:
            return
        self._next_question = now + _CANCEL_SECONDS
        if self._should_cancel():
            raise JobCancelledError(f"The map was cancelled at stage '{self.stage}'")

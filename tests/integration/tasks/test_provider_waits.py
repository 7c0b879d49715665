"""A run that waits for a provider's answer is stopped without it."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from dramatiq.middleware import Interrupt, Shutdown
from dramatiq.middleware.threading import raise_thread_exception
from sqlalchemy import func, select

from app.errors import ExplorerError
from app.jobs.contracts import ExtractFile
from app.pipeline import remote
from app.pipeline.remote import Remote, RetryPolicy
from app.security.outbound import OutboundClient, OutboundOptions, OutboundResponse
from app.security.principal import Principal
from app.services.jobs import Run
from app.services.provider_client import Fleet, ProviderClient
from app.storage.postgres.tables import ProviderCircuit
from tasks.watch import RunStopped
from tests.integration.tasks.conftest import Pool
from tests.integration.tasks.test_watch import wait_until
from tests.support.providers import Fault, embedding_server

ADA = Principal("ada", "Ada")
ASKED = {"model": "stub", "input": ["hello"]}
_PATIENCE_SECONDS = 40.0  # a small part of what the calls themselves would wait
_POLICY = RetryPolicy(attempts=2, timeout_seconds=3600.0, longest_wait_seconds=3600.0)


class Silent:
    """A provider that takes a request and never answers; notes when the caller has hung up."""

    def __init__(self, listener: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        self.asked, self.left = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def _listen(self, listener: socket.socket) -> None:
        self._caller, _ = listener.accept()
        with self._caller:
            while self._caller.recv(65536):
                self.asked.set()
        self.left.set()

    def hang_up(self) -> None:
        """Let go of who waits still."""
        with suppress(OSError):
            self._caller.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def silent() -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        provider = Silent(listener)
        yield provider
        provider.hang_up()


class Asking(threading.Thread):
    """Calls a provider, as the thread of a run does; `ended` is what came of it."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.ended: object = None
        self.start()

    def run(self) -> None:
        try:
            self.ended = self._call()
        except (Interrupt, ExplorerError) as error:
            self.ended = type(error)

    def reads(self) -> bool:
        """Whether it waits for what the provider says."""
        return sys._current_frames()[self.ident or 0].f_code.co_name == "read"

    def stop(self) -> None:
        """As a worker does whose grace is over."""
        raise_thread_exception(self.ident, Shutdown)  # type: ignore[no-untyped-call]
        self.join(_PATIENCE_SECONDS)


@pytest.fixture
def http() -> Iterator[OutboundClient]:
    client = OutboundClient(OutboundOptions(allowed_hosts=("127.0.0.1",)))
    yield client
    client.close()


def test_a_cancelled_run_does_not_wait_for_the_answer(
    pool: Pool, start: Callable[..., UUID], silent: Silent
) -> None:
    ended: list[type[BaseException]] = []
    made = pool.container
    fleet = Fleet(made.provider_circuits, made.rate_limits, lambda: made.provider_slots)
    client = ProviderClient(OutboundOptions(allowed_hosts=("127.0.0.1",)), fleet)

    def extract(services: Any, run: Run, contract: ExtractFile) -> None:
        del services, run, contract
        try:
            Remote("stub", client, retry=_POLICY).post(silent.url, ASKED)
        except BaseException as error:
            ended.append(type(error))
            raise

    job_id = start(extract)
    assert silent.asked.wait(_PATIENCE_SECONDS)
    made.services.cancelling.job(ADA, job_id)
    assert silent.left.wait(_PATIENCE_SECONDS)
    pool.rest()
    client.close()
    assert ended == [RunStopped]
    assert pool.job().state == "cancelled"
    with made.database.transaction() as session:  # that we left says nothing about the provider
        assert session.scalar(select(func.count()).select_from(ProviderCircuit)) == 0


def test_a_worker_that_shuts_down_hangs_up(silent: Silent, http: OutboundClient) -> None:
    asking = Asking(lambda: Remote("stub", http, retry=_POLICY).post(silent.url, {}))
    assert silent.asked.wait(_PATIENCE_SECONDS)
    wait_until(asking.reads)  # while it still writes, it could be stopped anyway
    asking.stop()
    assert asking.ended is Shutdown
    assert silent.left.wait(_PATIENCE_SECONDS)


def test_nor_does_it_wait_for_the_next_attempt(http: OutboundClient, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()
    pause = remote.pause

    def told_pause(seconds: float) -> None:
        waiting.set()
        pause(seconds)

    monkeypatch.setattr(remote, "pause", told_pause)
    busy = OutboundResponse(503, {"retry-after": "3000"}, b"{}")
    monkeypatch.setattr(http, "request", lambda *_args, **_options: busy)
    asking = Asking(lambda: Remote("stub", http, retry=_POLICY).post("http://127.0.0.1/", {}))
    assert waiting.wait(_PATIENCE_SECONDS)
    asking.stop()
    assert asking.ended is Shutdown


def test_an_answer_that_takes_its_time_is_waited_for(http: OutboundClient) -> None:
    with embedding_server() as server:
        server.faults.append(Fault("slow", seconds=1.2))  # more than two looks whether anybody stops us
        answer = Remote("stub", http).post(f"{server.openai_url}/embeddings", ASKED, attempts=1)
    assert answer.status == 200

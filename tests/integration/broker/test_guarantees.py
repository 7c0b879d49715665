"""What must hold when something is lost, late, broken or away; workers run inside the test."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import BrokerConnectionError, DecodeError, QueueNotFound
from dramatiq.middleware import Middleware

from brokers import (
    BrokerOptions,
    DeadLetterNotFoundError,
    JetStreamBroker,
    MessageTooLargeError,
    NotReplayableError,
    dead_letter,
    inspect,
)
from brokers.jetstream.presence import Presence
from brokers.jetstream.rescue import Patrol
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import (
    QUEUES,
    StartWorker,
    declare,
    message,
    publish_raw,
    take,
    wait_until,
)

_BUSY_SECONDS = 5.0  # that a machine with other work may take beyond what the options say


class Told(Middleware):
    def __init__(self) -> None:
        self.dead: list[tuple[Any, ...]] = []

    def after_dead_letter(self, broker: Any, message: Any, reason: Any, error: Any) -> None:
        self.dead.append((message and message.message_id, str(reason), type(error)))


def test_enqueue_fails_fast_with_dramatiqs_error_while_the_server_is_away(
    broker: JetStreamBroker, server: NatsServer
) -> None:
    broker.enqueue(message("work", "before"))
    server.kill()
    begin = time.monotonic()
    with pytest.raises(BrokerConnectionError, match="does not answer"):
        broker.enqueue(message("work", "during"))
    options = broker.options
    limit = options.connect_timeout_seconds + options.publish_timeout_seconds
    assert time.monotonic() - begin < limit + _BUSY_SECONDS
    server.start()
    wait_until(lambda: _enqueued(broker), 30)
    assert inspect.depths(broker)[0].ready == 2


def _enqueued(broker: JetStreamBroker) -> bool:
    try:
        broker.enqueue(message("work", "after"))
    except BrokerConnectionError:
        return False
    return True


def test_enqueue_to_a_server_that_was_never_there_fails_within_the_limit() -> None:
    broker = JetStreamBroker(BrokerOptions(servers="nats://127.0.0.1:9", connect_timeout_seconds=0.5), QUEUES)
    begin = time.monotonic()
    with pytest.raises(BrokerConnectionError, match=r"127\.0\.0\.1:9"):
        broker.enqueue(message("work", "x"))
    assert time.monotonic() - begin < broker.options.connect_timeout_seconds + _BUSY_SECONDS
    broker.close()


def test_jobs_survive_a_restart_of_the_server_in_the_middle(
    broker: JetStreamBroker, server: NatsServer, start_worker: StartWorker
) -> None:
    done: list[int] = []

    def job(number: int) -> None:
        time.sleep(0.02)
        done.append(number)

    actor = declare(broker, job)
    for number in range(60):
        actor.send(number)
    start_worker()
    wait_until(lambda: len(done) > 10)
    server.kill()
    time.sleep(0.3)
    server.start()
    broker.enqueue(actor.message(60))
    broker.join("quick", timeout=20_000)
    assert sorted(set(done)) == list(range(61))
    assert len(done) <= 61 + 4  # at most what was in hand runs twice


def test_a_retry_that_could_not_be_stored_hands_the_original_back(
    broker: JetStreamBroker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[float] = []

    def flaky() -> None:
        runs.append(time.monotonic())
        if len(runs) < 2:
            raise RuntimeError("try again")

    declare(broker, flaky).send()
    _fail_next_store(broker, monkeypatch)
    start_worker()
    wait_until(lambda: len(runs) == 2)
    assert runs[1] - runs[0] >= 0.4  # hand_back_seconds
    broker.join("quick", timeout=3000)
    assert inspect.depths(broker)[0] == inspect.QueueDepth("quick", 0, 0, 0, 0)


def test_a_callback_that_could_not_be_stored_hands_the_original_back(
    broker: JetStreamBroker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, told = [0], list[Any]()

    def job() -> None:
        runs[0] += 1

    def succeeded(data: Any, result: Any) -> None:
        told.append(data["message_id"])

    on_success = declare(broker, succeeded)
    sent = declare(broker, job).send_with_options(on_success=on_success)
    _fail_next_store(broker, monkeypatch)
    start_worker()
    wait_until(lambda: told)
    assert (runs, told) == ([2], [sent.message_id])


def _fail_next_store(broker: JetStreamBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failures = broker.connection.publish, [1]

    def publish(outgoing: Any) -> list[Exception | None]:
        if failures:
            failures.pop()
            return [BrokerConnectionError("the server went away")]  # type: ignore[no-untyped-call]
        return real(outgoing)

    monkeypatch.setattr(broker.connection, "publish", publish)


def test_a_follower_that_can_never_be_stored_makes_its_message_a_dead_letter(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    first = declare(broker, object, actor_name="first")  # no JSON of it
    second = declare(broker, lambda _: None, actor_name="second")
    steps: Any = dramatiq.pipeline([first.message(), second.message()], broker=broker)
    steps.run()
    start_worker()
    wait_until(lambda: broker.get_queue_message_counts("quick") == (0, 0, 1))
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.actor, letter.reason) == ("first", "follow-up-not-storable")


@pytest.mark.parametrize(
    "payload", [b"", b"\xff\xfe", b"[1, 2]", b'{"queue_name": "quick"}', b'"text"', b"\x00" * 1000]
)
def test_what_cannot_be_read_is_dead_at_once_and_the_next_message_runs(
    broker: JetStreamBroker, start_worker: StartWorker, payload: bytes
) -> None:
    told, done = Told(), list[int]()
    broker.add_middleware(told)
    actor = declare(broker, lambda: done.append(1), actor_name="job")
    publish_raw(broker, payload)
    actor.send()
    start_worker()
    wait_until(lambda: told.dead and done)
    assert told.dead == [(None, "undecodable", DecodeError)]
    (listed,) = dead_letter.list_dead(broker)
    letter = dead_letter.get(broker, listed.id)
    assert (letter.reason, letter.payload, letter.actor) == ("undecodable", payload, None)
    with pytest.raises(NotReplayableError):
        dead_letter.replay(broker, letter.id)


def test_a_worker_buries_what_names_an_unknown_actor_until_it_knows_it(
    broker: JetStreamBroker, start_worker: StartWorker
) -> None:
    told, done = Told(), list[str]()
    broker.add_middleware(told)
    declare(broker, lambda: None, actor_name="known")
    sent = broker.enqueue(message("new", "argument"))
    start_worker()
    wait_until(lambda: told.dead)
    (letter,) = dead_letter.list_dead(broker)
    assert (letter.reason, letter.actor, letter.error_class) == (
        "unknown-actor", "new", "dramatiq.errors.ActorNotFound",
    )  # fmt: skip
    declare(broker, done.append, actor_name="new")
    replayed = dead_letter.replay(broker, letter.id)
    wait_until(lambda: done == ["argument"])
    assert replayed.message_id != sent.message_id
    assert replayed.options["replay_of"] == {
        "dead_letter": letter.id, "message_id": sent.message_id, "reason": "unknown-actor",
        "root": sent.message_id, "depth": 1,
    }  # fmt: skip
    assert dead_letter.list_dead(broker) == []
    with pytest.raises(DeadLetterNotFoundError):
        dead_letter.replay(broker, letter.id)


def test_dead_letters_are_listed_newest_first_in_pages_without_their_payloads(
    broker: JetStreamBroker,
) -> None:
    for _ in range(7):
        publish_raw(broker, b"bad")
        assert next(broker.consume("quick", timeout=100)) is None
    wait_until(lambda: inspect.depths(broker)[0].dead == 7)
    first = dead_letter.list_dead(broker, 3, queue="quick")
    second = dead_letter.list_dead(broker, 10, queue="quick", before=first[-1].id)
    assert [letter.id for letter in [*first, *second]] == [7, 6, 5, 4, 3, 2, 1]
    assert all(letter.payload is None and letter.size_bytes == 3 for letter in first)
    assert dead_letter.list_dead(broker, queue="other") == []
    dead_letter.discard(broker, 7)
    dead_letter.discard(broker, 7)
    assert dead_letter.list_dead(broker, 1)[0].id == 6


def test_a_message_handed_back_often_is_neither_stranded_nor_dead(broker: JetStreamBroker) -> None:
    sent = broker.enqueue(message("work", "wanted"))
    known = set[str]()
    for _ in range(12):  # max_deliver is 5
        consumer, found = take(broker)
        known.add(found.delivery.first_stored_id)
        assert found.message_id == sent.message_id
        assert found.attempt == 0
        consumer.requeue([found])
    assert len(known) == 1
    consumer, found = take(broker)
    consumer.ack(found)
    wait_until(lambda: inspect.depths(broker)[0] == inspect.QueueDepth("quick", 0, 0, 0, 0))


def test_a_message_whose_deliveries_ran_out_unseen_is_found_and_renewed(broker: JetStreamBroker) -> None:
    sent = broker.enqueue(message("work", "stranded"))
    session, spec = broker.connection.session(), broker.specs["quick"]

    async def use_up_all_deliveries() -> None:
        client = await session.client()
        pull = await client.jetstream().pull_subscribe_bind(stream="QUICK", consumer="quick")
        for _ in range(broker.options.max_deliver):
            (found,) = await pull.fetch(1, timeout=2)
            await client.request(found.reply, b"-NAK", 1)
        await pull.unsubscribe()

    broker.connection.run(use_up_all_deliveries())
    assert next(broker.consume("quick", timeout=300)) is None
    patrol = Patrol(session, spec, Presence(session, spec, list))
    for _ in range(2):  # it acts on what it has seen twice
        broker.connection.run(patrol.once())
    consumer, found = take(broker)
    assert found.message_id == sent.message_id
    consumer.ack(found)
    broker.join("quick", timeout=3000)
    for _ in range(2):
        broker.connection.run(patrol.once())
    assert not any(broker.get_queue_message_counts("quick"))


def test_a_finished_message_that_comes_again_is_not_run_again(broker: JetStreamBroker) -> None:
    broker.enqueue(message("work", "once"))
    consumer, found = take(broker)
    answers = broker.running().holdings.answers
    answers.put = lambda *_: None  # type: ignore[method-assign]  # the ack is lost
    consumer.ack(found)
    time.sleep(0.1)
    del answers.put
    wait_until(lambda: inspect.depths(broker)[0].in_flight == 0)  # it came and was acknowledged again
    assert next(consumer) is None


def test_a_job_over_its_time_limit_loses_its_heartbeats(broker: JetStreamBroker) -> None:
    declare(broker, lambda: None, actor_name="work", time_limit=200)
    broker.enqueue(message("work", "hangs"))
    _, found = take(broker)
    broker.emit_before("process_message", found)
    other = JetStreamBroker(broker.options, QUEUES)
    _, again = take(other, 5)  # ack_wait passed: it was given away
    assert again.message_id == found.message_id
    broker.emit_after("process_message", found)
    other.close()


def test_what_is_over_the_limit_never_reaches_a_server(broker: JetStreamBroker) -> None:
    with pytest.raises(MessageTooLargeError, match="pass ids, not contents"):
        broker.enqueue(message("work", "x" * 1_000_000))


def test_a_queue_that_is_not_ours_is_refused_by_name(broker: JetStreamBroker) -> None:
    with pytest.raises(QueueNotFound, match="'nowhere' is not one of"):
        broker.enqueue(message("work", "x", queue="nowhere"))


def test_delays_of_years_are_stored_and_flush_removes_everything(broker: JetStreamBroker) -> None:
    broker.declare_queue("quick")
    broker.enqueue(message("work", "far"), delay=3 * 365 * 86_400_000)
    broker.enqueue(message("work", "now"))
    assert broker.get_queue_message_counts("quick") == (1, 1, 0)
    broker.flush_all()
    assert broker.get_queue_message_counts("quick") == (0, 0, 0)


def test_an_eta_is_kept_by_the_server_and_never_reaches_the_workers_memory(broker: JetStreamBroker) -> None:
    eta = int(time.time() * 1000) + 400
    broker.enqueue(message("work", "eta", eta=eta))
    _, found = take(broker)
    assert time.time() * 1000 >= eta - 20
    assert "eta" not in found.options


def test_the_same_attempt_published_twice_is_stored_once(broker: JetStreamBroker) -> None:
    once = message("work", "twice")
    broker.enqueue(once)
    broker.enqueue(once)
    assert inspect.depths(broker)[0].ready == 1


def test_a_forked_child_opens_its_own_connection(broker: JetStreamBroker) -> None:
    broker.enqueue(message("work", "parent"))
    child = multiprocessing.get_context("fork").Process(
        target=broker.enqueue, args=(message("work", "child"),)
    )
    child.start()
    child.join(10)
    assert child.exitcode == 0
    broker.enqueue(message("work", "parent again"))
    # The server counts what waits for a consumer a moment after it has confirmed it.
    wait_until(lambda: inspect.depths(broker)[0].ready == 3)
    assert 0 < inspect.ping(broker) < 2

"""Replays in traces: one graph from who began a bulk job over each replay to who had sent the letter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dramatiq import Message
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.container import Container
from app.jobs import message_trace
from app.jobs.contracts import ExtractFile
from app.observability import tracing
from app.services.dead_letter_filters import LetterFilter
from app.services.letter_bulks import BulkOrder
from brokers.jetstream import browse
from brokers.jetstream.topology import ready_subject
from tests.integration.dead_letters.conftest import ADMIN, FROZEN, Graveyard
from tests.support.spans import Spans, collecting_spans

LETTERS = 5
REPLAY = BulkOrder("replay", "the account is paid", per_second=500)


@pytest.fixture
def spans(graves: Graveyard, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Begun once the database is open, whose statements are not the matter here."""
    assert graves
    monkeypatch.setattr(tracing, "_provider", None)
    with collecting_spans() as collected:
        assert tracing.configure("test", collected.url)
        yield collected
        tracing.end()


def die_in_a_trace(graves: Graveyard) -> str:
    """A letter of a message that says who sent it; the id of that trace."""
    with tracing.span("upload"):
        here: dict[str, Any] = dict(tracing.inject())
        graves.bury(graves.job(), FROZEN, **here)
        return tracing.current_ids()["trace_id"]


def ready(container: Container) -> list[Message[Any]]:
    """What lies ready on the stream of files, oldest first."""
    connection, found, sequence = container.broker.connection, list[Message[Any]](), 1
    subject = ready_subject(container.broker.options, ExtractFile.queue)
    where: dict[str, Any] = {"next_by_subj": subject}
    session, stream = connection.session(), "COLLECTION_TRANSFORMS"
    while stored := connection.run(browse.one(session, stream, seq=sequence, **where)):
        found.append(Message.decode(stored.payload or b""))
        sequence = stored.sequence + 1
    return found


def line(spans: list[Span], span: Span) -> list[str]:
    """The names from a span up to the first."""
    known = {each.span_id: each for each in spans}
    names, above = list[str](), known.get(span.span_id)
    while above is not None:
        names.append(above.name)
        above = known.get(above.parent_span_id)
    return names


def test_each_step_of_a_bulk_job_is_a_trace_linked_to_who_began_it_and_each_replay_to_its_letter(
    graves: Graveyard, container: Container, spans: Spans
):
    uploads = {die_in_a_trace(graves) for _ in range(LETTERS)}
    graves.indexed()
    bulks = container.services.letter_bulks
    with tracing.span("POST /start", "server"):
        began = tracing.current_ids()["trace_id"]
        bulks.start(ADMIN, bulks.prepare(ADMIN, LetterFilter(), REPLAY).bulk.bulk_id)
    assert container.bulk_runs.run_next()
    sent = ready(container)
    with tracing.span("a later request"):
        assert not container.bulk_runs.run_next()
    tracing.end()
    found = spans.all()
    (bulk,) = (span for span in found if span.name == "bulk replay")
    assert line(found, bulk) == ["bulk replay", "POST /start"]
    # However many letters: the trace of who began it does not grow with them.
    names = {span.name for span in found if span.trace_id.hex() == began}
    assert names.isdisjoint({"bulk replay step", "replay collection-transforms"})
    steps = [span for span in found if span.name == "bulk replay step"]
    assert {link.span_id for span in steps for link in span.links} == {bulk.span_id}
    assert len({span.trace_id for span in steps}) == len(steps) > 1
    replays = [span for span in found if span.name == "replay collection-transforms"]
    assert [line(found, span) for span in replays] == [[span.name, "bulk replay step"] for span in replays]
    assert sorted(link.trace_id.hex() for span in replays for link in span.links) == sorted(uploads)
    # A run is linked to both: to who sent its message first, and to its replay.
    causes = {
        tuple(each["traceparent"].split("-")[1:3]) for one in sent for each in message_trace.causes(one)
    }
    by = {(span.trace_id.hex(), span.span_id.hex()) for span in replays}
    assert len(by) == len(sent) == LETTERS
    assert by < causes
    assert {trace for trace, _ in causes - by} == uploads


def test_a_single_replay_is_in_the_trace_of_who_asked_for_it(
    graves: Graveyard, container: Container, spans: Spans
):
    upload = die_in_a_trace(graves)
    (letter,) = graves.indexed()
    with tracing.span("POST /replay", "server"):
        asked = tracing.current_ids()["trace_id"]
        container.services.letter_acts.replay(ADMIN, letter.dead_letter_id)
    tracing.end()
    found = [span for _, span in spans.of(asked)]
    (replay,) = (span for span in found if span.name == "replay collection-transforms")
    assert line(found, replay) == [replay.name, "POST /replay"]
    assert [link.trace_id.hex() for link in replay.links] == [upload]


def test_a_bulk_job_that_is_let_go_on_is_in_the_trace_of_whoever_let_it(
    graves: Graveyard, container: Container, spans: Spans
):
    graves.die(number=3)
    graves.indexed()
    bulks = container.services.letter_bulks
    order = BulkOrder("discard", "test files", canary=1)
    bulk_id = bulks.prepare(ADMIN, LetterFilter(), order).bulk.bulk_id
    traces = []
    for act in (bulks.start, bulks.resume):
        with tracing.span(act.__name__, "server"):
            traces.append(tracing.current_ids()["trace_id"])
            act(ADMIN, bulk_id)
        container.bulk_runs.run_next()
    tracing.end()
    assert bulks.get(ADMIN, bulk_id).state == "finished"
    for trace in traces:
        names = {span.name for _, span in spans.of(trace)}
        assert "bulk discard" in names

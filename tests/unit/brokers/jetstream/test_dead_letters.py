from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dramatiq
import pytest

from brokers import BrokerOptions, NotReplayableError, ReplayLimitError
from brokers.jetstream.browse import Stored
from brokers.jetstream.bulk_replay import LetterFilter
from brokers.jetstream.burial import read_letter, replays_of
from brokers.jetstream.dead_records import read_ended, record_subject
from brokers.jetstream.replaying import successor, successor_id

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STREAM = "DLQ_TRANSFORMS"


def stored(payload: bytes | None = None, sequence: int = 7, **headers: str) -> Stored:
    named = {f"Dead-{name.replace('_', '-')}": value for name, value in headers.items()}
    return Stored(sequence, "transforms.dead.quick", named, NOW, payload)


def letter(payload: bytes | None = None, **values: Any) -> Any:
    return read_letter(stored(payload, **values), 60)


def message(**options: Any) -> dramatiq.Message[Any]:
    return dramatiq.Message("quick", "job", (1,), {"a": 2}, options)


def test_a_letters_successor_always_has_the_same_id_and_no_other_letters() -> None:
    ids = {successor_id(STREAM, letter(Message_Id='"m"', At=NOW.isoformat())) for _ in range(3)}
    assert len(ids) == 1
    others = [
        letter(Message_Id='"n"', At=NOW.isoformat()),
        letter(Message_Id='"m"', At=NOW.isoformat(), sequence=8),
        letter(Message_Id='"m"', At="2026-01-02T03:04:06+00:00"),
    ]
    ids |= {successor_id(STREAM, other) for other in others}
    assert len(ids | {successor_id("OTHER", others[0])}) == 5


def test_a_successor_asks_for_the_same_and_forgets_the_old_messages_life() -> None:
    old = message(retries=4, traceback="…", attempts=[{}], max_age=5, eta=1)
    new = successor(STREAM, letter(old.encode()), 5)
    assert (new.queue_name, new.actor_name, new.args, new.kwargs) == ("quick", "job", (1,), {"a": 2})
    assert new.message_timestamp >= old.message_timestamp
    assert set(new.options) == {"max_age", "replay_of"}


def test_the_root_of_a_line_of_replays_and_its_depth_are_carried_on() -> None:
    old = message(replay_of={"root": "first", "depth": 2, "message_id": "second"})
    lineage = successor(STREAM, letter(old.encode()), 5).options["replay_of"]
    assert (lineage["root"], lineage["depth"], lineage["message_id"]) == ("first", 3, old.message_id)
    with pytest.raises(ReplayLimitError, match="replayed 2 times"):
        successor(STREAM, letter(old.encode()), 2)


@pytest.mark.parametrize(
    ("lineage", "replays"),
    [
        (None, 0), ("text", 0), ([1], 0), ({}, 1), ({"depth": "9"}, 1), ({"depth": -3}, 1),
        ({"depth": True}, 1), ({"depth": 4}, 4),
    ],
)  # fmt: skip
def test_a_lineage_that_is_nonsense_counts_as_little_as_it_can(lineage: Any, replays: int) -> None:
    assert replays_of({"replay_of": lineage}) == replays
    assert successor(STREAM, letter(message(replay_of=lineage).encode()), 9).options["replay_of"][
        "depth"
    ] == (replays + 1)


@pytest.mark.parametrize(
    "payload", [None, b"", b"\xff", b"[]", message().encode().replace(b'"quick"', b"7"), b"null"]
)
def test_what_is_no_message_cannot_be_replayed(payload: bytes | None) -> None:
    with pytest.raises(NotReplayableError, match="Dead letter 7"):
        successor(STREAM, letter(payload), 5)


def test_a_message_that_was_cut_off_cannot_be_replayed() -> None:
    with pytest.raises(NotReplayableError, match="12 bytes were cut off"):
        successor(STREAM, letter(message().encode(), Truncated="12"), 5)


@pytest.mark.parametrize("nonsense", ["", "{", "[1]", "9" * 10_000, "2026-13-45", "null", "-1", "\x00"])
def test_a_foreign_messages_headers_never_break_a_list(nonsense: str) -> None:
    names = ("Actor", "Message_Id", "Error_Message", "Trace", "Attempts", "At", "Size", "Sequence", "Queue")
    values: dict[str, Any] = dict.fromkeys(names, nonsense)
    found = letter(**values)
    assert (found.actor, found.message_id, found.error_message) == (None, None, "")
    assert found.dead_at == NOW
    assert record_subject(BrokerOptions(), found).count(".") == 6


@pytest.mark.parametrize(
    ("subject", "headers"),
    [
        ("transforms.record.quick.7.rejected.job.m", {}),
        ("transforms.record.quick.7.rejected.job.m", {"Dead-Outcome": "vanished"}),
        ("transforms.record.quick.7.rejected.job.m", {"Nats-Marker-Reason": "Purge"}),
        ("transforms.record.quick.seven.rejected.job.m", {"Dead-Outcome": "replayed"}),
        ("transforms.record.quick", {"Dead-Outcome": "replayed"}),
    ],
)
def test_an_open_record_and_a_foreign_one_tell_of_no_end(subject: str, headers: dict[str, str]) -> None:
    assert read_ended(Stored(1, subject, headers, NOW)) is None


def test_the_servers_marker_tells_of_an_expired_letter() -> None:
    subject = record_subject(BrokerOptions(), letter(Reason="undecodable"))
    ended = read_ended(Stored(9, subject, {"Nats-Marker-Reason": "MaxAge"}, NOW))
    assert ended is not None
    assert (ended.id, ended.queue, ended.outcome, ended.reason) == (7, "quick", "expired", "undecodable")
    assert (ended.actor, ended.message_id, ended.ended_at, ended.record) == (None, None, NOW, 9)


def test_a_filter_means_every_letter_that_fits_all_it_names() -> None:
    found = letter(Reason="rejected", Actor='"job"')
    assert LetterFilter()(found)
    assert LetterFilter("quick", "rejected", "job")(found)
    assert not LetterFilter("quick", "rejected", "other")(found)

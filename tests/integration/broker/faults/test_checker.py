"""The checker by itself: histories written by hand, one for each verdict and each thing it must notice."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.integration.broker.faults.checker import Report, ServerState, Verdict, check, open_runs
from tests.integration.broker.faults.history import Event, History, Kind

STORED = "attempted stored"


def life(*steps: str, process: str = "7:8") -> list[Event]:
    """Events of the message "m" from words such as "start:t1" (kind and take)."""
    words = [step.partition(":") for text in steps for step in text.split()]
    return [Event(Kind(kind), "m", take or "-", process=process) for kind, _, take in words]


def verdict(events: list[Event], state: ServerState | None = None) -> Verdict:
    (finding,) = check(events, state or ServerState()).findings
    return finding.verdict


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (f"{STORED} taken:1 start:1 end:1", Verdict.DONE_ONCE),
        (f"{STORED} taken:1 start:1 failed:1 taken:2 start:2 end:2", Verdict.DONE_ONCE),
        (f"{STORED} taken:1 start:1 end:1 taken:2 start:2 end:2", Verdict.DONE_MORE),
        ("attempted refused", Verdict.NOT_STORED),
        ("attempted", Verdict.NOT_STORED),  # the producer died
        ("attempted refused taken:1 start:1 end:1", Verdict.DONE_ONCE),
        (STORED, Verdict.LOST),
        ("attempted refused attempted stored", Verdict.LOST),
        (f"{STORED} taken:1", Verdict.LOST),
        (f"{STORED} taken:1 start:1 failed:1", Verdict.LOST),
        (f"{STORED} taken:1 start:1 failed:1 dead", Verdict.LOST),  # the server has no dead letter
        ("attempted refused taken:1 start:1 failed:1", Verdict.LOST),  # it was stored after all
        (f"{STORED} taken:1 start:1", Verdict.UNKNOWN),  # still running, or forgotten
        (f"{STORED} start:1 end:1", Verdict.UNKNOWN),
        (f"{STORED} taken:1 start:1 end:1 start:1 end:1", Verdict.UNKNOWN),
        ("taken:1 start:1 end:1", Verdict.UNKNOWN),
    ],
)
def test_a_history_has_its_verdict(steps: str, expected: Verdict) -> None:
    assert verdict(life(steps)) is expected


def test_what_the_server_has_is_not_lost() -> None:
    waiting, dead = ServerState(waiting=frozenset("m")), ServerState(dead=frozenset("m"))
    assert verdict(life(STORED), waiting) is Verdict.WAITING
    assert verdict(life(STORED, "taken:1 start:1 failed:1 dead"), dead) is Verdict.DEAD
    assert verdict(life("attempted refused"), waiting) is Verdict.WAITING


def test_what_the_server_has_and_nobody_sent_is_unknown() -> None:
    assert verdict([], ServerState(waiting=frozenset("m"))) is Verdict.UNKNOWN
    assert verdict([], ServerState(dead=frozenset("m"))) is Verdict.UNKNOWN


def test_a_run_that_never_ended_is_explained_by_a_kill_of_its_process_alone() -> None:
    started = life(STORED, "taken:1 start:1") + life("taken:2 start:2 end:2", process="9:9")
    assert verdict(started) is Verdict.UNKNOWN
    assert verdict([*started, Event(Kind.KILLED, process="9:9")]) is Verdict.UNKNOWN
    assert verdict([*started, Event(Kind.KILLED, process="7:7")]) is Verdict.DONE_ONCE
    assert [event.take for event in open_runs(started)] == ["1"]
    assert open_runs([*started, Event(Kind.KILLED, process="7:7")]) == []
    assert check([*started, Event(Kind.KILLED, process="7:7")], ServerState()).cut_short == 1


def test_a_report_counts_every_verdict_and_tells_the_life_of_a_lost_message() -> None:
    text = str(check(life(STORED, "taken:5.1"), ServerState(waiting=frozenset("w"))))
    assert text.startswith(
        "2 messages: 0 done once, 0 done more, 0 dead, 0 waiting, 0 not stored, 1 lost, 1 unknown; "
        "0 runs cut short\n"
        "LOST m: enqueue confirmed it; it was not done, has no dead letter, and is not on the server\n"
    )
    assert "taken     on 7:8 take 5.1" in text
    assert "UNKNOWN w: nobody ever enqueued" in text


def test_a_long_report_is_cut() -> None:
    report = check([Event(Kind.STORED, str(number)) for number in range(50)], ServerState())
    assert (len(report.bad), str(report).splitlines()[-1]) == (50, "... and 30 more")
    assert str(Report()).startswith("0 messages")


def test_lines_of_many_writers_never_mix_and_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    history = History(tmp_path / "history")
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_write_many, args=(history, str(number))) for number in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        history.read()  # raises on a line that is not whole
    with history.path.open("a") as torn:
        torn.write("1.0 7:8 sta")
    events = history.read()
    assert sorted({event.message_id for event in events}) == ["0", "1", "2", "3"]
    for name in "0123":
        mine = [event.detail for event in events if event.message_id == name]
        assert mine == [f"{number} a b" for number in range(500)]
    history.close()


def _write_many(history: History, name: str) -> None:
    for number in range(500):
        history.write(Kind.START, name, detail=f"{number} a\nb")

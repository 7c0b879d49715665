from __future__ import annotations

import pytest

from app.jobs.letter_facts import cause_of, fingerprint_of, our_frames
from app.storage.postgres.tables.dead_letters import LETTER_REASONS
from brokers import DeadReason

TRACE = """Traceback (most recent call last):
  File "/srv/venv/lib/python3.11/site-packages/dramatiq/worker.py", line 500, in process
  File "/srv/tasks/scope.py", line {line}, in _run
  File "/srv/app/services/extraction_runs.py", line 88, in extract_file
  File "/srv/venv/lib/python3.11/site-packages/requests/app/api.py", line 3, in get
"""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("job 7 of 12 failed", "job 800 of 9 failed"),
        (
            "no object 1b4e28ba-2fa1-11d2-883f-0016d3cca427",
            "no object 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        ),
        ("cannot open /srv/data/a.txt", "cannot open /tmp/x/b.pdf"),
        ("Annual report 2024.pdf is damaged", "b.docx is damaged"),
        ("'ada' is not 'bob'", "'eve' is not 'frank'"),
        ("GET https://a.example/x?y=1 timed out after 1.5 s", "GET https://b.example/ timed out after 30 s"),
        ("bad\n  line", "bad line"),
    ],
)
def test_messages_that_differ_in_details_have_one_cause(one: str, other: str):
    assert cause_of(one) == cause_of(other)


def test_messages_that_differ_in_words_have_two():
    assert cause_of("file is empty") != cause_of("file is encrypted")


def test_only_our_own_places_count_and_not_their_lines():
    assert list(our_frames(TRACE.format(line=7))) == [
        "tasks/scope.py:_run", "app/services/extraction_runs.py:extract_file",
    ]  # fmt: skip
    prints = {fingerprint_of("E", "cause", TRACE.format(line=line)) for line in (1, 200)}
    assert len(prints) == 1
    assert fingerprint_of("E", "cause", TRACE.format(line=1).replace("extract_file", "delete")) not in prints
    assert fingerprint_of("F", "cause", TRACE.format(line=1)) not in prints


def test_every_reason_that_the_broker_gives_has_its_place_in_the_index():
    assert {*map(str, DeadReason), "unknown"} == set(LETTER_REASONS)

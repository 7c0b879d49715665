from __future__ import annotations

from app.admin.tracebacks import parts_of

LIBRARY = """  File "/srv/venv/lib/python3.11/site-packages/dramatiq/worker.py", line 500, in process
    res = actor(*message.args)
          ^^^^^^^^^^^^^^^^^^^^
"""
OURS = """  File "/srv/app/services/extraction_runs.py", line 88, in extract_file
    return self._read(file)
"""
TRACE = f"""Traceback (most recent call last):
{LIBRARY}{LIBRARY}{OURS}{LIBRARY}requests.exceptions.ConnectTimeout: too slow
  with a second line

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
{OURS}app.errors.ProviderAwayError: away
"""


def test_frames_of_libraries_are_folded_and_ours_with_the_errors_are_shown():
    parts = parts_of(TRACE)
    assert [part.library_frames for part in parts] == [0, 2, 0, 1, 0]
    shown = "\n".join(part.text for part in parts if not part.library_frames)
    assert "site-packages" not in shown
    assert "^^^" not in shown
    assert shown.count("extraction_runs.py") == 2
    assert "ConnectTimeout: too slow\n  with a second line" in shown
    assert "direct cause" in shown


def test_no_line_is_lost_or_moved():
    assert "\n".join(part.text for part in parts_of(TRACE)) == TRACE.rstrip("\n")


def test_a_traceback_without_a_frame_of_ours_is_shown_whole():
    alone = f"Traceback (most recent call last):\n{LIBRARY}ValueError: x\n"
    assert [(part.text, part.library_frames) for part in parts_of(alone)] == [(alone, 0)]
    assert parts_of("") == ()


def test_frames_of_a_group_and_repeated_ones_stay_with_their_sources():
    group = (
        "  + Exception Group Traceback (most recent call last):\n"
        '  |   File "/usr/lib/python3.11/asyncio/taskgroups.py", line 145, in __aexit__\n'
        "  |     raise me from None\n"
        "  |   [Previous line repeated 7 more times]\n"
        '  |   File "/srv/app/services/planning.py", line 3, in plan\n'
        "  |     await all_of(them)\n"
        "  | ExceptionGroup: unhandled errors (1 sub-exception)\n"
        "  +-+---------------- 1 ----------------\n"
    )
    head, library, ours = parts_of(group)
    assert head.text.endswith("(most recent call last):")
    assert library.text.endswith("repeated 7 more times]")
    assert ours.text.splitlines()[-1].startswith("  +-+--")

"""A folder as people have them: the demo loads what it can, says what it cannot, and always ends."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

from rich.console import Console

from devstack.client import Pile
from devstack.loading import Loader, Timings
from tests.support.app_processes import RunningApp


def load(app: RunningApp, folder: Path, files: list[Path]) -> tuple[Timings, str]:
    output = Console(file=io.StringIO(), width=200)
    pile = Pile(title=folder.name, state_file=app.folder / f"{folder.name}.json")
    timings = Loader(app.client, output, time.monotonic()).load(files, pile, root=folder)
    return timings, output.file.getvalue()  # type: ignore[attr-defined] # a StringIO, see above


def test_one_file_that_cannot_be_sent_holds_up_no_other(running_app, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "good.txt").write_text("Seventeen violet umbrellas drift past the harbour wall.")
    (folder / os.fsdecode(b"not\xffutf8.txt")).write_text("A name may hold any byte but two.")
    (folder / "empty.txt").touch()
    files = [*sorted(folder.iterdir()), folder / "gone[1].txt"]
    timings, said = load(running_app, folder, files)
    assert timings.counts["files"] == 2
    assert sorted(timings.failures) == [
        "empty.txt: the file is empty (0 bytes)",
        "gone[1].txt: No such file or directory",
    ]
    assert all(failure in said for failure in timings.failures)


def test_a_folder_of_which_nothing_can_be_read_ends_without_a_map(running_app, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nthis is not a document\n%%EOF")
    timings, said = load(running_app, folder, [folder / "broken.pdf"])
    assert (timings.counts["files"], timings.counts["failed"], timings.map) == (0, 1, None)
    assert "not read: 1" in said

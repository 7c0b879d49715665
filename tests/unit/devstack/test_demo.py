from __future__ import annotations

from pathlib import Path

import pytest

from devstack import demo


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("words")


def test_hidden_files_and_folders_are_no_documents(tmp_path):
    write(tmp_path, "a.txt", "deep/b.txt", ".hidden.txt", ".git/objects/c.txt", "deep/.cache/d.txt")
    assert demo._files(tmp_path) == [tmp_path / "a.txt", tmp_path / "deep/b.txt"]


def test_two_folders_of_one_name_are_two_collections(tmp_path):
    first, second = demo._pile(Path("/a/papers"), tmp_path), demo._pile(Path("/b/papers"), tmp_path)
    assert first.title == second.title == "papers"
    assert first.state_file != second.state_file
    assert demo._pile(Path("/a/papers"), tmp_path).state_file == first.state_file


@pytest.mark.parametrize(("docs", "message"), [("missing", "is not a folder"), ("empty", "has no files")])
def test_a_folder_without_documents_is_refused_before_anything_starts(tmp_path, capsys, docs, message):
    (tmp_path / "empty").mkdir()
    arguments = ["--docs", str(tmp_path / docs), "--data", str(tmp_path / "data"), "--port", "0"]
    assert demo.main(arguments) == 1
    assert message in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "data").exists()

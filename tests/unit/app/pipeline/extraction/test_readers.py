# ruff: noqa: RUF001 - the scripts are the subject

from __future__ import annotations

import io
import zipfile
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path

import pytest

from app.pipeline.document import Document
from app.pipeline.extraction.assemble import language_of, paragraphs
from app.pipeline.extraction.characters import clean
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.json_values import record_text
from app.pipeline.extraction.markdown import markdown_blocks
from app.pipeline.extraction.members import label
from app.pipeline.extraction.pdf import without_running_lines
from app.pipeline.extraction.registry import extract, open_source
from devstack.documents import write_json, write_text


def read(path: Path) -> Document:
    return extract(open_source(path, path.name), ExtractionContext("http://127.0.0.1:9"))


def kinds(document: Document) -> list[tuple[str, int, str]]:
    return [(b.kind, b.level, document.text[b.start : b.end]) for b in document.blocks]


def test_clean_text_keeps_blank_lines_and_indentation():
    assert clean("a\r\n\r\n\tb \x00\x07c\u00ad\ufeff") == "a\n\n\tb c"
    assert clean("e\u0301 \u2028 x") == "é \n x"


def test_paragraphs_end_at_blank_lines():
    text = "  one\ntwo \n \t\n\nthree"
    assert [text[b.start : b.end] for b in paragraphs(text)] == ["one\ntwo", "three"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The whale sings across the ocean and is heard by other whales a hundred miles away.", "en"),
        ("Der Wal singt im Meer und wird von anderen Walen in hundert Meilen Entfernung gehört.", "de"),
        ("Кит поёт в океане, и его слышат другие киты на расстоянии сотен миль отсюда.", "ru"),
        ("クジラは海で歌い、遠くの仲間がそれを聞きます。" * 4, "ja"),
        ("Too short", None),
        ("1234 5678 " * 50, None),
    ],
)
def test_language_is_named_only_when_there_is_enough_text(text, code):
    assert language_of(text) == code


def test_markdown_keeps_its_text_and_finds_its_structure(tmp_path: Path):
    text = (
        "---\ntitle: The Title\nauthor: Ada\n---\n\n# One `code`\n\nPara\nline two\n\nTwo\n---\n\n"
        "- a\n  - b\n\n> quoted\n\n```py\n# no heading\n```\n\n| x | y |\n|---|---|\n| 1 | 2 |\n"
    )
    document = read(write_text(tmp_path / "a.md", text))
    assert document.text == text.rstrip()
    assert document.title == "The Title"
    assert document.metadata == {"title": "The Title", "author": "Ada"}
    assert kinds(document) == [
        ("heading", 1, "One `code`"),
        ("paragraph", 0, "Para\nline two"),
        ("heading", 2, "Two"),
        ("list_item", 0, "- a"),
        ("list_item", 0, "- b"),
        ("paragraph", 0, "> quoted"),
        ("code", 0, "```py\n# no heading\n```"),
        ("table", 0, "| x | y |\n|---|---|\n| 1 | 2 |"),
    ]


def test_markdown_blocks_never_overlap_in_odd_nestings():
    text = "- # h in item\n  text\n\n      code\n1) > - deep\n\n<div>\n\n*x*\n</div>\n\n|a|\n|-|\n"
    blocks = list(markdown_blocks(text))
    assert blocks == sorted(blocks, key=lambda block: block.start)
    assert all(left.end <= right.start for left, right in pairwise(blocks))


def test_html_leaves_out_what_is_not_content(tmp_path: Path):
    html = (
        "<html><head><title>T</title><meta name=author content=Ada></head><body><nav>menu</nav>"
        "<div role=navigation>side</div><script>x()</script><main><h1>Head<a class=headerlink>¶</a></h1>"
        "Loose <b>bold</b> text<br>second line<p>Para<ul><li>one<li>two<ul><li>deep</ul></ul>"
        "<pre>  code\n    more</pre><p hidden>secret</p></main><footer>foot</footer></body></html>"
    )
    document = read(write_text(tmp_path / "a.html", html))
    assert (document.title, document.metadata) == ("T", {"author": "Ada"})
    assert kinds(document) == [
        ("heading", 1, "Head"),
        ("paragraph", 0, "Loose bold text\nsecond line"),
        ("paragraph", 0, "Para"),
        ("list_item", 0, "one"),
        ("list_item", 0, "two"),
        ("list_item", 0, "deep"),
        ("code", 0, "code\n    more"),
    ]


def test_html_says_its_own_character_set(tmp_path: Path):
    html = "<html><head><meta charset=windows-1251></head><body><p>Кит</p></body></html>"
    assert read(write_text(tmp_path / "a.html", html, encoding="cp1251")).text == "Кит"


def test_a_layout_table_is_no_table(tmp_path: Path):
    html = (
        "<table><tr><td><h2>Left</h2><p>text</p></td><td><table><tr><td>1</td></tr></table></td></tr></table>"
    )
    document = read(write_text(tmp_path / "a.html", html))
    assert [kind for kind, _, _ in kinds(document)] == ["heading", "paragraph", "table"]


def test_html_nested_a_thousand_deep_is_read(tmp_path: Path):
    assert "bottom" in read(write_text(tmp_path / "a.html", "<div>" * 1000 + "bottom" + "</div>" * 1000)).text


def test_csv_finds_its_delimiter_and_keeps_quoted_cells(tmp_path: Path):
    path = write_text(tmp_path / "a.csv", 'name;text\nAda;"one;\ntwo"\nBen;x\n')
    assert read(path).text == "name\ttext\nAda\tone; two\nBen\tx"


def test_json_becomes_a_paragraph_per_record(tmp_path: Path):
    value = [{"a": {"b": [1, True]}, "c": None}, {"a": "ä"}]
    document = read(write_json(tmp_path / "a.json", value))
    assert document.text == "a.b: 1\na.b: true\n\na: ä"
    assert document.metadata == {"records": "2"}


def test_deep_json_values_need_no_recursion():
    value: object = "leaf"
    for _ in range(5000):
        value = {"k": value}
    assert record_text(value).endswith(": leaf")


def test_bad_lines_of_json_are_counted(tmp_path: Path):
    document = read(write_text(tmp_path / "a.jsonl", '{"a": 1}\nbroken\n{"a": 2}\n'))
    assert document.warnings == ("1 of 3 lines are not valid JSON and were skipped",)


def test_a_notebook_is_its_cells(tmp_path: Path):
    cells = [
        {"cell_type": "markdown", "source": ["# Study\n", "\n", "Words."]},
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "noise"}]},
    ]
    document = read(write_json(tmp_path / "a.ipynb", {"cells": cells}))
    assert kinds(document) == [("heading", 1, "Study"), ("paragraph", 0, "Words."), ("code", 0, "x = 1")]


def test_xml_titles_become_headings(tmp_path: Path):
    chapter = "<chapter><title>C</title><para>Some <em>mixed</em> text</para></chapter>"
    xml = f"<book><title>B</title>{chapter}</book>"
    document = read(write_text(tmp_path / "a.xml", xml))
    assert kinds(document) == [("heading", 1, "B"), ("heading", 2, "C"), ("paragraph", 0, "Some mixed text")]


def test_source_code_keeps_every_blank(tmp_path: Path):
    code = "def f():\n    return 1\n\n\nclass A:\n\tpass"
    document = read(write_text(tmp_path / "a.py", code))
    assert document.text == code
    assert [kind for kind, _, _ in kinds(document)] == ["code", "code"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("C:\\x\\y.txt", "C:/x/y.txt"),
        ("a\x00b\n.txt", "ab .txt"),
        ("..", "unnamed"),
    ],
)
def test_names_of_members_are_made_safe_to_show(name, shown):
    assert label(name) == shown


def test_lines_that_repeat_in_the_middle_of_pages_stay():
    pages = [f"Head {n}\nfirst {n * 'x'}\nsame\nsame too\nlast {n * 'x'}\n{n}" for n in range(6)]
    assert without_running_lines(pages) == [
        f"first {n * 'x'}\nsame\nsame too\nlast {n * 'x'}" for n in range(6)
    ]


def packed(**files: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return target.getvalue()


def parts(document: Document) -> list[tuple[str, str, str]]:
    return [(part.name, part.media_type, document.text[part.start : part.end]) for part in document.parts]


def test_a_document_knows_its_file(tmp_path: Path):
    (part,) = read(write_text(tmp_path / "a.py", "print(1)\n")).parts
    assert (part.name, part.media_type, part.start, part.end) == ("a.py", "text/x-source", 0, 8)


def test_a_document_knows_the_files_inside_it_at_any_depth(tmp_path: Path):
    inner = packed(b__go=b"package b", c__md=b"# C\n\nWords.")
    archive = tmp_path / "all.zip"
    archive.write_bytes(packed(a__py=b"print(1)", inner__zip=inner, d__sh=b"ls"))
    assert parts(read(archive)) == [
        ("a.py", "text/x-source", "print(1)"),
        ("b.go", "text/x-source", "package b"),
        ("c.md", "text/markdown", "# C\n\nWords."),
        ("d.sh", "text/x-source", "ls"),
    ]


def test_a_message_knows_its_attachments_and_is_its_own_file_without_any(tmp_path: Path):
    message = EmailMessage()
    message["Subject"] = "Code"
    message.set_content("Look at this.")
    path = tmp_path / "a.eml"
    path.write_bytes(bytes(message))
    assert [name for name, _, _ in parts(read(path))] == ["a.eml"]
    message.add_attachment(b"print(1)", maintype="text", subtype="x-python", filename="a.py")
    path.write_bytes(bytes(message))
    assert parts(read(path)) == [("a.py", "text/x-source", "print(1)")]

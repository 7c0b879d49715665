from __future__ import annotations

from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from app.services.reading import DocumentView, Span
from app.web import reader


def _span(start: int, end: int, *, page: int | None = None, path: tuple[str, ...] = ()) -> Span:
    return Span(uuid4(), 0, start, end, page, path, 1)


def _view(text: str, spans: list[Span]) -> DocumentView:
    return DocumentView(
        item_id=1,
        dataset_id=1,
        title="t",
        text=text,
        media_type=None,
        language=None,
        page_count=None,
        metadata={},
        warnings=(),
        spans=tuple(spans),
        file_id=None,
        file_name=None,
        file_size_bytes=None,
        collection_id=None,
        collection_title=None,
        visualization_transform_id=None,
    )


def test_exactly_the_passage_is_lit_where_passages_overlap() -> None:
    text = "0123456789"
    spans = [_span(0, 6), _span(4, 10)]
    pieces = reader.pieces(_view(text, spans), 1, spans[0])
    assert "".join(piece.text for piece in pieces if piece.is_lit) == "012345"


def test_a_page_is_marked_once_where_it_begins() -> None:
    spans = [_span(0, 2, page=1), _span(2, 4, page=1), _span(4, 6, page=2)]
    pieces = reader.pieces(_view("aabbcc", spans), 1, None)
    assert [piece.page for piece in pieces] == [1, None, 2]


def test_lines_that_are_headings_are_told_apart() -> None:
    spans = [_span(0, 20, path=("Wings",))]
    piece = reader.pieces(_view("## Wings\nThey lift.\n", spans), 1, None)[0]
    assert piece.lines == (("## Wings\n", True), ("They lift.\n", False))


def test_the_outline_names_each_heading_where_it_first_stands() -> None:
    spans = [
        _span(0, 1, path=("A",)),
        _span(1, 2, path=("A", "B")),
        _span(2, 3, path=("A", "B")),
        _span(3, 4, path=("C",)),
        _span(4, 5, path=("A",)),
    ]
    found = [(heading.text, heading.level) for heading in reader.outline(tuple(spans))]
    assert found == [("A", 1), ("B", 2), ("C", 1), ("A", 1)]


@given(st.data())
def test_the_parts_of_a_document_are_its_text(data: st.DataObject) -> None:
    text = "".join(chr(97 + i % 26) for i in range(data.draw(st.integers(0, 400))))
    starts = data.draw(st.lists(st.integers(0, max(0, len(text) - 1)), max_size=8))
    spans = [_span(start, min(len(text), start + 30)) for start in sorted(set(starts)) if text]
    lit = data.draw(st.sampled_from([None, *spans]))
    pieces = reader.pieces(_view(text, spans), 1, lit)
    assert "".join(piece.text for piece in pieces) == text
    if lit:
        assert "".join(piece.text for piece in pieces if piece.is_lit) == text[lit.start : lit.end]


def test_long_documents_are_read_in_parts_that_add_up() -> None:
    text = "word " * (reader.PART_CHARACTERS // 2)
    view = _view(text, [_span(0, 10), _span(reader.PART_CHARACTERS + 5, reader.PART_CHARACTERS + 50)])
    parts = -(-len(text) // reader.PART_CHARACTERS)
    whole = "".join(piece.text for part in range(parts) for piece in reader.pieces(view, part + 1, None))
    assert whole == text

"""Makers of real files in many formats, for the demo corpus and for tests.

Each maker writes one file with a common writer library (the ones people really use), so that extractors
meet what they meet in the wild. Text comes in as `Section`s: a heading and its paragraphs.
"""

from __future__ import annotations

import csv
import html
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """One heading (level 1-6) and what stands under it."""

    heading: str
    paragraphs: Sequence[str] = ()
    items: Sequence[str] = ()
    rows: Rows = ()  # a table; the first row is its header
    level: int = 1


def write_pdf(
    path: Path,
    pages: Sequence[str],
    *,
    password: str | None = None,
    title: str | None = None,
    outline: Mapping[str, int] | None = None,
) -> Path:
    """Write one PDF page per string (Latin-1 text); `outline` maps a bookmark's title to its page (1-based).

    A page given as "" stays without text, as a scanned page would.
    """
    from fpdf import FPDF, XPos, YPos

    pdf: Any = FPDF()
    pdf.set_auto_page_break(auto=False)
    pdf.set_font("Helvetica", size=11)
    if title:
        pdf.set_title(title)
    bookmarks: dict[int, list[str]] = {}
    for name, number in (outline or {}).items():
        bookmarks.setdefault(number, []).append(name)
    for number, text in enumerate(pages, start=1):
        pdf.add_page()
        for name in bookmarks.get(number, ()):
            pdf.start_section(name)
        if text:
            pdf.multi_cell(0, 6, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    if password is not None:
        pdf.set_encryption(owner_password=f"owner-{password}", user_password=password)
    pdf.output(str(path))
    return path


def write_docx(path: Path, sections: Sequence[Section], *, title: str = "", author: str = "") -> Path:
    """Write a Word document with heading styles, bullet lists and tables."""
    import docx

    document = docx.Document()
    document.core_properties.title = title
    document.core_properties.author = author
    for section in sections:
        document.add_heading(section.heading, level=section.level)
        for paragraph in section.paragraphs:
            document.add_paragraph(paragraph)
        for item in section.items:
            document.add_paragraph(item, style="List Bullet")
        if section.rows:
            table = document.add_table(rows=len(section.rows), cols=len(section.rows[0]))
            for row, cells in zip(section.rows, table.rows, strict=True):
                for value, cell in zip(row, cells.cells, strict=True):
                    cell.text = value
    document.save(str(path))
    return path


def write_xlsx(path: Path, sheets: Mapping[str, Sequence[Sequence[object]]]) -> Path:
    """Write a workbook: sheet name → rows of cells (texts and numbers)."""
    import openpyxl

    workbook = openpyxl.Workbook(write_only=True)
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    workbook.save(path)
    return path


def write_pptx(path: Path, sections: Sequence[Section], *, notes: Sequence[str] = ()) -> Path:
    """Write one slide per section: title and a body; `notes[i]` are the speaker's notes of slide i."""
    import pptx

    deck = pptx.Presentation()
    layout = deck.slide_layouts[1]
    for number, section in enumerate(sections):
        slide = deck.slides.add_slide(layout)
        slide.shapes.title.text = section.heading
        slide.placeholders[1].text = "\n".join([*section.paragraphs, *section.items])
        if number < len(notes):
            slide.notes_slide.notes_text_frame.text = notes[number]
    deck.save(str(path))
    return path


def write_odt(path: Path, sections: Sequence[Section], *, title: str = "") -> Path:
    """Write an OpenDocument text with outline headings, lists and tables."""
    from odf import dc, table, text
    from odf.opendocument import OpenDocumentText

    document = OpenDocumentText()
    if title:
        document.meta.addElement(dc.Title(text=title))
    for section in sections:
        document.text.addElement(text.H(outlinelevel=section.level, text=section.heading))
        for paragraph in section.paragraphs:
            document.text.addElement(text.P(text=paragraph))
        if section.items:
            listing = text.List()
            for item in section.items:
                entry = text.ListItem()
                entry.addElement(text.P(text=item))
                listing.addElement(entry)
            document.text.addElement(listing)
        if section.rows:
            document.text.addElement(_odf_table(table, text, section.rows, "Table"))
    document.save(str(path))
    return path


def write_ods(path: Path, sheets: Mapping[str, Rows]) -> Path:
    """Write an OpenDocument spreadsheet: sheet name → rows of texts."""
    from odf import table, text
    from odf.opendocument import OpenDocumentSpreadsheet

    document = OpenDocumentSpreadsheet()
    for name, rows in sheets.items():
        document.spreadsheet.addElement(_odf_table(table, text, rows, name))
    document.save(str(path))
    return path


def _odf_table(table: Any, text: Any, rows: Rows, name: str) -> Any:
    sheet = table.Table(name=name)
    for row in rows:
        line = table.TableRow()
        for value in row:
            cell = table.TableCell(valuetype="string")
            cell.addElement(text.P(text=value))
            line.addElement(cell)
        sheet.addElement(line)
    return sheet


def write_odp(path: Path, sections: Sequence[Section]) -> Path:
    """Write an OpenDocument presentation, one slide per section."""
    from odf import draw, style, text
    from odf.opendocument import OpenDocumentPresentation

    document = OpenDocumentPresentation()
    layout = style.PageLayout(name="Layout")
    document.automaticstyles.addElement(layout)
    master = style.MasterPage(name="Master", pagelayoutname=layout)
    document.masterstyles.addElement(master)
    for section in sections:
        page = draw.Page(masterpagename=master, name=section.heading)
        for line in (section.heading, *section.paragraphs, *section.items):
            frame = draw.Frame(width="20cm", height="2cm", x="1cm", y="1cm")
            box = draw.TextBox()
            box.addElement(text.P(text=line))
            frame.addElement(box)
            page.addElement(frame)
        document.presentation.addElement(page)
    document.save(str(path))
    return path


_EPUB_CONTAINER = (
    '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    '<rootfiles><rootfile full-path="content.opf" media-type="application/oebps-package+xml"/></rootfiles>'
    "</container>"
)


def write_epub(path: Path, chapters: Sequence[Section], *, title: str = "Book", author: str = "") -> Path:
    """Write an EPUB 2 book, one XHTML file per section."""
    names = [f"chapter{number}.xhtml" for number in range(1, len(chapters) + 1)]
    manifest = "".join(
        f'<item id="c{number}" href="{name}" media-type="application/xhtml+xml"/>'
        for number, name in enumerate(names)
    )
    spine = "".join(f'<itemref idref="c{number}"/>' for number in range(len(names)))
    package = (
        '<?xml version="1.0"?>'
        '<package version="2.0" xmlns="http://www.idpf.org/2007/opf" unique-identifier="i">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{html.escape(title)}</dc:title><dc:creator>{html.escape(author)}</dc:creator>"
        '<dc:identifier id="i">book</dc:identifier><dc:language>en</dc:language></metadata>'
        f"<manifest>{manifest}</manifest><spine>{spine}</spine></package>"
    )
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/epub+zip", compress_type=zipfile.ZIP_STORED)
        book.writestr("META-INF/container.xml", _EPUB_CONTAINER)
        book.writestr("content.opf", package)
        for name, chapter in zip(names, chapters, strict=True):
            book.writestr(name, _xhtml(chapter.heading, [chapter]))
    return path


def write_html(path: Path, sections: Sequence[Section], *, title: str = "") -> Path:
    """Write an HTML 5 page with a script, a style sheet and a menu that no reader should find."""
    noise = "<script>var hidden = 'not text';</script><style>p { color: red }</style>"
    page = _xhtml(title, sections).replace("<body>", f"<body>{noise}<nav><a href='/'>Menu entry</a></nav>")
    path.write_text(page.replace('<?xml version="1.0" encoding="utf-8"?>', "<!doctype html>"), "utf-8")
    return path


def _xhtml(title: str, sections: Sequence[Section]) -> str:
    body = "".join(map(_xhtml_section, sections))
    return (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml"><head>'
        f'<meta charset="utf-8"/><title>{html.escape(title)}</title></head><body>{body}</body></html>'
    )


def _xhtml_section(section: Section) -> str:
    parts = [f"<h{section.level}>{html.escape(section.heading)}</h{section.level}>"]
    parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs]
    if section.items:
        parts.append("<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in section.items) + "</ul>")
    if section.rows:
        lines = [
            "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
            for row, tag in zip(section.rows, ["th", *["td"] * (len(section.rows) - 1)], strict=True)
        ]
        parts.append(f"<table>{''.join(lines)}</table>")
    return "\n".join(parts)


def write_markdown(path: Path, sections: Sequence[Section]) -> Path:
    """Write CommonMark with ATX headings."""
    path.write_text("\n\n".join(map(_markdown_section, sections)) + "\n", "utf-8")
    return path


def _markdown_section(section: Section) -> str:
    parts = [f"{'#' * section.level} {section.heading}", *section.paragraphs]
    if section.items:
        parts.append("\n".join(f"- {item}" for item in section.items))
    if section.rows:
        lines = ["| " + " | ".join(row) + " |" for row in section.rows]
        parts.append("\n".join([lines[0], "|" + " --- |" * len(section.rows[0]), *lines[1:]]))
    return "\n\n".join(parts)


def write_rtf(path: Path, sections: Sequence[Section]) -> Path:
    """Write Rich Text with plain and bold paragraphs."""
    lines = []
    for section in sections:
        lines.append(rf"{{\b {_rtf_escape(section.heading)}}}\par")
        lines += [rf"{_rtf_escape(line)}\par" for line in (*section.paragraphs, *section.items)]
    body = "\n".join(lines)
    path.write_bytes(
        f"{{\\rtf1\\ansi\\ansicpg1252\\uc1{{\\fonttbl{{\\f0 Times;}}}}\n\\pard {body}}}".encode("ascii")
    )
    return path


def _rtf_escape(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace("{", "\\{").replace("}", "\\}")
    return "".join(char if char.isascii() else _rtf_unicode(char) for char in plain)


def _rtf_unicode(char: str) -> str:
    raw = char.encode("utf-16-le")
    units = [int.from_bytes(raw[i : i + 2], "little", signed=True) for i in range(0, len(raw), 2)]
    return "".join(rf"\u{unit}?" for unit in units)


def write_eml(
    path: Path,
    *,
    subject: str,
    body: str,
    sender: str = "Ada <ada@example.org>",
    to: str = "Ben <ben@example.org>",
    html_body: str | None = None,
    attachments: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a MIME message; attachments are given as file name → bytes."""
    from datetime import UTC, datetime

    message = EmailMessage()
    message["Subject"] = subject
    message["From"] = sender
    message["To"] = to
    message["Date"] = format_datetime(datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC))
    message.set_content(body)
    if html_body is not None:
        message.add_alternative(html_body, subtype="html")
    for name, data in (attachments or {}).items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=name)
    path.write_bytes(message.as_bytes())
    return path


def write_text(path: Path, text: str, *, encoding: str = "utf-8") -> Path:
    """Write text in any of Python's encodings ("utf-16" writes a byte order mark)."""
    path.write_bytes(text.encode(encoding))
    return path


def write_csv(path: Path, rows: Rows, *, delimiter: str = ",") -> Path:
    """Write comma (or otherwise) separated rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def write_json(path: Path, value: object) -> Path:
    """Write one JSON value."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), "utf-8")
    return path


def write_ndjson(path: Path, records: Sequence[object]) -> Path:
    """Write one JSON value per line."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a ZIP archive: member name → bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_samples(folder: Path, sections: Sequence[Section], *, title: str) -> list[Path]:
    """Write the same sections in 18 formats; returns the paths, named `title.EXT`."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = ["\n\n".join([s.heading, *s.paragraphs, *s.items]) for s in sections]
    rows = [["heading", "text"], *([s.heading, " ".join(s.paragraphs)] for s in sections)]
    records = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    latin_pages = [page.encode("latin-1", "replace").decode("latin-1") for page in pages]
    makers: dict[str, Callable[[Path], object]] = {
        "pdf": lambda path: write_pdf(path, latin_pages, title=title),
        "docx": lambda path: write_docx(path, sections, title=title),
        "xlsx": lambda path: write_xlsx(path, {"Sections": rows}),
        "pptx": lambda path: write_pptx(path, sections),
        "odt": lambda path: write_odt(path, sections, title=title),
        "ods": lambda path: write_ods(path, {"Sections": rows}),
        "odp": lambda path: write_odp(path, sections),
        "epub": lambda path: write_epub(path, sections, title=title),
        "rtf": lambda path: write_rtf(path, sections),
        "html": lambda path: write_html(path, sections, title=title),
        "md": lambda path: write_markdown(path, sections),
        "txt": lambda path: write_text(path, "\n\n".join(pages)),
        "eml": lambda path: write_eml(path, subject=title, body="\n\n".join(pages)),
        "csv": lambda path: write_csv(path, rows),
        "tsv": lambda path: write_csv(path, rows, delimiter="\t"),
        "json": lambda path: write_json(path, records),
        "ndjson": lambda path: write_ndjson(path, records),
        "zip": lambda path: write_zip(path, {f"{title}.txt": "\n\n".join(pages).encode()}),
    }
    paths = []
    for extension, make in makers.items():
        path = folder / f"{title}.{extension}"
        make(path)
        paths.append(path)
    return paths

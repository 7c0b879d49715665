"""The same text in every format that the makers of devstack.documents write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from devstack import documents
from devstack.documents import Section


def write_samples(folder: Path, sections: Sequence[Section], *, title: str) -> list[Path]:
    """Write the same sections in 18 formats; returns the paths, named `title.EXT`."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = ["\n\n".join([s.heading, *s.paragraphs, *s.items]) for s in sections]
    rows = [["heading", "text"], *([s.heading, " ".join(s.paragraphs)] for s in sections)]
    latin_pages = [page.encode("latin-1", "replace").decode("latin-1") for page in pages]
    makers: dict[str, Callable[[Path], object]] = {
        "pdf": lambda path: documents.write_pdf(path, latin_pages, title=title),
        "docx": lambda path: documents.write_docx(path, sections, title=title),
        "xlsx": lambda path: documents.write_xlsx(path, {"Sections": rows}),
        "pptx": lambda path: documents.write_pptx(path, sections),
        "odt": lambda path: documents.write_odt(path, sections, title=title),
        "ods": lambda path: documents.write_ods(path, {"Sections": rows}),
        "odp": lambda path: documents.write_odp(path, sections),
        "epub": lambda path: documents.write_epub(path, sections, title=title),
        "rtf": lambda path: documents.write_rtf(path, sections),
        "html": lambda path: documents.write_html(path, sections, title=title),
        "md": lambda path: documents.write_markdown(path, sections),
        "txt": lambda path: documents.write_text(path, "\n\n".join(pages)),
        "eml": lambda path: documents.write_eml(path, subject=title, body="\n\n".join(pages)),
        "csv": lambda path: documents.write_csv(path, rows),
        "tsv": lambda path: documents.write_csv(path, rows, delimiter="\t"),
        "json": lambda path: documents.write_json(
            path, [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
        ),
        "ndjson": lambda path: documents.write_ndjson(
            path, [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
        ),
        "zip": lambda path: documents.write_zip(path, {f"{title}.txt": "\n\n".join(pages).encode()}),
    }
    paths = []
    for extension, make in makers.items():
        path = folder / f"{title}.{extension}"
        make(path)
        paths.append(path)
    return paths

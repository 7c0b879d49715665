"""Reads a PDF with pdfium. Runs in the child process of the sandbox, never in a worker."""

from __future__ import annotations

from typing import Any

from app.errors import UnreadableFileError

_OUTLINE_ENTRIES = 5000


def read_pages(path: str, max_characters: int) -> dict[str, Any]:
    """Texts of all pages, outline entries (level from 1, title, page from 1), document information.

    Raises UnreadableFileError whose message follows the file's name: "is password-protected …".
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise UnreadableFileError(_reason(str(error))) from error
    if len(document) == 0:
        raise UnreadableFileError("holds no pages")
    pages: list[str] = []
    characters = 0
    for number in range(len(document)):
        pages.append(_page_text(document, number))
        characters += len(pages[-1])
        if characters > max_characters:
            raise UnreadableFileError(
                f"holds more than {max_characters} characters of text, which is the limit"
            )
    return {
        "pages": pages,
        "outline": _outline(document),
        "metadata": {key: value for key, value in document.get_metadata_dict().items() if value},
    }


def _reason(message: str) -> str:
    lowered = message.lower()
    if "password" in lowered:
        return "is password-protected. Remove the password and upload it again."
    if "security" in lowered:
        return "is encrypted in a way that cannot be read. Save it without protection and upload it again."
    return f"is damaged and cannot be opened as a PDF ({message})"


def _page_text(document: Any, number: int) -> str:
    import pypdfium2

    try:
        page = document[number]
        text_page = page.get_textpage()
        text: str = text_page.get_text_range()
    except pypdfium2.PdfiumError:
        return ""  # one broken page does not cost the others; it counts as a page without text
    text_page.close()
    page.close()
    return text


def _outline(document: Any) -> list[tuple[int, str, int]]:
    entries: list[tuple[int, str, int]] = []
    for bookmark in document.get_toc():
        destination = bookmark.get_dest()
        index = destination.get_index() if destination is not None else None
        if index is not None:
            entries.append((bookmark.level + 1, bookmark.get_title(), index + 1))
        if len(entries) >= _OUTLINE_ENTRIES:
            break
    return entries

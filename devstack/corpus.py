"""The demo's corpus: real text that every installation already has, and a dozen documents made of our docs.

READMEs and licences come from the installed packages' metadata, reference text from the docstrings of the
Python standard library. Nothing is downloaded and nothing is made up.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sysconfig
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from devstack import documents

_MIN_LENGTH, _MAX_LENGTH = 400, 3_000  # characters: below is a stub, above repeats itself
_DOCSTRINGS_PER_MODULE = 40
_MARKUP = re.compile(r"\*\*|`|\[([^\]]*)\]\([^)]*\)")  # Markdown that a Word file would show as it is
_SKIPPED_MODULES = re.compile(r"(^|/)(test|tests|idlelib|lib2to3|site-packages|__pycache__|turtledemo)(/|$)")


def write(folder: Path, *, docs: Path) -> int:
    """Write the corpus into `folder` and return how many files it has; what is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    count = 0
    for name, text in _texts():
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest in seen:
            continue  # a hundred packages share a handful of licences
        seen.add(digest)
        target = folder / name
        if not target.exists():
            target.write_text(text)
        count += 1
    return count + _write_documents(folder, docs)


def _texts() -> Iterator[tuple[str, str]]:
    yield from _package_texts()
    yield from _standard_library()


def _package_texts() -> Iterator[tuple[str, str]]:
    for package in sorted(metadata.distributions(), key=lambda one: one.name.lower()):
        name = _file_name(package.name)
        fields = package.metadata.json
        readme = str(fields.get("description", ""))
        if len(readme) >= _MIN_LENGTH:
            markdown = "markdown" in str(fields.get("description_content_type", ""))
            yield f"readme-{name}.{'md' if markdown else 'rst'}", _shortened(readme)
        for path in package.files or ():
            if "dist-info" in str(path) and re.match(r"(?i)(licen[cs]e|copying|notice)", path.name):
                text = _read(Path(str(path.locate())))
                if len(text) >= _MIN_LENGTH:
                    yield f"licence-{name}-{_file_name(path.name)}.txt", _shortened(text)


def _standard_library() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if _SKIPPED_MODULES.search(str(relative)):
            continue
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        text = _docstrings(module, path)
        if len(text) >= _MIN_LENGTH:
            yield f"python-{_file_name(module)}.md", _shortened(text)


def _docstrings(module: str, path: Path) -> str:
    """One Markdown text of a module's docstrings, a heading for each class and function."""
    try:
        tree = ast.parse(_read(path))
    except (SyntaxError, ValueError):
        return ""
    parts = [f"# {module}", ast.get_docstring(tree) or ""]
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            text = ast.get_docstring(node)
            if text:
                parts += [f"## {node.name}", text]
        if len(parts) > 2 * _DOCSTRINGS_PER_MODULE:
            break
    return "\n\n".join(part for part in parts if part) if any(parts[1:]) else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _shortened(text: str) -> str:
    """Cut at a paragraph, so that no passage ends in the middle of a thought."""
    if len(text) <= _MAX_LENGTH:
        return text
    end = text.rfind("\n\n", _MIN_LENGTH, _MAX_LENGTH)
    return text[: end if end > 0 else _MAX_LENGTH].rstrip() + "\n"


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.").lower()


def _write_documents(folder: Path, docs: Path) -> int:
    """The project's own pages, each format made of another page."""
    pages = sorted(docs.rglob("*.md")) if docs.is_dir() else []
    if not pages:
        return 0
    written = 0
    for number, (suffix, make) in enumerate(_FORMATS.items()):
        page = pages[number % len(pages)]
        target = folder / f"semantic-explorer-{page.stem}.{suffix}"
        if not target.exists():
            make(target, _sections(page.read_text()))
        written += 1
    return written


def _sections(markdown: str) -> list[documents.Section]:
    sections: list[documents.Section] = []
    for part in re.split(r"(?m)^(?=#{1,6} )", markdown):
        heading = re.match(r"(#{1,6}) (.+)", part)
        if heading is None:
            continue
        body = _MARKUP.sub(r"\1", part[heading.end() :]).strip()
        paragraphs = [" ".join(block.split()) for block in re.split(r"\n\s*\n", body) if block.strip()]
        sections.append(documents.Section(heading[2].strip(), paragraphs, level=len(heading[1])))
    return sections


def _pages(sections: list[documents.Section]) -> list[str]:
    """One PDF page per section; the standard PDF fonts know Latin-1 only."""
    texts = ("\n\n".join((section.heading, *section.paragraphs)) for section in sections)
    return [text.encode("latin-1", "replace").decode("latin-1")[:3000] for text in texts]


def _table(sections: list[documents.Section]) -> list[list[str]]:
    rows = [["section", "text"]]
    return rows + [[section.heading, paragraph] for section in sections for paragraph in section.paragraphs]


def _title(sections: list[documents.Section]) -> str:
    return sections[0].heading if sections else "Untitled"


_Maker = Callable[[Path, list[documents.Section]], object]

_FORMATS: dict[str, _Maker] = {
    "pdf": lambda path, parts: documents.write_pdf(path, _pages(parts), title=_title(parts)),
    "docx": lambda path, parts: documents.write_docx(path, parts, title=_title(parts)),
    "xlsx": lambda path, parts: documents.write_xlsx(path, {"Sections": _table(parts)}),
    "pptx": documents.write_pptx,
    "odt": lambda path, parts: documents.write_odt(path, parts, title=_title(parts)),
    "ods": lambda path, parts: documents.write_ods(path, {"Sections": _table(parts)}),
    "epub": lambda path, parts: documents.write_epub(path, parts, title=_title(parts)),
    "eml": lambda path, parts: documents.write_eml(
        path, subject=_title(parts), body="\n\n".join(_pages(parts)), sender="docs@example.org"
    ),
    "html": lambda path, parts: documents.write_html(path, parts, title=_title(parts)),
    "md": documents.write_markdown,
    "rtf": documents.write_rtf,
    "csv": lambda path, parts: documents.write_csv(path, _table(parts)),
}

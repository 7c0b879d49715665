"""Languages whose syntax is known: their grammars, and how a file is told to be in one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from app.pipeline.document import Part


@dataclass(frozen=True, slots=True)
class Language:
    """Where a grammar is: a function of a package that is imported only where a file is parsed."""

    package: str
    function: str = "language"
    aliases: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    interpreters: tuple[str, ...] = ()  # on the first line of a script


LANGUAGES: dict[str, Language] = {
    "rust": Language("tree_sitter_rust", aliases=("rs",), extensions=("rs",)),
    "python": Language(
        "tree_sitter_python",
        aliases=("py",),
        extensions=("py", "pyi", "pyw"),
        interpreters=("python", "python2", "python3"),
    ),
    "javascript": Language(
        "tree_sitter_javascript",
        aliases=("js", "jsx"),
        extensions=("js", "mjs", "cjs", "jsx"),
        interpreters=("node", "nodejs"),
    ),
    "typescript": Language(
        "tree_sitter_typescript",
        "language_typescript",
        aliases=("ts",),
        extensions=("ts", "mts", "cts"),
        interpreters=("deno", "ts-node", "bun"),
    ),
    "tsx": Language("tree_sitter_typescript", "language_tsx", extensions=("tsx",)),
    "go": Language("tree_sitter_go", aliases=("golang",), extensions=("go",)),
    "java": Language("tree_sitter_java", extensions=("java",)),
    "c": Language("tree_sitter_c", extensions=("c",)),
    "cpp": Language(
        "tree_sitter_cpp",
        aliases=("c++", "cxx"),
        extensions=("cc", "cpp", "cxx", "hh", "hpp", "hxx"),
    ),
    "json": Language("tree_sitter_json", extensions=("jsonc", "webmanifest", "har")),
    "toml": Language("tree_sitter_toml", extensions=("toml",)),
    "yaml": Language("tree_sitter_yaml", aliases=("yml",), extensions=("yaml", "yml")),
    "html": Language("tree_sitter_html", extensions=("vue", "svelte")),
    "css": Language("tree_sitter_css", extensions=("css",)),
    "bash": Language(
        "tree_sitter_bash",
        aliases=("sh", "shell", "zsh"),
        extensions=("sh", "bash", "zsh"),
        interpreters=("sh", "bash", "dash", "ksh", "zsh"),
    ),
}
_BY_NAME = {alias: name for name, row in LANGUAGES.items() for alias in (name, *row.aliases)}
_BY_EXTENSION = {extension: name for name, row in LANGUAGES.items() for extension in row.extensions}
_BY_INTERPRETER = {word: name for name, row in LANGUAGES.items() for word in row.interpreters}
# Of these the text is what stands in the file; of all others extraction writes its own.
_AS_WRITTEN = frozenset(("text/x-source", "text/plain", "application/yaml", "application/toml"))
_SHEBANG = re.compile(r"#![ \t]*(?:\S*/)?(?P<first>[^/\s]+)(?:[ \t]+(?:-S[ \t]+)?(?P<second>[\w.-]+))?")
_VERSION = re.compile(r"[\d.]+$")
_IS_CPP = re.compile(r"^[ \t]*(?:class|namespace|template|using|public:|private:|protected:)", re.MULTILINE)
_HEADER_SAMPLE = 100_000
_JSON_CHARACTERS = 1_000_000


def canonical(name: str) -> str:
    """The language that a name or alias means; raises ValueError with the list of those there are."""
    found = _BY_NAME.get(name.strip().lower())
    if found is None:
        raise ValueError(f"must be one of {', '.join(LANGUAGES)}, not {name[:50]!r}")
    return found


def guess(part: Part, text: str) -> str | None:
    """The language of a file with this text: by its name, else its first line, else by being JSON."""
    if part.media_type not in _AS_WRITTEN:
        return None
    extension = PurePosixPath(part.name.replace("\\", "/")).suffix.lstrip(".").lower()
    if extension == "h":
        return "cpp" if _IS_CPP.search(text[:_HEADER_SAMPLE]) else "c"
    return _BY_EXTENSION.get(extension) or _by_first_line(text) or ("json" if _is_json(text) else None)


def _by_first_line(text: str) -> str | None:
    match = _SHEBANG.match(text)
    if match is None:
        return None
    program = match["second"] if match["first"] == "env" else match["first"]
    return _BY_INTERPRETER.get(program or "") or _BY_INTERPRETER.get(_VERSION.sub("", program or ""))


def _is_json(text: str) -> bool:
    if not text.startswith(("{", "[")) or len(text) > _JSON_CHARACTERS:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True

"""Where source code may be cut, by its syntax; runs in a child process.

Grammars are native code, and some crash or take minutes over files that are made for it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.pipeline.chunking.languages import LANGUAGES

if TYPE_CHECKING:
    from tree_sitter import Node

# A node of these kinds is no unit of its own: what it holds lies beside its neighbours.
_TRANSPARENT = re.compile(
    r"(?:\w*_)?(?:block|body|declaration_list|statement_list|compound_statement|block_node|block_mapping|"
    r"block_sequence)"
)
_GUARDS = frozenset(("preproc_ifdef", "preproc_if"))  # likewise; the first thing inside begins at the guard
_CLOSERS = frozenset(("end_tag",))
_COMMENTS = frozenset(("comment", "line_comment", "block_comment", "html_comment"))
_MARKS = frozenset(("attribute_item", "decorator"))  # siblings in front of what they are about
_IMPORTS = frozenset(
    (
        *("import_statement", "import_from_statement", "future_import_statement", "import_declaration"),
        *("use_declaration", "extern_crate_declaration", "preproc_include"),
    )
)
_DEFINITIONS = frozenset(
    (
        *(
            "function_definition",
            "class_definition",
            "function_declaration",
            "generator_function_declaration",
        ),
        *("class_declaration", "abstract_class_declaration", "method_definition", "interface_declaration"),
        *("enum_declaration", "type_alias_declaration", "internal_module", "module", "variable_declarator"),
        *("field_definition", "public_field_definition", "method_declaration", "constructor_declaration"),
        *("record_declaration", "annotation_type_declaration", "type_spec", "function_item", "struct_item"),
        *("enum_item", "union_item", "trait_item", "mod_item", "impl_item", "macro_definition"),
        *("struct_specifier", "union_specifier", "enum_specifier", "class_specifier", "type_definition"),
        *("namespace_definition", "pair", "block_mapping_pair", "flow_pair", "table", "table_array_element"),
        *("rule_set", "keyframes_statement"),
    )
)
_WRAPPERS = frozenset(
    (
        *("decorated_definition", "export_statement", "ambient_declaration", "template_declaration"),
        *("lexical_declaration", "variable_declaration", "type_declaration", "expression_statement"),
    )
)
_NAME_FIELDS = ("name", "declarator", "key", "property", "type")
_PATTERNS = frozenset(("object_pattern", "array_pattern"))
_RECEIVER_BYTES = 200
_UNNAMED_FIRST = frozenset(("pair", "table", "table_array_element", "rule_set", "keyframes_statement"))
_RECEIVER = re.compile(rb"([^\W\d]\w*)[ \t]*(?:\[[^\]]*\])?[ \t]*\)$")
_NAME_CHARACTERS = 80
_NAMES_DEEP = 8
_WRAPPED_DEEP = 3
_COMMENT_LINES = 200
_INDENT = 500  # bytes; what is indented further does not count as beginning a line


@dataclass(slots=True)
class _Unit:
    """A node with the comments and marks directly before it, and what follows on its line."""

    start: int
    cut: bool  # whether a chunk may begin with it
    nodes: list[Node] = field(default_factory=list)
    imports: bool = False  # nothing else but comments
    comments: bool = True  # nothing else
    first: Node | None = None  # that is neither comment nor mark

    def take(self, child: Node) -> None:
        comment = child.type in _COMMENTS
        if self.first is None and not _is_aside(child):
            self.first = child
        if not comment:
            self.imports = child.type in _IMPORTS and (self.imports or self.comments)
        self.comments = self.comments and comment
        self.nodes.append(child)

    def own_start(self, node: Node) -> int:
        """Where a node begins: what leads up to the first one belongs to it."""
        return self.start if self.first in (None, node) else node.start_byte


@dataclass(slots=True)
class _Findings:
    """All positions are bytes until they are handed over."""

    source: bytes
    limit: int
    lifts: bool  # whether the grammar counts a comment to what is above it
    cuts: dict[int, int] = field(default_factory=dict)  # position: how deep it lies
    names: list[tuple[int, int, list[str]]] = field(default_factory=list)
    imports: list[tuple[int, int]] = field(default_factory=list)
    comments: list[tuple[int, int]] = field(default_factory=list)


def outline(text: str, language: str, limit: int) -> dict[str, Any]:
    """Places to cut, names of definitions, and the imports and comments at the top, in characters.

    A unit of at most `limit` bytes is not looked into. `cuts` are pairs of position and depth, `names`
    start, end and words; `imports` and `comments` start and end.
    """
    from tree_sitter import Language, Parser

    row = LANGUAGES[language]
    grammar = Language(getattr(importlib.import_module(row.package), row.function)())
    source = text.encode("utf-8", "surrogatepass")
    found = _Findings(source, limit, lifts=language == "yaml")
    _walk(Parser(grammar).parse(source).root_node, found)
    return _in_characters(found)


def _walk(root: Node, found: _Findings) -> None:
    """Without recursion: files nest as deep as they like."""
    pending: list[tuple[Node, int, int]] = [(root, 0, 0)]
    named: set[int] = set()
    while pending:
        node, depth, names = pending.pop()
        units = list(_units(node, found))
        if not depth:
            _sort_out(units, found)
        for unit in units:
            if unit.cut and (unit.start != node.start_byte or not depth):
                found.cuts[unit.start] = min(depth, found.cuts.get(unit.start, depth))
            for part in unit.nodes:
                known = names < _NAMES_DEEP and _named(part, unit.own_start(part), found, named)
                if part.end_byte - part.start_byte > found.limit:
                    pending.append((part, depth + 1, names + known))


def _sort_out(units: list[_Unit], found: _Findings) -> None:
    """Of the units at the top, those that are nothing but imports or comments."""
    ends = [*(unit.start for unit in units), len(found.source)][1:]
    for unit, end in zip(units, ends, strict=True):
        if unit.imports:
            found.imports.append((unit.start, end))
        elif unit.comments:
            found.comments.append((unit.start, end))


def _units(node: Node, found: _Findings) -> Iterator[_Unit]:
    """What a node holds, cut before whatever begins a line, or where a line grows long."""
    unit: _Unit | None = None
    for start, child in _members(node):
        begins = _begins(start, child, unit, found)
        if unit is not None and begins and not _leads(unit, start, found.source):
            yield unit
            unit = None
        if unit is None:
            unit = _Unit(_above(start, found.source) if found.lifts else start, begins)
        unit.take(child)
    if unit is not None:
        yield unit


def _members(node: Node) -> Iterator[tuple[int, Node]]:
    """Named children with their starts, in order, those of transparent ones in their place."""
    pending = [(child.start_byte, child) for child in reversed(node.named_children)]
    while pending:
        start, child = pending.pop()
        guard = child.type in _GUARDS
        if guard or _TRANSPARENT.fullmatch(child.type):
            inside = [(each.start_byte, each) for each in child.named_children]
            if guard and inside:
                inside[0] = (start, inside[0][1])
            pending += reversed(inside)
        else:
            yield start, child


def _above(start: int, source: bytes) -> int:
    """The first of the comment lines directly above a line, else its own start."""
    for _ in range(_COMMENT_LINES):
        line = max(0, source.rfind(b"\n", max(0, start - _INDENT), start))
        before = source.rfind(b"\n", max(0, line - _INDENT), line) + 1
        text = source[before:line]
        if not text.lstrip().startswith(b"#"):
            break
        start = before + len(text) - len(text.lstrip())
    return start


def _is_aside(node: Node) -> bool:
    return node.type in _COMMENTS or node.type in _MARKS


def _begins(start: int, child: Node, unit: _Unit | None, found: _Findings) -> bool:
    """Whether it stands first on its line, or far behind the last one on a long line."""
    if child.type in _CLOSERS:
        return False
    line = found.source.rfind(b"\n", max(0, start - _INDENT), start) + 1
    if (line or start <= _INDENT) and not found.source[line:start].strip():
        return True
    far = found.limit // 4
    if unit is None or _is_aside(child) or start - unit.start <= far:
        return False
    return found.source.rfind(b"\n", start - far, start) < 0


def _leads(unit: _Unit, start: int, source: bytes) -> bool:
    """Whether the unit holds only comments and marks that stand directly before what starts there.

    An empty line parts a comment from what follows.
    """
    if unit.first is not None:
        return False
    last = unit.nodes[-1]
    return last.type in _MARKS or source.count(b"\n", last.end_byte - 1, start) <= 1


def _named(node: Node, start: int, found: _Findings, named: set[int]) -> bool:
    """Whether a definition was found that no wrapper around it has named before."""
    definition = _definition(node)
    if definition is None or definition.id in named:
        return False
    words = _words(definition, found.source)
    if words:
        named.add(definition.id)
        found.names.append((start, node.end_byte, words))
    return bool(words)


def _definition(node: Node) -> Node | None:
    for _ in range(_WRAPPED_DEEP):
        if node.type in _DEFINITIONS:
            return node
        if node.type not in _WRAPPERS:
            return None
        inside = (each for each in node.named_children if each.type in _DEFINITIONS | _WRAPPERS)
        following = next(inside, None)
        if following is None:
            return None
        node = following
    return None


def _words(definition: Node, source: bytes) -> list[str]:
    """The name, with what it belongs to where the name says that."""
    name = _name_node(definition)
    if name is None or name.type in _PATTERNS or name.id == definition.id:
        return []
    words = " ".join(_text(name, source).split()).strip("\"'`")
    path = words.split("::") if name.type == "qualified_identifier" else [words]
    receiver = definition.child_by_field_name("receiver")
    if receiver is not None and (match := _RECEIVER.search(_tail(receiver, source))):
        path.insert(0, match[1].decode())
    return [word[:_NAME_CHARACTERS] for word in path if word]


def _tail(node: Node, source: bytes) -> bytes:
    return source[max(node.start_byte, node.end_byte - _RECEIVER_BYTES) : node.end_byte]


def _name_node(definition: Node) -> Node | None:
    for name in _NAME_FIELDS:
        node = definition.child_by_field_name(name)
        if node is not None:
            return _declared(node)
    children = definition.named_children if definition.type in _UNNAMED_FIRST else []
    return children[0] if children else None


def _declared(node: Node) -> Node:
    """What a declarator of C declares: behind stars and before parameters."""
    while node.type.endswith("_declarator"):
        inner = node.child_by_field_name("declarator")
        if inner is None:
            break
        node = inner
    return node


def _text(node: Node, source: bytes) -> str:
    return source[node.start_byte : min(node.end_byte, node.start_byte + 4 * _NAME_CHARACTERS)].decode(
        "utf-8", "ignore"
    )


def _in_characters(found: _Findings) -> dict[str, Any]:
    at = _characters(found.source)
    return {
        "cuts": [[at(position), depth] for position, depth in sorted(found.cuts.items())],
        "names": [[at(start), at(end), words] for start, end, words in sorted(found.names)],
        "imports": [[at(start), at(end)] for start, end in found.imports],
        "comments": [[at(start), at(end)] for start, end in found.comments],
    }


def _characters(source: bytes) -> Any:
    """From a position in UTF-8 to one in characters."""
    if source.isascii():
        return int
    import numpy as np

    data = np.frombuffer(source, dtype=np.uint8)
    firsts = np.flatnonzero((data & 0xC0) != 0x80)  # noqa: PLR2004 - continuation bytes
    return lambda position: int(np.searchsorted(firsts, position))

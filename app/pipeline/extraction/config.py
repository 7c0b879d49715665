"""What a collection transform may say about extraction (`job_config.extraction`).

Every option accepted here changes the text or its blocks; an unknown one is refused, not ignored. One alone
is taken and left out: `preserve_formatting`, which clients of the original send though it did nothing there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from app.pipeline.document import BlockKind
from app.pipeline.validation import validated

Strategy = Literal["plain_text", "structure_preserving", "markdown"]
TableFormat = Literal["markdown", "csv", "plain_text"]
HeadingFormat = Literal["markdown", "plain_text"]


class ExtractionOptions(BaseModel):
    """Overrides of what the strategy decides; None leaves it to the strategy."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    extract_tables: bool | None = None  # false: rows become plain lines, not table blocks
    table_format: TableFormat | None = None
    preserve_headings: bool | None = None  # false: headings become paragraphs, chunks get no heading path
    heading_format: HeadingFormat | None = None  # markdown: "## " before the heading
    preserve_lists: bool | None = None  # false: items become paragraphs without a bullet
    preserve_code_blocks: bool | None = None  # false: code becomes paragraphs
    include_metadata: bool = True  # false: only title, language and page count are kept
    append_metadata_to_text: bool = False  # adds a section "Document metadata" to the text

    @model_validator(mode="before")
    @classmethod
    def _without_effect(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        return {name: value for name, value in raw.items() if name != "preserve_formatting"}


class ExtractionConfig(BaseModel):
    """`plain_text`: words only; `structure_preserving`: blocks over plain words; `markdown`: Markdown text.

    Formats whose text is its own markup (Markdown, plain text, source code) keep it as it is under every
    strategy; the options then decide only which blocks are laid over it.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    strategy: Strategy = "structure_preserving"
    options: ExtractionOptions = ExtractionOptions()

    def rendering(self) -> Rendering:
        """What strategy and options say together."""
        structured, markdown = self.strategy != "plain_text", self.strategy == "markdown"
        options = self.options
        return Rendering(
            headings=_either(options.preserve_headings, default=structured),
            tables=_either(options.extract_tables, default=structured),
            lists=_either(options.preserve_lists, default=structured),
            code=_either(options.preserve_code_blocks, default=structured),
            heading_format=options.heading_format or ("markdown" if markdown else "plain_text"),
            table_format=options.table_format or ("markdown" if markdown else "plain_text"),
            code_fences=markdown,
        )


def _either(choice: bool | None, *, default: bool) -> bool:  # noqa: FBT001 - the value of an option
    return default if choice is None else choice


@dataclass(frozen=True, slots=True)
class Rendering:
    """Which structure becomes blocks, and how it is written."""

    headings: bool
    tables: bool
    lists: bool
    code: bool
    heading_format: HeadingFormat
    table_format: TableFormat
    code_fences: bool

    def kind(self, kind: BlockKind) -> BlockKind:
        """The kind that a block of this kind gets."""
        kept = {"heading": self.headings, "table": self.tables, "list_item": self.lists, "code": self.code}
        return kind if kept.get(kind, True) else "paragraph"


def parse_extraction_config(raw: Mapping[str, object] | None) -> ExtractionConfig:
    """Check a JSON object; raises InvalidInputError that names the field and the rule."""
    return validated(ExtractionConfig, raw, field="extraction")

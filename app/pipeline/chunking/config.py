"""What a collection transform may say about chunking (`job_config.chunking`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from app.pipeline.chunking.own_options import OwnOptions, gathered
from app.pipeline.chunking.semantic_options import SemanticOptions, with_semantic
from app.pipeline.validation import validated

Strategy = Literal["recursive", "tokens", "sentences", "markdown", "semantic", "code", "tables"]
Unit = Literal["characters", "tokens"]

# Names that other versions of this configuration use.
_ALIASES = {
    "recursive_character": "recursive",
    "token_based": "tokens",
    "sentence": "sentences",
    "markdown_aware": "markdown",
    "code_aware": "code",
    "table_aware": "tables",
}
_FIXED_SIZE = "fixed_size"  # recursive without any separator
_DEFAULT_SIZE = {"characters": 1000, "tokens": 200}
_LEAST_SIZE = {"characters": 1, "tokens": 8}  # one letter of some scripts takes several tokens
_MOST_SIZE = {"characters": 100_000, "tokens": 8192}
_MOST_SEPARATORS = 32
_SEPARATOR_CHARACTERS = 100


class ChunkingOptions(BaseModel):
    """What clients of the original say here; it always holds, whatever they say, or did nothing there.

    Chunks end at sentences where those fit, and neither begin nor end with white space; what stood between
    them is kept where they are not cut; headings begin chunks, and code stays whole where it fits.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    preserve_sentence_boundaries: bool | None = None
    trim_whitespace: bool | None = None
    keep_separator: bool | None = None
    split_on_headers: bool | None = None
    preserve_code_blocks: bool | None = None
    split_on_sentences: bool | None = None
    model: str | None = None
    min_chunk_size: int | None = Field(default=None, ge=0)  # unless it is said beside `options`


class ChunkingConfig(OwnOptions):
    """How to cut; sizes count `unit`s: Unicode code points, or WordPiece tokens of the local model.

    Left out, `chunk_size` is 1000 characters or 200 tokens, `chunk_overlap` and `min_chunk_size` a tenth
    of it; for semantic 500 characters, nothing and 50.
    """

    strategy: Strategy = "recursive"
    unit: Unit = "characters"
    chunk_size: int = 1000
    chunk_overlap: int = Field(default=100, ge=0)  # at most so much of a chunk is repeated in the next
    min_chunk_size: int = Field(default=100, ge=0)  # a shorter chunk is made only where nothing else fits
    separators: list[str] | None = None  # of recursive: best first, instead of paragraphs, lines, sentences
    semantic: SemanticOptions | None = Field(default=None, exclude_if=lambda options: options is None)
    options: ChunkingOptions | None = Field(default=None, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        values = with_semantic({key: value for key, value in raw.items() if value is not None})
        values = gathered(values, _ALIASES)
        values = _least(values.get("options"), values.get("chunk_size")) | values
        if values.get("strategy") == _FIXED_SIZE:
            values |= {"strategy": "recursive", "separators": values.get("separators", [])}
        strategy = values.get("strategy")
        if isinstance(strategy, str):
            values["strategy"] = _ALIASES.get(strategy, strategy)
        if "unit" not in values:
            values["unit"] = "tokens" if values.get("strategy") == "tokens" else "characters"
        values.setdefault("chunk_size", _DEFAULT_SIZE.get(str(values["unit"]), 1000))
        if isinstance(values["chunk_size"], int):
            values.setdefault("chunk_overlap", values["chunk_size"] // 10)
            values.setdefault("min_chunk_size", values["chunk_size"] // 10)
        return values

    @field_validator("unit")
    @classmethod
    def _unit_fits_strategy(cls, unit: Unit, info: ValidationInfo) -> Unit:
        if unit != "tokens" and info.data.get("strategy") == "tokens":
            raise ValueError('the strategy tokens counts in "tokens"')
        return unit

    @field_validator("chunk_size")
    @classmethod
    def _size_is_in_bounds(cls, size: int, info: ValidationInfo) -> int:
        unit = info.data.get("unit", "characters")
        least, most = _LEAST_SIZE[unit], _MOST_SIZE[unit]
        if not least <= size <= most:
            raise ValueError(f"must be from {least} to {most} {unit}, not {size}")
        return size

    @field_validator("chunk_overlap")
    @classmethod
    def _overlap_is_below_size(cls, overlap: int, info: ValidationInfo) -> int:
        size = info.data.get("chunk_size")
        if size is not None and overlap >= size:
            raise ValueError(f"must be less than chunk_size ({size}), not {overlap}")
        return overlap

    @field_validator("min_chunk_size")
    @classmethod
    def _minimum_is_below_half(cls, minimum: int, info: ValidationInfo) -> int:
        size = info.data.get("chunk_size")
        if size is not None and minimum > size // 2:
            raise ValueError(f"must be at most half of chunk_size ({size // 2}), not {minimum}")
        return minimum

    @field_validator("semantic")
    @classmethod
    def _semantic_is_used(
        cls, semantic: SemanticOptions | None, info: ValidationInfo
    ) -> SemanticOptions | None:
        if semantic is not None and info.data.get("strategy", "semantic") != "semantic":
            raise ValueError("only the strategy semantic compares sentences")
        return semantic

    @field_validator("separators")
    @classmethod
    def _separators_are_used(cls, separators: list[str] | None, info: ValidationInfo) -> list[str] | None:
        if separators is None:
            return None
        if info.data.get("strategy", "recursive") != "recursive":
            raise ValueError("only the strategy recursive cuts at separators")
        if len(separators) > _MOST_SEPARATORS or max(map(len, separators), default=0) > _SEPARATOR_CHARACTERS:
            raise ValueError(f"at most {_MOST_SEPARATORS} of at most {_SEPARATOR_CHARACTERS} characters each")
        return separators


def _least(options: Any, size: object) -> dict[str, Any]:
    """The `min_chunk_size` within options; the default of 50 of others goes with any size."""
    least = options.get("min_chunk_size") if isinstance(options, Mapping) else None
    if least is None:
        return {}
    return {
        "min_chunk_size": min(least, size // 2) if isinstance(least, int) and isinstance(size, int) else least
    }


def parse_chunking_config(raw: Mapping[str, object] | None) -> ChunkingConfig:
    """Check a JSON object; raises InvalidInputError that names the field and the rule."""
    return validated(ChunkingConfig, raw, field="chunking")

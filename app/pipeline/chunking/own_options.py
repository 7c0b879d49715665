"""Options of some strategies alone; clients say them beside `strategy` or in `options`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.errors import InvalidInputError
from app.pipeline.chunking.languages import canonical

_MOST_ROWS = 10_000
# Other names, of clients of the original: what they say wins.
_RENAMED = {"max_chunk_size": "chunk_size", "max_tokens": "chunk_size", "overlap_tokens": "chunk_overlap"}
# The strategies that have an option, and what it is there when it is left out.
_OWNERS: dict[str, dict[str, Any]] = {
    "language": {"code": None},
    "include_imports": {"code": True},
    "preserve_comments": {"code": True},
    "max_rows_per_chunk": {"tables": 50},
    "min_rows_for_table": {"tables": 3},
    "include_headers": {"tables": True},
    "max_chunk_size": {"code": None, "tables": None, "semantic": None},
    "max_tokens": {"tokens": None},
    "overlap_tokens": {"tokens": None},
}
# Within `options`; what they ask for always holds here, or did nothing in the original (see ChunkingOptions).
_TAKEN = {
    "keep_separator": {"recursive": None},
    "split_on_headers": {"markdown": None},
    "preserve_code_blocks": {"markdown": None},
    "split_on_sentences": {"tokens": None},
    "model": {"tokens": None},
}


def _absent(value: object) -> bool:
    return value is None


class OwnOptions(BaseModel):
    """Set for the strategy that has them; None, and in no answer, for the others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    # Of code.
    language: str | None = Field(default=None, exclude_if=_absent)  # None: by the file's name and first line
    include_imports: bool | None = Field(default=None, exclude_if=_absent)  # false: they are left out
    preserve_comments: bool | None = Field(default=None, exclude_if=_absent)  # false: those that stand alone
    # Of tables; rows do not count the header.
    max_rows_per_chunk: int | None = Field(default=None, ge=1, le=_MOST_ROWS, exclude_if=_absent)
    min_rows_for_table: int | None = Field(default=None, ge=1, le=_MOST_ROWS, exclude_if=_absent)
    include_headers: bool | None = Field(default=None, exclude_if=_absent)  # the header ends the heading path

    @field_validator("language")
    @classmethod
    def _language_is_known(cls, language: str | None) -> str | None:
        return None if language is None else canonical(language)


def gathered(values: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """The same with the strategy's own options beside it, complete, whichever place they were said in.

    What is said beside the strategy wins. Raises InvalidInputError for an option of another strategy.
    """
    strategy = values.get("strategy", "recursive")
    if not isinstance(strategy, str):
        return dict(values)
    inner = _within(values.get("options"), strategy, aliases.get(strategy, strategy))
    strategy = aliases.get(strategy, strategy)
    for name, owners in _OWNERS.items():
        _refuse_foreign(name, owners, strategy, {"": values, "options.": inner})
    for name, owners in _TAKEN.items():
        _refuse_foreign(name, owners, strategy, {"options.": inner})
    names = (*_OWNERS, "separators")
    said = {name: value for name in names if (value := inner.pop(name, None)) is not None}
    result = {**_defaults(strategy), **said, **values}
    if isinstance(values.get("options"), Mapping):
        result["options"] = inner
    renamed = {_RENAMED[name]: result.pop(name) for name in tuple(result) if name in _RENAMED}
    return result | renamed


def _within(options: object, *names: str) -> dict[str, Any]:
    """What is said in `options`, and there under the strategy's name."""
    found = dict(options) if isinstance(options, Mapping) else {}
    for name in names:
        if isinstance(found.get(name), Mapping):
            found |= found.pop(name)
    return found


def _refuse_foreign(
    name: str, owners: Mapping[str, Any], strategy: str, places: Mapping[str, Mapping[str, Any]]
) -> None:
    if strategy in owners:
        return
    for place, said in places.items():
        if said.get(name) is not None:
            field = f"chunking.{place}{name}"
            raise InvalidInputError(f"{field}: {_belongs(owners)}, not {strategy}", field=field)


def _belongs(owners: Mapping[str, Any]) -> str:
    if len(owners) == 1:
        return f"only the strategy {next(iter(owners))} has this option"
    return f"only the strategies {' and '.join(owners)} have this option"


def _defaults(strategy: str) -> dict[str, Any]:
    return {name: owners[strategy] for name, owners in _OWNERS.items() if owners.get(strategy) is not None}

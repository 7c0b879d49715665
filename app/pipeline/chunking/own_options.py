"""Options of some strategies alone; clients say them beside `strategy` or in `options`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from app.errors import InvalidInputError
from app.pipeline.chunking.languages import canonical

_MOST_ROWS = 10_000
_SIZE = "max_chunk_size"  # another name for chunk_size
# The strategies that have an option, and what it is there when it is left out.
_OWNERS: dict[str, dict[str, Any]] = {
    "language": {"code": None},
    "include_imports": {"code": True},
    "preserve_comments": {"code": True},
    "max_rows_per_chunk": {"tables": 50},
    "min_rows_for_table": {"tables": 3},
    "include_headers": {"tables": True},
    _SIZE: {"code": None, "tables": None, "semantic": None},
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
    options = values.get("options")
    inner = dict(options) if isinstance(options, Mapping) else {}
    strategy = aliases.get(strategy, strategy)
    for name in _OWNERS:
        _refuse_foreign(name, strategy, values, inner)
    said = {name: value for name in _OWNERS if (value := inner.pop(name, None)) is not None}
    result = {**_defaults(strategy), **said, **values}
    if isinstance(options, Mapping):
        result["options"] = inner
    size = result.pop(_SIZE, None)
    return result if size is None else result | {"chunk_size": size}


def _refuse_foreign(name: str, strategy: str, values: Mapping[str, Any], inner: Mapping[str, Any]) -> None:
    owners = _OWNERS[name]
    if strategy in owners:
        return
    for place, said in (("", values), ("options.", inner)):
        if said.get(name) is not None:
            field = f"chunking.{place}{name}"
            raise InvalidInputError(f"{field}: {_belongs(owners)}, not {strategy}", field=field)


def _belongs(owners: Mapping[str, Any]) -> str:
    if len(owners) == 1:
        return f"only the strategy {next(iter(owners))} has this option"
    return f"only the strategies {' and '.join(owners)} have this option"


def _defaults(strategy: str) -> dict[str, Any]:
    return {name: owners[strategy] for name, owners in _OWNERS.items() if owners.get(strategy) is not None}

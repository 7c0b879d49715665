"""What the strategy `semantic` may be told, and the places where clients tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_STRATEGY = "semantic"
_SIZES = {"characters": 500, "tokens": 200}
_LEAST = 50


class SemanticOptions(BaseModel):
    """A chunk ends where the cosine similarity of two neighbours falls below the threshold.

    Neighbours are sentences, each embedded together with `buffer_size` sentences before and after it. What
    clients of the original call `max_chunk_size` is `chunk_size`, which stands beside as it does elsewhere.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    embedder_id: int = Field(ge=1, le=2**31 - 1)
    similarity_threshold: float = Field(default=0.7, ge=0, le=1, allow_inf_nan=False)
    buffer_size: int = Field(default=1, ge=0, le=10)


_OWN = (*SemanticOptions.model_fields, "max_chunk_size")


def with_semantic(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with what is said of this strategy under `semantic`, wherever it was said.

    That is there, within `options.semantic`, or beside the strategy's name. Another's is left as it is.
    """
    values = dict(raw)
    if isinstance(options := values.get("options"), Mapping):
        values["options"] = {name: value for name, value in options.items() if name != _STRATEGY or value}
    if values.get("strategy") != _STRATEGY:
        return values
    given = values.pop(_STRATEGY, None) or _popped(values, "options", _STRATEGY) or {}
    if not isinstance(given, Mapping):
        return values | {_STRATEGY: given}
    flat = {name: values.pop(name) for name in _OWN if name in values}
    return _sized(values, flat | {name: value for name, value in given.items() if value is not None})


def _popped(values: dict[str, Any], name: str, inner: str) -> Any:
    return values[name].pop(inner, None) if isinstance(values.get(name), dict) else None


def _sized(values: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The sizes in their places: said here, else beside, else this strategy's."""
    usual = _SIZES.get(str(values.get("unit")), _SIZES["characters"])
    size = own.pop("max_chunk_size", values.get("chunk_size", usual))
    values |= {"chunk_size": size, "chunk_overlap": values.get("chunk_overlap", 0)}
    options = values.get("options")
    least = own.pop("min_chunk_size", None)
    if least is None and isinstance(options, Mapping):
        least = options.get("min_chunk_size")
    if least is not None or "min_chunk_size" not in values:
        values["min_chunk_size"] = _fitting(_LEAST if least is None else least, size)
    return values | {_STRATEGY: own}


def _fitting(least: Any, size: Any) -> Any:
    """A minimum up to the whole size is others' to say; here two chunks must fit where one is cut."""
    numbers = isinstance(least, int) and isinstance(size, int)
    return min(least, size // 2) if numbers and least <= size else least

"""Turns what pydantic finds wrong with a stage's configuration into one sentence per field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from app.errors import InvalidInputError

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], raw: Mapping[str, object] | None, *, field: str) -> Model:
    """Check `raw` against `model`; None means all defaults.

    Raises InvalidInputError whose `field` is the first bad field (as "chunking.chunk_size") and whose
    message names every bad field and its rule.
    """
    if raw is not None and not isinstance(raw, Mapping):
        raise InvalidInputError(f"{field}: must be an object, not {type(raw).__name__}", field=field)
    try:
        return model.model_validate(dict(raw or {}))
    except ValidationError as error:
        findings = [(_path(field, item["loc"]), _rule(item["msg"])) for item in error.errors()]
        message = "; ".join(f"{path}: {rule}" for path, rule in findings)
        raise InvalidInputError(message, field=findings[0][0]) from error


def _path(field: str, location: tuple[int | str, ...]) -> str:
    return ".".join([field, *map(str, location)])


def _rule(message: str) -> str:
    if message == "Extra inputs are not permitted":
        return "there is no such option"
    return message.removeprefix("Value error, ")

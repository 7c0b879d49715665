"""What embedders and LLMs share as rows: names, addresses, and keys that are sealed to their row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.errors import InvalidInputError
from app.security.crypto import SecretBox
from app.services.described import check_title
from app.storage.postgres.tables import EmbedderRow, LlmRow

_KEY_LENGTH = 4096
_URL_LENGTH = 2048

ProviderRow = EmbedderRow | LlmRow


def with_model(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with `model`, where they have it as `config.model`, which is an older spelling."""
    result = dict(fields)
    model = dict(fields.get("config", {})).get("model")
    if isinstance(model, str):
        result.setdefault("model", model)
    return result


def completed(
    fields: Mapping[str, Any], defaults: Mapping[str, Any], *, needs_api_key: bool
) -> dict[str, Any]:
    """The fields of a new row; raises InvalidInputError where its provider needs a key and there is none."""
    given = with_model(fields)
    if needs_api_key and not given.get("api_key"):
        raise InvalidInputError(f"provider {defaults['provider']} needs an api_key", field="api_key")
    return {**defaults, **given}


def apply(row: ProviderRow, fields: Mapping[str, Any], check_url: Callable[[str], None]) -> None:
    """Write all fields but the key on the row; raises InvalidInputError for name and base_url."""
    values = dict(fields)
    values.pop("api_key", None)
    if "name" in values:
        values["name"] = check_title(values["name"], field="name")
    for name, value in values.items():
        setattr(row, name, value)
    row.config = {key: value for key, value in dict(row.config or {}).items() if key != "model"}
    row.base_url = _checked_url(row.base_url, check_url)


def refuse_address(row: ProviderRow, *, taken: bool) -> None:
    """Raises InvalidInputError(field="base_url") for an address that the provider does not take."""
    if row.base_url and not taken:
        raise InvalidInputError(f"provider {row.provider} takes no base_url", field="base_url")


def seal(row: ProviderRow, key: str | None, secrets: SecretBox) -> None:
    """Keep the key sealed, or none where it is empty; the row must have its id. Raises InvalidInputError."""
    stripped = (key or "").strip()
    if len(stripped) > _KEY_LENGTH or not stripped.isascii() or not stripped.isprintable():
        raise InvalidInputError(
            f"api_key must be at most {_KEY_LENGTH} printable ASCII characters", field="api_key"
        )
    row.api_key_sealed = secrets.encrypt(stripped, **_place(row)) if stripped else None


def unseal(row: ProviderRow, secrets: SecretBox) -> str | None:
    """The key in the clear, for the provider's ears only. Raises UnavailableError, PermanentError."""
    return secrets.decrypt(row.api_key_sealed, **_place(row)) if row.api_key_sealed else None


def _checked_url(url: str | None, check_url: Callable[[str], None]) -> str | None:
    trimmed = (url or "").strip() or None
    if trimmed is None:
        return None
    if len(trimmed) > _URL_LENGTH:
        raise InvalidInputError(f"base_url must have at most {_URL_LENGTH} characters", field="base_url")
    check_url(trimmed)
    return trimmed


def _place(row: ProviderRow) -> dict[str, str]:
    """What the seal is bound to: a sealed key copied to another row does not open."""
    return {
        "table": row.__tablename__,
        "column": "api_key",
        "row": str(row.embedder_id if isinstance(row, EmbedderRow) else row.llm_id),
        "owner": row.owner_id,
    }

"""What the registries of providers share: settings in `config`, finding a provider, importing it on use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, TypeVar

from app.errors import InvalidInputError
from app.security.outbound import OutboundClient

P = TypeVar("P")

_KINDS: Mapping[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "text": (str,),
    "integer": (int,),
    "number": (int, float),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a `config`; `lowest` and `highest` bound integers and numbers."""

    kind: Literal["boolean", "text", "integer", "number"]
    description: str
    default: bool | str | float | None
    lowest: float = 0
    highest: float = 1


@dataclass(frozen=True, slots=True)
class Service:
    """The operator's inference service, and the client that may call it, wherever it is."""

    url: str
    http: OutboundClient


def offered_service(service: Service | None, provider: str, variable: str) -> Service:
    """The service that a provider asks. Raises InvalidInputError(field="provider") where there is none."""
    if service is None:
        raise InvalidInputError(
            f"provider {provider} is not offered here: {variable} is not set", field="provider"
        )
    return service


def find(providers: Mapping[str, P], name: str) -> P:
    """The provider of this name. Raises InvalidInputError(field="provider") that names all."""
    if name not in providers:
        raise InvalidInputError(
            f"provider must be one of {', '.join(sorted(providers))}, not {name[:50]!r}.", field="provider"
        )
    return providers[name]


def load(address: str) -> Any:
    """What "module:name" stands for, imported now."""
    module, _, name = address.partition(":")
    return getattr(import_module(module), name)


def check_model(model: str) -> None:
    """Raises InvalidInputError(field="model") for a blank one."""
    if not model.strip():
        raise InvalidInputError("model must not be empty.", field="model")


def check_settings(provider: str, settings: Mapping[str, Setting], config: Mapping[str, object]) -> None:
    """Raises InvalidInputError that names the first key which is unknown or has a value of a wrong kind."""
    for key, value in config.items():
        setting = settings.get(key)
        if setting is None:
            known = ", ".join(sorted(settings)) or "none"
            raise InvalidInputError(
                f"config.{key[:50]} is not a setting of {provider} (known: {known}).",
                field=f"config.{key[:50]}",
            )
        _check_value(key, setting, value)


def _check_value(key: str, setting: Setting, value: object) -> None:
    # A boolean is an int to Python and to nobody else.
    if isinstance(value, bool) is not (setting.kind == "boolean") or not isinstance(
        value, _KINDS[setting.kind]
    ):
        raise InvalidInputError(f"config.{key} must be a {setting.kind}.", field=f"config.{key}")
    if isinstance(value, int | float) and not setting.lowest <= value <= setting.highest:
        raise InvalidInputError(
            f"config.{key} must be between {setting.lowest:g} and {setting.highest:g}, not {value}.",
            field=f"config.{key}",
        )

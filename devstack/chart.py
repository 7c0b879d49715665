"""The chart's values.schema.json and README.md, made from the comments of its values.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from app.config import SETTINGS
from devstack.product import ROOT

CHART = ROOT / "helm" / "semantic-explorer"
_MARK = "@schema "
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
# Read by the Procfile and by nothing else; and the guide's, for a release that does not know it yet.
OTHER_VARIABLES = {"WEB_THREADS": "requests at a time", "RUST_LOG": "log filter"}
# The entries of Secrets (templates/_env.tpl), and labels that selectors and Helm go by.
_SECRET_ENTRIES = (
    *("encryption-master-key", "encryption-retired-keys", "database-password", "nats-url"),
    *("oidc-client-secret", "qdrant-api-key", "s3-access-key-id", "s3-secret-access-key"),
)
_OUR_LABELS = r"^(app[.]kubernetes[.]io/(name|instance|part-of|version|managed-by)|helm[.]sh/chart)$"
_LABELS = {
    "type": "object",
    "description": "Labels, but for those of the chart.",
    "additionalProperties": {"type": "string"},
    "propertyNames": {"not": {"pattern": _OUR_LABELS}},
}
_ENTRY = {"enum": list(_SECRET_ENTRIES), "description": "Entry of a Secret."}


@dataclass(frozen=True)
class Key:
    """One key of values.yaml: its path, what its comment says, its default, what narrows it."""

    path: tuple[str, ...]
    text: str
    default: Any
    schema: dict[str, Any] = field(default_factory=dict)

    @property
    def is_leaf(self) -> bool:
        """Whether nothing below it has a comment of its own."""
        return not isinstance(self.default, dict) or bool(self.schema)


def variables() -> dict[str, str]:
    """What `env` of a workload may hold, and what it means: every setting that is no secret."""
    settings = {one.name: one.help for one in SETTINGS if not one.secret}
    return dict(sorted((OTHER_VARIABLES | settings).items()))


def keys(text: str) -> Iterator[Key]:
    """Every documented key in the order of the file; raises ValueError for one without a comment."""
    values = yaml.safe_load(text)
    path: list[str] = []
    comment: list[str] = []
    opaque: int | None = None  # indent of a key whose inside belongs to Kubernetes or to the user
    for line in text.splitlines():
        indent, stripped = len(line) - len(line.lstrip()), line.strip()
        if opaque is not None and stripped and indent > opaque:
            continue
        opaque = None
        if not stripped.startswith("#") and ":" in stripped:
            path = [*path[: indent // 2], stripped.partition(":")[0]]
            key = _key(tuple(path), comment, values)
            yield key
            opaque = indent if key.is_leaf else None
        comment = [*comment, stripped[1:].strip()] if stripped.startswith("#") else []


def _key(path: tuple[str, ...], comment: list[str], values: Any) -> Key:
    schema: dict[str, Any] = next(
        (json.loads(line[len(_MARK) :]) for line in comment if line.startswith(_MARK)), {}
    )
    text = " ".join(line for line in comment if not line.startswith(_MARK))
    if not text:
        raise ValueError(f"values.yaml: {'.'.join(path)} has no comment")
    for name in path:
        values = values[name]
    return Key(path, text, values, schema)


def schema() -> str:
    """values.schema.json: closed, every key with its description and type."""
    root = _object("Values of the chart.")
    for key in keys((CHART / "values.yaml").read_text()):
        parent = root
        for name in key.path[:-1]:
            parent = parent["properties"][name]
        parent["properties"][key.path[-1]] = _of(key)
    root["$schema"] = "http://json-schema.org/draft-07/schema#"
    root["definitions"] = _definitions()
    # Helm and charts around this one add it.
    root["properties"]["global"]["additionalProperties"] = True
    return json.dumps(root, indent=2) + "\n"


def _object(text: str) -> dict[str, Any]:
    return {"type": "object", "description": text, "additionalProperties": False, "properties": {}}


def _of(key: Key) -> dict[str, Any]:
    if not key.is_leaf:
        return _object(key.text)
    if "$ref" in key.schema:  # beside a $ref draft 7 reads nothing
        return {"description": key.text, "allOf": [key.schema]}
    return {"description": key.text, "type": _TYPES[type(key.default)], **key.schema}


def _definitions() -> dict[str, Any]:
    quantities = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
    number = {"type": "integer", "minimum": 0}
    probe = {
        **_object("A probe, as Kubernetes has it."),
        "properties": {
            **{name: {"type": "object"} for name in ("httpGet", "exec", "tcpSocket", "grpc")},
            **dict.fromkeys(
                (
                    "initialDelaySeconds",
                    "periodSeconds",
                    "timeoutSeconds",
                    "failureThreshold",
                    "successThreshold",
                    "terminationGracePeriodSeconds",
                ),
                number,
            ),
        },
    }
    resources = {
        **_object("Resources, as Kubernetes has them."),
        "properties": {"requests": quantities, "limits": quantities},
    }
    env = {
        **_object("Variables of docs/configuration.md that are no secrets."),
        "properties": {name: {"type": "string", "description": text} for name, text in variables().items()},
    }
    return {"probe": probe, "resources": resources, "env": env, "labels": _LABELS, "secretEntry": _ENTRY}


def readme() -> str:
    """README.md: what must be set, the entries of Secrets, every key."""
    head = (CHART / "README.head.md").read_text()
    rows = "\n".join(
        f"| `{'.'.join(key.path)}` | {key.text.replace('|', chr(92) + '|')} | {_shown(key.default)} |"
        for key in keys((CHART / "values.yaml").read_text())
        if key.is_leaf
    )
    return (
        "<!-- Generated by `make docs` from values.yaml and README.head.md; edit those instead. -->\n"
        f"{head}\n## Values\n\n| key | meaning | default |\n|---|---|---|\n{rows}\n"
    )


def _shown(default: Any) -> str:
    text = json.dumps(default)
    return "" if text in {'""', "{}", "[]"} else f"`{text}`"


PAGES = {"values.schema.json": schema, "README.md": readme}


def write(folder: Path = CHART) -> None:
    """Write both."""
    for name, make in PAGES.items():
        (folder / name).write_text(make())

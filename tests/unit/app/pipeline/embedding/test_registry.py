"""Specs are checked before anybody is called; providers are imported on use."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidInputError
from app.pipeline.embedding.base import EmbedderSpec
from app.pipeline.embedding.registry import PROVIDERS, build, validate
from app.pipeline.providers import Service
from app.security.outbound import OutboundClient

SPEC = EmbedderSpec("openai", "text-embedding-3-small", 1536)


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_provider_builds_from_its_defaults(name: str, tmp_path: Path):
    provider = PROVIDERS[name]
    spec = EmbedderSpec(
        name,
        provider.default_model,
        provider.default_dimensions,
        batch_size=provider.default_batch_size,
        max_input_tokens=provider.default_max_input_tokens,
        config={key: setting.default for key, setting in provider.settings.items()},
    )
    service = Service("http://10.1.2.3:8090", OutboundClient())
    embedder = build(spec, OutboundClient(), cache_dir=tmp_path, service=service)
    assert embedder.dimensions == provider.default_dimensions


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"provider": "openia"}, "provider"),
        ({"dimensions": 0}, "dimensions"),
        ({"max_input_tokens": 3}, "max_input_tokens"),
        ({"batch_size": 0}, "batch_size"),
        ({"provider": "cohere", "batch_size": 97}, "batch_size"),
        ({"model": " "}, "model"),
        ({"truncate_strategy": "cut"}, "truncate_strategy"),
        ({"config": {"temperature": 1}}, "config.temperature"),
        ({"config": {"request_dimensions": "yes"}}, "config.request_dimensions"),
    ],
)
def test_a_wrong_spec_is_refused_by_field(changes: dict[str, Any], field: str):
    with pytest.raises(InvalidInputError) as refused:
        validate(replace(SPEC, **changes))
    assert refused.value.field == field


def test_naming_the_providers_loads_no_heavy_library():
    program = (
        "import sys, app.pipeline.embedding.registry as r; list(r.PROVIDERS);"
        "print([m for m in ('onnxruntime', 'onnx', 'tokenizers', 'safetensors') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

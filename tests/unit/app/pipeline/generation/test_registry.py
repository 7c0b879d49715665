"""Specs are checked before anybody is called."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.errors import InvalidInputError
from app.pipeline.generation.base import LanguageModelSpec
from app.pipeline.generation.registry import PROVIDERS, build, validate
from app.pipeline.providers import Service
from app.security.outbound import OutboundClient

SPEC = LanguageModelSpec("openai", "gpt-4o-mini")


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_every_provider_builds_from_its_defaults(name: str):
    provider, service = PROVIDERS[name], Service("http://inside/", OutboundClient())
    spec = LanguageModelSpec(name, provider.default_model)
    assert callable(build(spec, OutboundClient(), service=service).complete)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"provider": "openia"}, "provider"),
        ({"model": " "}, "model"),
        ({"config": {"stream": True}}, "config.stream"),
        ({"config": {"temperature": "hot"}}, "config.temperature"),
        ({"config": {"temperature": 2.5}}, "config.temperature"),
        ({"config": {"temperature": float("nan")}}, "config.temperature"),
        ({"config": {"temperature": True}}, "config.temperature"),
        ({"config": {"max_tokens": -1}}, "config.max_tokens"),
        ({"config": {"max_tokens": 1.5}}, "config.max_tokens"),
        ({"config": {"max_completion_tokens": 1}}, "config.max_completion_tokens"),
        ({"provider": "cohere", "config": {"max_completion_tokens": True}}, "config.max_completion_tokens"),
    ],
)
def test_a_wrong_spec_is_refused_by_field(changes: dict[str, Any], field: str):
    with pytest.raises(InvalidInputError) as refused:
        validate(replace(SPEC, **changes))
    assert refused.value.field == field


def test_a_right_spec_is_accepted():
    validate(replace(SPEC, config={"temperature": 1, "max_tokens": 500, "max_completion_tokens": True}))

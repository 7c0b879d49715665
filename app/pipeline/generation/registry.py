"""Which providers of language models there are, their defaults and settings.

A new provider is one file, one entry here and one case in the contract tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.pipeline.generation.base import ChatModel, LanguageModelSpec
from app.pipeline.providers import (
    Service,
    Setting,
    check_model,
    check_settings,
    find,
    load,
    offered_service,
)
from app.security.outbound import OutboundClient


@dataclass(frozen=True, slots=True)
class Provider:
    """How a language model of this provider looks before anybody changes it."""

    address: str  # "module:class", imported on use
    title: str
    default_model: str
    default_base_url: str | None
    takes_base_url: bool = True  # else it is the operator's to say (`Service`)
    needs_api_key: bool = False
    settings: Mapping[str, Setting] = field(default_factory=dict)


_TEMPERATURE = Setting("number", "0 is steady, 2 is wild; not sent unless set", default=None, highest=2)
_MAX_TOKENS = Setting(
    "integer",
    "longest answer in tokens, for models that think before they answer; 0 leaves it to the use",
    default=0,
    highest=100_000,
)

PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider(
        address="app.pipeline.generation.openai:OpenAIModel",
        title="OpenAI or compatible",
        default_model="gpt-4o-mini",
        default_base_url="https://api.openai.com/v1",
        settings={
            "temperature": _TEMPERATURE,
            "max_tokens": _MAX_TOKENS,
            "max_completion_tokens": Setting(
                "boolean", "call the limit so, as reasoning models ask", default=False
            ),
        },
    ),
    "cohere": Provider(
        address="app.pipeline.generation.cohere:CohereModel",
        title="Cohere",
        default_model="command-a-03-2025",
        default_base_url="https://api.cohere.com",
        needs_api_key=True,
        settings={"temperature": _TEMPERATURE, "max_tokens": _MAX_TOKENS},
    ),
    "internal": Provider(
        address="app.pipeline.generation.internal:InternalModel",
        title="Inference service of this installation",
        default_model="mistralai/Mistral-7B-Instruct-v0.2",
        default_base_url=None,
        takes_base_url=False,
        settings={"temperature": _TEMPERATURE, "max_tokens": _MAX_TOKENS},
    ),
}


def validate(spec: LanguageModelSpec) -> None:
    """Check a spec without calling anybody. Raises InvalidInputError that names the field and the rule."""
    provider = find(PROVIDERS, spec.provider)
    check_model(spec.model)
    check_settings(spec.provider, provider.settings, spec.config)


def build(spec: LanguageModelSpec, http: OutboundClient, *, service: Service | None = None) -> ChatModel:
    """A language model ready to be asked; nothing is called before.

    `service` is what the internal provider asks. Raises InvalidInputError.
    """
    validate(spec)
    provider = find(PROVIDERS, spec.provider)
    implementation = load(provider.address)
    if provider.takes_base_url:
        model: ChatModel = implementation(spec, http)
    else:
        offered = offered_service(service, spec.provider, "LLM_INFERENCE_API_URL")
        model = implementation(replace(spec, base_url=offered.url), offered.http)
    return model

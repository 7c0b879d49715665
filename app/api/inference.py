"""/api/embedding-inference and /api/llm-inference."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from flask_openapi3.types import ResponseDict

from app.api.context import services
from app.api.replies import reply
from app.api.schemas.base import Problem
from app.api.schemas.providers import ServedModels

_FAILURES: ResponseDict = {"400": Problem, "501": Problem, "502": Problem}
api = APIBlueprint(
    "inference", __name__, url_prefix="/api", abp_tags=[Tag(name="Inference")], abp_responses=_FAILURES
)


@api.get("/embedding-inference/models", responses={200: ServedModels})
def list_served_embedders() -> Response:
    """List the models of the operator's embedding service; 501 where there is none."""
    return reply(ServedModels(services().inference.models("embedding")))


@api.get("/llm-inference/models", responses={200: ServedModels})
def list_served_llms() -> Response:
    """List the models of the operator's LLM service; 501 where there is none."""
    return reply(ServedModels(services().inference.models("llm")))

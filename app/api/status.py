"""/api/status: what those who run the server look at."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import services
from app.api.replies import reply
from app.api.schemas.base import PROBLEMS
from app.api.schemas.status import NatsStatus
from app.security.marks import least_role
from app.security.principal import Role

api = APIBlueprint(
    "status", __name__, url_prefix="/api/status", abp_tags=[Tag(name="Status")], abp_responses=PROBLEMS
)


@api.get("/nats", responses={200: NatsStatus})
@least_role(Role.ADMIN)
def get_nats_status() -> Response:
    """Read streams, consumers and dead letters (for admins)."""
    return reply(NatsStatus.model_validate(services().queue_status.nats()))

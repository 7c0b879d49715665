"""/api/queues: what waits and who works; pausing; schedules; drift of the configuration."""

from __future__ import annotations

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.replies import nothing, reply
from app.api.schemas.base import PROBLEMS
from app.api.schemas.queues import (
    ConfigurationReply,
    ConfiguredEntry,
    QueueList,
    QueuePath,
    QueuePauseBody,
    ScheduleList,
)
from app.security.marks import least_role
from app.security.principal import Role

api = APIBlueprint(
    "queues", __name__, url_prefix="/api/queues", abp_tags=[Tag(name="Queues")], abp_responses=PROBLEMS
)


@api.get("", responses={200: QueueList})
def list_queues() -> Response:
    """List queues with their depth, age and rates, and the workers at them."""
    return reply(QueueList.of(services().queues.board(me())))


@api.get("/schedules", responses={200: ScheduleList})
def list_queue_schedules() -> Response:
    """List what the server sends by the clock."""
    return reply(ScheduleList(items=services().queues.schedules()))


@api.get("/configuration", responses={200: ConfigurationReply})
def get_queue_configuration() -> Response:
    """Compare streams and consumers with what this release asks for."""
    found = [ConfiguredEntry.of(one) for one in services().queues.configuration()]
    return reply(ConfigurationReply(drifts=any(one.drifts for one in found), items=found))


@api.post("/<queue>/pause", responses={204: None})
@least_role(Role.ADMIN)
def pause_queue(path: QueuePath, body: QueuePauseBody) -> Response:
    """Hand out nothing of a queue for so many minutes, or until a moment; what runs goes on (admins)."""
    services().queues.pause(me(), path.queue, body.moment(), body.reason)
    return nothing()


@api.post("/<queue>/resume", responses={204: None})
@least_role(Role.ADMIN)
def resume_queue(path: QueuePath) -> Response:
    """End a pause now; no error where there is none (admins)."""
    services().queues.resume(me(), path.queue)
    return nothing()

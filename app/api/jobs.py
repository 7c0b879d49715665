"""/api/jobs: found, looked at, stopped and run again; admins do so with everybody's."""

from __future__ import annotations

from uuid import UUID

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from app.api.context import me, services
from app.api.identifiers import uuid_of
from app.api.replies import reply
from app.api.schemas.base import WITH_CONFLICT
from app.api.schemas.jobs import JobList, JobPath, JobQuery, JobReply

api = APIBlueprint(
    "jobs", __name__, url_prefix="/api/jobs", abp_tags=[Tag(name="Jobs")], abp_responses=WITH_CONFLICT
)


@api.get("", responses={200: JobList})
def list_jobs(query: JobQuery) -> Response:
    """List one's own jobs, or all for an admin, the newest first."""
    page = services().jobs.list(
        me(), query.filter(), limit=query.limit, offset=query.offset, cursor=query.cursor
    )
    return reply(JobList.of(page))


@api.get("/<job_id>", responses={200: JobReply})
def get_job(path: JobPath) -> Response:
    """Read one job with its timeline; admins read everybody's."""
    return _told(uuid_of(path.job_id, "job"))


@api.post("/<job_id>/cancel", responses={200: JobReply})
def cancel_job(path: JobPath) -> Response:
    """Stop one job; 409 when it has ended, or when it cleans up, which is never cancelled."""
    job_id = uuid_of(path.job_id, "job")
    services().job_desk.cancel(me(), job_id)
    return _told(job_id)


@api.post("/<job_id>/run-again", responses={200: JobReply})
def run_job_again(path: JobPath) -> Response:
    """Let a dead job start anew; 409 when it is not dead, or when a later job does, or has done, its work."""
    job_id = uuid_of(path.job_id, "job")
    services().job_desk.run_again(me(), job_id)
    return _told(job_id)


def _told(job_id: UUID) -> Response:
    return reply(JobReply(services().job_desk.get(me(), job_id)))

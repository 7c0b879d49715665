"""How far the maps of a visualization transform are, and when the one in the making will be done."""

from __future__ import annotations

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from app.storage.postgres.queries.pace import Progress, rate_of
from app.storage.postgres.tables import Job, Visualization


def runs_progress(session: Session, visualization_transform_id: int) -> Progress:
    """In maps; the share that the one in the making has behind it counts for its rate and time left."""
    status = Visualization.status
    working = status == "processing"
    row = session.execute(
        select(
            func.count().label("total"),
            func.count().filter(status == "completed").label("done"),
            func.count().filter(status == "failed").label("failed"),
            func.count().filter(and_(status == "failed", Job.state == "cancelled")).label("cancelled"),
            func.count().filter(working).label("running"),
            func.coalesce(func.max(Visualization.progress).filter(working), 0.0).label("share"),
            func.extract(
                "epoch", func.clock_timestamp() - func.min(Visualization.started_at).filter(working)
            ).label("seconds"),
        )
        .select_from(Visualization)
        .outerjoin(Job, Job.job_id == Visualization.job_id)
        .where(Visualization.visualization_transform_id == visualization_transform_id)
    ).one()
    rate, left = rate_of(row.share, row.seconds), row.total - row.done - row.failed
    eta = (left - row.share) / rate if rate else None
    return Progress(
        "maps", row.total, row.done, row.failed, row.cancelled, row.running, left, rate, eta_seconds=eta
    )

"""The end of a job whose message was given up: its row is dead, and so is what waited for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from uuid import UUID

from app.errors import ExplorerError
from app.events.ports import StatusPublisher
from app.services.failures import mark_failed, tell_failed
from app.services.jobs import Jobs

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Burial:
    """Buries jobs and tells their owners."""

    jobs: Jobs
    status: StatusPublisher

    def __call__(self, job_id: UUID, publication: int, cause: ExplorerError) -> bool:
        """False, and nothing changes, where the job had ended or a newer message stands for it.

        Raises UnavailableError.
        """
        with self.jobs.database.transaction() as session:
            if not self.jobs.bury(session, job_id, cause, publication=publication):
                return False
            subjects = mark_failed(session, job_id, cause)
        logger.error("job %s: %s", job_id, cause)
        tell_failed(self.status, subjects, job_id, cause)
        return True

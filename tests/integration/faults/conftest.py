from __future__ import annotations

from tests.integration.jobs.conftest import bucket, container

__all__ = ["bucket", "container"]

from __future__ import annotations

from tests.integration.jobs.conftest import container

__all__ = ["container"]

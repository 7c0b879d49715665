from __future__ import annotations

import pytest
from flask import Flask

from app.config import Settings
from app.container import build
from app.factory import create_app


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """The whole application; nothing is called, so no server need be there."""
    folder = tmp_path_factory.mktemp("meta")
    environment = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "SCRATCH_DIR": str(folder),
        "ENCRYPTION_MASTER_KEY": "ab" * 32,
    }
    return create_app(build(Settings.from_env(environment)))

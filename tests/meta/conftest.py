from __future__ import annotations

import pytest
from flask import Flask

from app import cli
from app.config import Settings
from app.container import build
from app.factory import create_app


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """The whole application and its commands; nothing is called, so no server need be there."""
    environment = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "SCRATCH_DIR": str(tmp_path_factory.mktemp("meta")),
        "ENCRYPTION_MASTER_KEY": "ab" * 32,
    }
    container = build(Settings.from_env(environment))
    made = create_app(container)
    cli.register(made, container)
    return made

"""The web process: settings → container → app."""

from __future__ import annotations

from app import cli
from app.config import Settings
from app.container import build
from app.factory import create_app
from app.observability import logging, tracing

settings = Settings.from_env()
logging.configure("web", settings.log_level, settings.log_format)
tracing.configure("web", settings.otel_exporter_otlp_endpoint)
container = build(settings)
app = create_app(container)
cli.register(app, container)

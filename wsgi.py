"""The web process: settings → container → app."""

from __future__ import annotations

from app import cli
from app.config import Settings
from app.container import build
from app.factory import create_app
from app.observability import logging, metrics, tracing

settings = Settings.from_env()
logging.configure("api", settings.log_level, settings.log_format, directives=settings.rust_log)
metrics.announce("api", logging.product_version())
tracing.configure("api", settings.otel_exporter_otlp_endpoint)
container = build(settings)
app = create_app(container)
cli.register(app, container)

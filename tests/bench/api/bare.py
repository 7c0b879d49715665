"""A bare Flask route for each call: it sends the same statements and answers with their rows as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from flask import Flask, Response, jsonify
from sqlalchemy import create_engine


def make_app(database_url: str, file: str) -> Flask:
    """The application; `file` has the statements of each call, as JSON."""
    app = Flask(__name__)
    # As ours reads: without a transaction around one or two statements.
    engine = create_engine(database_url, pool_size=20, max_overflow=0, isolation_level="AUTOCOMMIT")
    sent = json.loads(Path(file).read_text())

    @app.get("/<int:call>")
    def answer(call: int) -> Response:
        with engine.connect() as connection:
            rows = [
                [dict(row) for row in connection.exec_driver_sql(statement).mappings()]
                for statement in sent[call]
            ]
        return jsonify(rows)

    return app

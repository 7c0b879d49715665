"""A bare Flask route for each call: it sends the same statements and answers with their rows as JSON."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from flask import Flask, Response, jsonify
from sqlalchemy import create_engine


def make_app(database_url: str, file: str, affinity: bool) -> Flask:
    """The application; `file` has the statements of each call, as JSON. On one CPU with `affinity`."""
    if affinity:  # gunicorn makes it in the process that serves it
        os.sched_setaffinity(0, {random.choice(list(os.sched_getaffinity(0)))})
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

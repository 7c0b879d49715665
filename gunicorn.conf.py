"""What gunicorn's command line cannot say: a stopping worker ends its event streams at once."""

from __future__ import annotations

from typing import Any

from app.api.sse import DRAINING

# It would lie in the user's home, one for all installations.
control_socket_disable = True

# A search term and a continuation token in other scripts than Latin are long once they are escaped.
limit_request_line = 8190

# Longer than the idle time of clients and load balancers (60 s): whoever closes first must not be the server,
# or a request may meet a connection that is just being closed.
keepalive = 75


def post_worker_init(worker: Any) -> None:
    """Let the application ask whether this worker was told to stop."""
    worker.wsgi.extensions[DRAINING] = lambda: not worker.alive

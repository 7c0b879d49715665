"""A provider that only waits, in OpenAI's format: `python -m tests.bench.provider PORT MS DIMENSIONS`."""

from __future__ import annotations

import json
import sys
import time
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, MILLISECONDS, DIMENSIONS = (int(word) for word in sys.argv[1:4])


@lru_cache(maxsize=256)
def _answer(count: int) -> bytes:
    vector = [1.0 + place / 1000 for place in range(DIMENSIONS)]
    rows = [{"index": index, "embedding": vector} for index in range(count)]
    return json.dumps({"data": rows}).encode()


class Handler(BaseHTTPRequestHandler):
    """Reads the request, waits, answers with the same vector for every text."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        until = time.monotonic() + MILLISECONDS / 1000
        payload = _answer(len(body["input"]))
        time.sleep(max(0.0, until - time.monotonic()))
        self.send_response(200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has in the library
        return


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()

"""What `helm test` runs: a file goes up, is extracted by a worker and comes back as text.

Reads API_URL, PUBLIC_URL, TIMEOUT_SECONDS and API_TOKEN; without a token it asks for readiness only.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

API = os.environ["API_URL"]
TOKEN = os.environ.get("API_TOKEN", "")
DEADLINE = time.monotonic() + int(os.environ["TIMEOUT_SECONDS"])
SENTENCE = f"The lighthouse keeper counted violet umbrellas until {time.time_ns()}."
BOUNDARY = "semantic-explorer-round-trip"


def call(method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
    """The answer's JSON, or None for an empty one."""
    # The API answers to the host of PUBLIC_URL only.
    headers = {"Host": urlsplit(os.environ["PUBLIC_URL"]).netloc, "Content-Type": content_type}
    if TOKEN:
        headers["Authorization"] = f"Bearer {TOKEN}"
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(API + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def wait(what: str, ready: Callable[[], Any]) -> None:
    """Poll until `ready` returns something true."""
    seen = ""
    while time.monotonic() < DEADLINE:
        try:
            if ready():
                return
        except (urllib.error.URLError, OSError) as error:
            seen = f": {error}"
        time.sleep(1)
    sys.exit(f"waited in vain for {what}{seen}")


def upload(collection: int) -> None:
    """One small text file."""
    head = (
        'Content-Disposition: form-data; name="files"; filename="round-trip.txt"\r\nContent-Type: text/plain'
    )
    body = f"--{BOUNDARY}\r\n{head}\r\n\r\n{SENTENCE}\r\n--{BOUNDARY}--\r\n".encode()
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    failed = call("POST", f"/api/collections/{collection}/files", body, kind)["failed"]
    if failed:
        sys.exit(f"the upload was refused: {failed}")


def came_back(dataset: int) -> bool:
    """Whether the dataset holds the sentence."""
    items = call("GET", f"/api/datasets/{dataset}/items-summary")["items"]
    texts = (call("GET", f"/api/items/{item['item_id']}/text")["text"] for item in items)
    return any(SENTENCE in text for text in texts)


def round_trip() -> None:
    """Up, through the workers, back; what was made is deleted."""
    made: list[str] = []

    def make(path: str, key: str, **body: Any) -> int:
        answer = call("POST", path, body)
        made.append(f"{path}/{answer[key]}")
        return int(answer[key])

    try:
        collection = make("/api/collections", "collection_id", title="helm test")
        dataset = make("/api/datasets", "dataset_id", title="helm test")
        make(
            "/api/collection-transforms",
            "collection_transform_id",
            title="helm test",
            collection_id=collection,
            dataset_id=dataset,
        )
        upload(collection)
        wait("the text of the file", lambda: came_back(dataset))
    finally:
        for path in reversed(made):
            call("DELETE", path)


if __name__ == "__main__":
    wait("the API to be ready", lambda: call("GET", "/health/ready"))
    print("ready: Postgres, NATS, Qdrant and S3 answer")
    if TOKEN:
        round_trip()
        print("round trip: a file was stored, extracted and read back")
    else:
        print("no round trip: set test.tokenSecret to a Secret with an API token of scope write")

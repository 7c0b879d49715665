"""One parser process: reads a request per line, answers with a length and JSON, serves many documents.

It runs apart because native Tika holds Python's global lock while it parses and cannot be interrupted.
Request: {"path", "name", "output": "text" | "xml" | "meta"}. Answer: 8 bytes, big-endian, the length of the
JSON {"content", "metadata"} or {"error"} that follows.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import IO, Any

from devstack.launch import die_with_parent

_NO_LIMIT = 2**31 - 1  # the library cuts at 500,000 characters unless told
_WARM_UP = b"<html><body><p>ready</p></body></html>"


class Parser:
    """Native Tika, set up once for text and once for XHTML."""

    def __init__(self) -> None:
        import iscc_tika

        self._text = iscc_tika.Extractor().set_extract_string_max_length(_NO_LIMIT)
        self._xml = self._text.set_xml_output(True)
        self._xml.extract_bytes_to_string(bytearray(_WARM_UP))  # the first parse starts the runtime

    def parse(self, request: dict[str, str]) -> dict[str, Any]:
        """Return content and metadata, or the reason why there is none."""
        path, output = request["path"], request["output"]
        try:
            if output == "meta":
                content, metadata = "", self._text.extract_file_metadata(path)
            else:
                extractor = self._xml if output == "xml" else self._text
                content, metadata = extractor.extract_file_to_string(path)
        except Exception as error:  # noqa: BLE001 - the library wraps every failure in TypeError
            return {"error": str(error)}
        metadata["resourceName"] = [request["name"]]
        return {"content": content, "metadata": metadata}


def serve(parser: Parser, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer until the server closes the pipe; the first, empty answer says "ready"."""
    _send(answers, {})
    for line in requests:
        _send(answers, parser.parse(json.loads(line)))


def _send(answers: IO[bytes], answer: dict[str, Any]) -> None:
    body = json.dumps(answer, ensure_ascii=False).encode(errors="replace")
    answers.write(len(body).to_bytes(8, "big"))
    answers.write(body)
    answers.flush()


def main() -> None:
    """Serve on stdin and the original stdout; what native code prints goes to stderr."""
    die_with_parent(signal.SIGKILL, int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(Parser(), sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()

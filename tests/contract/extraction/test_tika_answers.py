"""What becomes of each answer that a Tika server may give."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.errors import UnavailableError, UnreadableFileError
from app.pipeline.document import Document
from app.pipeline.extraction.context import ExtractionContext
from app.pipeline.extraction.registry import extract, open_source
from devstack.documents import Section, write_docx

Answer = Callable[[int, str], Document]


@pytest.fixture
def requests_seen() -> list[BaseHTTPRequestHandler]:
    return []


@pytest.fixture
def when_tika_answers(tmp_path: Path, requests_seen: list[BaseHTTPRequestHandler]) -> Iterator[Answer]:
    """Return a function: extract a document while Tika gives this status and body."""
    answer: dict[str, Any] = {"status": 200, "body": b""}

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            requests_seen.append(self)
            if "content-length" in self.headers:
                self.rfile.read(int(self.headers["content-length"]))
            body = answer["body"]
            self.send_response(answer["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    path = write_docx(tmp_path / "Private name.docx", [Section("Title", ["Text"])])

    def run(status: int, body: str) -> Document:
        answer.update(status=status, body=body.encode())
        context = ExtractionContext(f"http://127.0.0.1:{server.server_port}/")
        return extract(open_source(path, path.name), context)

    yield run
    server.shutdown()
    server.server_close()
    thread.join()


def rmeta(*parts: dict[str, object]) -> str:
    return json.dumps(parts)


def test_xhtml_is_asked_for_and_names_stay_here(when_tika_answers: Answer, requests_seen):
    when_tika_answers(200, rmeta({"X-TIKA:content": "<html><body><p>Words</p></body></html>"}))
    (request,) = requests_seen
    assert request.path == "/rmeta/xml"
    assert request.headers["Content-Disposition"] == "attachment; filename=upload.docx"


def test_embedded_documents_become_sections(when_tika_answers: Answer):
    document = when_tika_answers(
        200,
        rmeta(
            {"X-TIKA:content": "<html><body><p>Outer</p></body></html>", "dc:title": "Both"},
            {"X-TIKA:content": "<html><body><p>Inner</p></body></html>", "resourceName": "inner.xlsx"},
        ),
    )
    assert document.text == "Outer\n\ninner.xlsx\n\nInner"
    assert document.title == "Both"


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_in_trouble_is_tried_again(status: int, when_tika_answers: Answer):
    with pytest.raises(UnavailableError, match=f"answered {status}"):
        when_tika_answers(status, "trouble")


def test_an_answer_that_is_no_json_is_tried_again(when_tika_answers: Answer):
    with pytest.raises(UnavailableError, match="no JSON"):
        when_tika_answers(200, "<html>proxy</html>")


def test_an_unprocessable_document_is_damaged(when_tika_answers: Answer):
    with pytest.raises(UnreadableFileError, match="is damaged or not what its name says"):
        when_tika_answers(422, "org.apache.tika.exception.TikaException: broken")


def test_an_encrypted_document_asks_for_its_password_to_be_removed(when_tika_answers: Answer):
    with pytest.raises(UnreadableFileError, match=r"password-protected\. Remove the password"):
        when_tika_answers(422, "org.apache.tika.exception.EncryptedDocumentException")


def test_a_failure_inside_a_good_answer_counts_as_one(when_tika_answers: Answer):
    key = "X-TIKA:EXCEPTION:container_exception"
    with pytest.raises(UnreadableFileError, match="password-protected"):
        when_tika_answers(200, rmeta({key: "o.a.t.e.EncryptedDocumentException: locked"}))
    with pytest.raises(UnreadableFileError, match="is damaged"):
        when_tika_answers(200, rmeta({key: "o.a.t.e.TikaException: broken"}))


def test_a_document_without_text_says_so(when_tika_answers: Answer):
    with pytest.raises(UnreadableFileError, match="holds no text"):
        when_tika_answers(200, rmeta({"Content-Type": "x"}))
    with pytest.raises(UnreadableFileError, match="holds no text"):
        when_tika_answers(204, "")


def test_text_cut_at_the_servers_limit_is_a_warning(when_tika_answers: Answer):
    document = when_tika_answers(
        200,
        rmeta({"X-TIKA:content": "<p>Words</p>", "X-TIKA:EXCEPTION:write_limit_reached": "true"}),
    )
    assert document.warnings == ("The text is longer than the Tika server's limit; the rest is missing",)


def test_the_client_writes_no_log_file(when_tika_answers: Answer):
    import logging

    when_tika_answers(200, rmeta({"X-TIKA:content": "<p>Words</p>"}))
    handlers = logging.getLogger("tika.tika").handlers
    assert not [handler for handler in handlers if isinstance(handler, logging.FileHandler)]

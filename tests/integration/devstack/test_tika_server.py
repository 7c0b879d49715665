from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from devstack.ports import choose_base

REPOSITORY = Path(__file__).parents[3]


class Tika:
    def __init__(self, url: str) -> None:
        self.address = urlsplit(url)

    def put(self, path: str, body: bytes, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.address.hostname or "", self.address.port, timeout=60)
        try:
            words = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("PUT", path, body, words)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def tika(stack_env):
    return Tika(stack_env["TIKA_SERVER_ENDPOINT"])


@pytest.fixture
def strict():
    """A server of our own with small limits and one parser."""
    port = choose_base()
    words = [
        "--port",
        str(port),
        "--children",
        "1",
        "--time-limit-seconds",
        "20",
        "--memory-limit-mib",
        "300",
    ]
    process = subprocess.Popen([sys.executable, "-m", "devstack.tika_server", *words], cwd=REPOSITORY)
    server = Tika(f"http://127.0.0.1:{port}")
    for _ in range(200):
        try:
            server.put("/tika", b"ready")
            break
        except OSError:
            time.sleep(0.1)
    yield server, psutil.Process(process.pid)
    process.terminate()
    process.wait(10)


def word_document(tmp_path: Path) -> bytes:
    from docx import Document

    document = Document()
    document.add_heading("Harvest", 1)
    document.add_paragraph("Äpfel and pears.")
    document.core_properties.author = "Ann"
    document.save(str(tmp_path / "a.docx"))
    return (tmp_path / "a.docx").read_bytes()


def pdf(text: str = "hello", *, password: str | None = None) -> bytes:
    from fpdf import FPDF

    page = FPDF()
    page.set_font("helvetica", size=12)
    page.add_page()
    page.cell(text=text)
    if password:
        page.set_encryption(owner_password="owner", user_password=password)
    return bytes(page.output())


def test_the_real_client_reads_a_document_as_text_and_as_xhtml(stack_env, tmp_path, monkeypatch):
    monkeypatch.setenv("TIKA_CLIENT_ONLY", "true")
    monkeypatch.setenv("TIKA_LOG_FILE", "")
    from tika import parser

    endpoint = stack_env["TIKA_SERVER_ENDPOINT"]
    body = word_document(tmp_path)
    text = parser.from_buffer(body, serverEndpoint=endpoint)
    xhtml = parser.from_file(str(tmp_path / "a.docx"), serverEndpoint=endpoint, xmlContent=True)

    assert text["status"] == xhtml["status"] == 200
    assert "Äpfel and pears." in text["content"]
    assert "<h1>Harvest</h1>" in xhtml["content"]
    assert xhtml["metadata"]["dc:creator"] == "Ann"


def test_the_routes_answer_in_tikas_shapes(tika, tmp_path):
    body = word_document(tmp_path)
    assert "Äpfel" in tika.put("/tika", body, Accept="text/plain")[1]
    assert "<h1>Harvest</h1>" in tika.put("/tika", body, Accept="text/html")[1]
    assert json.loads(tika.put("/meta", body)[1])["dc:creator"] == "Ann"
    (entry,) = json.loads(tika.put("/rmeta/text", body)[1])
    assert "Äpfel" in entry["X-TIKA:content"]
    assert tika.put("/detect/stream", pdf()) == (200, "application/pdf")
    assert tika.put("/rmeta/nonsense", body)[0] == 404


@pytest.mark.parametrize("route", ["/tika", "/rmeta/text", "/rmeta/xml"])
def test_what_cannot_be_read_is_422_with_the_reason(tika, route):
    status, words = tika.put(route, pdf(password="secret"))
    assert (status, "EncryptedDocumentException" in words) == (422, True)
    status, words = tika.put(route, b"")
    assert (status, "empty" in words) == (422, True)


def test_a_long_text_is_not_cut(tika):
    body = b"word " * 400_000
    assert len(tika.put("/tika", body, Content_Disposition="attachment; filename=long.txt")[1]) >= 2_000_000


def test_a_name_with_a_path_is_only_a_name(tika):
    name = 'attachment; filename="../../etc/passwd.txt"'
    (entry,) = json.loads(tika.put("/rmeta/text", b"plain words", Content_Disposition=name)[1])
    assert entry["resourceName"] == "passwd.txt"


def test_a_slow_document_is_503_and_the_next_one_is_read(strict):
    server, _ = strict
    rows = "".join(f"<tr><td>{number}</td></tr>" for number in range(400_000))
    status, words = server.put("/rmeta/xml", f"<table>{rows}</table>".encode(), X_Tika_Timeout_Millis="300")
    assert (status, words) == (503, "The document takes longer than 0.3 s")
    assert server.put("/tika", b"next")[0] == 200


def test_a_document_that_eats_the_memory_is_503_and_the_next_one_is_read(strict):
    server, _ = strict
    rows = "".join(f"<tr><td>{number}</td></tr>" for number in range(1_500_000))
    status, words = server.put("/rmeta/xml", f"<table>{rows}</table>".encode())
    assert (status, words) == (503, "The document needs more than 300 MiB")
    assert server.put("/tika", b"next")[0] == 200


def test_a_parser_that_crashes_is_replaced(strict):
    server, process = strict
    (child,) = process.children()
    os.kill(child.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.put, "/tika", b"unlucky")
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGKILL)
        assert answer.result() == (503, "The parser crashed on this document")
    assert server.put("/tika", b"next")[0] == 200
    assert [each.pid for each in process.children()] != [child.pid]


def test_more_documents_than_parsers_wait_their_turn(strict):
    server, process = strict
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: server.put("/tika", f"text {number}".encode()), range(16)))
    assert [text.strip() for _, text in answers] == [f"text {number}" for number in range(16)]
    assert len(process.children()) == 1

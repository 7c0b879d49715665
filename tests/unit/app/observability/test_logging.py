"""One JSON object per line, with what is bound, without secrets, whatever is logged."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextvars import copy_context
from datetime import datetime
from typing import Any

import pytest

from app.observability.logging import bind, bound, bound_fields, configure, unbind
from app.observability.redaction import is_secret_name, redact


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()
    configure("api", "INFO", "json", stream)
    yield stream
    root.handlers[:], root.level = before[0], before[1]


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_has_the_documented_fields(out: io.StringIO):
    with bound(request_id="0b1c"):
        logging.getLogger("app.x").info("API server %s", "started")
    (line,) = lines(out)
    assert {"timestamp", "level", "message", "service", "version", "request_id"} <= line.keys()
    assert (line["level"], line["message"], line["service"]) == ("INFO", "API server started", "api")
    assert line["timestamp"].endswith("Z")
    datetime.fromisoformat(line["timestamp"])


def test_bindings_nest_and_end(out: io.StringIO):
    log = logging.getLogger("app.x")
    with bound(job_id="j1"):
        with bound(kind="embed"):
            log.info("inner")
        log.info("outer")
    log.info("after")
    inner, outer, after = lines(out)
    assert (inner["job_id"], inner["kind"], outer["job_id"]) == ("j1", "embed", "j1")
    assert "kind" not in outer
    assert "job_id" not in after


def test_bindings_of_one_thread_do_not_reach_another():
    token = bind(request_id="mine")
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(dict(bound_fields())))
    thread.start()
    thread.join()
    carried = copy_context().run(lambda: dict(bound_fields()))
    unbind(token)
    assert seen == [{}]
    assert carried == {"request_id": "mine"}


def test_extra_fields_and_errors_are_structured(out: io.StringIO):
    try:
        int("broken: Bearer abcdef123456")
    except ValueError:
        logging.getLogger("app.x").exception(
            "no luck", extra={"attempt": 3, "nested": {"api_key": "k", "n": 1}}
        )
    (line,) = lines(out)
    assert line["attempt"] == 3
    assert line["nested"] == {"api_key": "[redacted]", "n": 1}
    assert line["error"]["type"] == "ValueError"
    assert "Traceback" in line["error"]["stack"]
    assert "abcdef123456" not in out.getvalue()


def test_a_line_cannot_be_forged(out: io.StringIO, monkeypatch: pytest.MonkeyPatch):
    # pytest's own handlers would put the broken text into its report, which cannot be passed on.
    ours = [handler for handler in logging.getLogger().handlers if getattr(handler, "stream", None) is out]
    monkeypatch.setattr(logging.getLogger(), "handlers", ours)
    logging.getLogger("app.x").info('a\n{"level": "FAKE"}\r\u2028\x00\ud800', extra={"message2": "b\nc"})
    assert len(out.getvalue().split("\n")) == 2
    assert lines(out)[0]["message"].startswith("a\n")


def test_an_endless_message_is_cut_and_says_so(out: io.StringIO):
    logging.getLogger("app.x").info("x" * 100_000)
    logging.getLogger("app.x").info("y", extra={f"field{n}": "z" * 1900 for n in range(50)})
    with bound(job_id="j1", title="\U0001f3e0" * 3000):
        logging.getLogger("app.x").info("\U0001f3e0" * 3000)
    assert lines(out)[-1]["job_id"] == "j1"
    for line, text in zip(lines(out), out.getvalue().splitlines(), strict=True):
        assert line["truncated"] is True
        assert len(text) <= 16_384


def test_fields_cannot_take_the_place_of_ours(out: io.StringIO):
    with bound(level="DEBUG", service="other"):
        logging.getLogger("app.x").warning("w")
    assert (lines(out)[0]["level"], lines(out)[0]["service"]) == ("WARNING", "api")


@pytest.fixture
def levels() -> Iterator[None]:
    names = ("app", "tasks", "brokers", "app.a", "app.b", "lib", "httpx", "gunicorn.error")
    yield
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize(
    ("directives", "level", "seen"),
    [
        ("", None, "app.a app.b lib"),
        ("warn", None, ""),
        ("warn,semantic_explorer=info", None, "app.a app.b"),
        ("info,semantic_explorer=debug", None, "app.a? app.a app.b? app.b lib"),
        ("warn,semantic_explorer::a=debug", None, "app.a? app.a"),
        ("warn, app.a = debug ,lib=off", None, "app.a? app.a"),
        ("semantic_explorer=debug", "WARNING", "app.a? app.a app.b? app.b"),
        ("debug", "ERROR", ""),
        ("info,app::b=off", None, "app.a lib"),
        ("warn,httpx=debug,app=off", None, "httpx? httpx"),
    ],
)
def test_the_filter_sets_levels_by_part_and_the_level_goes_before_its_first_word(
    out: io.StringIO, directives: str, level: str | None, seen: str
):
    stream = io.StringIO()
    configure("api", level, "json", stream, directives=directives)
    for name in ("app.a", "app.b", "lib", "httpx"):
        logging.getLogger(name).debug("%s?", name)
        logging.getLogger(name).info("%s", name)
    assert " ".join(line["message"] for line in lines(stream)) == seen


@pytest.mark.usefixtures("levels")
@pytest.mark.parametrize(("directives", "heard"), [("warn", 0), ("warn,gunicorn.error=info", 1), ("", 1)])
def test_the_filter_holds_for_the_server_that_the_program_runs_under(
    out: io.StringIO, directives: str, heard: int
):
    logging.getLogger("gunicorn.error").setLevel(logging.INFO)  # as gunicorn does
    stream = io.StringIO()
    configure("api", None, "json", stream, directives=directives)
    logging.getLogger("gunicorn.error").info("Listening")
    assert len(lines(stream)) == heard


@pytest.mark.usefixtures("levels")
def test_a_filter_that_cannot_be_read_is_said_and_stops_nothing(out: io.StringIO):
    stream = io.StringIO()
    configure("api", None, "json", stream, directives="lib=loud,info,=debug,[span{x=1}]=info")
    logging.getLogger("app.a").info("on")
    warned, on = lines(stream)
    assert (warned["level"], on["message"]) == ("WARNING", "on")
    assert all(part in warned["message"] for part in ("lib=loud", "=debug", "[span{x=1}]=info"))


def test_the_documented_fields_come_first_and_in_order(out: io.StringIO):
    logging.getLogger("app.x").info("no request")
    with bound(zebra=1, request_id="0b1c"):
        logging.getLogger("app.x").info("in a request", extra={"apple": 2})
    for line in lines(out):
        assert list(line)[:6] == ["timestamp", "level", "message", "service", "version", "request_id"]
    assert [line["request_id"] for line in lines(out)] == [None, "0b1c"]


def test_behind_them_come_the_ids_then_what_was_done_then_the_error(out: io.StringIO):
    with bound(delivery=2, stream="S", job_id="j", tenant="t", user="u", zebra=1):
        logging.getLogger("app.x").warning(
            "w", extra={"error": {"type": "E"}, "status": "failed", "apple": 1}
        )
    (line,) = lines(out)
    assert list(line)[6:] == [
        "user", "tenant", "status", "job_id", "stream", "delivery", "error", "logger", "zebra", "apple"
    ]  # fmt: skip


def test_text_cannot_move_a_terminals_cursor_or_begin_a_line(out: io.StringIO):
    stream = io.StringIO()
    configure("api", None, "text", stream)
    with bound(title="a\x1b[2J\rb\nc"):
        logging.getLogger("app.x").info("x\x1b]0;t\x07\r\n10:00:00 ERROR forged\u2028")
    written = stream.getvalue()
    assert not set("\x1b\r\x07\u2028") & set(written)
    assert [line for line in written.split("\n")[1:] if line and not line.startswith("    ")] == []


def test_text_is_for_people(out: io.StringIO):
    stream = io.StringIO()
    configure("api", "INFO", "text", stream)
    with bound(job_id="j1"):
        logging.getLogger("app.x").info("hello password=hunter22")
    assert "INFO" in stream.getvalue()
    assert "hello" in stream.getvalue()
    assert "job_id=j1" in stream.getvalue()
    assert "hunter22" not in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer CANARY-9f8e7d6c5b",
        "postgresql://explorer:CANARY-9f8e7d6c5b@db:5432/x",
        "api_key=CANARY-9f8e7d6c5b&x=1",
        '{"password": "CANARY-9f8e7d6c5b"}',
        "GET /a?X-Amz-Signature=CANARY-9f8e7d6c5b HTTP/1.1",
        "OPENAI_API_KEY=CANARY-9f8e7d6c5b",
        "key sk-CANARY-9f8e7d6c5b4a3f2e1d is wrong",
    ],
)
def test_secrets_are_recognised_by_their_look(text: str):
    assert "9f8e7d6c5b" not in redact(text)


@pytest.mark.parametrize(
    "text", ["12 tokens read", "secretary of state", "the token expired", "https://host:8080/a@b"]
)
def test_ordinary_words_stay(text: str):
    assert redact(text) == text


def test_names_of_secrets_are_known_and_counts_are_not():
    assert all(
        map(is_secret_name, ["api_key", "X-API-Key", "run_token", "Authorization", "aws_secret_access_key"])
    )
    assert not any(
        map(is_secret_name, ["tokens", "token_count", "max_input_tokens", "key", "has_api_key_count"])
    )


@pytest.mark.parametrize(
    "secret", ["Bearer abcdef123456", "api_\u212aey=abcdef123456", "\\u0062 to\u212aen: abcdef123456"]
)
def test_a_line_that_is_looked_at_as_a_whole_hides_what_its_parts_would(out: io.StringIO, secret: str):
    logging.getLogger("app.x").info("plain", extra={"where": secret})
    logging.getLogger("app.x").info(secret)
    logging.getLogger("app.x").info("plain", extra={"api_key": "abcdef123456"})
    assert len(lines(out)) == 3
    assert "abcdef123456" not in out.getvalue()

from __future__ import annotations

import pytest

from app.config import Settings
from app.errors import InvalidInputError

REST = {"DATABASE_URL": "postgresql://127.0.0.1/x"}


@pytest.mark.parametrize(
    "url",
    [
        "https://traces.example.com/trace/{trace_id}",
        "http://127.0.0.1:16686/trace/{trace_id}?uiFind=dead#top",
        "https://grafana.example.com/explore?left=%7B%22query%22:%22{trace_id}%22%7D",
    ],
)
def test_an_address_with_a_place_for_the_trace_is_taken(url: str):
    assert Settings.from_env({**REST, "TRACE_URL_TEMPLATE": url}).trace_url_template == url


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("javascript:alert('{trace_id}')", "http"),
        ("ftp://traces.example.com/{trace_id}", "http"),
        ("https:///{trace_id}", "host"),
        ("https://traces.example.com/trace", "once"),
        ("https://traces.example.com/{trace_id}/{trace_id}", "once"),
        ("https://{trace_id}.example.com/", "behind the host"),
        ("https://traces.example.com/{span_id}/{trace_id}", "braces"),
        ('https://traces.example.com/{trace_id}"onclick=x', "quotes"),
    ],
)
def test_any_other_is_refused_by_name_and_rule(url: str, rule: str):
    with pytest.raises(InvalidInputError, match=f"TRACE_URL_TEMPLATE .*{rule}"):
        Settings.from_env({**REST, "TRACE_URL_TEMPLATE": url})


def test_without_one_traces_are_no_links():
    assert Settings.from_env(REST).trace_url_template is None

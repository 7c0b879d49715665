from __future__ import annotations

import json

import pytest

from app.security.masking import mask, mask_text


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://explorer:{}@db/x",
        "Authorization: Bearer {}",
        "Authorization: Basic {}",
        "GET /x?api_key={}&page=2",
        "connect(password='{}', host='db')",
        '{{"client_secret": "{}"}}',
        "X-Amz-Signature={}",
    ],
)
def test_a_secret_within_a_text_is_hidden_and_the_rest_stays(text: str):
    masked = mask_text(text.format("c2VjcmV0LXZhbHVl"))
    assert "c2VjcmV0LXZhbHVl" not in masked
    assert masked.startswith(text.split("{", maxsplit=1)[0][:5])


TWICE = json.dumps(json.dumps({"password": "{}", "file_id": 9}))


@pytest.mark.parametrize(
    "text",
    [
        "{'Authorization': 'Token {}', 'Accept': 'x'}",
        "Cookie: sid={}; theme=x",
        "passphrase={}",
        "pwd={} host=db",
        "AWS_SECRET_ACCESS_KEY=abcd/{}",
        TWICE,
        json.dumps(TWICE),
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n{}\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIE\n{}",
        '{"password": "a\\"{}',
        "password=b'two {}'",
        '{"session_id": "{}"}',
    ],
)
def test_secrets_in_headers_settings_keys_and_quoted_json_are_hidden(text: str):
    secret = "hunter2abcdefgh"
    masked = mask_text(text.replace("{}", secret))
    assert secret not in masked
    assert "•••" in masked
    assert mask({"note": text.replace("{}", secret)}) == {"note": masked}


def test_what_stands_beside_a_quoted_secret_stays():
    assert (
        mask_text("{'Authorization': 'Token abc', 'Accept': 'x'}") == "{'Authorization': •••, 'Accept': 'x'}"
    )
    assert '\\"file_id\\": 9' in mask_text(TWICE)


@pytest.mark.parametrize(
    "token",
    [
        "sk-proj-abcdefgh12345",
        "ghp_abcdefghijklmnop",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2ln",
        "xoxb-123456789012",
    ],
)
def test_keys_of_known_shapes_are_hidden_wherever_they_stand(token: str):
    assert token not in mask_text(f"the provider refused {token} today")


def test_values_under_telling_names_are_hidden_at_any_depth_and_others_are_not():
    given = {"a": [{"apiKey": "x", "count": 3}], "token": 7, "file_id": 9, "password": None, "note": "fine"}
    assert mask(given) == {
        "a": [{"apiKey": "•••", "count": 3}], "token": "•••", "file_id": 9, "password": None, "note": "fine",
    }  # fmt: skip


def test_plain_words_stay_as_they_are():
    text = "the index has 384 dimensions, the embedder 768; tokens: too many (https://example.org/a/b)"
    assert mask_text(text) == text

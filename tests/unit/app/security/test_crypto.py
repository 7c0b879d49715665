"""Secrets at rest open in their own place, unaltered, with their own key, and nowhere else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInputError, PermanentError, UnavailableError
from app.security.crypto import SecretBox, key_id_of

KEY, OTHER = "0f" * 32, "A1" * 32
PLACE: dict[str, Any] = {"table": "embedders", "column": "api_key", "row": 7, "owner": "ada"}


@given(st.text())
def test_what_is_sealed_opens_again(text: str):
    box = SecretBox(KEY)
    assert box.decrypt(box.encrypt(text, **PLACE), **PLACE) == text


def test_a_sealed_value_shows_version_and_key_but_no_secret():
    box = SecretBox(KEY)
    token = box.encrypt("sk-very-secret", **PLACE)
    assert token.startswith(f"v1.{box.key_id}.")
    assert "secret" not in token
    assert len(token.split(".")) == 4
    assert key_id_of(token) == box.key_id


def test_the_same_value_never_looks_the_same():
    box = SecretBox(KEY)
    assert len({box.encrypt("same", **PLACE) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "elsewhere", [{"table": "llms"}, {"column": "token"}, {"row": 8}, {"owner": "eve"}, {"row": "7x"}]
)
def test_a_value_copied_elsewhere_does_not_open(elsewhere: dict[str, Any]):
    box = SecretBox(KEY)
    with pytest.raises(PermanentError, match="another row"):
        box.decrypt(box.encrypt("secret", **PLACE), **{**PLACE, **elsewhere})


def test_parts_of_the_place_cannot_be_shifted_into_each_other():
    box = SecretBox(KEY)
    token = box.encrypt("secret", table="a", column="bc", row=1, owner="x")
    with pytest.raises(PermanentError):
        box.decrypt(token, table="ab", column="c", row=1, owner="x")


def test_every_flipped_character_is_noticed():
    box = SecretBox(KEY)
    token = box.encrypt("sk-secret", **PLACE)
    for i, character in enumerate(token):
        altered = token[:i] + ("A" if character != "A" else "B") + token[i + 1 :]
        with pytest.raises((PermanentError, UnavailableError)):
            box.decrypt(altered, **PLACE)


@pytest.mark.parametrize("rubbish", ["", "v1", "v2.a.b.c", "sk-plain", "v1.00000000.###.###", "v1.é.a.b"])
def test_what_is_no_sealed_value_is_refused(rubbish: str):
    with pytest.raises((PermanentError, UnavailableError)):
        SecretBox(KEY).decrypt(rubbish, **PLACE)


def test_a_retired_key_opens_but_does_not_seal():
    old = SecretBox(KEY).encrypt("secret", **PLACE)
    box = SecretBox(OTHER, retired=(KEY,))
    assert box.decrypt(old, **PLACE) == "secret"
    assert key_id_of(old) != box.key_id
    new = box.encrypt("secret", **PLACE)
    assert key_id_of(new) == box.key_id
    assert SecretBox(OTHER).decrypt(new, **PLACE) == "secret"


def test_an_unknown_key_is_named_by_its_id():
    token = SecretBox(KEY).encrypt("secret", **PLACE)
    with pytest.raises(UnavailableError, match=key_id_of(token)):
        SecretBox(OTHER).decrypt(token, **PLACE)


@pytest.mark.parametrize(
    "key", ["0f" * 31, "0f" * 33, "zz" * 32, "0x" + "0f" * 31, " " * 64, "0f" * 32 + "\n"]
)
def test_a_wrong_key_is_refused_by_rule_and_not_by_value(key: str):
    with pytest.raises(InvalidInputError, match="64 hexadecimal") as refused:
        SecretBox(key)
    assert key not in refused.value.message
    assert "0f0f" not in refused.value.message


@pytest.mark.parametrize("absent", [None, ""])
def test_without_a_key_nothing_is_stored(absent: str | None):
    box = SecretBox(absent)
    assert not box.enabled
    with pytest.raises(UnavailableError, match="ENCRYPTION_MASTER_KEY") as refused:
        box.encrypt("secret", **PLACE)
    assert refused.value.http_status == 503
    with pytest.raises(UnavailableError):
        box.decrypt(SecretBox(KEY).encrypt("secret", **PLACE), **PLACE)


def test_the_box_does_not_show_its_key():
    assert "0f0f" not in repr(SecretBox(KEY)) + str(vars(SecretBox(KEY)))


def test_a_sealed_value_is_aes_256_gcm_with_a_key_that_is_derived_from_the_master_key():
    version, key_id, nonce, sealed = SecretBox(KEY).encrypt("sk-secret", **PLACE).split(".")
    key = HKDF(SHA256(), 32, salt=None, info=b"semantic-explorer secrets v1").derive(bytes.fromhex(KEY))
    place = json.dumps([version, key_id, "embedders", "api_key", "7", "ada"], separators=(",", ":"))
    once, rest = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (nonce, sealed))
    assert AESGCM(key).decrypt(once, rest, place.encode()) == b"sk-secret"
    assert len(once) == 12

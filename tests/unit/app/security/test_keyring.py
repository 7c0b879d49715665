"""Keys are refused at the start by their rule, told apart by ids, and never shown."""

from __future__ import annotations

import logging

import pytest

from app.config import Settings
from app.errors import InvalidInputError
from app.security.keyring import Keyring

KEY, OTHER = "0f" * 32, "A1" * 32
DATABASE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}


@pytest.mark.parametrize("name", ["ENCRYPTION_MASTER_KEY", "ENCRYPTION_RETIRED_KEYS"])
@pytest.mark.parametrize("wrong", [KEY[:-3], KEY + "00", "zq" * 32, "correct horse battery staple"])
def test_a_wrong_key_stops_the_start_by_its_rule_and_not_by_its_value(name: str, wrong: str):
    with pytest.raises(InvalidInputError) as refused:
        Settings.from_env(DATABASE | {name: wrong})
    assert name in refused.value.message
    assert "64 hexadecimal digits" in refused.value.message
    assert wrong not in refused.value.message


def test_64_hexadecimal_digits_are_taken_in_any_case():
    keys = {
        Keyring(Settings.from_env(DATABASE | {"ENCRYPTION_MASTER_KEY": key}).encryption_master_key).active
        for key in (OTHER, OTHER.lower())
    }
    assert len({key.id for key in keys if key}) == 1


def test_several_retired_keys_are_read():
    settings = Settings.from_env(
        DATABASE | {"ENCRYPTION_MASTER_KEY": KEY, "ENCRYPTION_RETIRED_KEYS": f"{OTHER}, {'22' * 32}"}
    )
    ring = Keyring(settings.encryption_master_key, settings.encryption_retired_keys)
    assert len(ring.keys) == 3
    assert KEY not in repr(settings)
    assert KEY not in repr(list(ring.keys.values())) + str(vars(ring))


def test_a_key_for_one_use_says_nothing_about_another():
    key = Keyring(KEY).active
    assert key
    derived = {key.derive("secrets"), key.derive("audit"), bytes.fromhex(KEY)}
    assert len(derived) == 3
    assert {len(each) for each in derived} == {32}


def test_the_start_says_that_encryption_is_ready(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    Keyring(KEY, [OTHER]).announce()
    assert "encryption service initialized" in caplog.text
    assert KEY not in caplog.text


def test_the_start_warns_where_there_is_no_key(caplog: pytest.LogCaptureFixture):
    Keyring(None).announce()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "encryption is off: ENCRYPTION_MASTER_KEY is not set" in record.getMessage()

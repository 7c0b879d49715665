"""What is said about sign-in at the start: nothing, all of it, or an error that names what is missing."""

from __future__ import annotations

import pytest

from app.config import Settings
from app.errors import InvalidInputError
from app.security.oidc_options import oidc_options

BASE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}
GOOD = {
    "OIDC_ISSUER_URL": "https://id.example.com",
    "OIDC_CLIENT_ID": "explorer",
    "OIDC_CLIENT_SECRET": "s3cret",
    "PUBLIC_URL": "https://explorer.example.com/",
}


def test_without_a_provider_there_is_no_sign_in():
    assert oidc_options(Settings.from_env(BASE)) is None
    assert oidc_options(Settings.from_env(BASE | {"PUBLIC_URL": "https://x.example"})) is None


def test_a_full_configuration_is_taken_and_its_secret_not_shown():
    options = oidc_options(Settings.from_env(BASE | GOOD))
    assert options is not None
    assert options.redirect_uri == "https://explorer.example.com/auth_callback"
    assert options.secure_cookies
    assert "s3cret" not in repr(options)


@pytest.mark.parametrize("name", ["OIDC_ISSUER_URL", "OIDC_CLIENT_SECRET", "PUBLIC_URL"])
def test_what_is_missing_is_named(name: str):
    part = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(InvalidInputError, match=f"also set {name}"):
        oidc_options(Settings.from_env(BASE | part))


@pytest.mark.parametrize("name", ["OIDC_ISSUER_URL", "PUBLIC_URL"])
def test_plain_http_is_for_this_machine_only(name: str):
    with pytest.raises(InvalidInputError, match=f"{name} must start with https"):
        oidc_options(Settings.from_env(BASE | GOOD | {name: "http://id.example.com"}))
    options = oidc_options(Settings.from_env(BASE | GOOD | {name: "http://localhost:9000"}))
    assert options is not None
    assert options.secure_cookies == (name != "PUBLIC_URL")


def test_id_tokens_cannot_pass_for_access_tokens():
    with pytest.raises(InvalidInputError, match="OIDC_AUDIENCE must differ"):
        oidc_options(Settings.from_env(BASE | GOOD | {"OIDC_AUDIENCE": "explorer"}))

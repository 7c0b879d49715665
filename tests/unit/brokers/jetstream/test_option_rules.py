from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from brokers import BrokerOptions

NAMES = (
    "subject_root",
    "dead_letter_stream",
    "dead_record_stream",
    "status_stream",
    "results_bucket",
    "limits_bucket",
)


def test_every_option_is_explained() -> None:
    for field in dataclasses.fields(BrokerOptions):
        assert f"\n    {field.name} " in (BrokerOptions.__doc__ or "")


@pytest.mark.parametrize("name", ["has.dots", "has space", "*", ">", "", "7up", "new\nline", None])
@pytest.mark.parametrize("field", NAMES)
def test_a_name_that_would_break_a_subject_is_refused_by_its_field(field: str, name: Any) -> None:
    with pytest.raises(ValueError, match=f"^{field} .* must be one plain word"):
        BrokerOptions(**{field: name})


def test_streams_of_different_kinds_differ() -> None:
    with pytest.raises(ValueError, match="dead_letter_stream and dead_record_stream and status_stream"):
        BrokerOptions(status_stream="DLQ_RECORDS")


@pytest.mark.parametrize("field", ["tls_ca_file", "tls_cert_file", "credentials_file"])
@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_cannot_be_used_is_refused_by_its_field(
    field: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nkeys", None)
    path = tmp_path / "file"
    if there:
        path.write_text("nothing of use")
    values: dict[str, Any] = {field: str(path)}
    with pytest.raises(ValueError, match=f"^{field} "):
        BrokerOptions(**values)


@pytest.mark.parametrize(
    "content", ["", "-----BEGIN NATS USER JWT-----\nx\n", "-----BEGIN USER NKEY SEED-----\nSUX\n", "BEGIN"]
)
def test_a_file_without_a_token_and_a_seed_is_not_taken_for_credentials(content: str, tmp_path: Path) -> None:
    path = tmp_path / "file"  # the client would look for the token's first line for ever
    path.write_text(content)
    with pytest.raises(ValueError, match=r"credentials_file .* holds no NATS user JWT with its seed"):
        BrokerOptions(credentials_file=str(path))


def test_a_key_without_its_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="tls_key_file needs the tls_cert_file"):
        BrokerOptions(tls_key_file="key.pem")

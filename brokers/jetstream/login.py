"""Which option to look at when a server does not let this process in, or is not the one that is trusted."""

from __future__ import annotations

import ssl

from brokers.jetstream.errors import LoginRefusedError
from brokers.jetstream.options import BrokerOptions


def login_refused(options: BrokerOptions, error: BaseException) -> LoginRefusedError | None:
    """The error with the option that it is about; None when it is not about logging in."""
    option = _option(options, error)
    return LoginRefusedError(f"{error}; look at {option}") if option else None


def _option(options: BrokerOptions, error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _named("tls_ca_file", options.tls_ca_file)
    if isinstance(error, ssl.SSLError):  # an alert of the server's, about us
        return _named("tls_cert_file", options.tls_cert_file)
    signing = type(error).__module__.startswith("nkeys")  # an extra that may be missing
    if not signing and not any(word in str(error).lower() for word in ("authorization", "authentication")):
        return None
    if options.credentials_file is not None:
        return _named("credentials_file", options.credentials_file)
    return "the user, password or token in servers, or set credentials_file"


def _named(option: str, value: str | None) -> str:
    return f"{option} {value!r}" if value is not None else f"{option}, which is not set"

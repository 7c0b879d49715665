"""A server that asks for TLS and for clients' certificates, and what the short way makes of that."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dramatiq.errors import BrokerConnectionError

from brokers import JetStreamBroker, inspect, topology
from brokers.jetstream.shortcut import Shortcut
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files of a certificate that vouches for itself, and of its key; good for both ends."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "both ends")])
    now = dt.datetime.now(dt.UTC)
    local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(local, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    text = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*text))
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.fixture
def secured(tmp_path: Path, certificate: tuple[str, str]) -> Iterator[NatsServer]:
    cert, key = certificate
    files = ("--tlscert", cert, "--tlskey", key, "--tlscacert", cert)
    server = NatsServer(tmp_path / "nats", "--tlsverify", *files)
    server.start()
    yield server
    server.kill()


def test_the_files_in_the_options_open_a_connection(
    secured: NatsServer, certificate: tuple[str, str]
) -> None:
    cert, key = certificate
    files = {"tls_ca_file": cert, "tls_cert_file": cert, "tls_key_file": key}
    options = make_options(secured.url, **files)
    topology.apply(options, QUEUES)
    broker = JetStreamBroker(options, QUEUES)
    for _ in range(3):
        broker.enqueue(message("work"))
    assert inspect.depths(broker)[0].ready == 3
    broker.close()


def test_without_the_clients_certificate_there_is_no_connection(
    secured: NatsServer, certificate: tuple[str, str]
) -> None:
    broker = JetStreamBroker(make_options(secured.url, tls_ca_file=certificate[0]), QUEUES)
    with pytest.raises(BrokerConnectionError):
        inspect.ping(broker)
    broker.close()


def test_the_short_way_is_not_even_tried_when_the_url_is_not_all(
    server: NatsServer, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> bool:
        raise AssertionError("a plain connection was tried")

    options = make_options(server.url, tls_ca_file=certificate[0])
    topology.apply(options, QUEUES)
    broker = JetStreamBroker(options, QUEUES)
    inspect.ping(broker)  # the long way is open
    monkeypatch.setattr(Shortcut, "try_to_publish", forbidden)
    broker.enqueue(message("work"))
    broker.close()

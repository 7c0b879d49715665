"""Servers that ask who it is: for certificates, for credentials; and what the short way makes of that."""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dramatiq.errors import BrokerConnectionError
from nats.aio.msg import Msg

from brokers import BrokerOptions, JetStreamBroker, inspect, topology
from brokers.jetstream.errors import LoginRefusedError
from brokers.jetstream.lifeline import Lifeline
from brokers.jetstream.message import Delivery
from brokers.jetstream.shortcut import Shortcut
from tests.integration.broker.operator_mode import OperatorMode
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options, message, take, wait_until

_HASTE: dict[str, Any] = {"connect_timeout_seconds": 1.0}  # where waiting longer would not help


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def make_certificate(folder: Path) -> tuple[str, str]:
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


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[str, str]) -> Iterator[BrokerOptions]:
    """What opens a server that wants a certificate and credentials."""
    folder, operator, (cert, key) = tmp_path_factory.mktemp("strict"), OperatorMode(), certificate
    (folder / "nats.conf").write_text(operator.configuration())
    files = ("--tlscert", cert, "--tlskey", key, "--tlscacert", cert)
    server = NatsServer(folder / "nats", "-c", str(folder / "nats.conf"), "--tlsverify", *files)
    server.start()
    ours = {"tls_ca_file": cert, "tls_cert_file": cert, "tls_key_file": key}
    credentials = operator.credentials(folder / "user.creds")
    yield make_options(server.url, credentials_file=credentials, **ours)
    server.kill()


def test_credentials_and_a_certificate_open_a_connection(strict: BrokerOptions) -> None:
    topology.apply(strict, QUEUES)
    broker = JetStreamBroker(strict, QUEUES)
    broker.enqueue(message("work"))
    consumer, found = take(broker, 30)
    consumer.ack(found)
    broker.join("quick", timeout=30_000)
    broker.close()


def _of_another_operator(folder: Path) -> dict[str, Any]:
    return {"credentials_file": OperatorMode().credentials(folder / "file")}


def _with_a_broken_seed(folder: Path) -> dict[str, Any]:
    path = Path(OperatorMode().credentials(folder / "file"))
    path.write_text(re.sub(r"^SU\w+$", "SUABROKEN", path.read_text(), flags=re.MULTILINE))
    return {"credentials_file": str(path)}


def _of_another_certificate(folder: Path) -> dict[str, Any]:
    cert, key = make_certificate(folder)
    return {"tls_cert_file": cert, "tls_key_file": key}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (_of_another_operator, "credentials_file '.*file'"),
        (_with_a_broken_seed, "credentials_file '.*file'"),
        (lambda _: {"credentials_file": None}, "set credentials_file"),
        (lambda folder: {"tls_ca_file": make_certificate(folder)[0]}, "tls_ca_file '.*cert.pem'"),
        (
            lambda _: {"tls_ca_file": None, "tls_cert_file": None, "tls_key_file": None},
            "tls_ca_file, which is not set",
        ),
        (_of_another_certificate, "tls_cert_file '.*cert.pem'"),
        (lambda _: {"tls_cert_file": None, "tls_key_file": None}, "tls_cert_file, which is not set"),
    ],
)
def test_who_is_not_let_in_is_told_which_option_to_look_at(
    strict: BrokerOptions, tmp_path: Path, wrong: Callable[[Path], dict[str, Any]], told: str
) -> None:
    broker = JetStreamBroker(dataclasses.replace(strict, **_HASTE, **wrong(tmp_path)), QUEUES)

    def told_so() -> bool:
        with pytest.raises(BrokerConnectionError) as refused:
            inspect.ping(broker)
        return re.search(f"do not trust each other .*look at .*{told}", str(refused.value)) is not None

    wait_until(told_so, 30)
    broker.close()


def test_whoever_is_let_in_after_all_is_told_of_other_troubles_again(
    strict: BrokerOptions, tmp_path: Path
) -> None:
    path = Path(OperatorMode().credentials(tmp_path / "file"))
    broker = JetStreamBroker(dataclasses.replace(strict, **_HASTE, credentials_file=str(path)), QUEUES)
    with pytest.raises(BrokerConnectionError):
        inspect.ping(broker)
    assert strict.credentials_file is not None
    path.write_text(Path(strict.credentials_file).read_text())

    def let_in() -> bool:
        try:
            inspect.ping(broker)
        except BrokerConnectionError:
            return False
        return True

    wait_until(let_in, 30)
    assert not isinstance(broker.connection.session().last_error, LoginRefusedError)
    broker.close()


def test_the_pulse_of_a_frozen_process_shows_what_opens_the_connection(strict: BrokerOptions) -> None:
    assert_its_pulse_is_let_in(strict)


def test_the_pulse_of_a_frozen_process_logs_in_with_the_password_in_the_url(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", "--user", "ada", "--pass", "secret")
    server.start()
    try:
        assert_its_pulse_is_let_in(make_options(server.url.replace("//", "//ada:secret@")))
    finally:
        server.kill()


def assert_its_pulse_is_let_in(options: BrokerOptions) -> None:
    """It renews a message that this process began, of whose loop it hears nothing."""
    heard: list[bytes] = []
    broker = JetStreamBroker(options, QUEUES)

    async def hear(msg: Msg) -> None:
        heard.append(msg.data)

    async def listen() -> Lifeline:
        client = await broker.connection.session().client()
        await client.subscribe("a.sign.of.life", cb=hear)
        await client.flush()
        return Lifeline(options, QUEUES)

    lifeline = broker.connection.run(listen())
    try:
        lifeline.hold(Delivery(QUEUES[0], "a.sign.of.life", 1, 1, b"", {}))
        wait_until(lambda: heard, 40, "the pulse renews")
    finally:
        lifeline._end()
        broker.close()
    assert set(heard) == {b"+WPI"}


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
    broker = JetStreamBroker(make_options(secured.url, **_HASTE, tls_ca_file=certificate[0]), QUEUES)
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

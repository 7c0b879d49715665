from __future__ import annotations

import socket

import pytest

from devstack import ports
from devstack.errors import StackError
from devstack.process import child_environment
from devstack.services.base import Site
from devstack.stack import _SERVICES


def test_no_port_reaches_where_outgoing_connections_take_theirs():
    assert ports._HIGHEST + ports.BLOCK + ports.GRPC_OFFSET < 32_768


def test_every_service_stays_within_the_block_and_on_ports_of_its_own(tmp_path):
    site = Site(tmp_path, tmp_path, tmp_path, 12_000, True, "p", "a", "s")
    seen: list[int] = []
    for kind in _SERVICES:
        service = kind(site)  # type: ignore[call-arg]
        addresses = {value for value in service.environment().values() if "127.0.0.1:" in value}
        seen += [int(value.rsplit("127.0.0.1:", 1)[1].split("/")[0]) for value in addresses]
        seen += [12_000 + offset for offset in kind.grpc_offsets[1:]]
    assert len(seen) == len(set(seen)) == 10
    assert all(12_000 <= port < 12_000 + ports.BLOCK for port in seen)


def test_servers_do_not_see_the_products_settings(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    assert not {"DATABASE_URL", "HTTP_PROXY"} & child_environment({}).keys()
    assert child_environment({"GOMEMLIMIT": "1GiB"})["GOMEMLIMIT"] == "1GiB"


def test_a_port_in_use_is_named_with_the_way_out():
    with socket.socket() as other:
        other.bind((ports.HOST, 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(StackError, match=f"PORT={taken}: Address already in use. Choose another"):
            ports.require_free(taken)
    ports.require_free(taken)


def test_a_port_beyond_the_last_is_refused():
    with pytest.raises(StackError, match="ports end at 65535"):
        ports.require_free(70_000)

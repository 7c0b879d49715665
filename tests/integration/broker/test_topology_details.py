"""What `topology.apply` compares, and what it says when a server or a stream is not there."""

from __future__ import annotations

import dataclasses

from nats.js import api

from brokers import BrokerOptions, topology
from brokers.jetstream.connection import Connection
from tests.integration.broker.server import NatsServer
from tests.integration.broker.workers import QUEUES, make_options


def test_everything_that_a_stream_is_given_is_compared() -> None:
    usual, given = api.StreamConfig(), set[str]()
    for config in topology.stream_configs(BrokerOptions(), QUEUES):
        fields = [field.name for field in dataclasses.fields(config)]
        given |= {name for name in fields if getattr(config, name) != getattr(usual, name)}
    assert given - {"name"} <= {*topology._STREAM_FIELDS, *topology._ONLY_WHERE_SET}


def test_a_bucket_that_was_made_without_its_rules_gets_them(server: NatsServer) -> None:
    options = make_options(server.url)
    connection = Connection(options)
    name = "KV_transforms_limits"
    plain = {"name": name, "subjects": ["$KV.transforms_limits.>"], "allow_direct": True}
    limits = {"allow_msg_ttl": True, "max_msgs_per_subject": 1, "discard": "new", "storage": "file"}
    connection.run(connection.session().api(f"STREAM.CREATE.{name}", plain | limits))
    connection.close()
    changes = [str(change) for change in topology.apply(options, QUEUES) if change.name == name]
    assert changes == [
        f"update stream {name}: allow_rollup_hdrs False -> True",
        f"update stream {name}: deny_delete False -> True",
    ]
    assert topology.apply(options, QUEUES) == []

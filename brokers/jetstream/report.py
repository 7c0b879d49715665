"""What the server says of our streams and consumers, as plain values; no message is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brokers.jetstream.connection import Session

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker


def report(broker: JetStreamBroker) -> dict[str, Any]:
    """Connection, streams, consumers and dead letters by subject.

    The account's streams are shown, but the key-value buckets, which are streams with `KV_` before the name.
    Raises Dramatiq's ConnectionFailed, TopologyError.
    """
    return broker.connection.run(_report(broker.connection.session()))


async def _report(session: Session) -> dict[str, Any]:
    found = await _listed(session, "STREAM.LIST", "streams")
    streams = [each for each in found if not each["config"]["name"].startswith("KV_")]
    consumers = [
        _consumer(each)
        for stream in streams
        for each in await _listed(session, f"CONSUMER.LIST.{stream['config']['name']}", "consumers")
    ]
    dead = next((each for each in streams if _name(each) == session.options.dead_letter_stream), None)
    return {
        "connection": {
            "state": "connected" if session.connected_client is not None else "disconnected",
            "server_url": session.shown_servers,
        },
        "streams": [_stream(each) for each in streams],
        "consumers": consumers,
        "dlq": await _dead(session, dead),
    }


async def _listed(session: Session, request: str, field: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        answer = await session.api(request, {"offset": len(found)})
        page = answer.get(field) or []
        found += page
        if not page or len(found) >= int(answer.get("total", 0)):
            return found


async def _dead(session: Session, stream: dict[str, Any] | None) -> dict[str, Any]:
    if stream is None:
        return {"total_messages": 0, "total_bytes": 0, "by_subject": []}
    subjects: dict[str, int] = {}
    while True:
        body = {"subjects_filter": ">", "offset": len(subjects)}
        info = await session.api(f"STREAM.INFO.{_name(stream)}", body)
        page = info["state"].get("subjects") or {}
        subjects |= page
        if not page or len(subjects) >= int(info.get("total", 0)):
            break
    return {
        "total_messages": stream["state"]["messages"],
        "total_bytes": stream["state"]["bytes"],
        "by_subject": [{"subject": name, "count": int(number)} for name, number in sorted(subjects.items())],
    }


def _name(stream: dict[str, Any]) -> str:
    return str(stream["config"]["name"])


def _stream(info: dict[str, Any]) -> dict[str, Any]:
    state, config = info["state"], info["config"]
    return {
        "name": config["name"],
        "messages": state["messages"],
        "bytes": state["bytes"],
        "consumer_count": state["consumer_count"],
        "first_seq": state["first_seq"],
        "last_seq": state["last_seq"],
        "first_ts": state.get("first_ts"),
        "last_ts": state.get("last_ts"),
        "subjects": config.get("subjects") or [],
        "retention": config["retention"],
    }


def _consumer(info: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": info["name"],
        "stream": info["stream_name"],
        "num_pending": info["num_pending"],
        "num_ack_pending": info["num_ack_pending"],
        "num_waiting": info["num_waiting"],
        "num_redelivered": info["num_redelivered"],
        "num_delivered": info["delivered"]["consumer_seq"],
        "num_ack_floor": info["ack_floor"]["consumer_seq"],
        "last_delivered_seq": info["delivered"]["stream_seq"],
        "ack_floor_seq": info["ack_floor"]["stream_seq"],
    }

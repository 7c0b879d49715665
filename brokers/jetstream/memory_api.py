"""The part of the JetStream API that the broker uses, answered from a Memory."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import nats.js.errors

from brokers.jetstream.browse import Stored
from brokers.jetstream.memory import Memory
from brokers.jetstream.memory_stream import Stream
from brokers.jetstream.publisher import Part


def _not_found(description: str) -> nats.js.errors.NotFoundError:
    return nats.js.errors.NotFoundError(code=404, description=description)


class MemoryApi:
    """Calls by the names that the server gives them, and what lies between two of them."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._readers: dict[str, Sequence[Stored]] = {}
        self._batches: dict[str, list[Part]] = {}
        self._numbers = itertools.count(1)
        self._calls = {
            "INFO": self._info,
            "STREAM.INFO": self._stream_info,
            "STREAM.PURGE": self._purge,
            "STREAM.MSG.GET": self._get,
            "STREAM.MSG.DELETE": self._delete,
            "CONSUMER.INFO": self._consumer_info,
            "CONSUMER.PAUSE": self._pause,
            "CONSUMER.CREATE": self._create_reader,
            "CONSUMER.DELETE": self._delete_reader,
        }

    def call(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a call such as STREAM.INFO.ORDERS; raises the server's errors."""
        words = name.split(".")
        for count in range(len(words), 0, -1):
            handle: Any = self._calls.get(".".join(words[:count]))
            if handle is not None:
                with self._memory.changed:
                    self._memory.tick()
                    return dict(handle(*words[count:], body))
        raise NotImplementedError(f"the stub broker has no server; {name} needs a real JetStreamBroker")

    def reader(self, name: str) -> Sequence[Stored]:
        """What a consumer made by CONSUMER.CREATE will hand out."""
        return self._readers[name]

    def batch(self, name: str, *, ended: bool = False) -> list[Part]:
        """The parts of an atomic batch that came so far."""
        return self._batches.pop(name, []) if ended else self._batches.setdefault(name, [])

    def last_of(self, name: str, subjects: Sequence[str]) -> list[Part]:
        """The last messages of subjects as a direct read gives them, and what says that they are all."""
        with self._memory.changed:
            self._memory.tick()
            stream = self._stream(name)
            found = [stored for subject in subjects if (stored := stream.last_on(subject)) is not None]
            answers = [
                Part(s.subject, s.payload or b"", {**s.headers, "Nats-Subject": s.subject}) for s in found
            ]
            end = {"Status": "204", "Nats-UpTo-Sequence": str(stream.last_sequence)}
            return [*answers, Part("", b"", end)]

    def _stream(self, name: str) -> Stream:
        try:
            return self._memory.streams[name]
        except KeyError:
            raise _not_found("stream not found") from None

    def _info(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"streams": len(self._memory.streams)}

    def _stream_info(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._stream(name)
        pattern = body.get("subjects_filter")
        subjects = stream.counts(pattern) if pattern and not body.get("offset") else {}
        state = {
            "messages": len(stream),
            "first_seq": stream.first_sequence,
            "last_seq": stream.last_sequence,
            "subjects": subjects,
        }
        config = {"max_age": int((stream.config.max_age or 0) * 1e9)}
        # The time of schedules and of their senders (Memory._first_due), which is never put forward.
        now = datetime.now(UTC).isoformat()
        return {"config": config, "state": state, "total": len(subjects), "ts": now}

    def _purge(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"purged": self._memory.purge(self._stream(name), body.get("filter", ">"))}

    def _get(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        stream = self._stream(name)
        if "last_by_subj" in body:
            found = stream.last_on(body["last_by_subj"])
        elif "next_by_subj" in body:
            found = next(stream.on(body["next_by_subj"], int(body["seq"])), None)
        else:
            found = stream.get(int(body["seq"]))
        if found is None:
            raise _not_found("no message found")
        return {"message": _encoded(found)}

    def _delete(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if not self._memory.delete(self._stream(name), int(body["seq"])):
            raise nats.js.errors.APIError(code=400, description="no message found")
        return {"success": True}

    def _consumer_info(self, _: str, queue: str, __: dict[str, Any]) -> dict[str, Any]:
        lane = self._memory.lanes[queue]
        left = lane.paused_until - self._memory.clock.now()
        return {
            "num_pending": len(lane.fresh),
            "num_ack_pending": lane.in_flight,
            "num_redelivered": sum(lane.deliveries[sequence] > 1 for sequence in lane.held),
            "delivered": {"stream_seq": min(lane.fresh, default=lane.stream.last_sequence + 1) - 1},
            "paused": left > 0,
            "pause_remaining": int(max(left, 0) * 1e9),
        }

    def _pause(self, _: str, queue: str, body: dict[str, Any]) -> dict[str, Any]:
        """A pause ends at the caller's time; only the twin's clock was put forward."""
        until = body.get("pause_until")
        ahead = self._memory.clock.ahead_seconds
        self._memory.pause(queue, datetime.fromisoformat(until).timestamp() + ahead if until else 0.0)
        return {"paused": until is not None}

    def _create_reader(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        config, reader = body["config"], f"reader{next(self._numbers)}"
        found = list(self._stream(name).on(config["filter_subject"], int(config["opt_start_seq"])))
        self._readers[reader] = found
        return {"name": reader, "num_pending": len(found)}

    def _delete_reader(self, _: str, name: str, __: dict[str, Any]) -> dict[str, Any]:
        self._readers.pop(name, None)
        return {"success": True}


def _encoded(stored: Stored) -> dict[str, Any]:
    lines = ["NATS/1.0", *(f"{name}: {value}" for name, value in stored.headers.items())]
    return {
        "seq": stored.sequence,
        "subject": stored.subject,
        "data": base64.b64encode(stored.payload or b"").decode(),
        "hdrs": base64.b64encode("".join(f"{line}\r\n" for line in [*lines, ""]).encode()).decode(),
        "time": stored.stored_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }

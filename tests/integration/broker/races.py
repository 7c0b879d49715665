"""Cancels and run-nows around the due moments of many messages, and what became of each message."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import dramatiq
from dramatiq.errors import ConnectionClosed, ConnectionFailed

from brokers import JetStreamBroker, NotScheduledError, control

CANCELLED, RAN, UNKNOWN = "cancelled, never ran", "ran once", "unknown, ran once or never"
FINE = {CANCELLED, RAN, UNKNOWN}
_ACTIONS = (control.cancel, control.run_now)
_PER_SECOND = 100  # races
_AFTER_SECONDS = 0.3  # the due moment; a server's timer is up to a quarter of a second late


@dataclass
class Racer:
    """Somebody who acts on a message at a moment of the wall clock; `done` is None when nobody knows."""

    act: Callable[[JetStreamBroker, str, str], None]
    at: float
    due: float
    message_id: str = ""
    done: bool | None = None


def hold_races(
    broker: JetStreamBroker, actor: dramatiq.Actor[..., object], number: int, *, lead_seconds: float
) -> dict[str, Racer]:
    """Schedule so many messages and act on each, up to so long before its time or a moment after.

    Somebody must run the actor, or the races end without a winner. Returns the racers by message id.
    """
    chance = random.Random(number)
    begin = time.time() + lead_seconds + 1 + number / 2000
    racers = []
    for act, position in zip(itertools.cycle(_ACTIONS), range(number), strict=False):
        due = begin + position / _PER_SECOND
        racers.append(Racer(act, due + chance.uniform(-lead_seconds, _AFTER_SECONDS), due))
    sent = broker.enqueue_many(actor.message_with_options(eta=int(racer.due * 1000)) for racer in racers)
    for racer, message in zip(racers, sent, strict=True):
        racer.message_id = message.message_id
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda racer: _act(broker, actor, racer), sorted(racers, key=lambda racer: racer.at)))
    return {racer.message_id: racer for racer in racers}


def _act(broker: JetStreamBroker, actor: dramatiq.Actor[..., object], racer: Racer) -> None:
    time.sleep(max(0.0, racer.at - time.time()))
    try:
        racer.act(broker, actor.queue_name, racer.message_id)
    except NotScheduledError:
        racer.done = False
    except (ConnectionFailed, ConnectionClosed):
        racer.done = None
    else:
        racer.done = True


def outcomes(racers: dict[str, Racer], runs: list[str]) -> Counter[str]:
    """How many races ended how, from the ids of the messages that ran, once for each run."""
    ran = Counter(runs)
    return Counter(_outcome(racer, ran[message_id]) for message_id, racer in racers.items())


def _outcome(racer: Racer, runs: int) -> str:
    if runs > 1:
        return f"ran {runs} times"
    if racer.done is None:
        return UNKNOWN
    if racer.done and racer.act is control.cancel:
        return "cancelled, but ran" if runs else CANCELLED
    return RAN if runs else "lost"

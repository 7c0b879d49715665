"""F08: of the three servers of a NATS cluster, the one that leads a stream dies."""

from __future__ import annotations

import time

from tests.chaos.world import World, until

TARGETS = ("COLLECTION_TRANSFORMS", "DATASET_TRANSFORMS", "DLQ_TRANSFORMS", "TRANSFORM_STATUS")
_AWAY_SECONDS = 3.0
_LED_WITHIN_SECONDS = 30.0


def kill_leader(world: World, stream: str) -> None:
    """kill -9, another leads, the killed one comes back. Streams are on all three: nothing may be lost."""
    cluster = world.cluster
    assert cluster is not None
    killed = cluster.leader_of(stream)
    killed.kill()
    began = time.monotonic()
    try:
        if not until(lambda: cluster.leader_of(stream) is not killed, seconds=_LED_WITHIN_SECONDS):
            world.violations.append(f"F08: {stream} had no leader for {_LED_WITHIN_SECONDS:g} s")
        seconds = time.monotonic() - began
        world.notes.append(f"F08: {stream} was led by another server after {seconds:.1f} s")
        time.sleep(max(0.0, _AWAY_SECONDS - seconds))
    finally:
        killed.start()
        cluster.wait_healthy()

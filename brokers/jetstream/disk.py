"""How much of its disk JetStream may take, and has taken: of our account, and of a whole server.

What the account may take is told to everybody who is in it. Many accounts have no limit; then it is the
server's that counts, and that is on its monitoring page only.
"""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from brokers.jetstream.broker import JetStreamBroker

_PAGE_SECONDS = 1.5  # whoever scrapes waits for it


@dataclass(frozen=True)
class Disk:
    """Bytes that streams take, and the most that they may take (None: no limit)."""

    used_bytes: int
    limit_bytes: int | None

    @property
    def share(self) -> float:
        """Used of what may be used; 0 where there is no limit, or nothing may be."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


def of_account(broker: JetStreamBroker) -> Disk:
    """The disk of our account; where its limits are by replicas, of those streams that have least left.

    Raises Dramatiq's ConnectionFailed.
    """
    info = broker.connection.run(broker.connection.session().api("INFO"))
    # Where there are tiers the account's own limits are noughts.
    told = (info.get("tiers") or {"": info}).values()
    disks = (
        _disk(each.get("storage", 0), (each.get("limits") or {}).get("max_storage", -1)) for each in told
    )
    return max(disks, key=lambda disk: disk.share)


def of_server(monitoring_url: str) -> Disk:
    """The disk of a server, all accounts together. Raises OSError, ValueError for another page."""
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({})
    )  # a server of ours is not behind a proxy
    with direct.open(f"{monitoring_url.rstrip('/')}/jsz", timeout=_PAGE_SECONDS) as answer:
        page = json.load(answer)
    try:
        return _disk(page["storage"], page["config"]["max_storage"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{monitoring_url}/jsz tells nothing of JetStream") from error


def _disk(used_bytes: float, limit_bytes: float) -> Disk:
    return Disk(int(used_bytes), int(limit_bytes) if limit_bytes >= 0 else None)

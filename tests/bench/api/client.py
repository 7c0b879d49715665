"""Requests over kept connections, as fast as they are answered: `client PORT PATH CONNECTIONS SECONDS`.

A process of its own, so that it shares no interpreter with what it measures. Prints JSON: answers, the
seconds that they took altogether, and each one's milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

_WARM_SECONDS = 0.5


async def measure(port: int, path: str, connections: int, seconds: float) -> dict[str, object]:
    """Answers and their times, after a short warm-up."""
    begin = time.perf_counter() + _WARM_SECONDS
    lists = await asyncio.gather(*(_ask(port, path, begin, begin + seconds) for _ in range(connections)))
    taken = [each for times in lists for each in times]
    return {"answers": len(taken), "seconds": seconds, "milliseconds": taken}


async def _ask(port: int, path: str, begin: float, end: float) -> list[float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n\r\n".encode()
    taken: list[float] = []
    while (sent := time.perf_counter()) < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{path}: {head.decode()}")
        length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
        await reader.readexactly(int(length))
        if sent >= begin:
            taken.append((time.perf_counter() - sent) * 1000)
    writer.close()
    return taken


if __name__ == "__main__":
    port, path, connections, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(int(port), path, int(connections), float(seconds)))))

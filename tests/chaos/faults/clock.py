"""F21: a machine's clock is wrong by an hour, or jumps, while its workers run."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from pathlib import Path

from tests.chaos.world import ImpossibleError, World

_SOURCE = Path(__file__).with_name("clock.c")
_HOUR = 3600
_JUMPS = {"ahead": (_HOUR,), "behind": (-_HOUR,), "to and fro": (_HOUR, -_HOUR, 1)}
_EACH_SECONDS = 3.0
_START_SECONDS = 3.0


def jump(world: World, target: str) -> None:
    """The pool is started anew under a clock of its own, which then jumps; afterwards it has the true one.

    Only the time of day is wrong. What measures how long something takes goes on as ever, as it does when
    an operator sets a clock.
    """
    pool, _, how = target.partition(", ")
    hand, command = world.folder / "clock", world.product._commands[pool]
    hand.write_bytes(struct.pack("=q", 0))
    world.product._commands[pool] = f"env LD_PRELOAD={_library(world)} CHAOS_CLOCK={hand} {command}"
    try:
        _start_anew(world, pool)
        time.sleep(_START_SECONDS)
        for seconds in _JUMPS[how]:
            hand.write_bytes(struct.pack("=q", seconds))
            _wait(world, _EACH_SECONDS)
    finally:
        world.product._commands[pool] = command
        _start_anew(world, pool)


def _start_anew(world: World, pool: str) -> None:
    world.product.end(pool)
    world.product.begin(pool)


def _wait(world: World, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        world.product.restart_dead()
        time.sleep(0.5)


def _library(world: World) -> Path:
    compiler, made = shutil.which("cc"), world.folder / "clock.so"
    if compiler is None:
        raise ImpossibleError("no C compiler for the library that tells the wrong time")
    if not made.exists():
        words = [compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(_SOURCE), "-ldl"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ImpossibleError(f"cc: {done.stderr[-200:]}")
    return made

"""`make chaos SEED=1 MINUTES=5`: the product under faults.

Exit code 1 if a job was lost or done twice, or if somebody was shown what is another's.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from app.jobs.sweeps import Sweeps
from devstack.client import Client, Pile
from devstack.product import Product
from devstack.stack import SERVICES, Stack, StackOptions
from tests.chaos import recovery
from tests.chaos.checker import Verdict, check
from tests.chaos.evidence import compare_metrics, gather, runs_by_metrics, runs_by_rows
from tests.chaos.faults import FAULTS, Planned, schedule
from tests.chaos.load import REFUSED, Load
from tests.chaos.people import ISSUER, Account, Listener, identity_provider, sign_in, with_token
from tests.chaos.proxy import proxies, through
from tests.chaos.recovery import Healed
from tests.chaos.world import POOLS, ImpossibleError, World, opened, small_disks
from tests.integration.broker.server import NatsCluster
from tests.support.app_processes import _FAST
from tests.support.identity import IdentityProvider
from tests.support.providers import embedding_server

_DIMENSIONS = 32
_FIRST_UNUSED = 10  # port of the stack's block
_STUCK_SECONDS, _MOST_SECONDS = 10.0, 400.0
_CALM_UPLOADS = 4  # of each kind
_SWEEPS = 5  # at most
_LATE = 2.0  # times the length of the schedule: then no other fault is begun
_AFTERWARDS_SECONDS = 10.0  # of load after the last fault
# Waiting until the reconciler may step in would take 15 minutes and more: the rows are made older instead.
_AGE = """UPDATE jobs SET expected_by = expected_by - interval '1 day',
    started_at = started_at - interval '1 day', updated_at = updated_at - interval '1 day'
    WHERE finished_at IS NULL AND (state <> 'running' OR started_at < now() - %s * interval '1 second')"""
# The broker brings the message of a dead worker back within this, and counts how many it killed: a message
# sent anew meanwhile would be counted from 0.
_BROUGHT_BACK_SECONDS = 60.0


def main() -> int:
    """Run one seed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing stays behind
    seed, minutes = int(_setting("SEED", "1")), float(_setting("MINUTES", "5"))
    planned = schedule(seed, minutes * 60, only=_setting("ONLY", ""), clustered=_clustered())
    print(f"seed {seed}, {minutes:g} minutes, {len(planned)} faults", flush=True)
    with _world(seed) as (world, ports):
        world.load.start()
        for listener in world.listeners:
            listener.start()
        healed = _inject(world, planned)
        world.load.stop()
        world.provider.faults.clear()
        _settle(world)
        _sweep(world)
        lines = recovery.report(world, healed)
        _calm(world, ports)
        verdict = check(world.environment["DATABASE_URL"], world.load.judged(), gather(world))
        verdict.lost += world.violations
        _print(world, healed, lines, verdict)
        if logs := _setting("LOGS", ""):
            shutil.copytree(world.folder / "logs", logs, dirs_exist_ok=True)
    return 1 if verdict.lost or verdict.doubled or verdict.shown else 0


def _setting(name: str, default: str) -> str:
    return os.environ.get(name) or default  # noqa: TID251 - a tool, not the product


def _clustered() -> bool:
    return _setting("NODES", "1") == "3"


@contextmanager
def _world(seed: int) -> Iterator[tuple[World, list[int]]]:
    """Servers, proxies, provider and product, all started; and the ports of the workers' metrics."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        folder.chmod(0o711)  # Postgres runs as another user
        disks = stack.enter_context(small_disks(folder / "servers"))
        provider = stack.enter_context(embedding_server(dimensions=_DIMENSIONS, refused_word=REFUSED))
        started = SERVICES - {"nats"} if _clustered() else SERVICES
        options = StackOptions(folder / "servers", durable=False, services=started)
        servers = stack.enter_context(Stack(options))
        cluster = stack.enter_context(_cluster(folder)) if _clustered() else None
        port, *ports = _free_ports(servers)
        identity = stack.enter_context(identity_provider(port))
        environment = {**servers.environment, **_FAST}
        if cluster is not None:
            environment |= {"NATS_URL": cluster.url, "NATS_REPLICAS": str(len(cluster.servers))}
        wires = stack.enter_context(proxies(environment | identity.environment()))
        signed_in = through(environment | identity.environment(PUBLIC_URL=identity.app_url), wires)
        identity.issuer = signed_in[ISSUER]
        identity.start()
        broken = {"CHAOS_BROKEN": _setting("BROKEN", "")}
        product = Product(signed_in | broken, data_dir=folder, port=port)
        _use_test_workers(product, ports)
        stack.enter_context(product)
        load = _load(identity, provider.openai_url, folder, seed)
        hurry = _setting("HURRY", "") == "1"
        world = World(
            servers, product, provider, wires, load, environment, folder, disks, hurry, identity, cluster
        )
        world.listeners = [Listener(account) for account in load.accounts()]
        yield world, ports


@contextmanager
def _cluster(folder: Path) -> Iterator[NatsCluster]:
    """Three NATS servers that replicate to each other."""
    cluster = NatsCluster(folder / "cluster")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


def _free_ports(servers: Stack) -> list[int]:
    """One for web and one for each pool's metrics, of the stack's own block: see devstack/ports."""
    base = servers._folder.state.base_port
    assert base is not None
    return [base + _FIRST_UNUSED + number for number in range(1 + len(POOLS))]


def _use_test_workers(product: Product, ports: list[int]) -> None:
    for pool, port in zip(POOLS, ports, strict=True):
        command = product._commands[pool].replace(f"tasks.{pool}:broker", f"tests.chaos.hooks:{pool}")
        product._commands[pool] = f"env HEALTH_CHECK_PORT={port} {command}"


def _load(identity: IdentityProvider, provider_url: str, folder: Path, seed: int) -> Load:
    """Ada in a browser and Bob with an API token, each with a pile of files of their own."""
    ada, bob = (sign_in(identity.app_url, identity, name) for name in ("ada", "bob"))
    accounts = [ada, with_token(bob)]
    piles = [_pile(account, provider_url, folder) for account in accounts]
    owners = {pile["collection_id"]: account for pile, account in zip(piles, accounts, strict=True)}
    return Load(identity.app_url, piles, owners, seed)


def _pile(account: Account, provider_url: str, folder: Path) -> dict[str, int]:
    client = Client(account.base_url)
    client._http = account.client(120)
    embedder = {"name": "stub", "provider": "openai", "base_url": provider_url, "api_key": "sk-chaos",
                "config": {"model": "stub"}, "dimensions": _DIMENSIONS, "batch_size": 16}  # fmt: skip
    embedder_id = client.post("/api/embedders", embedder)["embedder_id"]
    client._embedder_id = lambda: embedder_id  # type: ignore[method-assign]
    pile = Pile(f"Pile of {account.name}", folder / f"{account.name}.json")
    client.make(pile)
    client.close()
    return pile.ids


def _inject(world: World, planned: list[Planned]) -> list[Healed]:
    began, healed = time.monotonic(), list[Healed]()
    for one in planned:
        _supervise(world, began + one.at)
        if time.monotonic() - began > _LATE * planned[-1].at:
            print(f"  {len(planned) - len(healed)} faults left out: this machine is too slow for them")
            break
        problem = _one(world, one)
        print(f"  {time.monotonic() - began:6.1f} s  {one.fault} ({one.target}) {problem or ''}", flush=True)
        healed.append(Healed(one, world.now(), problem))
    _supervise(world, time.monotonic() + _AFTERWARDS_SECONDS)
    return healed


def _supervise(world: World, until: float) -> None:
    """Start again what ends, until that moment."""
    while (left := until - time.monotonic()) > 0:
        world.product.restart_dead()
        time.sleep(min(0.5, left))


def _one(world: World, planned: Planned) -> str | None:
    """Inject a fault and heal it; what kept it from being injected."""
    try:
        FAULTS[planned.fault].inject(world, planned.target)
    except ImpossibleError as error:
        return f"impossible: {error}"
    except Exception as error:  # noqa: BLE001 - the others go on, and the report says so
        world.violations.append(f"{planned.fault} ({planned.target}) failed: {error!r}")
        return f"failed: {error!r}"
    finally:
        for name in world.stack.options.services:
            if not world.stack.alive(name):
                world.stack.restart(name)
        world.product.restart_dead()
    return None


def _settle(world: World) -> None:
    """Wait until no job is active; make those that stand still look old, so that the reconciler acts now."""
    began = moved = time.monotonic()
    last: Any = None
    while time.monotonic() - began < _MOST_SECONDS:
        world.product.restart_dead()
        left = world.value("SELECT count(*) FROM jobs WHERE finished_at IS NULL")
        if not left:
            return
        now = (left, world.value("SELECT count(*) FROM jobs WHERE state = 'succeeded'"))
        if now != last:
            last, moved = now, time.monotonic()
        elif time.monotonic() - moved > _STUCK_SECONDS:
            world.rows(_AGE, _BROUGHT_BACK_SECONDS)
            moved = time.monotonic()
        time.sleep(0.5)


def _sweep(world: World) -> None:
    """What a sweep does an hour later: delete the objects of uploads whose rows were never written.

    One is enough, unless a worker's own sweep, to which all these objects are too young, takes the turn.
    """
    with opened(world.environment) as container:
        sweeps = Sweeps(
            container.database, container.outbox, container.blobs, container.vectors, min_age=timedelta(0)
        )
        for _ in range(_SWEEPS):
            world.rows("UPDATE reconciliations SET started_at = started_at - interval '2 hours'")
            swept = len(sweeps.run().objects)
            _settle(world)
            world.notes.append(f"swept: {swept} objects of uploads that were not accepted")
            if not sweeps.run(dry_run=True).objects:
                break


def _calm(world: World, ports: list[int]) -> None:
    """Uploads, poison and a map with nothing broken: all ends, and the metrics count what the rows do."""
    before = runs_by_rows(world), runs_by_metrics(ports)
    try:
        world.load.calm(_CALM_UPLOADS)
        world.load.poison("broken")
        world.load.ask_for_map(world.load.piles[0])
    except httpx.TransportError as error:
        world.violations.append(f"the API is away though nothing is broken: {error!r}")
    _settle(world)
    compare_metrics(world, ports, before)


def _print(world: World, healed: list[Healed], recoveries: list[str], verdict: Verdict) -> None:
    injected = sum(one.problem is None for one in healed)
    jobs: Mapping[str, int] = dict(world.rows("SELECT state, count(*) FROM jobs GROUP BY state"))
    load = world.load
    print(f"faults {injected} of {len(healed)}, uploads accepted {load.accepted}, refused {load.refused}, "
          f"unsure names {len(load.unsure)}, jobs {sum(jobs.values())} {jobs}")  # fmt: skip
    print("\n".join([*recoveries, *world.notes, str(verdict)]), flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Every account looks for what is another's: by search, by address, and in the events that it was sent."""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from tests.chaos.checker import Seen
from tests.chaos.world import World

_NOT_FOUND = 404
_MOST_MARKERS = 8
_OWNER = "SELECT owner_id FROM collections WHERE collection_id = %s"
_ADDRESSES = {  # of the things of a pile, by the pile's ids
    "collection_id": ("collections/{}", "collections/{}/files"),
    "dataset_id": ("datasets/{}", "datasets/{}/items"),
    "collection_transform_id": ("collection-transforms/{}",),
    "dataset_transform_id": ("dataset-transforms/{}",),
    "embedded_dataset_id": ("embedded-datasets/{}",),
    "embedder_id": ("embedders/{}",),
}
_JOB = "SELECT job_id::text FROM jobs WHERE owner_id = %s LIMIT 1"


def look_around(world: World) -> dict[str, Seen]:
    """What each owner saw, by owner id; the system is at rest."""
    return {_owner(world, pile): _look(world, pile) for pile in world.load.piles}


def _owner(world: World, pile: dict[str, int]) -> str:
    return str(world.value(_OWNER, pile["collection_id"]))


def _look(world: World, pile: dict[str, int]) -> Seen:
    account = world.load.owners[pile["collection_id"]]
    others = [other for other in world.load.piles if world.load.owners[other["collection_id"]] != account]
    heard = {one for each in world.listeners if each.account is account for one in each.heard}
    if not heard:
        world.violations.append(f"{account.name} heard of no event in all the time")
    with account.client() as http:
        return Seen(
            markers=set(_markers(world, http, pile, others)),
            transforms=heard,
            opened=[path for other in others for path in _open(world, http, other)],
        )


def _markers(
    world: World, http: httpx.Client, pile: dict[str, int], others: list[dict[str, int]]
) -> Iterator[str]:
    """The others' markers that searches show: in the account's own index, and in theirs."""
    keys = {other["collection_id"] for other in others}
    wanted = [marker for (key, _), marker in world.load.judged().items() if key in keys and marker]
    for marker in wanted[:_MOST_MARKERS]:
        for each in (pile, *others):
            body = {"query": marker, "embedded_dataset_ids": [each["embedded_dataset_id"]]}
            answer = http.post("/api/search", json=body)
            found = answer.json()["results"] if answer.is_success else []
            if any(f"{marker} " in match["text"] for block in found for match in block["matches"]):
                yield marker


def _open(world: World, http: httpx.Client, pile: dict[str, int]) -> Iterator[str]:
    """Addresses of the pile's things that answer anything but 404."""
    paths = [path.format(pile[name]) for name, each in _ADDRESSES.items() for path in each]
    paths += [f"jobs/{job_id}" for (job_id,) in world.rows(_JOB, _owner(world, pile))]
    for path in paths:
        status = http.get(f"/api/{path}").status_code
        if status != _NOT_FOUND:
            yield f"/api/{path}: {status}"

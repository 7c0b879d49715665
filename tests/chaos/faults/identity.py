"""F15: the identity provider goes away, talks nonsense, or signs with other keys."""

from __future__ import annotations

import time

import httpx

from tests.chaos import people
from tests.chaos.people import SignInError
from tests.chaos.world import World, until

_AWAY_SECONDS = 4.0
_REFUSED = frozenset({401, 403})
_FAILED = 500
_VISITOR = "vera"  # signs in while it is hard to; whoever works keeps their session


def hurt(world: World, target: str) -> None:
    """Whoever is signed in notices nothing; whoever comes is sent away with a 503, and let in afterwards."""
    if target == "keys":
        world.identity.rotate(f"key-{time.monotonic_ns()}")
    else:
        _without_provider(world, target)
    if not until(lambda: _let_in(world), seconds=30, pause=1):
        world.violations.append(f"F15: {_VISITOR} is not let in though the provider is back ({target})")


def _without_provider(world: World, target: str) -> None:
    proxy = world.proxies["identity"]
    with httpx.Client(base_url=world.load.base_url, timeout=40) as browser:
        back = _half_way(world, browser)
        proxy.mode = "error" if target == "error" else "half"
        if target == "away":
            world.identity.stop()
        try:
            until_then = time.monotonic() + _AWAY_SECONDS
            while time.monotonic() < until_then:
                _ask(world)
                time.sleep(0.3)
            for path in ("/login/start", *([back] if back else [])):
                _come(world, browser, path)
        finally:
            proxy.mode = "pass"
            if target == "away":
                world.identity.start()


def _half_way(world: World, browser: httpx.Client) -> str | None:
    """A visitor at the provider's door, with the way back; None where something else is broken still."""
    try:
        return world.identity.answer(people.leave(browser), _VISITOR).removeprefix(world.load.base_url)
    except (SignInError, httpx.TransportError) as error:
        world.notes.append(f"F15: nobody could leave for the provider: {error}")
        return None


def _ask(world: World) -> None:
    for account in world.load.accounts():
        try:
            with account.client(5) as http:
                status = http.get("/api/collections").status_code
        except httpx.TransportError as error:
            world.notes.append(f"F15: {error!r}")
            continue
        if status in _REFUSED:
            world.violations.append(f"F15: {account.name} is signed in and was refused with {status}")


def _come(world: World, browser: httpx.Client, path: str) -> None:
    try:
        status = browser.get(path).status_code
    except httpx.TransportError as error:
        world.notes.append(f"F15: {error!r}")
        return
    if status == _FAILED:
        world.violations.append(f"F15: {path.partition('?')[0]} answered 500")


def _let_in(world: World) -> bool:
    try:
        people.sign_in(world.load.base_url, world.identity, _VISITOR)
    except (SignInError, AssertionError, httpx.TransportError):
        return False
    return True

"""The panel's pages over very many dead letters, as an operator and an admin get them who have signed in."""

from __future__ import annotations

import re
import statistics
import time
from itertools import product
from typing import Any

from flask.testing import FlaskClient

from app.container import Container
from app.factory import create_app
from app.security.principal import Principal
from app.services.sessions import Browser
from app.storage.postgres.tables import Owner, User
from tests.bench.api.questions import slowest, statements
from tests.bench.report import Report, spread

# Nobody asks the provider: the sessions are opened here.
SIGN_IN = {
    "OIDC_ISSUER_URL": "http://127.0.0.1:9",
    "OIDC_CLIENT_ID": "bench",
    "OIDC_CLIENT_SECRET": "bench",
    "PUBLIC_URL": "http://localhost",
}
_COOKIE = "explorer-session"
_MOST_MS = 300
_PLANNED = frozenset({"causes", "letters, the first page"})
_CAUSES, _LETTERS = "/admin/dead-letters/", "/admin/dead-letters/list/"


def measure(report: Report, container: Container, people: tuple[Principal, ...], rounds: int) -> None:
    """Time each page as each of the people, and show the plans of those that one sees first."""
    app = create_app(container)
    clients = {who.role.value: _signed_in(container, app.test_client(), who) for who in people}
    fingerprint = container.services.dead_letters.groups(people[-1], limit=1).items[0].fingerprint
    rows, plans = [], []
    for (name, path), (role, client) in product(_pages(fingerprint).items(), clients.items()):
        rows.append([name, f"`{path}`", role, *_timed(client, path, rounds)])
        print(*rows[-1], flush=True)
        if name in _PLANNED:
            plans.append(f"**{name}**, as {role}:\n\n```\n{_plan(container, client, path)}\n```")
    report.table("Pages of the panel, ms: median (least-most)", ["page", "path", "role", "ms", "aim"], rows)
    report.say("The slowest statement of the pages that one sees first, by `EXPLAIN (ANALYZE, BUFFERS)`:")
    for plan in plans:
        report.say(plan)


def _pages(fingerprint: str) -> dict[str, str]:
    return {
        "causes": _CAUSES,
        "causes, settled ones too": f"{_CAUSES}?all=1",
        "their part that renews itself": "/admin/parts/dead-letters",
        "letters, the first page": _LETTERS,
        "letters of any state": f"{_LETTERS}?flt0_state=",
        "letters, the 400th page": f"{_LETTERS}?page=399",
        "letters of one cause": f"{_LETTERS}?flt0_fingerprint={fingerprint}",
        "letters of one reason and worker": f"{_LETTERS}?flt0_reason=crash-loop&flt1_worker=host:7",
        "letters by an argument": f"{_LETTERS}?flt0_argument=file_id%3D4710",
    }


def _signed_in(container: Container, client: FlaskClient, who: Principal) -> FlaskClient:
    with container.database.transaction() as session:
        session.merge(Owner(owner_id=who.owner_id, display_name=who.display_name))
        session.flush()
        issuer = SIGN_IN["OIDC_ISSUER_URL"]
        session.merge(User(owner_id=who.owner_id, issuer=issuer, subject=who.owner_id, role=who.role.value))
    token = container.accounts.sessions.open(who, Browser(None, None), id_token="none", replaces=None)
    client.set_cookie(_COOKIE, token, domain="localhost")
    return client


def _timed(client: FlaskClient, path: str, rounds: int) -> tuple[str, str]:
    """How long it takes, and whether that is too long."""
    times = [_milliseconds(client, path) for _ in range(rounds)]
    return spread(times), "" if statistics.median(times) < _MOST_MS else f"over {_MOST_MS} ms"


def _plan(container: Container, client: FlaskClient, path: str) -> str:
    """Of those statements that ask for letters or causes, not for who asks."""
    engine = container.database.engine
    asked = [one for one in statements(client, engine, path) if "FROM dead_letter" in one]
    return re.sub(r"\{(\w+,)\w[\w,]*\}", r"{\1 ...}", slowest(engine, asked))  # not each of a hundred causes


def _milliseconds(client: FlaskClient, path: str) -> float:
    begun = time.perf_counter()
    answer: Any = client.get(path)
    elapsed = (time.perf_counter() - begun) * 1000
    assert answer.status_code == 200, answer.text
    return elapsed

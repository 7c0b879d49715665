"""Two tenants with one of everything, and everybody who may ask for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

from flask import Flask
from sqlalchemy import delete, func, select, text, update
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from app.api.schemas import examples
from app.container import Container
from app.storage.postgres.tables import ApiToken, ChunkRow, Item, Job, Owner, SessionRow
from app.storage.postgres.tables.dead_letters import LETTER_REASONS, DeadLetterBulk, DeadLetterRow
from tests.integration.api.conftest import _work
from tests.integration.api.test_visualizations import finish
from tests.integration.matrix.table import BODIES, FORMS, QUERIES
from tests.integration.signin.forging import changed, claims_of, now
from tests.support.identity import PUBLIC_URL, IdentityProvider, Person
from tests.support.providers import EmbeddingServer
from tests.support.talking import TalkingServer

_PLACEHOLDER = re.compile(r"<(?:\w+:)?(\w+)>")
SECRET = "sk-nobody-is-told-this"
Ids = Mapping[str, Any]


class Things:
    """One of each thing of a person's, made through the API; `mark` is in all of their titles and texts."""

    def __init__(
        self,
        person: Person,
        container: Container,
        providers: tuple[EmbeddingServer, TalkingServer],
        scratch: Path,
    ) -> None:
        self.person = person
        self.owner_id = owner_id(person)
        self.mark = f"markof{self.owner_id[-8:]}"
        self.ids = self._make(*providers)
        list(_work(container))
        self._finish(container, scratch)
        self._chat()
        self._letters(container)

    def _make(self, provider: EmbeddingServer, model: TalkingServer) -> dict[str, Any]:
        title = {"title": self.mark}
        collection = self._post("/api/collections", title)["collection_id"]
        file = self._upload(collection)
        dataset = self._post("/api/datasets", title)["dataset_id"]
        pushed = {"items": [{"title": self.mark, "chunks": [{"content": f"hello {self.mark}"}]}]}
        item = self._post(f"/api/datasets/{dataset}/items", pushed)["item_ids"][0]
        served = {"name": self.mark, "provider": "openai", "base_url": provider.openai_url, "api_key": SECRET}
        embedder = self._post(
            "/api/embedders", {**served, "model": "stub", "dimensions": provider.dimensions}
        )["embedder_id"]
        llm = self._post("/api/llms", {**served, "base_url": model.openai_url, "model": "stub"})["llm_id"]
        reading = {**title, "collection_id": collection, "dataset_id": dataset}
        extracting = self._post("/api/collection-transforms", reading)["collection_transform_id"]
        embedding = {**title, "source_dataset_id": dataset, "embedder_ids": [embedder]}
        transform = self._post("/api/dataset-transforms", embedding)
        embedded = transform["embedded_datasets"][0]["embedded_dataset_id"]
        drawing = self._post("/api/visualization-transforms", {**title, "embedded_dataset_id": embedded})
        alone = self._post("/api/embedded-datasets/standalone", {**title, "dimensions": 2})[
            "embedded_dataset_id"
        ]
        point = BODIES["standalone.push_vectors"]
        self._post(f"/api/embedded-datasets/{alone}/push-vectors", point)
        spare = self._post("/api/collections", title)["collection_id"]
        token = self._post("/api/auth/tokens", {"name": self.mark})["api_token"]["api_token_id"]
        return {
            "collection_id": collection,
            "file_key": file,
            "dataset_id": dataset,
            "item_id": item,
            "embedder_id": embedder,
            "llm_id": llm,
            "collection_transform_id": extracting,
            "dataset_transform_id": transform["transform"]["dataset_transform_id"],
            "embedded_dataset_id": embedded,
            "standalone.embedded_dataset_id": alone,
            "web.embedded_dataset_id": alone,
            **dict.fromkeys(("standalone.point_id", "web.point_id"), point["points"][0]["id"]),
            "visualization_transform_id": drawing["visualization_transform_id"],
            "transform_id": drawing["visualization_transform_id"],
            "visualization_id": drawing["last_visualization_id"],
            "api_token_id": token,
            "spare_id": spare,
            "web.kind": "collections",
            "web.key": collection,
            "queue": "collection-transforms",
            "export_type": "csv",
            "act": "pause",
            "runbook": "SemanticExplorerDeadLetters",
        }

    def _finish(self, container: Container, scratch: Path) -> None:
        finish(container, self.ids["visualization_id"], scratch)
        with container.database.transaction() as session:
            mine = select(ChunkRow.chunk_id).join(Item).where(Item.item_id == self.ids["item_id"])
            self.ids["chunk_id"] = self.ids["point_id"] = session.scalars(mine).one()
            jobs = select(Job.job_id).where(Job.owner_id == self.owner_id).order_by(Job.created_at.desc())
            self.ids["job_id"] = session.scalars(jobs.limit(1)).one()
            sessions = select(SessionRow.session_id).where(SessionRow.owner_id == self.owner_id)
            self.ids["session_id"] = session.scalars(sessions.limit(1)).one()

    def _letters(self, container: Container) -> None:
        """A job that died and the bulk that deals with it, as their consumers would have written them."""
        died = {"queue": "collection-transforms", "error_message": self.mark, "cause": self.mark}
        sizes = {"attempts": 1, "size_bytes": 1, "truncated_bytes": 0}
        letter = DeadLetterRow(
            **died,
            **sizes,
            stream_life=self.mark,
            sequence=1,
            job_id=self.ids["job_id"],
            owner_id=self.owner_id,
            reason=LETTER_REASONS[0],
            fingerprint="0" * 16,
            worker="w",
            first_seen_at=func.now(),
            died_at=func.now(),
        )
        bulk = DeadLetterBulk(
            owner_id=self.owner_id,
            act="discard",
            filter={},
            why=self.mark,
            created_by=self.mark,
            per_second=1,
        )
        with container.database.transaction() as session:
            session.add_all([letter, bulk])
            session.flush()
            self.ids |= {"dead_letter_id": letter.dead_letter_id, "bulk_id": bulk.bulk_id}

    def _chat(self) -> None:
        asked = {"embedded_dataset_id": self.ids["embedded_dataset_id"], "llm_id": self.ids["llm_id"]}
        made = self._post("/api/chat/sessions", asked)
        self.ids["chat.session_id"] = self.ids["web.session_id"] = made["session_id"]
        path = f"/api/chat/sessions/{made['session_id']}/messages"
        self._post(path, {"content": f"hello {self.mark}"})
        self.ids["message_id"] = json.loads(self.person.get(path).text)["messages"][-1]["message_id"]
        batches = self.person.get(f"/api/dataset-transforms/{self.ids['dataset_transform_id']}/batches")
        self.ids["batch_key"] = json.loads(batches.text)["items"][0]["batch_key"]
        for kind in ("collection", "dataset"):
            path = f"/api/{kind}-transforms/{self.ids[f'{kind}_transform_id']}/runs"
            runs = json.loads(self.person.get(path).text)["items"]
            self.ids[f"{kind}_transforms.run_id"] = runs[0]["run_id"]

    def _post(self, path: str, body: Any) -> Any:
        answer = self.person.send("POST", path, body)
        assert answer.status_code in {200, 201}, answer.text
        return answer.json

    def _upload(self, collection_id: int) -> int:
        answer = self.person.client.post(
            f"/api/collections/{collection_id}/files",
            base_url=PUBLIC_URL,
            headers={"Origin": PUBLIC_URL},
            data={"files": [(BytesIO(f"hello {self.mark}".encode()), f"{self.mark}.txt")]},
        )
        assert answer.json, answer.text
        return int(answer.json["completed"][0]["file_id"])

    def rows(self, container: Container) -> dict[str, str]:
        """A digest of all that the database knows of this owner, by table."""
        seen = "'{last_used_at,last_seen_at,updated_at,read_at}'::text[]"
        row = f"(to_jsonb(t) - {seen})::text AS row"
        with container.database.transaction() as session:
            tables = session.scalars(
                text("SELECT table_name FROM information_schema.columns WHERE column_name = 'owner_id'")
            ).all()
            return {
                table: session.scalar(
                    text(
                        "SELECT md5(string_agg(row, '|' ORDER BY row)) "
                        f'FROM (SELECT {row} FROM "{table}" t WHERE owner_id = :owner) rows'
                    ),
                    {"owner": self.owner_id},
                )
                for table in tables
            }


@dataclass(frozen=True)
class Asker:
    """A client that sends these headers with everything, and keeps no cookies."""

    name: str
    headers: Mapping[str, str]

    def ask(self, app: Flask, endpoint: str, method: str, path: str, ids: Ids) -> Answer:
        """Send a request with a body that is good; the ids in it are of `ids`."""
        body: dict[str, Any] = {}
        if endpoint == "files.upload_files":
            body["data"] = {"files": [(BytesIO(b"words"), "b.txt")]}
        elif endpoint in FORMS:
            body["data"] = FORMS[endpoint]
        elif endpoint in BODIES:
            body["json"] = filled(BODIES[endpoint], ids)
        headers = {"Origin": PUBLIC_URL, **self.headers}
        client = app.test_client(use_cookies=False)
        return Answer(client.open(path, base_url=PUBLIC_URL, method=method, headers=headers, **body))


class Answer:
    """Status, place and body; of a stream only the first part."""

    def __init__(self, response: TestResponse) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.location = response.headers.get("Location", "")
        if response.mimetype == "text/event-stream":
            self.text = str(next(iter(response.response)))
        else:
            self.text = response.get_data().decode("latin-1")
        response.close()

    @property
    def away(self) -> bool:
        return self.status == 401 or (self.status == 303 and self.location.startswith("/login"))

    def __repr__(self) -> str:
        words = re.sub(r"<head>.*</head>|<[^>]*>|\s+", " ", self.text, flags=re.DOTALL)
        return f"{self.status} {words.strip()[-200:] if '<html' in self.text else self.text[:200]}"


def filled(template: Any, ids: Ids) -> Any:
    """The template with every "<name>" replaced by the id of that name."""

    def value_of(name: str) -> Any:
        return str(ids[name]) if isinstance(ids[name], UUID) else ids[name]

    return examples.filled(template, value_of)


def name_of(rule: Rule, name: str, ids: Ids) -> str | None:
    """Under which name the id that an address wants is kept; None where there is none."""
    particular = f"{rule.endpoint.partition('.')[0]}.{name}"
    return next((one for one in (particular, name) if one in ids), None)


def path_of(rule: Rule, ids: Ids) -> str:
    return _PLACEHOLDER.sub(lambda found: str(ids[str(name_of(rule, found[1], ids))]), rule.rule)


def addresses(app: Flask, ids: Ids) -> Iterator[tuple[str, str, str]]:
    """Endpoint, method and path of every route, filled with these ids."""
    for rule in app.url_map.iter_rules():
        if not rule.endpoint.endswith(".static") and all(name_of(rule, name, ids) for name in rule.arguments):
            path = path_of(rule, ids)
            path += f"?{QUERIES[rule.endpoint]}" if rule.endpoint in QUERIES else ""
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule.endpoint, method, path


def bearer(name: str, token: str) -> Asker:
    return Asker(name, {"Authorization": f"Bearer {token}"})


def owner_id(person: Person) -> str:
    return str(json.loads(person.get("/api/users/@me").text)["owner_id"])


def token_of(person: Person, scope: str) -> str:
    answer = person.send("POST", "/api/auth/tokens", {"name": scope, "scope": scope})
    return str(json.loads(answer.text)["token"])


def strangers(new: Any, ada: Person, container: Container, provider: IdentityProvider) -> list[Asker]:
    """Everybody who must be sent away everywhere: each held something that was good once, or never was."""
    expired, gone = new(), new()
    expired.sign_in("ada")
    gone.sign_in("gone")
    ended, orphan = token_of(ada, "write"), token_of(gone, "read")
    good = provider.access_token("ada")
    past = {"expires_at": func.now()}
    with container.database.transaction() as session:
        for person, table in ((expired, SessionRow), (ada, ApiToken)):
            mine = select(func.max(table.created_at)).where(table.owner_id == owner_id(person))
            session.execute(update(table).where(table.created_at == mine.scalar_subquery()).values(past))
        session.execute(delete(Owner).where(Owner.owner_id == owner_id(gone)))
    claims = claims_of(good)
    return [
        Asker("nobody", {}),
        Asker("a session that has expired", {"Cookie": _cookie(expired)}),
        Asker("a session whose owner was deleted", {"Cookie": _cookie(gone)}),
        bearer("an API token that has ended", ended),
        bearer("an API token whose owner was deleted", orphan),
        bearer("an access token that has expired", changed(exp=now() - 120)(provider, claims)),
        bearer(
            "an access token for another audience", provider.access_token("ada", "https://other.test/api")
        ),
    ]


def _cookie(person: Person) -> str:
    return f"__Host-explorer-session={person.session_cookie}"

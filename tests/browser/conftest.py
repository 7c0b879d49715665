"""One Chromium, one collection that was uploaded through it, embedded and mapped, for all browser tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from devstack import corpus
from devstack.client import Pile
from tests.support import browser as support
from tests.support.app_processes import RunningApp
from tests.support.domain import Recorder
from tests.support.identity import IdentityProvider
from tests.support.served import SignedIn, serving

ROOT = Path(__file__).resolve().parents[2]
TITLE = "Python and its packages"
_FILES, _DEAD = 170, 12
_MINUTES_MS = 240_000

Open = Callable[..., AbstractContextManager[Page]]


@dataclass(frozen=True)
class Loaded:
    """Where the uploaded collection and its map are."""

    collection: str
    map: str
    files: int
    broken: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest tests/browser --screenshots` renews the pictures in docs/images."""
    parser.addoption("--screenshots", action="store_true", help="write docs/images")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Return the one browser of the session."""
    with sync_playwright() as playwright:
        browser = support.launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def open_page(chromium: Browser, running_app: RunningApp) -> Open:
    """Return a way to open a page of the running product, of any size and theme."""
    return partial(support.opened, chromium, running_app.base_url)


@pytest.fixture
def page(open_page: Open) -> Iterator[Page]:
    """Return a desktop page."""
    with open_page() as opened:
        yield opened


@pytest.fixture
def signed_in(
    stack_env: dict[str, str],
    migrated_url: str,
    tmp_path: Path,
    recorder: Recorder,
    identity_provider: IdentityProvider,
) -> Iterator[SignedIn]:
    """Return the application with sign-in, where a second person starts what is for more than one letter."""
    own = {"DATABASE_URL": migrated_url, "SCRATCH_DIR": str(tmp_path), "DLQ_TWO_PERSON_ABOVE": "1"}
    with serving(stack_env | own, identity_provider, recorder) as served:
        yield served


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return real documents in many formats, and one that is a PDF in its first bytes only."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus.write(folder, docs=ROOT / "docs")
    plain = sorted(folder.glob("python-*")) + sorted(folder.glob("readme-*"))
    step = max(1, len(plain) // _FILES)
    broken = folder / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7\n" + b"no objects in here\n" * 20)
    return [*sorted(folder.glob("semantic-explorer-*")), *plain[::step][:_FILES], broken]


@pytest.fixture(scope="session")
def loaded(open_page: Open, files: list[Path]) -> Loaded:
    """Return the collection that a person made in the browser: created, filled, watched, mapped."""
    with ExitStack() as stack:
        page = stack.enter_context(open_page())
        page.goto("/")
        opener = page.get_by_role("button", name="New collection")
        if opener.is_visible():  # other tests of the session have collections already
            opener.click()
        page.locator("input[name=title]:visible").fill(TITLE)
        page.locator("button.primary:visible", has_text="Create").click()
        expect(page.get_by_role("heading", name=TITLE)).to_be_visible()
        collection = page.url
        page.locator("input[type=file]:not([webkitdirectory])").set_input_files(files)
        expect(page.locator("#uploads")).to_contain_text(
            f"{len(files)} of {len(files)} files uploaded", timeout=_MINUTES_MS
        )
        build = page.get_by_role("button", name="Build map")
        expect(build).to_be_visible(timeout=_MINUTES_MS)
        expect(page.locator("#pipeline[data-live=idle]")).to_be_attached(timeout=_MINUTES_MS)
        build.click()
        # The page turns into the map by itself once the run is done.
        expect(page.locator("#map[data-ready=yes]")).to_be_attached(timeout=_MINUTES_MS)
        return Loaded(collection, page.url.split("?")[0], len(files), "broken.pdf")


@dataclass(frozen=True)
class Dead:
    """A collection with one good file and many that died of one cause."""

    pile: Pile
    good_file_id: int


@pytest.fixture(scope="session")
def dead(running_app: RunningApp) -> Dead:
    """Let files die, all of one cause: their first bytes are a PDF's, and nothing else is."""
    pile = running_app.pile("Files that die")
    collection = pile.ids["collection_id"]
    broken = [(f"broken{number}.pdf", b"%PDF-1.7\n" + b"none " * 20) for number in range(_DEAD)]
    good, *_ = running_app.upload(collection, [("good.txt", b"A text that can be read.")])["completed"]
    running_app.upload(collection, broken)
    transform = pile.ids["collection_transform_id"]
    scope = f"scope_kind=collection_transform&scope_id={transform}"
    path = f"/api/jobs?kind=extract_file&state=dead&{scope}"
    running_app.wait_for(
        "all broken files to die", lambda: running_app.http.get(path).json()["total_count"] >= _DEAD
    )
    running_app.wait_for(  # on a fresh machine the workers of maps compile first
        "a worker at every queue",
        lambda: all(queue["workers"] for queue in running_app.http.get("/api/queues").json()["queues"]),
        seconds=150,
    )
    return Dead(pile, good["file_id"])

"""`make demo` and `make run`: servers, web and pools on this machine, and a corpus that becomes a map.

Ctrl-C stops all of it; a second start finds its data again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import httpx
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from devstack import corpus, ports
from devstack.client import Client, Pile
from devstack.errors import StackError
from devstack.loading import Loader, Timings
from devstack.product import ROOT, Product
from devstack.stack import Stack, StackOptions

_CORPUS_TITLE = "Demo corpus"
_QUESTIONS = (
    "how do I read a file line by line",
    "what may I do with software under this licence",
    "wait for several tasks at once",
)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run until Ctrl-C (or until done, with --once)."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs inherit a deaf ear for Ctrl-C
        signal.signal(number, signal.default_int_handler)
    try:
        run(options, console)
    except KeyboardInterrupt:
        console.print("stopped; your data is kept in", options.data)
    except StackError as error:
        console.print(f"[red]{escape(str(error))}[/red]", soft_wrap=True)  # commands in it stay whole
        return 1
    except httpx.TransportError as error:
        console.print(
            f"[red]The web server does not answer: {escape(str(error))}[/red]; see {options.data}/logs"
        )
        return 1
    return 0


def run(options: argparse.Namespace, console: Console) -> Timings | None:
    """Start everything, load what was asked for, and wait; returns the timings with --once."""
    data = options.data.expanduser().resolve()
    ports.require_free(options.port)
    folder = _folder(options)
    started = time.monotonic()
    with Stack(StackOptions(data_dir=data)) as stack:
        console.print(f"· servers: NATS, Postgres, S3, vectors, Tika ({time.monotonic() - started:.1f} s)")
        up = time.monotonic()
        with Product(stack.environment, data_dir=data, port=options.port) as product:
            console.print(f"· web and three worker pools ({time.monotonic() - up:.1f} s)")
            client = Client(product.base_url)
            timings = None
            if not options.no_corpus:
                files = _files(folder) if folder else _corpus(data, console)
                timings = Loader(client, console, up).load(files, _pile(folder, data), root=folder)
            if timings and timings.vectors:
                console.print("· since the servers were up: " + timings.summary())
            _invite(
                console,
                product.base_url,
                client.pile if timings else None,
                has_map=bool(timings and timings.map),
            )
            if not options.once:
                _supervise(product, console)
            return timings


def _supervise(product: Product, console: Console) -> NoReturn:
    while True:
        time.sleep(1)
        for name in product.restart_dead():
            console.print(f"[yellow]{name} ended and was started again; see {product.log(name)}[/yellow]")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / ".data" / "demo", help="data folder")
    parser.add_argument("--port", type=int, default=8080, help="port of the pages and the API")
    parser.add_argument("--docs", type=Path, help="load this folder instead of the built-in corpus")
    parser.add_argument("--no-corpus", action="store_true", help="start empty")
    parser.add_argument("--once", action="store_true", help="stop when everything is loaded")
    return parser


def _folder(options: argparse.Namespace) -> Path | None:
    """The folder that DOCS names, if any; raises StackError before anything is started."""
    if options.docs is None:
        return None
    folder: Path = options.docs.expanduser().resolve()
    if not folder.is_dir():
        raise StackError(f"DOCS={options.docs} is not a folder")
    if not _files(folder):
        raise StackError(f"DOCS={options.docs} has no files")
    return folder


def _corpus(data: Path, console: Console) -> list[Path]:
    console.print("· corpus: gathering texts of this installation")
    corpus.write(data / "corpus", docs=ROOT / "docs")
    return _files(data / "corpus")


def _files(folder: Path) -> list[Path]:
    """Every file below, except what a dot hides: .git would drown the documents beside it."""
    visible = (
        path
        for path in folder.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(path for path in visible if path.is_file())


def _pile(folder: Path | None, data: Path) -> Pile:
    if folder is None:
        return Pile(title=_CORPUS_TITLE, state_file=data / "pile-corpus.json")
    # Each folder is a collection of its own, also when two have the same name.
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Pile(title=folder.name or str(folder), state_file=data / f"pile-{digest}.json")


def _invite(console: Console, base_url: str, pile: Pile | None, *, has_map: bool) -> None:
    lines = [f"[bold]{base_url}[/bold]", ""]
    if pile is None:
        lines.append("An empty house: create a collection and drop files on it.")
    else:
        lines += [f"Search   {question}" for question in _QUESTIONS] if pile.title == _CORPUS_TITLE else []
        lines.append(f"Files    {base_url}/collections/{pile.ids['collection_id']}")
        if has_map:
            lines.append(f"Map      {base_url}/maps/{pile.ids['visualization_id']}")
    lines += [f"API      {base_url}/api/docs", "", "Ctrl-C stops everything; the data stays."]
    console.print(Panel("\n".join(lines), title="Semantic Explorer", expand=False))


if __name__ == "__main__":
    sys.exit(main())

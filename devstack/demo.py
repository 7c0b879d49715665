"""`make demo` and `make run`: servers, web and pools on this machine, and a corpus that becomes a map.

Ctrl-C stops all of it; a second start finds its data again.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.panel import Panel

from devstack import corpus
from devstack.client import Client, Pile
from devstack.errors import StackError
from devstack.loading import Loader, Timings
from devstack.product import ROOT, Product
from devstack.stack import Stack, StackOptions

_QUESTIONS = (
    "how do I read a file line by line",
    "what may I do with software under this licence",
    "a message is delivered twice",
)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run until Ctrl-C (or until done, with --once)."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        run(options, console)
    except KeyboardInterrupt:
        console.print("stopped; your data is kept in", options.data)
    except StackError as error:
        console.print(f"[red]{error}[/red]", markup=True)
        return 1
    return 0


def run(options: argparse.Namespace, console: Console) -> Timings | None:
    """Start everything, load what was asked for, and wait; returns the timings with --once."""
    data = options.data.resolve()
    started = time.monotonic()
    with Stack(StackOptions(data_dir=data)) as stack:
        console.print(f"· servers: NATS, Postgres, S3, vectors, Tika ({time.monotonic() - started:.1f} s)")
        up = time.monotonic()
        with Product(stack.environment, data_dir=data, port=options.port) as product:
            console.print(f"· web and three worker pools ({time.monotonic() - up:.1f} s)")
            client = Client(product.base_url)
            timings = None
            if not options.no_corpus:
                timings = Loader(client, console, up).load(
                    _files(options, data, console), _pile(options, data)
                )
            if timings:
                console.print("· since the servers were up: " + timings.summary())
            _invite(console, product.base_url, client.pile if timings else None)
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


def _files(options: argparse.Namespace, data: Path, console: Console) -> list[Path]:
    folder = options.docs
    if folder is None:
        folder = data / "corpus"
        console.print("· corpus: gathering texts of this installation")
        corpus.write(folder, docs=ROOT / "docs")
    elif not folder.expanduser().is_dir():
        raise StackError(f"DOCS={folder} is not a folder")
    folder = folder.expanduser()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not files:
        raise StackError(f"there are no files in {folder}")
    return files


def _pile(options: argparse.Namespace, data: Path) -> Pile:
    title = options.docs.expanduser().resolve().name if options.docs else "Demo corpus"
    return Pile(title=title, state_file=data / f"pile-{'docs' if options.docs else 'corpus'}.json")


def _invite(console: Console, base_url: str, pile: Pile | None) -> None:
    lines = [f"[bold]{base_url}[/bold]", ""]
    if pile is None:
        lines.append("An empty house: create a collection and drop files on it.")
    else:
        lines += [f"Search   {question}" for question in _QUESTIONS] if pile.title == "Demo corpus" else []
        lines.append(f"Map      {base_url}/visualizations/{pile.ids.get('visualization_id', '')}")
    lines += [f"API      {base_url}/api/docs", "", "Ctrl-C stops everything; the data stays."]
    console.print(Panel("\n".join(lines), title="Semantic Explorer", expand=False))


if __name__ == "__main__":
    sys.exit(main())
